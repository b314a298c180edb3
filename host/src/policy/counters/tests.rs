use super::*;
use crate::policy::Counters;
use crate::store::wait;

fn of(policy: &str) -> CounterOwner {
    CounterOwner { cluster: "c".into(), policy: policy.into() }
}

#[test]
fn what_was_counted_is_there_after_a_restart() {
    let directory = std::env::temp_dir().join(format!("postern-counters-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let database = Database::open(&directory.join("postern.db")).unwrap();
    let rows = || SqliteCounters::new(&database).unwrap();
    let open =
        |now| tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(Counters::open(rows(), Some("c"), now)).unwrap();
    let counters = open(1000);
    counters.add(&of("a"), "k".into(), 2, 600, 1000);
    counters.add(&of("a"), "k".into(), 3, 600, 1100);
    counters.add(&of("a"), "short".into(), 9, 10, 1100);
    counters.write(1100).unwrap();
    let counters = open(1200);
    assert_eq!(counters.add(&of("a"), "k".into(), 1, 600, 1200), Some(6));
    assert_eq!(counters.add(&of("a"), "short".into(), 1, 10, 1200), Some(1));
    counters.write(1200).unwrap();
    counters.write(3000).unwrap();
    assert_eq!(wait(rows().load(0)).unwrap().len(), 0, "what ended is not kept");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_policy_counts_in_each_cluster_for_itself_and_nobody_has_a_budget_anew() {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(&directory.path().join("postern.db")).unwrap();
    let rows = || SqliteCounters::new(&database).unwrap();
    let owner = |cluster: &str| CounterOwner { cluster: cluster.into(), policy: "a".into() };
    let open = |alone: Option<&str>| {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(Counters::open(rows(), alone, 1000)).unwrap()
    };
    let count = |counters: &Counters, cluster: &str, amount| counters.add(&owner(cluster), "k".into(), amount, 600, 1000).unwrap();
    // One cluster; as it was written when rows had no cluster.
    let id = CounterId { owner: owner(""), key: "k".into(), window: 600 };
    wait(rows().write(vec![(CounterRow { id, slices: vec![(99, 5)] }, 2000)], Vec::new())).unwrap();
    let alone = open(Some("default"));
    assert_eq!(count(&alone, "default", 1), 6);
    alone.write(1000).unwrap();
    // Several: each goes on from there, by itself; one that is added later too.
    let several = open(None);
    assert_eq!((count(&several, "prod", 1), count(&several, "dev", 0)), (7, 6));
    several.write(1000).unwrap();
    let several = open(None);
    assert_eq!((count(&several, "prod", 0), count(&several, "dev", 2), count(&several, "later", 0)), (7, 8, 6));
    several.write(1000).unwrap();
    // And one again: it is the one it was.
    assert_eq!(count(&open(Some("prod")), "prod", 0), 6);
    let other = CounterOwner { policy: "b".into(), ..owner("prod") };
    assert_eq!(open(None).add(&other, "k".into(), 0, 600, 1000), Some(0));
}
