//! The policy directory, live.

use std::time::Duration;

use e2e::{cluster, code, put, scratch, setup, setup_with};
use serde_json::json;
use testbed::{GatewayOptions, wait_until};

#[test]
fn a_policy_dropped_in_changes_the_next_answer_and_a_broken_one_does_not() {
    let s = setup(vec![], "");
    let directory = s.gateway.directory.join("policies.d");
    let blocked = || Ok(!s.kubectl(&["get", "secrets", "-A"]).ok);
    s.kubectl(&["get", "secrets", "-A"]).success();
    let config = s.gateway.directory.join("postern.yaml");
    let list = || {
        e2e::Ran::new(testbed::Gateway::postern(&["policy", "list", "-o", "wide", "--config", config.to_str().unwrap()]).unwrap())
            .success()
            .to_owned()
    };
    let module = std::fs::read(testbed::policy("no-bulk-export")).unwrap();
    put(&directory.join("10-no-bulk.wasm"), &module);
    wait_until("the policy is in force", Duration::from_secs(20), blocked).unwrap();

    for broken in [&module[..module.len() / 2], b"text named .wasm".as_slice()] {
        put(&directory.join("10-no-bulk.wasm"), broken);
        std::thread::sleep(Duration::from_millis(800));
        assert!(blocked().unwrap(), "the last good one goes on");
        assert!(list().contains("10-no-bulk") && list().contains("last-good"), "{}", list());
    }
    put(&directory.join("10-no-bulk.wasm"), &module);
    put(&directory.join("10-no-bulk.yaml"), b"settings: {exemptGroups: ['postern:caller']}\n");
    wait_until("the settings are in force", Duration::from_secs(20), || Ok(!blocked()?)).unwrap();
    put(&directory.join("10-no-bulk.yaml"), b"settings: {exemptGroup: [x]}\n");
    std::thread::sleep(Duration::from_millis(800));
    assert!(!blocked().unwrap(), "settings that do not validate change nothing");
    put(&directory.join("10-no-bulk.yaml"), b"mode: observe\n");
    wait_until("it observes", Duration::from_secs(20), || {
        s.kubectl(&["get", "secrets", "-A"]).success();
        Ok(s.events().iter().any(|e| e["policies"][0]["observed"] == true && e["policies"][0]["verdict"] == "block"))
    })
    .unwrap();
    let log = s.gateway.directory.join("data/audit.jsonl");
    let listed = e2e::Ran::new(testbed::Gateway::postern(&["audit", "list", "--file", log.to_str().unwrap()]).unwrap());
    assert!(listed.success().contains("(observed, would have answered: 10-no-bulk: block)"), "{}", listed.out);
    std::fs::remove_file(directory.join("10-no-bulk.yaml")).unwrap();
    wait_until("it enforces", Duration::from_secs(20), blocked).unwrap();
    std::fs::remove_file(directory.join("10-no-bulk.wasm")).unwrap();
    wait_until("it is gone", Duration::from_secs(20), || Ok(!blocked()?)).unwrap();
    let log = std::fs::read_to_string(s.gateway.directory.join("postern.log")).unwrap();
    assert!(log.contains("does not load") && log.contains("exemptGroup"), "{log}");
    assert!(list().contains("10-no-bulk") && list().contains("gone"), "{}", list());
}

