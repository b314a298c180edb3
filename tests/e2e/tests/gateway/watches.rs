//! Watches share connections to the API server: each is still its caller's own, and none holds up another.

use std::collections::HashSet;
use std::time::Duration;

use e2e::{cluster, code, open, raw, setup_with};
use serde_json::json;
use testbed::{AUDIENCE, GatewayOptions, wait_until};

/// More than the two threads of a gateway could carry on one connection each.
const WATCHES: usize = 130;

fn watch(token: &str, namespace: &str, seconds: u32) -> String {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps?watch=1&timeoutSeconds={seconds}&fieldSelector=metadata.name%3Dnews");
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n")
}

/// Connections of a process to the API server.
fn connections(pid: u32) -> usize {
    let sockets: HashSet<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok()?.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned))
        .collect();
    let port = format!("0100007F:{:04X}", cluster().port);
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let is_one = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(2) == Some(&port.as_str()) && fields.get(3) == Some(&"01") && fields.get(9).is_some_and(|inode| sockets.contains(*inode))
    };
    table.lines().filter(is_one).count()
}

#[test]
fn many_watches_share_few_connections_and_a_slow_reader_holds_up_none() {
    let s = setup_with(GatewayOptions::default());
    s.direct(&["create", "configmap", "news"]).success();
    // One that begins and is never read: what is for it fills its window, and nobody else's.
    let slow = open(&s.gateway, &watch(&s.token, &s.namespace, 60)).unwrap();
    std::thread::scope(|scope| {
        let watches: Vec<_> = (0..WATCHES).map(|_| scope.spawn(|| raw(&s.gateway, &watch(&s.token, &s.namespace, 12)))).collect();
        std::thread::sleep(Duration::from_secs(3));
        let few = connections(s.gateway.process.id());
        assert!((1..20).contains(&few), "{few} connections for {WATCHES} watches");
        for n in 0..6 {
            let patch = json!({"data": {"n": format!("news-{n}."), "padding": "x".repeat(200_000)}}).to_string();
            let file = e2e::scratch("patch").join("patch.json");
            std::fs::write(&file, patch).unwrap();
            s.direct(&["patch", "configmap", "news", "--type=merge", "--patch-file", file.to_str().unwrap()]).success();
        }
        for watch in watches {
            let text = watch.join().unwrap();
            assert_eq!(code(&text), 200);
            assert!((0..6).all(|n| text.contains(&format!("news-{n}."))), "an event is missing in {} bytes", text.len());
        }
    });
    drop(slow);
    let events = s.events();
    let watched = events.iter().filter(|e| e["verb"] == "watch" && e["stage"] == "completed").count();
    assert!(watched >= WATCHES, "{watched} of {WATCHES} are recorded");
}

#[test]
fn who_shares_a_connection_shares_nothing_else() {
    // The approver acts as an account that may nothing.
    let access = "[{users: ['system:serviceaccount:postern:approver'], as: {serviceAccount: {namespace: postern, name: approver}}}, {as: {serviceAccount: {namespace: postern, name: acts-as}}}]";
    let s = setup_with(GatewayOptions { access: access.into(), listen: ", threads: 1".into(), ..GatewayOptions::default() });
    s.direct(&["create", "configmap", "news", "--from-literal=for=the-caller-alone"]).success();
    let other = cluster().token("approver", AUDIENCE).unwrap();
    let held = open(&s.gateway, &watch(&s.token, &s.namespace, 30)).unwrap();
    for round in 0..3 {
        let refused = raw(&s.gateway, &watch(&other, &s.namespace, 1));
        assert!(code(&refused) == 403 && !refused.contains("the-caller-alone"), "round {round}: {refused}");
        let shown = raw(&s.gateway, &watch(&s.token, &s.namespace, 1));
        assert!(code(&shown) == 200 && shown.contains("the-caller-alone"), "round {round}: {shown}");
    }
    drop(held);
    // What went away is given back: the connection is not filled by those who have left.
    let leaving: Vec<_> = (0..60).map(|_| open(&s.gateway, &watch(&s.token, &s.namespace, 30)).unwrap()).collect();
    std::thread::sleep(Duration::from_secs(2));
    drop(leaving);
    wait_until("the watches have ended", Duration::from_secs(20), || {
        Ok(s.events().iter().filter(|e| e["verb"] == "watch" && e["stage"] == "completed").count() >= 64)
    })
    .unwrap();
    assert!(connections(s.gateway.process.id()) < 8);
}

