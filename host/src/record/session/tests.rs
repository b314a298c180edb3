use super::index::SqliteIndex;
use super::*;
use crate::store::Database;

/// A caller with a credential of this id.
pub(super) fn caller(credential: &str) -> Caller {
    Caller {
        username: "ann".into(),
        groups: Vec::new(),
        issuer: "i".into(),
        claims: Vec::new(),
        expires: 0,
        credential: credential.into(),
        cluster: Arc::default(),
    }
}

/// What is left of a recording that was begun, once this was done with it.
async fn left_after(done: impl FnOnce(Unopened)) -> Vec<String> {
    let data = tempfile::tempdir().unwrap();
    let index = SqliteIndex::new(&Database::open(&data.path().join("postern.db")).unwrap()).unwrap();
    let sessions = Sessions::open(&data.path().join("sessions"), data.path(), index, 1 << 20, None, &Inbox::default()).unwrap();
    let who = caller("0123456789abcdef");
    done(sessions.begin(&Arc::new(who), "one", &json!({"kind": "stream"})).await.unwrap());
    sessions.close().await;
    let names = std::fs::read_dir(data.path().join("sessions/0123456789abcdef")).into_iter().flatten().flatten();
    names.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn a_recording_goes_when_nothing_was_sent_or_opened_and_stays_when_that_is_not_known() {
    assert!(left_after(drop).await.is_empty(), "nothing was sent");
    let sent = |mut recording: Unopened| {
        recording.sent();
        recording
    };
    assert!(left_after(|recording| sent(recording).refused()).await.is_empty(), "it was refused");
    assert_eq!(left_after(|recording| drop(sent(recording))).await, ["one.stream"], "the caller hung up: the command may run");
    assert_eq!(left_after(|recording| drop(recording.opened())).await, ["one.stream"]);
}
