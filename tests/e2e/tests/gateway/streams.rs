//! Streams into containers: read, masked, ended, whatever the protocol.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use e2e::{Ran, Setup, cluster, code, scratch, setup, setup_behind};
use serde_json::json;
use testbed::{Between, GatewayOptions};

const SECRET: &str = "hunter2-is-secret";

fn kubectl(s: &Setup, websocket: bool, args: &[&str]) -> Command {
    let mut command = Command::new(testbed::binary("kubectl"));
    command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websocket.to_string()).env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websocket.to_string());
    command.arg("--kubeconfig").arg(&s.caller).args(["-n", &s.namespace]).args(args);
    command
}

fn ran(s: &Setup, websocket: bool, args: &[&str]) -> Ran {
    Ran::new(kubectl(s, websocket, args).output().unwrap())
}

/// A pod whose container takes its environment from the Secret.
fn setup_with_secrets(policy: &str) -> Setup {
    let s = setup(vec![("20-mask-secrets", "mask-secrets", policy.into())], "");
    let env = json!({"env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}],
        "envFrom": [{"secretRef": {"name": "tokens"}}]});
    cluster()
        .apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tokens", "namespace": s.namespace}, "stringData": {"t": "tok-1002"}}))
        .unwrap();
    cluster().run_pod_with(&s.namespace, "app", &env).unwrap();
    cluster().set_environment(&s.namespace, "app", &format!("PASSWORD={SECRET}\nt=tok-1002\n")).unwrap();
    s
}

#[test]
fn the_secrets_of_a_pod_never_show_in_what_it_writes() {
    let s = setup_with_secrets("settings: {podSecrets: true}\n");
    assert!(s.direct(&["exec", "app", "--", "env"]).success().contains(SECRET), "without the gateway it shows");
    let show = format!(
        "env; echo -n {SECRET} | base64; echo -n user:{SECRET} | base64; printf '%048d%s' 0 {SECRET} | base64; echo {SECRET} >&2; printf 'hun'; sleep 0.2; printf 'ter2-is-'; printf '\\033[31m'; sleep 0.2; printf 'secret\\n'; exit 3"
    );
    for websocket in [true, false] {
        let out = kubectl(&s, websocket, &["exec", "app", "--", "sh", "-c", &show]).output().unwrap();
        assert_eq!(out.status.code(), Some(3), "the exit code stays: {}", String::from_utf8_lossy(&out.stderr));
        let (out, err) = (String::from_utf8_lossy(&out.stdout).into_owned(), String::from_utf8_lossy(&out.stderr).into_owned());
        // The last two are of one value, before and after the 76th character, where `base64` ends a line.
        for value in [SECRET, "aHVudGVyMi1pcy1zZWNyZXQ", "odW50ZXIyLWlzLXNlY3Jld", "ter2-is", "aHVudGVyMi1p", "cy1zZWNyZXQ"] {
            assert!(!out.contains(value) && !err.contains(value), "{value} in {out}{err}");
        }
        assert!(out.contains("PASSWORD=postern-masked") && err.contains("postern-masked"), "{out}{err}");
        // A terminal, as a person has it.
        let script = format!("{} exec -it app -- sh -c 'echo {SECRET}; stty size'", command_line(&s, websocket));
        let terminal = Command::new("script").args(["-qec", &script, "/dev/null"]).output().unwrap();
        let shown = String::from_utf8_lossy(&terminal.stdout).into_owned();
        assert!(shown.contains("postern-masked") && !shown.contains(SECRET), "{shown}");
    }
    let log = s.kubectl(&["logs", "app"]);
    assert!(
        log.success().contains("token tok-1001") && log.out.contains("token postern-masked") && !log.out.contains("tok-1002"),
        "{}",
        log.out
    );
    // A log that ends in the middle of a value shows none of it.
    let whole = s.direct(&["logs", "app"]).success().to_owned();
    let at = whole.find("tok-1002").unwrap();
    for limit in [at + 1, at + 7, at + 8, at + 20] {
        let limited = ["logs", "app", &format!("--limit-bytes={limit}")];
        assert_eq!(s.direct(&limited).success(), &whole[..limit], "without the gateway it shows");
        let expected = whole.replace("tok-1002", "postern-masked");
        assert_eq!(s.kubectl(&limited).success(), &expected[..limit]);
        assert_eq!(s.kubectl(&[&limited[..], &["-f"]].concat()).success(), &expected[..limit], "one that goes on ends there");
    }
    // A pod that has nothing to do with the Secret shows what it likes, for nobody knows it is one.
    assert!(s.kubectl(&["exec", "web", "--", "echo", SECRET]).success().contains(SECRET));
    let events = s.events();
    let masked = events.iter().find(|e| e["stage"] == "completed" && e["target"]["name"] == "app" && e["exitCode"] == 3).unwrap();
    assert!(masked["masked"]["text"].as_u64().unwrap() >= 4, "{masked}");
    for place in [s.gateway.audit(), s.gateway.directory.join("postern.log")] {
        assert!(!std::fs::read_to_string(place).unwrap().contains("hunter2 "), "logged");
    }
}