/// A core module with the contract's exports missing, importing WASI, or misbehaving, by `postern policy check`.
#[test]
fn what_is_no_policy_is_refused_by_name() {
    let check = |bytes: &[u8], settings: &str| {
        let directory = scratch("policies");
        std::fs::write(directory.join("p.wasm"), bytes).unwrap();
        if !settings.is_empty() {
            std::fs::write(directory.join("p.yaml"), settings).unwrap();
        }
        e2e::Ran::new(testbed::Gateway::postern(&["policy", "check", directory.to_str().unwrap()]).unwrap())
    };
    let module = std::fs::read(testbed::policy("guard-exec")).unwrap();
    check(&module, "").success();
    assert!(check(&module[..1000], "").failure().contains("policy p does not load"));
    assert!(check(b"hello", "").failure().contains("not a WebAssembly file"));
    assert!(check(&module, "settings: {allow: ['(']}\n").failure().contains("regular expression"));
    assert!(check(&module, "setings: {}\n").failure().contains("setings"));
    // (module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32))))
    let mut wasi =
        b"\0asm\x01\0\0\0\x01\x09\x01\x60\x04\x7f\x7f\x7f\x7f\x01\x7f\x02\x23\x01\x16wasi_snapshot_preview1\x08fd_write\0\0".to_vec();
    let refused = check(&wasi, "");
    assert!(refused.failure().contains("wasi_snapshot_preview1") || refused.err.contains("not a policy"), "{}", refused.err);
    wasi.truncate(8);
    assert!(!check(&wasi, "").ok, "an empty module");
    let out = scratch("policies");
    std::os::unix::fs::symlink(testbed::policy("guard-exec"), out.join("p.wasm")).unwrap();
    let linked = e2e::Ran::new(testbed::Gateway::postern(&["policy", "check", out.to_str().unwrap()]).unwrap());
    assert!(linked.failure().contains("link out of the policy directory"), "{}", linked.err);
}

