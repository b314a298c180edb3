use std::time::Duration;

use super::*;

#[tokio::test]
async fn what_opens_while_its_connection_ends_is_waited_for() {
    let (drain, connections) = (Drain::default(), TaskTracker::new());
    let connection = connections.token();
    let mut ended = Box::pin(drain.ended(&connections));
    let mut is_over = async || tokio::time::timeout(Duration::from_millis(20), ended.as_mut()).await.is_ok();
    assert!(!is_over().await);
    let upgraded = drain.hold();
    drop(connection);
    assert!(!is_over().await, "the stream goes on without its connection");
    drop(upgraded);
    assert!(is_over().await);
}
