//! One caller's appetite is not another's: what many connections, streams and requests of one may take.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use e2e::{Setup, cluster, code, open, scratch, setup, setup_with};
use testbed::{GatewayOptions, wait_until};

/// A gateway that may open so many files and no more.
fn with_descriptors(limit: u32, options: GatewayOptions) -> Setup {
    use std::os::unix::fs::PermissionsExt;
    let script = scratch("limited").join("postern");
    std::fs::write(&script, format!("#!/bin/sh\nulimit -Sn {limit}; ulimit -Hn {limit}; exec '{}' \"$@\"\n", testbed::postern().display()))
        .unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    setup_with(GatewayOptions { program: Some(script), ..options })
}

#[test]
fn a_thousand_idle_connections_without_a_credential_stop_nobody() {
    let s = with_descriptors(1024, GatewayOptions { config: "limits: {requestHeadTime: 8}\n".into(), ..GatewayOptions::default() });
    let path = format!("/api/v1/namespaces/{}/pods", s.namespace);
    assert_eq!(code(&s.get(&path, "")), 200);
    assert!(s.gateway.log().contains("LimitNOFILE"), "it says that it cannot have what it is configured for");
    let address: SocketAddr = s.gateway.address.parse().unwrap();
    // From two addresses that are not the caller's: each is its own.
    let began = Instant::now();
    let idle: Vec<_> =
        (0..998u32).filter_map(|n| e2e::idle(IpAddr::from([127, 0, 0, 2 + (n % 2) as u8]), address, &s.gateway.ca()).ok()).collect();
    assert!(idle.len() >= 100, "{} were let in", idle.len());
    for _ in 0..20 {
        let asked = Instant::now();
        let answer = s.get(&path, "");
        assert!(code(&answer) == 200 && asked.elapsed() < Duration::from_secs(5), "after {:?}: {answer}", asked.elapsed());
    }
    // What never says who it is is ended.
    let open = |idle: &[TcpStream]| {
        idle.iter()
            .filter(|tcp| {
                let _ = tcp.set_nonblocking(true);
                let mut all = [0; 4096];
                loop {
                    match (&**tcp).read(&mut all) {
                        Ok(0) => return false,
                        Ok(_) => {}
                        Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
                    }
                }
            })
            .count()
    };
    wait_until("idle connections are ended", Duration::from_secs(40), || Ok(open(&idle) == 0)).unwrap();
    assert!(began.elapsed() > Duration::from_secs(4), "not before they had their time");
}

#[test]
fn a_thousand_followed_logs_of_one_caller_end_no_policy() {
    let settings =
        "settings: {does: chunk}\nrules: [{resources: [pods/log, pods/exec, configmaps]}]\ngrants: [streams]\non-failure: allow\n";
    let s = setup(vec![("50-chunk", "misbehaves", settings.into())], "limits: {watchesPerCaller: 5000}\n");
    let log = format!("/api/v1/namespaces/{}/pods/web/log?follow=true", s.namespace);
    let request = format!("GET {log} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", s.token);
    let mut followed = Vec::new();
    let refused = (0..1100).find_map(|n| {
        followed.push(open(&s.gateway, &request).ok()?);
        // Now and then it is looked how far that goes.
        let answer = (n % 50 == 49).then(|| e2e::send(&s.gateway, &request, Duration::from_millis(700)))?;
        (code(&answer) == 429).then_some(answer)
    });
    let refused = refused.expect("one caller does not get as many as they like");
    assert!(refused.contains("end one"), "{refused}");
    // What lets pass what it fails on does not let pass what it was not asked about, and another caller is served.
    let other = cluster().token("approver", testbed::AUDIENCE).unwrap();
    let answer = e2e::send(&s.gateway, &request.replace(&s.token, &other), Duration::from_secs(2));
    assert_eq!(code(&answer), 200, "{answer}");
    assert_eq!(code(&s.get(&format!("/api/v1/namespaces/{}/configmaps", s.namespace), "")), 200);
    drop(followed);
    wait_until("places come back", Duration::from_secs(30), || {
        Ok(code(&e2e::send(&s.gateway, &request, Duration::from_millis(700))) == 200)
    })
    .unwrap();
}