#[test]
fn what_a_policy_declared_it_must_know_is_fetched_before_it_is_asked() {
    let rules = "rules: [{resources: [configmaps, pods/exec], verbs: [create, update, patch, delete]}]\n";
    let s = setup(vec![("a", "misbehaves", format!("settings: {{does: look-around}}\n{rules}"))], "");
    cluster()
        .apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": s.namespace, "labels": {"tier": "gold"}}}))
        .unwrap();
    s.direct(&["create", "configmap", "a", "--from-literal=stored=as-it-is"]).success();
    let told = |args: &[&str]| s.kubectl(args).failure().to_owned();
    for change in [&["delete", "configmap", "a"][..], &["patch", "configmap", "a", "-p", r#"{"data":{"stored":"other"}}"#]] {
        assert!(told(change).contains(r#"namespace "gold", stored "as-it-is", pod null"#), "{}", told(change));
    }
    assert!(told(&["create", "configmap", "b"]).contains(r#"namespace "gold", stored null, pod null"#));
    assert!(told(&["exec", "web", "--", "date"]).contains(r#"namespace "gold", stored null, pod "web""#));
    assert!(s.direct(&["get", "configmap", "a"]).ok);
}

#[test]
fn a_body_a_policy_must_read_is_read_or_refused() {
    let rules = "rules: [{resources: [configmaps], verbs: [create, update, patch]}]\n";
    let s = setup(vec![("a", "misbehaves", format!("settings: {{does: read-body}}\n{rules}"))], "");
    let apply = |name: &str, ok: &str| {
        let file = scratch("body").join("object.json");
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"ok": ok}});
        std::fs::write(&file, object.to_string()).unwrap();
        s.kubectl(&["apply", "-f", file.to_str().unwrap()])
    };
    apply("a", "yes").success();
    assert!(apply("b", "no").failure().contains("the body does not say ok"));
    assert!(s.kubectl(&["patch", "configmap", "a", "-p", r#"{"data":{"ok":"no"}}"#]).failure().contains("does not say ok"));
    // kubectl create sends protobuf.
    assert!(s.kubectl(&["create", "configmap", "c", "--from-literal=ok=no"]).failure().contains("does not say ok"));
    for name in ["b", "c"] {
        assert!(!s.direct(&["get", "configmap", name]).ok, "{name}");
    }
}

#[test]
fn nothing_passes_without_a_required_policy_nor_unmatched_where_that_is_closed() {
    let s = setup_with(GatewayOptions {
        policies: vec![
            ("10-no-bulk", "no-bulk-export", String::new()),
            // One that is observed changes nothing: it opens nothing either.
            ("20-observed", "misbehaves", "settings: {does: hide}\nmode: observe\n".into()),
            // Nor does one that looks at objects where there are none.
            ("30-speaks", "misbehaves", "settings: {does: hide}\nrules: [{resources: [services, pods/log]}]\n".into()),
        ],
        guard: ", required: [10-no-bulk], unmatched: block".into(),
        ..GatewayOptions::default()
    });
    let path = format!("/api/v1/namespaces/{}/secrets", s.namespace);
    assert_eq!(code(&s.get(&path, "")), 200);
    assert_eq!(code(&s.get(&format!("/api/v1/namespaces/{}/services", s.namespace), "")), 200);
    for path in ["pods", "pods/web/log"] {
        let unmatched = s.get(&format!("/api/v1/namespaces/{}/{path}", s.namespace), "");
        assert!(code(&unmatched) == 403 && unmatched.contains("no policy speaks for this operation"), "{unmatched}");
    }
    std::fs::remove_file(s.gateway.directory.join("policies.d/10-no-bulk.wasm")).unwrap();
    wait_until("it is missed", Duration::from_secs(20), || Ok(code(&s.get(&path, "")) == 503)).unwrap();
    let missed = s.get(&path, "");
    assert!(missed.contains("required policy 10-no-bulk is missing or broken"), "{missed}");
}

/// What only looks on speaks for what is read before it, all of it, and for nothing that is done: a deletion, a command, a port.
#[test]
fn a_policy_that_looks_on_opens_what_it_is_shown() {
    let s = setup_with(GatewayOptions {
        policies: vec![
            ("10-objects", "misbehaves", "settings: {does: hide}\nrules: [{resources: [services, services/*]}]\n".into()),
            (
                "20-chunks",
                "misbehaves",
                "settings: {does: chunk-alone}\ngrants: [streams]\nrules: [{resources: ['pods/*', secrets]}]\n".into(),
            ),
        ],
        guard: ", unmatched: block".into(),
        ..GatewayOptions::default()
    });
    let ask = |method: &str, path: &str, more: &str| {
        let (namespace, token) = (&s.namespace, &s.token);
        let connection = if more.contains("Upgrade") { "" } else { "Connection: close\r\n" };
        s.raw(&format!(
            "{method} /api/v1/namespaces/{namespace}/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{connection}{more}\r\n"
        ))
    };
    let is_closed = |answer: &str| code(answer) == 403 && answer.contains("no policy speaks for this operation");
    for (method, path, opened) in [
        ("GET", "services", 200),
        ("GET", "services?watch=true&timeoutSeconds=1", 200),
        ("GET", "services/none", 404),
        ("GET", "pods/none/log", 404),
    ] {
        let answer = ask(method, path, "");
        assert_eq!(code(&answer), opened, "{method} {path}: {answer}");
    }
    let upgrade = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n";
    for (method, path, more) in [
        ("DELETE", "services/none", ""),
        ("DELETE", "services?labelSelector=a", ""),
        ("POST", "services", "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"),
        ("PUT", "services/none/status", "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"),
        ("GET", "services/none/proxy/", ""),
        ("GET", "secrets", ""),
        ("GET", "pods", ""),
        ("POST", "pods/none/portforward?ports=1", upgrade),
        ("POST", "pods/none/exec?command=true&stdout=true", upgrade),
        ("POST", "pods/none/attach?stdout=true", upgrade),
        ("POST", "pods/none/eviction", "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"),
    ] {
        let answer = ask(method, path, more);
        assert!(is_closed(&answer), "{method} {path}: {answer}");
    }
    // Of HEAD an answer has no body that says why.
    assert_eq!(code(&ask("HEAD", "services", "")), 403);
}

#[test]
fn a_gateway_does_not_start_half_guarded() {
    let directory = scratch("broken");
    std::fs::create_dir_all(directory.join("policies.d")).unwrap();
    std::fs::write(directory.join("policies.d/x.wasm"), "text").unwrap();
    let started = testbed::Gateway::start(cluster(), &directory, &GatewayOptions::default());
    let error = format!("{:#}", started.err().expect("it does not start"));
    assert!(error.contains("policy x does not load"), "{error}");
}