fn command_line(s: &Setup, websocket: bool) -> String {
    format!(
        "KUBECTL_REMOTE_COMMAND_WEBSOCKETS={websocket} {} --kubeconfig {} -n {}",
        testbed::binary("kubectl").display(),
        s.caller.display(),
        s.namespace
    )
}

#[test]
fn archives_pass_with_their_length_and_without_the_secret() {
    let s = setup_with_secrets("settings: {podSecrets: true}\n");
    let place = scratch("cp");
    std::fs::write(place.join("from"), format!("before {SECRET} after")).unwrap();
    for websocket in [true, false] {
        let to = place.join(format!("to-{websocket}"));
        let from = format!("app:{}", place.join("from").display());
        ran(&s, websocket, &["cp", &from, to.to_str().unwrap()]).success();
        assert_eq!(std::fs::read_to_string(to).unwrap(), format!("before {} after", "*".repeat(SECRET.len())));
    }
}

#[test]
fn a_policy_changes_pieces_and_ends_a_stream_in_the_middle() {
    let s = setup(vec![("50-chunk", "misbehaves", "settings: {does: chunk}\ngrants: [streams]\n".into())], "");
    for websocket in [true, false] {
        assert_eq!(ran(&s, websocket, &["exec", "web", "--", "echo", "not so loud"]).success(), "not so LOUD\n");
        let began = Instant::now();
        let ended = ran(&s, websocket, &["exec", "web", "--", "sh", "-c", "echo first; sleep 0.3; echo stop-here; sleep 60"]);
        assert!(
            ended.failure().contains("policy 50-chunk ended this: it said stop-here   [31m"),
            "one line, which steers no terminal: {}",
            ended.err
        );
        assert!(ended.out == "first\n" && began.elapsed() < Duration::from_secs(20), "{}", ended.out);
    }
    let events = s.events();
    assert!(events.iter().any(|e| e["ended"] == "terminated" && e["refusal"].as_str().unwrap().contains("stop-here")));
    let s = setup(vec![("50-chunk", "misbehaves", "settings: {does: trap-on-chunk}\ngrants: [streams]\n".into())], "");
    let ended = s.kubectl(&["exec", "web", "--", "echo", "hello"]);
    assert!(ended.failure().contains("the policy 50-chunk failed") && !ended.out.contains("hello"), "{}", ended.err);
    let log = s.kubectl(&["logs", "web"]);
    assert!(log.out.contains("postern: the policy 50-chunk failed") && !log.out.contains("line 1"), "{}", log.out);
}

