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
