//! Attempts to get past.

use std::time::{Duration, Instant};

use e2e::{cluster, code, raw, scratch, setup, setup_behind};
use serde_json::json;
use testbed::{Between, GatewayOptions, wait_until};

#[test]
fn what_has_no_normal_form_is_400() {
    let s = setup(vec![], "");
    for path in [
        "//api/v1/secrets",
        "/api//v1/secrets",
        "/api/v1/../v1/secrets",
        "/api/v1/%2e%2e/secrets",
        "/api/v1%2fsecrets",
        "/api/v1/secrets%00",
        "/api/%zz",
        "/api/v1/pods?a=b;c=d",
    ] {
        let answer = s.get(path, "");
        assert_eq!(code(&answer), 400, "{path}: {answer}");
        assert!(answer.contains("cannot be classified"), "{path}: {answer}");
    }
}

#[test]
fn impersonation_in_any_spelling_is_403() {
    let s = setup(vec![], "");
    for headers in [
        "Impersonate-User: system:admin\r\n",
        "iMPERSONATE-uSER: system:admin\r\n",
        "Impersonate-Group: system:masters\r\n",
        "Impersonate-Extra-Scope: x\r\n",
        "Connection: Impersonate-User\r\nImpersonate-User: system:admin\r\n",
    ] {
        let answer = s.get("/api/v1/namespaces", headers);
        assert!(code(&answer) == 403 && answer.contains("impersonation"), "{headers}: {answer}");
    }
    let named = s.get(
        "/apis/authentication.k8s.io/v1",
        "Connection: Authorization, X-Remote-User\r\nX-Remote-User: admin\r\nX-Remote-Group: system:masters\r\n",
    );
    assert_eq!(code(&named), 200, "{named}");
    // With a warm cache: of an error in discovery kubectl itself shows only "unknown", from any API server.
    s.kubectl(&["get", "pods"]).success();
    let refused = s.kubectl(&["get", "pods", "--as", "system:admin"]);
    assert!(refused.failure().contains("impersonation"), "{}", refused.err);
}

#[test]
fn two_lengths_are_400() {
    let s = setup(vec![], "");
    let head = format!(
        "POST /api/v1/namespaces/{}/configmaps HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n",
        s.namespace, s.token
    );
    let smuggled = format!("GET /api/v1/secrets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", s.token);
    assert_eq!(code(&raw(&s.gateway, &format!("{head}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}{smuggled}"))), 400);
    let both = raw(&s.gateway, &format!("{head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"));
    assert!(both.matches("HTTP/1.1").count() == 1 && code(&both) != 200, "{both}");
}

#[test]
fn node_proxy_and_anonymous_paths_are_closed() {
    let s = setup(vec![], "");
    for path in ["/api/v1/nodes/node-1/proxy/exec/default/web/main?command=id", "/api/v1/proxy/nodes/node-1/pods"] {
        let answer = s.get(path, "");
        assert!(code(&answer) == 403 && answer.contains("nodesProxy"), "{path}: {answer}");
    }
    for path in ["/healthz", "/version", "/postern/v1/approvals", "/postern/x", "/openapi/v2", "/metrics", "/unknown"] {
        assert_eq!(code(&raw(&s.gateway, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))), 401, "{path}");
    }
}

#[test]
fn huge_slow_and_deep_bodies_are_clean_errors() {
    let s = setup(
        vec![("10-stored", "approve-deletes", "settings: {approvers: [x], verbs: [nothing]}\n".into())],
        "limits: {requestBodyTime: 1}\n",
    );
    let head = |length: &str| {
        format!(
            "POST /api/v1/namespaces/{}/configmaps HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\nAuthorization: Bearer {}\r\n{length}\r\n",
            s.namespace, s.token
        )
    };
    let huge = s.raw(&head("Content-Length: 1073741824\r\n"));
    assert!(code(&huge) == 413 && huge.contains("limits.requestBody"), "{huge}");
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
    let unannounced = s.raw(&format!("{}{}", head("Transfer-Encoding: chunked\r\n"), chunk.repeat(5)));
    assert!(code(&unannounced) == 413 && unannounced.contains("limits.requestBody"), "{unannounced}");
    let slow = s.raw(&head("Content-Length: 100\r\n"));
    assert!(code(&slow) == 408 && slow.contains("limits.requestBodyTime"), "{slow}");
    let deep = "[".repeat(100_000);
    assert_eq!(code(&s.raw(&format!("{}{deep}", head(&format!("Content-Length: {}\r\n", deep.len()))))), 400);
    let gzip = format!("{}{}", head("Content-Length: 4\r\nContent-Encoding: gzip\r\n"), "\u{1f}abc");
    assert!(s.raw(&gzip).contains("Content-Encoding"));
    let head_too_large = s.get("/api", &format!("X-Long: {}\r\n", "a".repeat(100_000)));
    assert_eq!(code(&head_too_large), 431, "{head_too_large}");
}