#[test]
fn text_masks_hold_in_streams_of_every_protocol() {
    let s = setup(vec![("50-text", "misbehaves", "settings: {does: text}\n".into())], "");
    for websocket in [true, false] {
        let out = ran(
            &s,
            websocket,
            &["exec", "web", "--", "sh", "-c", "printf 'a pass'; sleep 0.1; printf 'word-abc'; sleep 0.1; printf 'def b\\n'"],
        );
        assert_eq!(out.success(), "a postern-masked b\n");
        // Input and half-closes pass: cat ends when its input does.
        let mut cat =
            kubectl(&s, websocket, &["exec", "-i", "web", "--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut cat.stdin.take().unwrap(), b"typed password-xyz\n").unwrap();
        let done = Ran::new(cat.wait_with_output().unwrap());
        assert_eq!(done.success(), "typed postern-masked\n");
    }
    // A port carries what cannot be masked: it is not opened.
    let refused = s.kubectl(&["port-forward", "web", ":1"]);
    assert!(refused.failure().contains("cannot be masked"), "{}", refused.err);
}

#[test]
fn a_stream_ends_with_its_credential_and_at_its_limits() {
    let s = setup(vec![], "limits: {streamIdleTime: 7, streamsPerCaller: 2}\n");
    // kubectl pings every five seconds: that carries nothing.
    let idle = ran(&s, true, &["exec", "web", "--", "sleep", "60"]);
    assert!(idle.failure().contains("nothing was carried for 7 seconds (limits.streamIdleTime)"), "{}", idle.err);
    let idle = ran(&s, false, &["exec", "web", "--", "sleep", "60"]);
    assert!(idle.failure().contains("limits.streamIdleTime"), "over SPDY: {}", idle.err);
    let busy = |s: &Setup| {
        let mut command = kubectl(s, true, &["exec", "web", "--", "sh", "-c", "while true; do echo tick; sleep 0.2; done"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut first = [0; 5];
        child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        child
    };
    let mut open = [busy(&s), busy(&s)];
    let third = s.kubectl(&["exec", "web", "--", "true"]);
    assert!(third.failure().contains("you have 2 streams open (limits.streamsPerCaller)"), "{}", third.err);
    for child in &mut open {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    testbed::wait_until("they are closed", Duration::from_secs(20), || Ok(s.kubectl(&["exec", "web", "--", "true"]).ok)).unwrap();
}

/// A command run through the proxy of a node is a stream as well, though it is not read.
#[test]
fn what_is_proxied_counts_among_streams_and_ends_at_their_limits() {
    // It stands for the API server where a node is asked through it.
    let between = Between::start(cluster(), &scratch("between")).unwrap();
    let s = setup_behind(
        &between,
        GatewayOptions {
            config: "nodesProxy: {users: ['system:serviceaccount:postern:caller']}\n\
                 limits: {streamIdleTime: 3, streamTime: 8, streamsPerCaller: 1}\n"
                .into(),
            ..GatewayOptions::default()
        },
    );
    let patience = Duration::from_secs(30);
    let ended = |how: &str| s.events().iter().filter(|e| e["ended"] == how).count();
    assert_eq!(code(&s.exec_by_node("sleep+60", patience)), 101);
    assert_eq!((ended("idle"), ended("too-long")), (1, 0));
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| s.exec_by_node("while+sleep+0.2%3Bdo+echo+tick%3Bdone", patience));
        std::thread::sleep(Duration::from_secs(2));
        let second = s.exec_by_node("true", Duration::from_secs(1));
        assert!(code(&second) == 429 && second.contains("you have 1 streams open (limits.streamsPerCaller)"), "{second}");
        let exec = s.kubectl(&["exec", "web", "--", "true"]);
        assert!(exec.failure().contains("you have 1 streams open (limits.streamsPerCaller)"), "{}", exec.err);
        let busy = busy.join().unwrap();
        assert!(code(&busy) == 101 && busy.matches("tick").count() > 10, "{busy}");
    });
    assert_eq!((ended("idle"), ended("too-long")), (1, 1));
    s.kubectl(&["exec", "web", "--", "true"]).success();
}

#[test]
fn port_forward_carries_both_ways_and_its_ports_are_recorded() {
    let s = setup(vec![], "");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut connection, _) = listener.accept().unwrap();
            let mut heard = [0; 5];
            connection.read_exact(&mut heard).unwrap();
            std::io::Write::write_all(&mut connection, &vec![b'x'; 100_000]).unwrap();
        }
    });
    for websocket in [true, false] {
        let mut forward = kubectl(&s, websocket, &["port-forward", "web", &format!(":{port}")]).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = [0; 64];
        let read = forward.stdout.as_mut().unwrap().read(&mut said).unwrap();
        let text = String::from_utf8_lossy(&said[..read]).into_owned();
        let local: u16 = text.split("127.0.0.1:").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        let mut connection = std::net::TcpStream::connect(("127.0.0.1", local)).unwrap();
        std::io::Write::write_all(&mut connection, b"hello").unwrap();
        let mut heard = vec![0; 100_000];
        connection.read_exact(&mut heard).unwrap();
        drop(connection);
        forward.kill().unwrap();
        forward.wait().unwrap();
    }
    server.join().unwrap();
    testbed::wait_until("both are recorded", Duration::from_secs(20), || {
        let events = s.events();
        let of = events.iter().filter(|e| e["stage"] == "completed" && e["target"]["subresource"] == "portforward");
        Ok(of.filter(|e| e["ports"] == json!([port.to_string()]) && e["responseBytes"].as_u64().unwrap() >= 100_000).count() == 2)
    })
    .unwrap();
}

