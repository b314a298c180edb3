//! What reaches the API server, and what becomes of answers that are not as they should be.

use std::io::Write;
use std::time::{Duration, Instant};

use e2e::{Setup, cluster, code, raw, scratch, setup_behind};
use serde_json::{Value, json};
use testbed::{Between, GatewayOptions};

fn behind(policies: Vec<(&'static str, &'static str, String)>, config: &str) -> (Between, Setup) {
    let between = Between::start(cluster(), &scratch("between")).unwrap();
    let s = setup_behind(&between, GatewayOptions { policies, config: config.into(), ..GatewayOptions::default() });
    (between, s)
}

/// Every way in that is known is tried; what arrived at the API server is laid beside the audit log.
#[test]
fn nothing_reaches_the_api_server_without_a_caller_a_decision_and_an_event_nor_with_the_callers_token() {
    let (between, s) = behind(
        vec![
            ("10-no-bulk-export", "no-bulk-export", String::new()),
            ("20-mask-secrets", "mask-secrets", String::new()),
            ("30-guard-exec", "guard-exec", String::new()),
            ("40-approve", "approve-deletes", "settings: {approvers: [nobody], resources: [secrets]}\n".into()),
        ],
        "approvals: {hold: 0}\n",
    );
    for args in [
        &["get", "pods"][..],
        &["get", "secrets", "-A"],
        &["get", "secret", "db", "-o", "yaml"],
        &["create", "configmap", "a", "--from-literal=b=c"],
        &["delete", "configmap", "a"],
        &["exec", "web", "--", "echo", "hello"],
        &["exec", "web", "--", "sh", "-c", "id"],
        &["logs", "web"],
        &["auth", "can-i", "--list"],
        &["get", "pods", "--as", "system:admin"],
        &["get", "pods", "--token", "garbled"],
        &["api-resources"],
        &["get", "configmaps", "--watch", "--request-timeout=1s"],
    ] {
        s.kubectl(args);
    }
    testbed::Gateway::helm(&s.caller, &["list", "-n", &s.namespace]).unwrap();
    let token = format!("Authorization: Bearer {}\r\n", s.token);
    let upgrade = "Connection: Upgrade, Authorization\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n";
    let exec = format!("/api/v1/namespaces/{}/pods/web/exec?stdout=true&command=", s.namespace);
    let paths = [
        "/api/v1/namespaces".to_owned(),
        "/api/v1/secrets".into(),
        "/api/v1/watch/secrets".into(),
        "/api/v1/nodes/node-1/proxy/metrics".into(),
        "/api/v1/namespaces/default/services/https:x:443/proxy/".into(),
        "//api/v1/secrets".into(),
        "/api/v1/../v1/secrets".into(),
        "/api/v1/namespaces/x%2fy/secrets".into(),
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".into(),
        "/openapi/v3".into(),
        "/metrics".into(),
        "/readyz".into(),
        "/postern/v1/approvals".into(),
        "/postern/../api/v1/secrets".into(),
        "/postern".into(),
        format!("{exec}sh"),
        format!("{exec}date"),
    ];
    let mut tried = 0;
    for path in &paths {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "WATCH"] {
            for headers in [
                String::new(),
                token.clone(),
                format!("{token}Impersonate-User: system:admin\r\n"),
                format!("{token}X-Remote-User: admin\r\nX-Remote-Group: system:masters\r\nX-Forwarded-For: 1.1.1.1\r\n"),
                format!("{token}Audit-ID: chosen-by-the-caller\r\nCookie: a=b\r\nProxy-Authorization: Basic eA==\r\n"),
                format!("{token}{upgrade}"),
                upgrade.to_owned(),
            ] {
                // What upgrades would stay open, so that all is sent by a client that goes away.
                let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n{headers}");
                let close = if headers.contains("Upgrade") { "" } else { "Connection: close\r\n" };
                e2e::send(&s.gateway, &format!("{request}{close}\r\n"), Duration::from_millis(if close.is_empty() { 150 } else { 3000 }));
                tried += 1;
            }
        }
    }
    std::thread::sleep(Duration::from_millis(500));
    let events = s.events();
    let seen = between.seen().unwrap();
    let mut of_callers = 0;
    for request in &seen {
        for (name, value) in &request.headers {
            assert!(!value.contains(&s.token), "the caller's token went further: {request:?}");
            let own_only = ["impersonate-", "x-remote-", "x-forwarded-", "proxy-"];
            assert!(name != "cookie" || request.target.contains("/proxy/"), "a cookie went to the API server: {request:?}");
            assert!(!own_only.iter().any(|prefix| name.starts_with(prefix)), "{name} went further: {request:?}");
        }
        if request.method == "POST" && request.target == "/api/v1/namespaces/postern/serviceaccounts/acts-as/token" {
            continue;
        }
        // Whether a watch may still go on is asked in its caller's name, by the gateway itself: it has no header of theirs.
        let own = ["accept", "authorization", "content-length", "content-type", "host"];
        if request.method == "POST"
            && request.target == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
            && request.headers.iter().all(|(name, _)| own.contains(&name.as_str()))
        {
            continue;
        }
        let Some(id) = request.header("audit-id") else {
            // What policies declared they need, fetched by the gateway for itself.
            assert!(request.method == "GET" && request.header("authorization").is_none(), "reached without an event: {request:?}");
            continue;
        };
        let path = request.target.split('?').next().unwrap();
        let of = |stage: &str| events.iter().find(|e| e["id"] == id && e["stage"] == stage && e["path"] == path);
        let event = of("completed").unwrap_or_else(|| panic!("reached without an event: {request:?}"));
        let caller = event["caller"]["username"].as_str().unwrap_or_default();
        assert_eq!(caller, "system:serviceaccount:postern:caller", "{event}");
        assert!(["allow", "mask"].contains(&event["verdict"].as_str().unwrap_or_default()), "{event}");
        assert!(
            matches!(request.method.as_str(), "GET" | "HEAD" | "OPTIONS") || of("decided").is_some(),
            "a change without a record before it: {event}"
        );
        let upgraded = event["status"] == 101 || request.header("upgrade").is_some();
        // What is long may not be all there when a client that asked for an upgrade goes away.
        let is_long = event["verb"] == "watch" || event["path"] == "/metrics";
        // Nor what a machine with much to do did not answer within that client's patience.
        let ran_out = event["milliseconds"].as_u64().is_some_and(|took| took >= 100);
        assert!(upgraded || event["ended"] != "client-gone" || is_long || ran_out, "it was answered: {event}");
        of_callers += 1;
    }
    // What is told of failed logins together is of no request of its own.
    let refused = events.iter().filter(|e| e["stage"] == "refused" && e["id"].is_string());
    for event in refused.clone() {
        assert!(!seen.iter().any(|r| r.header("audit-id") == event["id"].as_str()), "refused, and sent: {event}");
    }
    for bytes in between.passed().unwrap() {
        assert!(!String::from_utf8_lossy(&bytes).contains(&s.token), "not in a body or a query either");
    }
    println!("{tried} raw requests tried; {of_callers} reached the API server; {} were refused", refused.count());
    assert!(of_callers > 100, "{of_callers}");
}

