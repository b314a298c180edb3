use super::*;
use crate::store::wait;

fn file(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("postern.db")
}

#[test]
fn a_database_without_a_version_keeps_its_rows_and_gets_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = file(&directory);
    let old = Connection::open(&file).unwrap();
    old.execute_batch(
        r#"CREATE TABLE tickets (id TEXT PRIMARY KEY, intent TEXT NOT NULL, requester TEXT NOT NULL, state TEXT NOT NULL, created INTEGER NOT NULL,
            ends INTEGER NOT NULL, body TEXT NOT NULL);
         CREATE INDEX tickets_intent ON tickets (intent, state);
         INSERT INTO tickets VALUES ('a', 'i', 'r', 'pending', 1, 9, '{"requirements":[{"approvers":["sre","ops"]},{"approvers":["sre"]}]}');
         INSERT INTO tickets VALUES ('b', 'i', 'r', 'approved', 2, 9, '{"requirements":[]}');
         INSERT INTO tickets VALUES ('c', 'j', 'r', 'used', 2, 9, '{"requirements":[]}');"#,
    )
    .unwrap();
    drop(old);
    Database::open(&file).unwrap();
    let migrated = Connection::open(&file).unwrap();
    assert_eq!(version_of(&migrated).unwrap(), MIGRATIONS.len());
    let texts = |sql: &str| -> Vec<String> {
        migrated.prepare(sql).unwrap().query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    assert_eq!(
        texts("SELECT id || ' ' || state FROM tickets ORDER BY id"),
        ["a ended", "b approved", "c used"],
        "of one intent the latest goes on"
    );
    assert_eq!(texts("SELECT ticket || ' ' || approvers FROM ticket_approvers ORDER BY 1"), ["a ops", "a sre"]);
    let twice = migrated.execute("INSERT INTO tickets VALUES ('d', 'i', 'r', 'pending', 3, 9, '{}', 0, '')", []).unwrap_err().to_string();
    assert!(twice.contains("UNIQUE"), "{twice}");
    Database::open(&file).unwrap();
}

#[test]
fn tables_of_a_newer_version_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = file(&directory);
    Database::open(&file).unwrap();
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    for refused in [Database::open(&file).map(drop), Database::reader(&file).map(drop)] {
        let why = format!("{:#}", refused.unwrap_err());
        assert!(why.contains("version 99, of a newer postern") && why.contains("postern.db"), "{why}");
    }
}

#[tokio::test]
async fn a_step_is_done_though_nobody_waits_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let worker = Database::open(&file(&directory)).unwrap().worker("test", Durability::Process).unwrap();
    let slow = worker.call(|connection| {
        std::thread::sleep(Duration::from_millis(50));
        Ok(connection.execute("INSERT INTO sessions VALUES ('s', 'u', 'i', 1, 1, 0, 0, 0, '')", [])?)
    });
    assert!(tokio::time::timeout(Duration::from_millis(5), slow).await.is_err());
    let rows: i64 =
        worker.call(|connection| Ok(connection.query_row("SELECT count(*) FROM sessions", [], |row| row.get(0))?)).await.unwrap();
    assert_eq!(rows, 1);
    let error = worker.call::<()>(|_| anyhow::bail!("no")).await.unwrap_err().to_string();
    assert_eq!(error, "no");
}

#[test]
fn a_reader_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = file(&directory);
    assert!(Database::reader(&file).is_err(), "what is not there is not made");
    Database::open(&file).unwrap();
    let reader = Database::reader(&file).unwrap();
    assert!(wait(reader.call(|connection| Ok(connection.execute("DELETE FROM sessions", [])?))).is_err());
}

/// What was given up before its turn came is not read; what changes something is done all the same.
#[test]
fn what_nobody_waits_for_is_not_read() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::FutureExt;

    let directory = tempfile::tempdir().unwrap();
    let worker = Database::open(&file(&directory)).unwrap().worker("test", Durability::Disk).unwrap();
    let (reads, changes) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (go_on, held) = std::sync::mpsc::channel::<()>();
    let counting = |count: &Arc<AtomicU32>| {
        let count = Arc::clone(count);
        move |_: &mut Connection| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        // Each is given to the thread when it is polled once, and dropped then.
        let mut first = worker.call(move |_| Ok(held.recv()?));
        assert!((&mut first).now_or_never().is_none());
        for _ in 0..5 {
            assert!(worker.read(counting(&reads)).now_or_never().is_none());
            assert!(worker.call(counting(&changes)).now_or_never().is_none());
        }
        let wanted = worker.read(counting(&reads));
        go_on.send(()).unwrap();
        first.await.unwrap();
        wanted.await.unwrap();
    });
    assert_eq!((reads.load(Ordering::Relaxed), changes.load(Ordering::Relaxed)), (1, 5));
}