#[test]
fn everything_that_passed_was_decided_and_recorded_and_the_chain_is_whole() {
    let s = setup(vec![], "");
    s.kubectl(&["create", "configmap", "a", "--from-literal=x=y"]).success();
    s.kubectl(&["get", "configmap", "a"]).success();
    s.kubectl(&["delete", "configmap", "a"]).success();
    let events = s.events();
    for event in events.iter().filter(|e| e["stage"] == "completed") {
        assert!(event["caller"]["username"].is_string() && event["verdict"].is_string(), "{event}");
        let is_read = event["method"] == "GET";
        let decided = events.iter().any(|e| e["stage"] == "decided" && e["id"] == event["id"]);
        assert!(is_read || decided, "a change is recorded before it is sent: {event}");
    }
    let file = s.gateway.audit();
    let verify = || e2e::Ran::new(testbed::Gateway::postern(&["audit", "--file", file.to_str().unwrap(), "verify"]).unwrap());
    assert!(verify().success().contains("whole"));
    let changed = std::fs::read_to_string(&file).unwrap().replacen("configmaps", "configmapz", 1);
    std::fs::write(&file, changed).unwrap();
    assert!(verify().failure().contains("changed"));
}

#[test]
fn nothing_passes_while_the_log_cannot_be_written() {
    let directory = scratch("small");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(&directory)
        .status()
        .is_ok_and(|s| s.success());
    if !mounted {
        println!("no small file system can be mounted here; the unit test with /dev/full stands for this");
        return;
    }
    let s = setup(vec![], &format!("audit: {{file: '{}'}}\n", directory.join("audit.jsonl").display()));
    let refused = (0..400).find_map(|n| {
        let ran = s.kubectl(&["create", "configmap", &format!("fill-{n}"), "--from-literal=x=y"]);
        (!ran.ok).then_some(ran.err)
    });
    let read = s.get(&format!("/api/v1/namespaces/{}/pods", s.namespace), "");
    let written = std::fs::read_to_string(directory.join("audit.jsonl")).unwrap();
    let unmount = std::process::Command::new("umount").arg("-l").arg(&directory).status();
    assert!(refused.expect("the disk fills").contains("audit log cannot be written"));
    assert!(code(&read) == 503 && read.contains("audit log cannot be written") && !read.contains("web"), "{read}");
    // What is not on disk was not sent.
    let there = s.direct(&["get", "configmaps", "-o", "name"]).success().matches("fill-").count();
    let decided = written.lines().filter(|line| line.contains("\"decided\"") && line.ends_with('}')).count();
    assert!(there > 0 && there == decided, "{there} were made, and {decided} are recorded");
    assert!(unmount.unwrap().success());
}

#[test]
fn an_error_of_the_api_server_repeats_no_hidden_value() {
    let settings = "settings: {fields: [{resource: services, paths: [$.spec.externalName]}]}\n";
    let s = setup(vec![("20-mask", "mask-secrets", settings.into())], "");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "wrong"},
        "spec": {"type": "ExternalName", "externalName": "Hidden_Value"}});
    let file = scratch("service").join("service.json");
    std::fs::write(&file, service.to_string()).unwrap();
    let create = ["create", "--validate=false", "-f", file.to_str().unwrap()];
    assert!(s.direct(&create).failure().contains("Hidden_Value"), "the API server repeats what is wrong");
    let told = s.kubectl(&create);
    assert!(told.failure().contains("spec.externalName: Invalid value: postern-masked"), "{}", told.err);
    assert!(!format!("{}{}", told.out, told.err).contains("Hidden_Value"), "{}", told.err);
    let raw = s.raw(&format!(
        "POST /api/v1/namespaces/{}/services HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{service}",
        s.namespace,
        s.token,
        service.to_string().len()
    ));
    assert!(code(&raw) == 422 && raw.contains("postern-masked") && !raw.contains("Hidden_Value"), "{raw}");
}

