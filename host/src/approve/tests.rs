use http::{HeaderMap, Method};

use super::*;
use crate::body::RequestBody;
use crate::classify::Operation;
use crate::store::Database;

/// Lets a ticket pass once.
const ONCE: Answer = Answer::Approve { reuse_seconds: None };

fn caller(name: &str, groups: &[&str]) -> Caller {
    Caller {
        username: name.into(),
        groups: groups.iter().map(|g| (*g).into()).collect(),
        issuer: "i".into(),
        claims: vec![],
        expires: 0,
        credential: String::new(),
        cluster: Arc::default(),
    }
}

fn requirement(required: u32) -> Requirement {
    Requirement { policy: "p".into(), reason: "r".into(), approvers: vec!["sre".into()], required, valid_seconds: 60 }
}

fn few() -> config::Approvals {
    config::Approvals { pending_per_caller: 2, same_person: vec![vec!["ann".into(), "corp:ann".into()]], ..config::Approvals::default() }
}

async fn ask(approvals: &Approvals, caller: &Caller, operation: &Operation, body: &RequestBody, required: u32) -> Result<Ticket, Refusal> {
    let intent = Intent { caller, operation, headers: &HeaderMap::new(), body, shown: None };
    approvals.find_or_open(approvals.wanted(&intent, &[requirement(required)], "127.0.0.1:1")?).await
}

fn body(text: &'static [u8]) -> RequestBody {
    RequestBody::new(bytes::Bytes::from_static(text), "application/json")
}

fn delete(path: &str) -> Operation {
    Operation::classify(&Method::DELETE, &path.parse().unwrap()).unwrap()
}

fn open(file: &std::path::Path) -> SqliteTickets {
    SqliteTickets::new(&Database::open(file).unwrap()).unwrap()
}

fn approvals() -> (Arc<Approvals>, std::path::PathBuf) {
    let file = std::env::temp_dir().join(format!("postern-{}-{}.db", std::process::id(), ticket_id().unwrap()));
    (Approvals::new(open(&file), &few()), file)
}

#[tokio::test]
async fn what_is_approved_in_one_cluster_is_approved_in_no_other() {
    let (approvals, file) = approvals();
    let (ann, sue) = (caller("ann", &["dev"]), caller("sue", &["sre"]));
    let of = |cluster: &str| delete(WEB).of(&cluster.into());
    let prod = ask(&approvals, &ann, &of("prod"), &body(b"{}"), 1).await.unwrap();
    let dev = ask(&approvals, &ann, &of("dev"), &body(b"{}"), 1).await.unwrap();
    assert_ne!(prod.id, dev.id);
    assert_eq!(approvals.answer(&dev.id, &sue, Some("prod"), ONCE, None).await.unwrap_err().code, 404);
    assert_eq!(approvals.get(&dev.id, &ann, Some("prod")).await.unwrap_err().code, 404);
    approvals.answer(&dev.id, &sue, Some("dev"), ONCE, None).await.unwrap();
    assert_eq!(ask(&approvals, &ann, &of("prod"), &body(b"{}"), 1).await.unwrap().state, TicketState::Pending);
    assert_eq!(ask(&approvals, &ann, &of("dev"), &body(b"{}"), 1).await.unwrap().state, TicketState::Approved);
    // Two may be pending, in each.
    for cluster in ["prod", "dev"] {
        for (name, fits) in [("one", true), ("two", cluster == "dev")] {
            let path = format!("/api/v1/namespaces/n/pods/{name}");
            assert_eq!(ask(&approvals, &ann, &delete(&path).of(&cluster.into()), &body(b""), 1).await.is_ok(), fits, "{cluster} {name}");
        }
    }
    let page = approvals.list(&sue, Some("prod"), 9, None).await.unwrap();
    assert!(page.items.len() == 2 && page.items.iter().all(|ticket| ticket.operation.cluster == "prod"));
    assert_eq!(approvals.list(&sue, None, 9, None).await.unwrap().items.len(), 5);
    std::fs::remove_file(file).unwrap();
}

const WEB: &str = "/apis/apps/v1/namespaces/n/deployments/web";

