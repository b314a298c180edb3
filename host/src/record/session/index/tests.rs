//! What every index of sessions does.

use super::*;
use crate::record::session::tests::caller;
use crate::store::Database;

fn touched(credential: &str, last: u64, calls: u64) -> Touched {
    Touched { last, calls, ..Touched::new(Arc::new(caller(credential))) }
}

async fn holds(index: &dyn SessionIndex) {
    index.touch(vec![touched("a", 100, 2), touched("b", 200, 1)]).await.unwrap();
    index.touch(vec![touched("a", 300, 3)]).await.unwrap();
    index.touch(Vec::new()).await.unwrap();
    let ids =
        |rows: &[SessionRow]| rows.iter().map(|row| format!("{} {}-{} {}", row.id, row.first, row.last, row.calls)).collect::<Vec<_>>();
    assert_eq!(ids(&index.list(0, i64::MAX as u64).await.unwrap()), ["a 100-300 5", "b 200-200 1"]);
    assert_eq!(ids(&index.list(201, 1000).await.unwrap()), ["a 100-300 5"]);
    assert_eq!(ids(&index.list(0, 150).await.unwrap()), ["a 100-300 5"]);
    assert_eq!(index.get("b").await.unwrap().map(|row| row.last), Some(200));
    assert_eq!(index.get("none").await.unwrap(), None);
    let in_prod = Touched::new(Arc::new(Caller { cluster: "prod".into(), ..caller("c") }));
    index.touch(vec![Touched { last: 400, ..in_prod }]).await.unwrap();
    let clusters: Vec<String> = index.list(0, 1000).await.unwrap().into_iter().map(|row| row.cluster).collect();
    assert_eq!(clusters, ["prod", "", ""]);
}

#[tokio::test]
async fn sqlite_holds_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(&directory.path().join("postern.db")).unwrap();
    holds(&SqliteIndex::new(&database).unwrap()).await;
}