#[test]
fn a_protocol_that_cannot_be_read_is_refused() {
    let s = setup(vec![], "");
    let path = format!("/api/v1/namespaces/{}/pods/web/exec?command=id&stdout=1", s.namespace);
    let upgrade = |to: &str, protocol: &str| {
        let protocol = if protocol.is_empty() { String::new() } else { format!("Sec-WebSocket-Protocol: {protocol}\r\n") };
        s.raw(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: {to}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{protocol}Authorization: Bearer {}\r\n\r\n", s.token))
    };
    assert!(upgrade("websocket", "v9.channel.k8s.io").contains("can be read; offer v5.channel.k8s.io"));
    assert!(upgrade("websocket", "SPDY/3.1+portforward.k8s.io").contains("can be read"), "a command has channels");
    assert!(upgrade("h2c", "").contains("upgraded to SPDY/3.1 or websocket"));
    for protocol in ["v4.channel.k8s.io", "base64.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io", "v9.x, v5.channel.k8s.io"]
    {
        let answer = upgrade("WebSocket", protocol);
        assert!(answer.starts_with("HTTP/1.1 101"), "{protocol}: {answer}");
    }
}

#[test]
fn a_token_that_ends_ends_its_streams_within_seconds_and_says_so() {
    let issuer = e2e::Issuer::start();
    let mappings = "    claimMappings:\n      username: {claim: sub, prefix: ''}\n";
    // It stands for the API server where a node is asked through it.
    let between = Between::start(cluster(), &scratch("between")).unwrap();
    let s = setup_behind(
        &between,
        GatewayOptions { issuers: issuer.entry(mappings), config: "nodesProxy: {users: [ann]}\n".into(), ..GatewayOptions::default() },
    );
    for websocket in [true, false] {
        let token = issuer.token("first", 4, &json!({"sub": "ann"}));
        let caller = s.gateway.kubeconfig("short", &token).unwrap();
        let mut command = Command::new(testbed::binary("kubectl"));
        command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websocket.to_string()).arg("--kubeconfig").arg(&caller);
        command.args(["-n", &s.namespace, "exec", "web", "--", "sh", "-c", "while true; do echo tick; sleep 0.2; done"]);
        let began = Instant::now();
        let ended = Ran::new(command.output().unwrap());
        assert!(ended.failure().contains("the credential has expired"), "{}", ended.err);
        assert!(ended.out.contains("tick") && began.elapsed() < Duration::from_secs(4 + 5), "{:?}", began.elapsed());
    }
    // What is proxied and not upgraded must not look whole.
    let token = issuer.token("first", 4, &json!({"sub": "ann"}));
    let log = format!("/api/v1/nodes/node-1/proxy/containerLogs/{}/web/main?follow=true", s.namespace);
    let began = Instant::now();
    let log = s.raw(&format!("GET {log} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"));
    assert!(code(&log) == 200 && log.contains("line 9") && !log.ends_with("0\r\n\r\n"), "{log}");
    assert!(began.elapsed() < Duration::from_secs(4 + 5), "{:?}", began.elapsed());
    assert_eq!(s.events().iter().filter(|e| e["ended"] == "credential-expired").count(), 3);
}

