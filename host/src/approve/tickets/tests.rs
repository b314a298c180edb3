//! What every store of tickets does. A database that is added is held to the same.

use super::*;
use crate::approve::{Requirement, Summary, TicketState};
use crate::store::Database;

fn ticket(id: &str, intent: &str, requester: &str, created: u64, approvers: &[&str]) -> Ticket {
    let operation = Summary {
        cluster: "c".into(),
        verb: "delete".into(),
        method: "DELETE".into(),
        resource: "pods".into(),
        namespace: None,
        name: None,
        path: "/".into(),
        query: Vec::new(),
        command: None,
        media_type: None,
        headers: Vec::new(),
        body_digest: None,
        body: None,
    };
    let approvers = approvers.iter().map(|group| (*group).to_owned()).collect();
    let requirement = Requirement { policy: "p".into(), reason: "r".into(), approvers, required: 1, valid_seconds: 60 };
    Ticket {
        id: id.into(),
        intent: intent.into(),
        requester: requester.into(),
        username: requester.into(),
        groups: Vec::new(),
        operation,
        requirements: vec![requirement],
        approvals: Vec::new(),
        refusal: None,
        source: String::new(),
        session: String::new(),
        state: TicketState::Pending,
        created,
        ends: created + 60,
        reusable: false,
        version: 0,
    }
}

/// The contract.
async fn holds(tickets: &dyn Tickets) {
    let open = |ticket: Ticket| tickets.find_or_open(ticket, 2);
    let found = |ticket: Option<Ticket>| ticket.map(|ticket| ticket.id);

    // One intent, one ticket, until it has ended; and no more pending than a requester may have.
    assert_eq!(found(open(ticket("a", "one", "ann", 1000, &["sre", "sre", "ops"])).await.unwrap()), Some("a".into()));
    assert_eq!(found(open(ticket("b", "one", "ann", 1059, &["sre"])).await.unwrap()), Some("a".into()));
    assert_eq!(found(open(ticket("c", "one", "ann", 1060, &["sre"])).await.unwrap()), Some("c".into()), "the first has ended");
    assert_eq!(found(open(ticket("d", "two", "ann", 1060, &["sre"])).await.unwrap()), Some("d".into()));
    assert_eq!(found(open(ticket("e", "three", "ann", 1060, &["sre"])).await.unwrap()), None);
    assert_eq!(found(open(ticket("f", "three", "bob", 1060, &["ops"])).await.unwrap()), Some("f".into()));

    // What has ended is changed no more.
    let ended = tickets.get("a").await.unwrap().unwrap();
    assert!(tickets.replace(Ticket { state: TicketState::Approved, ..ended }).await.unwrap().is_none());

    // A change is made from what is there, or not at all.
    let read = async |id: &str| tickets.get(id).await.unwrap().unwrap();
    let (one, other) = (read("d").await, read("d").await);
    let approved = tickets.replace(Ticket { state: TicketState::Approved, ..one }).await.unwrap().unwrap();
    assert!(tickets.replace(Ticket { state: TicketState::Denied, ..other.clone() }).await.unwrap().is_none());
    assert_eq!((read("d").await.state, &read("d").await), (TicketState::Approved, &approved));
    assert!(tickets.replace(Ticket { id: "none".into(), ..other }).await.unwrap().is_none());
    assert!(tickets.get("none").await.unwrap().is_none());
    assert_eq!(found(open(ticket("g", "two", "ann", 1070, &["sre"])).await.unwrap()), Some("d".into()), "approved, and not used");
    assert!(tickets.replace(Ticket { state: TicketState::Used, ..approved }).await.unwrap().is_some());
    assert_eq!(found(open(ticket("g", "two", "ann", 1070, &["sre"])).await.unwrap()), Some("g".into()));

    // Whoever asked or may answer sees them: what is pending first, then the latest.
    let list_of = async |cluster: Option<&str>, requester: &str, groups: &[&str], limit, after| {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        tickets
            .list(Seen { requester: requester.into(), groups, cluster: cluster.map(str::to_owned), now: 1080, limit, after })
            .await
            .unwrap()
    };
    let list = async |requester: &str, groups: &[&str], limit, after| list_of(None, requester, groups, limit, after).await;
    let ids = |page: &Page| page.items.iter().map(|ticket| ticket.id.clone()).collect::<String>();
    assert_eq!(ids(&list("ann", &[], 9, None).await), "gcda");
    assert_eq!(ids(&list("eve", &["ops"], 9, None).await), "fa");
    assert_eq!(ids(&list("eve", &[], 9, None).await), "");
    let first = list("ann", &[], 3, None).await;
    assert_eq!(ids(&first), "gcd");
    let second = list("ann", &[], 3, first.go_on).await;
    assert_eq!((ids(&second), second.go_on), ("a".into(), None));

    // What is pending in one cluster takes no place in another, and who asks for one sees no other.
    let elsewhere = |id: &str| {
        let ticket = ticket(id, id, "ann", 1070, &["sre"]);
        let operation = Summary { cluster: "d".into(), ..ticket.operation };
        Ticket { operation, ..ticket }
    };
    assert_eq!(found(open(ticket("x", "four", "ann", 1070, &["sre"])).await.unwrap()), None);
    assert_eq!(found(open(elsewhere("p")).await.unwrap()), Some("p".into()));
    assert_eq!(ids(&list_of(Some("d"), "ann", &["sre"], 9, None).await), "p");
    assert_eq!(ids(&list_of(Some("c"), "ann", &[], 9, None).await), "gcda");
    assert_eq!(ids(&list_of(Some("e"), "ann", &["sre"], 9, None).await), "");
    assert_eq!(ids(&list("ann", &[], 9, None).await), "gpcda");

    // Of what ended a month ago nothing is left.
    let later = 1060 + 60 + 31 * 86_400;
    open(ticket("h", "one", "ann", later, &["sre"])).await.unwrap();
    assert_eq!(ids(&list("ann", &["ops"], 9, None).await), "h");
}

#[tokio::test]
async fn sqlite_holds_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(&directory.path().join("postern.db")).unwrap();
    holds(&SqliteTickets::new(&database).unwrap()).await;
}
