//! What goes to a server behind the API server passes as it comes, both ways, unless somebody reads it.

use std::time::Duration;

use e2e::{Setup, cluster, code, scratch, setup_behind};
use testbed::{Between, GatewayOptions, wait_until};

const MEGABYTE: usize = 1 << 20;

fn behind(between: &Between, policies: Vec<(&'static str, &'static str, String)>, limits: &str) -> Setup {
    setup_behind(
        between,
        GatewayOptions {
            config: format!("nodesProxy: {{users: ['system:serviceaccount:postern:caller']}}\n{limits}"),
            policies,
            ..GatewayOptions::default()
        },
    )
}

fn head(s: &Setup, give: usize, headers: &str) -> String {
    let token = &s.token;
    format!(
        "POST /api/v1/nodes/node-1/proxy/carry/x/y?give={give} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n{headers}\r\n\r\n"
    )
}

fn post(s: &Setup, size: usize, give: usize, headers: &str) -> String {
    let head = head(s, give, &format!("{headers}Content-Length: {size}"));
    s.raw_bytes(&[head.as_bytes(), &vec![b'x'; size]].concat())
}

#[test]
fn what_is_proxied_passes_both_ways_whatever_its_size() {
    let between = Between::start(cluster(), &scratch("between")).unwrap();
    let s = behind(&between, vec![("40-proxy", "guard-proxy", "settings: {groups: ['postern:caller']}\n".into())], "");
    // So that what everything takes once is there.
    assert_eq!(code(&post(&s, 200_000, 200_000, "")), 200);
    let before = s.memory();
    // The limits of a body and of an object are 3 and 8 MiB.
    let answer = post(&s, 64 * MEGABYTE, 48 * MEGABYTE, "Content-Type: application/octet-stream\r\nContent-Encoding: zstd\r\n");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    assert!(code(&answer) == 200 && answer.contains(&format!("took {}\n", 64 * MEGABYTE)), "{}", &answer[..answer.len().min(500)]);
    assert!(body.len() > 48 * MEGABYTE, "{}", body.len());
    let grown = s.memory().saturating_sub(before);
    assert!(grown < 32, "{grown} MiB more for a body of 64 MiB and an answer of 48 MiB");
    // One of which nobody says how long it will be.
    let piece = [format!("{MEGABYTE:x}\r\n").as_bytes(), &vec![b'y'; MEGABYTE], b"\r\n"].concat();
    let chunked = [head(&s, 0, "Transfer-Encoding: chunked").into_bytes(), piece.repeat(10), b"0\r\n\r\n".to_vec()].concat();
    let answer = s.raw_bytes(&chunked);
    assert!(code(&answer) == 200 && answer.contains(&format!("took {}\n", 10 * MEGABYTE)), "{answer}");
    // Some servers take a question as the body of a GET.
    let get = [head(&s, 0, "Transfer-Encoding: chunked").replacen("POST", "GET", 1).into_bytes(), piece, b"0\r\n\r\n".to_vec()].concat();
    let answer = s.raw_bytes(&get);
    assert!(code(&answer) == 200 && answer.contains(&format!("took {MEGABYTE}\n")), "{answer}");
    let events = s.events();
    let of = |phase: &str| {
        events.iter().filter(|e| e["stage"] == phase && e["path"].as_str().is_some_and(|p| p.contains("/proxy/carry"))).count()
    };
    assert_eq!((of("decided"), of("completed")), (4, 4), "each is in the log before it is sent, and when it is over");
}

/// One that may be read is taken in whole, within the limit.
#[test]
fn what_somebody_reads_is_not_passed_on_unread() {
    let between = Between::start(cluster(), &scratch("between")).unwrap();
    let only_nodes = "rules: [{resources: [nodes/proxy]}]\n";
    let reads = behind(&between, vec![("40-reads", "misbehaves", format!("settings: {{does: read-body}}\n{only_nodes}"))], "");
    let large = post(&reads, 4 * MEGABYTE, 0, "");
    assert!(code(&large) == 413 && large.contains("limits.requestBody"), "{large}");
    let other = post(&reads, MEGABYTE, 0, "Content-Type: application/json\r\n");
    assert!(code(&other) == 400 && !other.contains("took"), "{other}");
    let packed = post(&reads, MEGABYTE, 0, "Content-Type: application/json\r\nContent-Encoding: gzip\r\n");
    assert!(code(&packed) == 415 && packed.contains("Content-Encoding gzip"), "{packed}");
    let kept = behind(&between, vec![], "sessions: {bodies: [{resources: [nodes/proxy], keep: request}]}\n");
    assert_eq!(code(&post(&kept, 4 * MEGABYTE, 0, "")), 413);
    // An approval is of these bytes.
    let settings = "settings: {verbs: [create], resources: [nodes/proxy], approvers: ['postern:approver']}\n";
    let asks = behind(&between, vec![("40-asks", "approve-deletes", settings.into())], "approvals: {hold: 0}\n");
    assert_eq!(code(&post(&asks, 4 * MEGABYTE, 0, "")), 413);
    let waits = post(&asks, MEGABYTE, 0, "");
    assert!(code(&waits) == 429 && waits.contains("waiting for approval"), "{waits}");
}

/// What is refused is refused before any of it is sent, and is in the log though its caller hangs up at once.
#[test]
fn nothing_of_what_is_refused_is_sent_and_it_is_in_the_log_whoever_hangs_up() {
    let between = Between::start(cluster(), &scratch("between")).unwrap();
    let s = behind(&between, vec![("40-proxy", "guard-proxy", String::new())], "");
    let refused = post(&s, 8 * MEGABYTE, 0, "");
    assert!(code(&refused) == 403 && refused.contains("blocked by policy 40-proxy"), "{refused}");
    let beginning = [head(&s, 0, "Transfer-Encoding: chunked").as_bytes(), b"100\r\n", &[b'x'; 256], b"\r\n"].concat();
    for patience in [0, 100] {
        e2e::send_bytes(&s.gateway, &beginning, Duration::from_millis(patience));
    }
    let of_uploads =
        || s.events().into_iter().filter(|e| e["path"].as_str().is_some_and(|path| path.contains("/proxy/carry"))).collect::<Vec<_>>();
    wait_until("all are told", Duration::from_secs(20), || Ok(of_uploads().len() >= 2)).unwrap();
    for event in of_uploads() {
        assert!(event["stage"] == "refused" && event["caller"]["username"].is_string(), "{event}");
        assert!(event["refusal"].as_str().is_some_and(|why| why.contains("40-proxy")), "{event}");
    }
    assert!(between.seen().unwrap().iter().all(|seen| !seen.target.contains("/carry/")), "{:?}", between.seen());
}

#[test]
fn a_body_that_stands_still_ends() {
    let between = Between::start(cluster(), &scratch("between")).unwrap();
    let s = behind(&between, vec![], "limits: {streamIdleTime: 2}\n");
    let begun = std::time::Instant::now();
    let beginning = [head(&s, 0, &format!("Content-Length: {}", 10 * MEGABYTE)).into_bytes(), vec![b'x'; MEGABYTE]].concat();
    let answer = e2e::send(&s.gateway, &String::from_utf8(beginning).unwrap(), Duration::from_secs(30));
    assert!(code(&answer) == 408 && answer.contains("limits.streamIdleTime"), "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(25));
}