#[tokio::test]
async fn one_intent_is_one_ticket_and_passes_once() {
    let (approvals, file) = approvals();
    let (ann, sre) = (caller("ann", &["dev", "sre"]), caller("sue", &["sre"]));
    let ticket = ask(&approvals, &ann, &delete(WEB), &body(b"{}"), 1).await.unwrap();
    assert_eq!(ask(&approvals, &ann, &delete(WEB), &body(b"{ }"), 1).await.unwrap().id, ticket.id);
    assert_ne!(ask(&approvals, &ann, &delete(WEB), &body(b"{\"gracePeriodSeconds\":0}"), 1).await.unwrap().id, ticket.id, "another body");
    assert!(ask(&approvals, &ann, &delete("/api/v1/namespaces/n"), &body(b""), 1).await.is_err(), "two may be pending");

    assert_eq!(approvals.answer(&ticket.id, &ann, None, ONCE, None).await.unwrap_err().code, 403, "not one's own");
    assert_eq!(approvals.answer(&ticket.id, &caller("eve", &["dev"]), None, ONCE, None).await.unwrap_err().code, 404, "not seen by others");
    assert_eq!(approvals.answer(&ticket.id, &sre, None, ONCE, None).await.unwrap().state, TicketState::Approved);
    assert_eq!(approvals.answer(&ticket.id, &sre, None, Answer::Deny, None).await.unwrap_err().code, 409);

    // A restart keeps it.
    let again = Approvals::new(open(&file), &few());
    let approved = ask(&again, &ann, &delete(WEB), &body(b"{}"), 1).await.unwrap();
    assert_eq!(approved.state, TicketState::Approved);
    assert!(again.take(&approved).await.unwrap().is_some());
    assert!(approvals.take(&approved).await.unwrap().is_none(), "not a second time");
    assert_ne!(ask(&again, &ann, &delete(WEB), &body(b"{}"), 1).await.unwrap().id, approved.id);
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn two_approvals_are_of_two_people_and_another_requester_has_another_ticket() {
    let (approvals, file) = approvals();
    let ticket = ask(&approvals, &caller("ann", &[]), &delete(WEB), &body(b""), 2).await.unwrap();
    let sue = caller("sue", &["sre"]);
    assert_eq!(
        approvals.answer(&ticket.id, &sue, None, Answer::Approve { reuse_seconds: Some(90) }, None).await.unwrap().state,
        TicketState::Pending
    );
    assert_eq!(approvals.answer(&ticket.id, &sue, None, ONCE, None).await.unwrap_err().code, 409);
    assert_eq!(
        approvals
            .answer(&ticket.id, &caller("tom", &["sre"]), None, Answer::Approve { reuse_seconds: Some(30) }, None)
            .await
            .unwrap()
            .state,
        TicketState::Approved
    );
    let reusable = ask(&approvals, &caller("ann", &[]), &delete(WEB), &body(b""), 2).await.unwrap();
    assert!(approvals.take(&reusable).await.unwrap().is_some() && approvals.take(&reusable).await.unwrap().is_some());
    assert!(reusable.ends <= now() + 30, "for as long as all said so");
    let other = ask(&approvals, &caller("bob", &[]), &delete(WEB), &body(b""), 2).await.unwrap();
    assert_ne!(other.id, ticket.id);
    // More than once only where all said so.
    approvals.answer(&other.id, &sue, None, ONCE, None).await.unwrap();
    let once =
        approvals.answer(&other.id, &caller("tom", &["sre"]), None, Answer::Approve { reuse_seconds: Some(3600) }, None).await.unwrap();
    assert!(once.state == TicketState::Approved && !once.reusable);
    assert!(approvals.take(&once).await.unwrap().is_some() && approvals.take(&once).await.unwrap().is_none());
    std::fs::remove_file(file).unwrap();
}

#[test]
fn an_intent_is_all_that_decides_what_happens() {
    let (approvals, file) = approvals();
    let ann = caller("ann", &[]);
    let patch = Operation::classify(&Method::PATCH, &WEB.parse().unwrap()).unwrap();
    let proxied = Operation::classify(&Method::POST, &"/api/v1/namespaces/n/services/web/proxy/do".parse().unwrap()).unwrap();
    let digest = |operation: &Operation, media_type: &str, text: &'static [u8], header: Option<(&'static str, &str)>| {
        let headers = header.into_iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect();
        let body = RequestBody::new(bytes::Bytes::from_static(text), media_type);
        Intent { caller: &ann, operation, headers: &headers, body: &body, shown: None }.digest("c", &[requirement(1)])
    };
    let merge = digest(&patch, "application/merge-patch+json", b"{}", None).unwrap();
    assert_eq!(digest(&patch, "Application/Merge-Patch+JSON; charset=utf-8", b" { }", Some(("user-agent", "x"))).unwrap(), merge);
    for other in ["application/strategic-merge-patch+json", "application/json-patch+json", "application/apply-patch+yaml"] {
        assert_ne!(digest(&patch, other, b"{}", None).unwrap(), merge, "{other}");
    }
    assert_eq!(digest(&patch, "application/merge-patch+json", br#"{"a":1,"a":2}"#, None).unwrap_err().code, 400);
    let plain = digest(&proxied, "application/json", b"{}", None).unwrap();
    assert_ne!(digest(&proxied, "application/json", b"{ }", None).unwrap(), plain, "what another server reads is its bytes");
    assert_ne!(digest(&proxied, "application/json", b"{}", Some(("x-what", "delete"))).unwrap(), plain);
    assert_eq!(digest(&proxied, "application/json", b"{}", Some(("user-agent", "another"))).unwrap(), plain);
    let traced = |traceparent| digest(&proxied, "application/json", b"{}", Some(("traceparent", traceparent))).unwrap();
    assert_eq!(traced("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), plain, "each try is another trace");
    for other in [
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-do",
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "delete it",
        "",
    ] {
        assert_ne!(traced(other), plain, "{other:?} may say more than that");
    }
    let twice = |query: &str| {
        let delete = delete(&format!("{WEB}?{query}"));
        digest(&delete, "", b"", None).unwrap()
    };
    assert_ne!(
        twice("propagationPolicy=Orphan&propagationPolicy=Background"),
        twice("propagationPolicy=Background&propagationPolicy=Orphan")
    );
    assert_eq!(twice("a=1&b=2"), twice("b=2&a=1"));
    assert_ne!(
        digest(&proxied, "multipart/form-data", b"x", Some(("content-type", "multipart/form-data; boundary=a"))).unwrap(),
        digest(&proxied, "multipart/form-data", b"x", Some(("content-type", "multipart/form-data; boundary=b"))).unwrap()
    );
    let other = Requirement { reason: "the fourth today".into(), ..requirement(1) };
    let intent = Intent { caller: &ann, operation: &patch, headers: &HeaderMap::new(), body: &body(b"{}"), shown: None };
    assert_eq!(intent.digest("c", &[other]).unwrap(), intent.digest("c", &[requirement(1)]).unwrap(), "a reason may change");
    drop(approvals);
    std::fs::remove_file(file).unwrap();
}

#[test]
fn threads_that_ask_at_the_same_moment_find_one_ticket() {
    let (approvals, file) = approvals();
    let ids: std::collections::HashSet<String> = std::thread::scope(|scope| {
        let asked = || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(ask(&approvals, &caller("ann", &[]), &delete(WEB), &body(b""), 1)).unwrap().id
        };
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(asked)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(ids.len(), 1);
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn one_person_with_two_credentials_is_one_person() {
    let (approvals, file) = approvals();
    let of = |issuer: &str, name: &str| Caller { issuer: issuer.into(), ..caller(name, &["sre"]) };
    let ticket = ask(&approvals, &of("https://corp", "ann"), &delete(WEB), &body(b""), 2).await.unwrap();
    for (issuer, name) in [("https://corp", "ann"), ("x509:CN=ca", "ann"), ("https://other", "corp:ann")] {
        assert_eq!(approvals.answer(&ticket.id, &of(issuer, name), None, ONCE, None).await.unwrap_err().code, 403, "{issuer} {name}");
    }
    approvals.answer(&ticket.id, &of("https://corp", "sue"), None, ONCE, None).await.unwrap();
    assert_eq!(approvals.answer(&ticket.id, &of("x509:CN=ca", "sue"), None, ONCE, None).await.unwrap_err().code, 409);
    // What one asked for under one credential is not released under another of the same name: that may be somebody else.
    assert_ne!(ask(&approvals, &of("x509:CN=ca", "ann"), &delete(WEB), &body(b""), 2).await.unwrap().id, ticket.id);
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn pages_hold_what_a_caller_may_see_and_what_is_pending_comes_first() {
    let (_, file) = approvals();
    let approvals = Approvals::new(open(&file), &config::Approvals { pending_per_caller: 5000, ..few() });
    let path = |n: usize| delete(&format!("{WEB}{n}"));
    let mine = ask(&approvals, &caller("ann", &[]), &path(0), &body(b""), 1).await.unwrap();
    let hers = Requirement { approvers: vec!["other".into()], ..requirement(1) };
    for n in 1..1200 {
        let intent = Intent { caller: &caller("eve", &[]), operation: &path(n), headers: &HeaderMap::new(), body: &body(b""), shown: None };
        approvals.find_or_open(approvals.wanted(&intent, std::slice::from_ref(&hers), "127.0.0.1:1").unwrap()).await.unwrap();
    }
    let seen = approvals.list(&caller("sue", &["sre"]), None, 500, None).await.unwrap();
    assert_eq!(seen.items.iter().map(|t| &t.id).collect::<Vec<_>>(), [&mine.id], "those of others hide none");
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = approvals.list(&caller("tom", &["other"]), None, 500, after.as_deref()).await.unwrap();
        all.extend(page.items.into_iter().map(|t| t.id));
        after = page.go_on;
        if after.is_none() {
            break;
        }
    }
    let distinct: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (1199, 1199));
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn who_waits_hears_of_an_answer_though_its_giver_has_gone() {
    let (approvals, file) = approvals();
    let ann = caller("ann", &[]);
    let ticket = ask(&approvals, &ann, &delete(WEB), &body(b""), 1).await.unwrap();
    let sue = caller("sue", &["sre"]);
    let (waited, ()) = tokio::join!(approvals.wait(&ticket.id, Duration::from_secs(60)), async {
        tokio::task::yield_now().await;
        let mut answer = Box::pin(approvals.answer(&ticket.id, &sue, None, ONCE, None));
        // The giver is gone once the answer was handed to whoever keeps tickets.
        while approvals.store.get(&ticket.id).await.unwrap().unwrap().state == TicketState::Pending {
            let _ = futures_util::poll!(answer.as_mut());
        }
    });
    assert_eq!(waited.unwrap().state, TicketState::Approved);
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn two_who_answer_at_the_same_moment_both_count() {
    let (approvals, file) = approvals();
    let ticket = ask(&approvals, &caller("ann", &[]), &delete(WEB), &body(b""), 2).await.unwrap();
    let (sue, tom) = (caller("sue", &["sre"]), caller("tom", &["sre"]));
    let (one, other) =
        tokio::join!(approvals.answer(&ticket.id, &sue, None, ONCE, None), approvals.answer(&ticket.id, &tom, None, ONCE, None));
    let states = [one.unwrap().state, other.unwrap().state];
    assert!(states.contains(&TicketState::Approved), "{states:?}");
    let ticket = approvals.get(&ticket.id, &sue, None).await.unwrap();
    assert_eq!((ticket.state, ticket.approvals.len()), (TicketState::Approved, 2));
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn a_no_has_a_name_and_a_comment_and_is_taken_back_by_who_gave_it() {
    let (approvals, file) = approvals();
    let (ann, sue, tom) = (caller("ann", &["dev"]), caller("sue", &["sre"]), caller("tom", &["sre"]));
    let ticket = ask(&approvals, &ann, &delete(WEB), &body(b""), 1).await.unwrap();
    assert_eq!((ticket.source.as_str(), &ticket.session), ("127.0.0.1:1", &ann.credential));
    let denied = approvals.answer(&ticket.id, &sue, None, Answer::Deny, Some("not on a Friday")).await.unwrap();
    let refusal = denied.refusal.unwrap();
    assert_eq!((refusal.username.as_str(), refusal.comment.as_deref()), ("sue", Some("not on a Friday")));
    // Whoever repeats the intent meets the same no.
    assert_eq!(ask(&approvals, &ann, &delete(WEB), &body(b""), 1).await.unwrap().state, TicketState::Denied);
    for (who, answer, code) in [
        (&tom, Answer::Reopen, 403),
        (&ann, Answer::Reopen, 403),
        (&sue, ONCE, 409),
        (&sue, Answer::Revoke, 409),
        (&ann, Answer::Cancel, 409),
    ] {
        assert_eq!(approvals.answer(&ticket.id, who, None, answer, None).await.unwrap_err().code, code, "{} {answer:?}", who.username);
    }
    let namesake = Caller { issuer: "another".into(), ..sue.clone() };
    assert_eq!(approvals.answer(&ticket.id, &namesake, None, Answer::Reopen, None).await.unwrap_err().code, 403, "of another issuer");
    let again = approvals.answer(&ticket.id, &sue, None, Answer::Reopen, None).await.unwrap();
    assert!(again.state == TicketState::Pending && again.refusal.is_none());
    let approved = approvals.answer(&ticket.id, &tom, None, ONCE, Some("go on")).await.unwrap();
    assert_eq!(approved.approvals[0].comment.as_deref(), Some("go on"));
    assert!(approvals.take(&approved).await.unwrap().is_some());
    for answer in [Answer::Revoke, Answer::Reopen, Answer::Deny] {
        assert_eq!(
            approvals.answer(&ticket.id, &tom, None, answer, None).await.unwrap_err().code,
            409,
            "what was used stays used: {answer:?}"
        );
    }
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn what_was_approved_for_a_time_is_revoked_and_what_is_wanted_no_more_cancelled() {
    let (approvals, file) = approvals();
    let (ann, bob, sue, tom) = (caller("ann", &["dev"]), caller("bob", &["sre"]), caller("sue", &["sre"]), caller("tom", &["sre"]));
    let ticket = ask(&approvals, &ann, &delete(WEB), &body(b""), 1).await.unwrap();
    let open = approvals.answer(&ticket.id, &sue, None, Answer::Approve { reuse_seconds: Some(50) }, None).await.unwrap();
    assert!(approvals.take(&open).await.unwrap().is_some());
    assert_eq!(approvals.answer(&ticket.id, &ann, None, Answer::Revoke, None).await.unwrap_err().code, 403, "by those who may approve");
    approvals.answer(&ticket.id, &tom, None, Answer::Revoke, Some("done")).await.unwrap();
    assert!(approvals.take(&open).await.unwrap().is_none(), "also by who has it in hand already");
    assert_eq!(approvals.answer(&ticket.id, &sue, None, Answer::Reopen, None).await.unwrap_err().code, 409);
    let anew = ask(&approvals, &ann, &delete(WEB), &body(b""), 1).await.unwrap();
    assert!(anew.id != ticket.id && anew.state == TicketState::Pending);
    // One's own, and nobody else's, though they may approve it.
    assert_eq!(approvals.answer(&anew.id, &sue, None, Answer::Cancel, None).await.unwrap_err().code, 403);
    assert_eq!(approvals.answer(&anew.id, &ann, None, Answer::Cancel, None).await.unwrap().state, TicketState::Cancelled);
    assert_eq!(approvals.answer(&anew.id, &sue, None, ONCE, None).await.unwrap_err().code, 409, "what is cancelled is approved by nobody");
    // Who may approve others' tickets may not answer their own in any way but by cancelling it.
    let own = ask(&approvals, &bob, &delete(WEB), &body(b""), 1).await.unwrap();
    for answer in [ONCE, Answer::Deny, Answer::Reopen, Answer::Revoke] {
        assert_eq!(approvals.answer(&own.id, &bob, None, answer, None).await.unwrap_err().code, 403, "{answer:?}");
    }
    let approved = approvals.answer(&own.id, &sue, None, ONCE, None).await.unwrap();
    approvals.answer(&own.id, &bob, None, Answer::Cancel, None).await.unwrap();
    assert!(approvals.take(&approved).await.unwrap().is_none(), "a yes that came before is worth nothing then");
    std::fs::remove_file(file).unwrap();
}