/// The most memory the gateway had, in megabytes.
fn peak_memory(s: &Setup) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", s.gateway.process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn a_gigabyte_and_a_slow_reader_leave_memory_flat() {
    let recordings = "sessions: {largestRecording: 1Mi}\n";
    for policies in [vec![], vec![("50-text", "misbehaves", "settings: {does: text}\n".to_owned())]] {
        let s = setup(policies, recordings);
        s.kubectl(&["exec", "web", "--", "echo", "warm"]).success();
        let before = peak_memory(&s);
        // A reader that takes nothing for a while: the command must wait, and nobody keeps what it says.
        let head = |bytes: &str| kubectl(&s, true, &["exec", "web", "--", "head", "-c", bytes, "/dev/zero"]);
        let mut slow = head("300000000").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_secs(3));
        let mut taken = 0;
        let mut buffer = vec![0; 1 << 20];
        while let Ok(read @ 1..) = slow.stdout.as_mut().unwrap().read(&mut buffer) {
            taken += read;
        }
        let ended = slow.wait_with_output().unwrap();
        assert!(ended.status.success() && taken == 300_000_000, "{taken}, {}: {}", ended.status, String::from_utf8_lossy(&ended.stderr));
        let fast = head("1000000000").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        assert!(fast.status.success(), "{}: {}", fast.status, String::from_utf8_lossy(&fast.stderr));
        let grown = peak_memory(&s).saturating_sub(before);
        assert!(grown < 24, "memory grew by {grown} MB");
    }
}

#[test]
fn what_a_client_says_of_itself_turns_no_recording_off() {
    let s = setup(vec![], "");
    for (query, headers) in [
        ("command=tar&command=cf&command=-&command=/etc/hostname&stdout=1", "Kubectl-Command: kubectl cp\r\n"),
        ("command=id&stdout=1", "Kubectl-Command: kubectl get\r\nUser-Agent: nobody\r\n"),
        ("command=cat&stdin=1&stdout=1&tty=0", ""),
    ] {
        let path = format!("/api/v1/namespaces/{}/pods/web/exec?{query}", s.namespace);
        let upgrade = "Connection: keep-alive, uPgRaDe\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";
        let answer = e2e::send(
            &s.gateway,
            &format!("GET {path} HTTP/1.1\r\nHost: x\r\n{upgrade}{headers}Authorization: Bearer {}\r\n\r\n", s.token),
            Duration::from_secs(2),
        );
        assert!(answer.starts_with("HTTP/1.1 101") && !answer.to_lowercase().contains("extensions"), "{answer}");
    }
    testbed::wait_until("all are recorded", Duration::from_secs(10), || {
        let events = s.events();
        let recorded = events.iter().filter(|e| e["stage"] == "completed" && e["recording"].is_string()).count();
        Ok(recorded == 3)
    })
    .unwrap();
    let kept = std::fs::read_dir(s.gateway.directory.join("data/sessions"))
        .unwrap()
        .flat_map(|session| std::fs::read_dir(session.unwrap().path()).unwrap());
    assert_eq!(kept.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().contains(".stream")).count(), 3);
}
