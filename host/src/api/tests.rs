use super::*;
use crate::approve::Answer;

fn parse(method: &str, target: &str, body: &str) -> Result<ApiRequest, u16> {
    ApiRequest::parse(&method.parse().unwrap(), &target.parse().unwrap(), body.as_bytes()).map_err(|refusal| refusal.code.as_u16())
}

#[test]
fn requests_are_read_by_the_routes_and_by_nothing_else() {
    let answer = |answer, comment: Option<&str>| {
        Ok(ApiRequest::Approval(ApprovalRequest::Answer { id: "a1".into(), answer, comment: comment.map(str::to_owned) }))
    };
    let post = |what: &str, body: &str| parse("POST", &format!("/postern/v1/approvals/a1/{what}"), body);
    assert_eq!(post("approve", r#"{"reuseSeconds": 60}"#), answer(Answer::Approve { reuse_seconds: Some(60) }, None));
    assert_eq!(post("approve", ""), answer(Answer::Approve { reuse_seconds: None }, None));
    assert_eq!(post("approve", r#"{"reuseSeconds": null, "comment": "go"}"#), answer(Answer::Approve { reuse_seconds: None }, Some("go")));
    for (what, done) in [("deny", Answer::Deny), ("reopen", Answer::Reopen), ("revoke", Answer::Revoke), ("cancel", Answer::Cancel)] {
        assert_eq!(post(what, ""), answer(done, None));
        assert_eq!(post(what, r#"{"comment": " "}"#), answer(done, None));
        assert_eq!(post(what, r#"{"comment": "why"}"#), answer(done, Some("why")));
        assert_eq!(post(what, r#"{"comment": "two\nlines"}"#), Err(400));
        assert_eq!(post(what, &format!("{{\"comment\": \"{}\"}}", "x".repeat(501))), Err(400));
        assert_eq!(post(what, r#"{"reuseSeconds": 1}"#), Err(400));
    }
    assert_eq!(
        parse("GET", "/postern/v1/approvals?limit=9999", ""),
        Ok(ApiRequest::Approval(ApprovalRequest::List { limit: 500, after: None, wait: None }))
    );
    let wait = approvals::Wait { revision: "a".into(), seconds: 300 };
    assert_eq!(
        parse("GET", "/postern/v1/approvals?revision=a&waitSeconds=300", ""),
        Ok(ApiRequest::Approval(ApprovalRequest::List { limit: 500, after: None, wait: Some(wait) }))
    );
    assert_eq!(parse("HEAD", "/postern/v1/status", ""), Ok(ApiRequest::Status));
    let Ok(ApiRequest::Session(SessionRequest::List { filter, limit: 3, after: Some(after) })) =
        parse("GET", "/postern/v1/sessions?limit=3&continue=5.a&text=a%26b&since=7&user=", "")
    else {
        panic!("it is a list");
    };
    assert_eq!((filter.text.as_deref(), filter.since, filter.user, after.as_str()), (Some("a&b"), Some(7), None, "5.a"));
    for (method, target, body, code) in [
        ("GET", "/postern", "", 404),
        ("GET", "/postern/v1", "", 404),
        ("GET", "/postern/v1/approvals/a/b/c", "", 404),
        ("GET", "/postern/v1/approvals/a1/approve", "", 405),
        ("DELETE", "/postern/v1/approvals/a1", "", 405),
        ("POST", "/postern/v1/sessions", "", 405),
        ("POST", "/postern/v1/approvals/a1/approve", r#"{"reuse": 1}"#, 400),
        ("POST", "/postern/v1/approvals/a1/approve?x=y", "", 400),
        ("GET", "/postern/v1/sessions?usr=ann", "", 400),
        ("GET", "/postern/v1/sessions?since=yesterday", "", 400),
        ("GET", "/postern/v1/sessions/a/search", "", 400),
        ("GET", "/postern/v1/sessions/a/recordings/b?follow=maybe", "", 400),
        ("GET", "/postern/v1/sessions/../status", "", 400),
        ("GET", "/postern/v1/approvals?waitSeconds=5", "", 400),
        ("GET", "/postern/v1/approvals?revision=a", "", 400),
        ("GET", "/postern/v1/approvals?revision=a&waitSeconds=301", "", 400),
        ("GET", "/postern/v1/approvals?revision=a&waitSeconds=-1", "", 400),
    ] {
        assert_eq!(parse(method, target, body), Err(code), "{method} {target}");
    }
}

#[test]
fn the_document_has_every_route_and_every_schema_that_it_names() {
    let document = document();
    for route in ROUTES {
        let operation = &document["paths"][route.path][route.method.to_ascii_lowercase()];
        assert!(operation["responses"]["200"]["content"].is_object(), "{} {}", route.method, route.path);
        let places = route.path.matches('{').count();
        assert_eq!(operation["parameters"].as_array().unwrap().len(), places + route.parameters.len());
    }
    let text = document.to_string();
    let names = text.match_indices("#/components/schemas/").map(|(at, prefix)| text[at + prefix.len()..].split('"').next().unwrap());
    for name in names {
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
    let mut ids: Vec<_> =
        ROUTES.iter().map(|route| document["paths"][route.path][route.method.to_ascii_lowercase()]["operationId"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), ROUTES.len());
}