/// As browsers and informers in Java ask: the answer is that of the API server itself, decided and masked.
#[test]
fn a_watch_and_a_log_over_websocket_are_those_of_the_api_server() {
    let s = setup_with(GatewayOptions { policies: vec![("20-mask", "mask-secrets", String::new())], ..GatewayOptions::default() });
    let ask = |path: &str, protocols: &str| {
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nOrigin: https://x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{protocols}"
        );
        let through = e2e::send(&s.gateway, &format!("{head}Authorization: Bearer {}\r\n\r\n", s.token), Duration::from_secs(3));
        let token = cluster().token("acts-as", &cluster().issuer()).unwrap();
        let direct = e2e::send_at(
            &format!("127.0.0.1:{}", cluster().port),
            &cluster().directory.join("ca.crt"),
            &format!("{head}Authorization: Bearer {token}\r\n\r\n"),
            Duration::from_secs(3),
        );
        (through, direct)
    };
    let body = |answer: &str| answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned());
    let pods = format!("/api/v1/namespaces/{}/pods?watch=true&allowWatchBookmarks=true&timeoutSeconds=600", s.namespace);
    let (through, direct) = ask(&pods, "");
    for answer in [&through, &direct] {
        assert!(code(answer) == 101 && answer.to_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");
        assert!(body(answer).contains(r#"{"type":"ADDED","object":{"kind":"Pod""#), "{answer}");
    }
    // All but the version at which the bookmark was made: other tests write to the cluster too.
    let frames = |answer: &str| body(answer).split_once(r#"{"type":"BOOKMARK""#).unwrap().0.to_owned();
    assert_eq!(frames(&through), frames(&direct), "the same frames");
    let secrets = format!("/api/v1/namespaces/{}/secrets?watch=1", s.namespace);
    let (through, direct) = ask(&secrets, "");
    assert!(direct.contains("aHVudGVyMi1pcy1zZWNyZXQ=") && through.contains("cG9zdGVybi1tYXNrZW"), "{through}");
    assert!(code(&through) == 101 && !through.contains("aHVudGVyMi1pcy1zZWNyZXQ="), "{through}");
    let event = s.events().into_iter().rfind(|event| event["stage"] == "completed" && event["target"]["resource"] == "secrets").unwrap();
    assert_eq!((&event["verb"], &event["verdict"]), (&json!("watch"), &json!("mask")), "{event}");
    use base64::Engine;
    let log = format!("/api/v1/namespaces/{}/pods/web/log", s.namespace);
    let begins = "line 1 of web, ";
    for (protocols, shown) in [
        ("", begins.to_owned()),
        ("Sec-WebSocket-Protocol: binary.k8s.io\r\n", begins.to_owned()),
        ("Sec-WebSocket-Protocol: base64.binary.k8s.io\r\n", base64::engine::general_purpose::STANDARD.encode(begins)),
    ] {
        let (through, direct) = ask(&format!("{log}?follow=true"), protocols);
        for answer in [&through, &direct] {
            assert!(code(answer) == 101 && body(answer).contains(&shown), "{protocols}: {answer}");
        }
        // A log that ends: the API server's own may lack its last piece, for its reader drops what comes with the end.
        let (through, _) = ask(&log, protocols);
        assert!(code(&through) == 101 && body(&through).contains(&shown), "{protocols}: {through}");
    }
    // What is refused is refused before it is upgraded, as there.
    let (through, _) = ask(&log, "Sec-WebSocket-Protocol: channel.k8s.io\r\n");
    assert_eq!(code(&through), 400, "{through}");
    // The token as a protocol, which browsers have no other way to send.
    let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&s.token);
    let head = format!(
        "GET {pods} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.{token}, base64.binary.k8s.io\r\n\r\n"
    );
    let answer = e2e::send(&s.gateway, &head, Duration::from_secs(3));
    assert!(code(&answer) == 101 && !answer.contains(&token) && answer.contains("\"ADDED\""), "{answer}");
}