#[test]
fn the_api_server_gone_is_a_clean_503() {
    let directory = scratch("lonely");
    let lonely = testbed::Cluster::start(&directory).unwrap();
    let gateway = testbed::Gateway::start(&lonely, &scratch("gateway"), &GatewayOptions::default()).unwrap();
    let token = lonely.token("caller", testbed::AUDIENCE).unwrap();
    let get = || {
        raw(&gateway, &format!("GET /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"))
    };
    assert_eq!(code(&get()), 200);
    drop(lonely);
    let answer = get();
    assert!(matches!(code(&answer), 502 | 503) && answer.contains("API server"), "{answer}");
}

/// What a client sends before it was told that its connection is upgraded is no request of its own that goes past the stages, nor part of the one before.
#[test]
fn bytes_behind_an_upgrade_reach_nothing_unseen() {
    let between = Between::start(cluster(), &scratch("between")).unwrap();
    let s = setup_behind(
        &between,
        GatewayOptions { config: "nodesProxy: {users: ['system:serviceaccount:postern:caller']}\n".into(), ..GatewayOptions::default() },
    );
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n";
    let smuggled = "GET /api/v1/secrets?smuggled=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let exec = format!("/api/v1/namespaces/{}/pods/web/exec?command=true&stdout=true", s.namespace);
    // One that is upgraded, one that is refused there, and one that no server upgrades.
    for path in [exec.as_str(), "/api/v1/nodes/node-1/proxy/nothing", "/api/v1/namespaces/default/services/none/proxy/"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{upgrade}\r\n{smuggled}", s.token);
        let answer = e2e::send(&s.gateway, &request, Duration::from_secs(3));
        assert!(!answer.contains("SecretList") && !answer.contains("aHVudGVyMi"), "{path}: {answer}");
    }
    // The same without its end: HTTP/1.0 knows no chunks, and who reads them all the same sees another request in them.
    let old = format!(
        "POST /api/v1/namespaces/{}/configmaps HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
        s.namespace, s.token
    );
    let answer = e2e::send(&s.gateway, &old, Duration::from_secs(3));
    assert!(code(&answer) == 400 && !answer.contains("SecretList"), "{answer}");
    for seen in between.seen().unwrap() {
        assert!(!seen.target.contains("smuggled"), "{seen:?}");
    }
    // What a proxied server would be asked for in another way than the request says.
    let proxied = "/api/v1/nodes/node-1/proxy/containerLogs/default/web/main";
    for header in [
        "X-Original-URL: /exec/default/web/main",
        "X-Rewrite-URL: /run",
        "X-HTTP-Method-Override: DELETE",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
    ] {
        let answer = s.get(proxied, &format!("{header}\r\n"));
        assert_eq!(code(&answer), 400, "{header}: {answer}");
    }
}

/// Requests that need a token which cannot be had do not wait one behind the other.
#[test]
fn tokens_that_cannot_be_had_are_asked_for_once_for_all_who_wait() {
    let between = Between::start(cluster(), &scratch("between")).unwrap();
    let s = setup_behind(&between, GatewayOptions { config: "limits: {responseTime: 2}\n".into(), ..GatewayOptions::default() });
    between.hold(true).unwrap();
    let ask = || {
        let began = Instant::now();
        let answer = s.get("/api/v1/namespaces/default/pods", "");
        assert!(matches!(code(&answer), 503 | 504), "{answer}");
        began.elapsed()
    };
    let alone = ask();
    let together = Instant::now();
    std::thread::scope(|scope| {
        (0..6).map(|_| scope.spawn(ask)).collect::<Vec<_>>().into_iter().for_each(|one| assert!(one.join().is_ok()))
    });
    assert!(together.elapsed() < alone * 3, "{:?} for six, {alone:?} for one", together.elapsed());
    between.hold(false).unwrap();
    wait_until("it answers again", Duration::from_secs(20), || Ok(code(&s.get("/api/v1/namespaces/default/pods", "")) == 200)).unwrap();
}