#[test]
fn answers_that_cannot_be_read_are_errors_and_never_passed_on() {
    let (between, s) = behind(vec![("20-mask-secrets", "mask-secrets", String::new())], "limits: {object: 1Mi}\n");
    let path = format!("/api/v1/namespaces/{}/secrets/db", s.namespace);
    assert_eq!(code(&s.get(&path, "")), 200);
    let with = |headers: &str, body: &[u8]| {
        let mut answer = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len()).into_bytes();
        answer.extend_from_slice(body);
        between.answer(&answer).unwrap();
        (s.get(&path, ""), s.get(&format!("/api/v1/namespaces/{}/secrets", s.namespace), ""))
    };
    let json_type = "Content-Type: application/json\r\n";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&vec![b' '; 100 << 20]).unwrap();
    let bomb = gzip.finish().unwrap();
    let secret = r#"{"kind":"Secret","data":{"password":"leaked-value"}"#;
    let deep = format!("{{\"kind\":\"Secret\",\"data\":{}\"leaked-value\"", "[".repeat(100_000));
    let large = format!("{{\"kind\":\"Secret\",\"data\":{{\"a\":\"leaked-value{}\"}}}}", "x".repeat(2 << 20));
    let twice = r#"{"kind":"Secret","data":{"password":"leaked-value"},"data":{"password":"leaked-value"}}"#;
    for (what, headers, body) in [
        ("a gzip bomb", format!("{json_type}Content-Encoding: gzip\r\n"), bomb.as_slice()),
        ("protobuf though JSON was asked", "Content-Type: application/vnd.kubernetes.protobuf\r\n".into(), b"k8s\0leaked-value"),
        ("no content type", String::new(), secret.as_bytes()),
        ("cut off", json_type.into(), secret.as_bytes()),
        ("deep", json_type.into(), deep.as_bytes()),
        ("too large", json_type.into(), large.as_bytes()),
        ("a field twice", json_type.into(), twice.as_bytes()),
        ("no object", json_type.into(), br#""leaked-value""#),
        ("something after it", json_type.into(), br#"{"kind":"Secret"}{"data":{"a":"leaked-value"}}"#),
        ("not UTF-8", json_type.into(), b"{\"kind\":\"Secret\",\"data\":{\"a\xff\":\"leaked-value\"}}"),
    ] {
        let (single, list) = with(&headers, body);
        for answer in [&single, &list] {
            assert!(!answer.contains("leaked-value"), "{what}: {answer}");
        }
        if !matches!(what, "a field twice" | "not UTF-8") {
            for answer in [&single, &list] {
                assert!(matches!(code(answer), 500 | 502) && answer.contains("\"kind\":\"Status\""), "{what}: {answer}");
            }
        }
    }
}

#[test]
fn a_slow_and_a_restarting_api_server_are_told_and_lived_through() {
    let (mut between, s) = behind(vec![], "limits: {responseTime: 2}\n");
    s.kubectl(&["get", "pods"]).success();
    between.hold(true).unwrap();
    let start = Instant::now();
    let slow = s.get("/api/v1/namespaces", "");
    assert!(code(&slow) == 504 && slow.contains("did not answer within 2 seconds"), "{slow}");
    assert!(start.elapsed() < Duration::from_secs(20));
    between.hold(false).unwrap();
    assert_eq!(code(&s.get("/api/v1/namespaces", "")), 200);

    between.go_away();
    let gone = s.get("/api/v1/namespaces", "");
    assert!(matches!(code(&gone), 502 | 503) && gone.contains("API server"), "{gone}");
    between.come_back().unwrap();
    for _ in 0..5 {
        assert_eq!(code(&s.get("/api/v1/namespaces", "")), 200, "at once, with no kept connection in the way");
    }
    let statuses: Vec<Value> = s.events().iter().map(|e| e["status"].clone()).collect();
    assert!(statuses.contains(&json!(504)), "{statuses:?}");
}

/// What a request carries is the same whoever pads it: a request within a request's body is a body.
#[test]
fn a_request_in_a_body_stays_a_body() {
    let (between, s) = behind(vec![], "");
    let inner = format!("GET /api/v1/smuggled HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", s.token);
    let head = format!(
        "POST /api/v1/namespaces/{}/configmaps HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n",
        s.namespace, s.token
    );
    for framing in [
        format!("Content-Length: {}\r\n\r\n{inner}", inner.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len()),
        format!("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{inner}"),
        format!("Transfer-Encoding : chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n{inner}"),
        format!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("Content-Length: +0\r\n\r\n{inner}"),
    ] {
        let answer = raw(&s.gateway, &format!("{head}{framing}"));
        assert!(code(&answer) >= 400, "{framing}: {answer}");
    }
    let events = s.events();
    let smuggled = |e: &&Value| e["path"].as_str().is_some_and(|p| p.contains("smuggled"));
    let passed = events.iter().filter(|e| e["stage"] == "completed").find(smuggled);
    assert!(passed.is_none(), "{passed:?}");
    let heads = between.seen().unwrap();
    assert!(heads.iter().filter(|r| r.target.contains("smuggled")).all(|r| r.header("audit-id").is_none()), "within bodies only");
}
