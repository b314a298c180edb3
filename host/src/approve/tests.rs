use http::Method;

use super::*;

fn caller(name: &str, groups: &[&str]) -> Caller {
    Caller {
        username: name.into(),
        groups: groups.iter().map(|g| (*g).into()).collect(),
        issuer: "i".into(),
        claims: vec![],
        expires: 0,
        credential: String::new(),
    }
}

fn requirement(required: u32) -> Requirement {
    Requirement { policy: "p".into(), reason: "r".into(), approvers: vec!["sre".into()], required, valid_seconds: 60 }
}

fn delete(path: &str) -> Operation {
    Operation::classify(&Method::DELETE, &path.parse().unwrap()).unwrap()
}

fn approvals() -> (Arc<Approvals>, std::path::PathBuf) {
    let file = std::env::temp_dir().join(format!("postern-{}-{}.db", std::process::id(), ticket_id().unwrap()));
    (Approvals::new(Store::open(&file).unwrap(), "c", 2), file)
}

const WEB: &str = "/apis/apps/v1/namespaces/n/deployments/web";

#[test]
fn one_intent_is_one_ticket_and_passes_once() {
    let (approvals, file) = approvals();
    let (ann, sre) = (caller("ann", &["dev", "sre"]), caller("sue", &["sre"]));
    let ticket = approvals.ticket(&ann, &delete(WEB), b"{}", &[requirement(1)]).unwrap();
    assert_eq!(approvals.ticket(&ann, &delete(WEB), b"{ }", &[requirement(1)]).unwrap().id, ticket.id);
    assert_ne!(
        approvals.ticket(&ann, &delete(WEB), b"{\"gracePeriodSeconds\":0}", &[requirement(1)]).unwrap().id,
        ticket.id,
        "another body"
    );
    assert!(approvals.ticket(&ann, &delete("/api/v1/namespaces/n"), b"", &[requirement(1)]).is_err(), "two may be pending");

    assert_eq!(approvals.answer(&ticket.id, &ann, true, None).unwrap_err().code, 403, "not one's own");
    assert_eq!(approvals.answer(&ticket.id, &caller("eve", &["dev"]), true, None).unwrap_err().code, 404, "not seen by others");
    assert_eq!(approvals.answer(&ticket.id, &sre, true, None).unwrap().state, State::Approved);
    assert_eq!(approvals.answer(&ticket.id, &sre, false, None).unwrap_err().code, 409);

    // A restart keeps it.
    let again = Approvals::new(Store::open(&file).unwrap(), "c", 2);
    let approved = again.ticket(&ann, &delete(WEB), b"{}", &[requirement(1)]).unwrap();
    assert_eq!(approved.state, State::Approved);
    assert!(again.take(&approved).unwrap());
    assert!(!approvals.take(&approved).unwrap(), "not a second time");
    assert_ne!(again.ticket(&ann, &delete(WEB), b"{}", &[requirement(1)]).unwrap().id, approved.id);
    std::fs::remove_file(file).unwrap();
}

#[test]
fn two_approvals_are_of_two_people_and_another_requester_has_another_ticket() {
    let (approvals, file) = approvals();
    let ticket = approvals.ticket(&caller("ann", &[]), &delete(WEB), b"", &[requirement(2)]).unwrap();
    let sue = caller("sue", &["sre"]);
    assert_eq!(approvals.answer(&ticket.id, &sue, true, None).unwrap().state, State::Pending);
    assert_eq!(approvals.answer(&ticket.id, &sue, true, None).unwrap_err().code, 409);
    assert_eq!(approvals.answer(&ticket.id, &caller("tom", &["sre"]), true, Some(30)).unwrap().state, State::Approved);
    let reusable = approvals.ticket(&caller("ann", &[]), &delete(WEB), b"", &[requirement(2)]).unwrap();
    assert!(approvals.take(&reusable).unwrap() && approvals.take(&reusable).unwrap());
    assert_ne!(approvals.ticket(&caller("bob", &[]), &delete(WEB), b"", &[requirement(2)]).unwrap().id, ticket.id);
    std::fs::remove_file(file).unwrap();
}

#[test]
fn tickets_that_ended_long_ago_are_forgotten() {
    let (approvals, file) = approvals();
    let ann = caller("ann", &[]);
    let old = approvals.ticket(&ann, &delete(WEB), b"", &[requirement(1)]).unwrap();
    approvals.store.put(&Ticket { ends: now() - 31 * 86_400, ..old.clone() }).unwrap();
    let recent = approvals.ticket(&ann, &delete("/api/v1/namespaces/n"), b"", &[requirement(1)]).unwrap();
    assert_eq!(approvals.get(&old.id, &ann).unwrap_err().code, 404);
    assert_eq!(approvals.get(&recent.id, &ann).unwrap().id, recent.id);
    std::fs::remove_file(file).unwrap();
}