#[test]
fn failed_logins_fill_no_log() {
    let mut s = setup(vec![], "");
    let path = format!("/{}", "x".repeat(60_000));
    for n in 0..200 {
        let answer = e2e::raw(&s.gateway, &format!("GET {path}{n} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
        assert_eq!(code(&answer), 401, "{answer}");
    }
    s.kubectl(&["get", "pods"]).success();
    s.gateway.process.terminate(Duration::from_secs(20)).unwrap();
    let log = std::fs::read_to_string(s.gateway.audit()).unwrap();
    assert!(log.len() < 100_000, "{} bytes", log.len());
    let events: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let failed: Vec<_> = events.iter().filter(|event| event["verdict"] == "unauthenticated").collect();
    let told: u64 = failed.iter().map(|event| event["failedLogins"].as_u64().unwrap_or(1)).sum();
    assert!(told == 200 && failed.len() < 50, "{told} told of in {} events", failed.len());
}

#[test]
fn one_caller_has_so_many_watches_and_requests_and_no_more() {
    let s = setup(vec![], "limits: {watchesPerCaller: 3}\n");
    let path = format!("/api/v1/namespaces/{}/configmaps?watch=1", s.namespace);
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", s.token);
    let mut watches: Vec<_> = (0..3).map(|_| open(&s.gateway, &request).unwrap()).collect();
    wait_until("no more is let", Duration::from_secs(60), || {
        let answer = e2e::send(&s.gateway, &request, Duration::from_secs(2));
        let is_full = code(&answer) == 429 && answer.contains("limits.watchesPerCaller");
        if !is_full {
            // This one may have come before one of the three, which was refused then.
            watches.push(open(&s.gateway, &request)?);
        }
        Ok(is_full)
    })
    .unwrap();
    s.kubectl(&["get", "pods"]).success();
    let other = cluster().token("approver", testbed::AUDIENCE).unwrap();
    // A watch is read for as long as that: on a busy machine it begins late.
    let is_let = |request: &str| Ok(code(&e2e::send(&s.gateway, request, Duration::from_secs(2))) == 200);
    wait_until("another is let", Duration::from_secs(20), || is_let(&request.replace(&s.token, &other))).unwrap();
    drop(watches);
    wait_until("places come back", Duration::from_secs(30), || is_let(&request)).unwrap();
}

#[test]
fn a_caller_who_cancels_watches_ends_no_others() {
    let s = setup_with(GatewayOptions { listen: ", threads: 1".into(), ..GatewayOptions::default() });
    let path = format!("/api/v1/namespaces/{}/configmaps?watch=1&timeoutSeconds=25", s.namespace);
    let of = |token: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n");
    let other = cluster().token("approver", testbed::AUDIENCE).unwrap();
    std::thread::scope(|scope| {
        let quiet = scope.spawn(|| e2e::send(&s.gateway, &of(&other), Duration::from_secs(40)));
        std::thread::sleep(Duration::from_secs(1));
        // More than a connection counts by default.
        let cancelled = || (0..350).for_each(|_| drop(e2e::send(&s.gateway, &of(&s.token), Duration::from_millis(30))));
        let cancelling: Vec<_> = (0..4).map(|_| scope.spawn(cancelled)).collect();
        cancelling.into_iter().for_each(|thread| thread.join().unwrap());
        s.direct(&["create", "configmap", "after"]).success();
        let seen = quiet.join().unwrap();
        assert!(code(&seen) == 200 && seen.contains("\"name\":\"after\""), "{seen}");
    });
}

/// The attacks of this file and their like, all at once and without end: after a minute the gateway holds no more than after a third of one.
#[test]
fn memory_stays_flat_under_all_of_it_for_a_minute() {
    let policies = vec![
        ("20-mask-secrets", "mask-secrets", "settings: {podSecrets: true}\n".to_owned()),
        (
            "40-approve",
            "approve-deletes",
            "settings: {approvers: ['postern:approver'], verbs: [create], resources: [pods/exec]}\n".to_owned(),
        ),
    ];
    let s = setup(policies, "limits: {streamsPerCaller: 20, requestHeadTime: 3}\napprovals: {tellFirst: false, hold: 2}\n");
    let (secret, value) = (format!("/api/v1/namespaces/{}/secrets/db", s.namespace), "v".repeat(200_000));
    let patch = scratch("patch").join("patch.json");
    std::fs::write(&patch, serde_json::json!({"stringData": {"large": value}}).to_string()).unwrap();
    s.direct(&["patch", "secret", "db", "--patch-file", patch.to_str().unwrap()]).success();
    let from = serde_json::json!({"envFrom": [{"secretRef": {"name": "db"}}]});
    cluster().run_pod_with(&s.namespace, "app", &from).unwrap();
    let of = |method: &str, path: &str, more: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n{more}\r\n", s.token)
    };
    let pods = format!("/api/v1/namespaces/{}/pods", s.namespace);
    let websocket = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n";
    let waits = of("GET", &format!("{pods}/web/exec?command=cat&stdin=true&stdout=true"), websocket)
        .replace("Connection: close", "Connection: Upgrade");
    // Input that is sent before anybody said yes: frames of a kilobyte, masked with nothing.
    let input = [&[0x82, 0xfe, 4, 0, 0, 0, 0, 0][..], &[0; 1024]].concat().repeat(2_000);
    let waits = [waits.as_bytes(), &input].concat();
    let stranger = format!("GET /{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "x".repeat(60_000));
    let watch = of("GET", &format!("{pods}?watch=1"), "");
    let (address, ca): (SocketAddr, _) = (s.gateway.address.parse().unwrap(), s.gateway.ca());
    let end = Instant::now() + Duration::from_secs(62);
    let again = |attack: &(dyn Fn(u32) + Sync)| {
        let mut number = 0;
        while Instant::now() < end {
            attack(number);
            number += 1;
        }
        number
    };
    let (held, most) = std::thread::scope(|scope| {
        let strangers = scope.spawn(|| {
            again(&|_| {
                drop(e2e::raw(&s.gateway, &stranger));
                std::thread::sleep(Duration::from_millis(10));
            })
        });
        let watches = scope.spawn(|| again(&|_| drop(e2e::send(&s.gateway, &watch, Duration::from_millis(40)))));
        let waiting = scope.spawn(|| again(&|_| drop(e2e::send_bytes(&s.gateway, &waits, Duration::from_millis(150)))));
        let idle = scope.spawn(|| {
            again(&|n| {
                drop(e2e::idle(IpAddr::from([127, 0, 0, 3 + (n % 5) as u8]), address, &ca));
                std::thread::sleep(Duration::from_millis(20));
            })
        });
        // Each time the pod is another one, and what it knows of its Secrets is asked for anew.
        let relabelled = scope.spawn(|| {
            again(&|n| {
                let patch = format!("{{\"metadata\":{{\"labels\":{{\"n\":\"{n}\"}}}}}}");
                let head = of(
                    "PATCH",
                    &format!("{pods}/app"),
                    &format!("Content-Type: application/merge-patch+json\r\nContent-Length: {}\r\n", patch.len()),
                );
                e2e::raw(&s.gateway, &(head + &patch));
                e2e::raw(&s.gateway, &of("GET", &format!("{pods}/app/log"), ""));
                e2e::raw(&s.gateway, &of("GET", &secret, ""));
            })
        });
        std::thread::sleep(Duration::from_secs(20));
        let held = s.memory();
        let mut most = 0;
        while Instant::now() < end {
            most = most.max(s.memory());
            std::thread::sleep(Duration::from_millis(500));
        }
        let counts = [strangers, watches, waiting, idle, relabelled].map(|thread| thread.join().unwrap());
        println!(
            "in a minute: {counts:?} failed logins, watches, waiting execs, idle connections, new labels; {held} MiB held, {most} at most"
        );
        assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
        (held, most)
    });
    // Two megabytes of input each, 200 KB of a Secret each, 60 KB of a path each: hundreds of megabytes, if they were kept.
    assert!(most < held + 60, "{held} MiB, then {most}");
    assert_eq!(code(&s.get(&pods, "")), 200);
}
