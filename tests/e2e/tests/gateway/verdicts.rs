//! Four verdicts, as kubectl meets them.

use e2e::{cluster, code, setup};
use serde_json::Value;
use std::time::Duration;

fn pack() -> Vec<(&'static str, &'static str, String)> {
    vec![
        ("10-no-bulk-export", "no-bulk-export", String::new()),
        ("20-mask-secrets", "mask-secrets", String::new()),
        ("30-guard-exec", "guard-exec", "settings: {deny: [passwd]}\n".into()),
    ]
}

#[test]
fn allow_mask_and_block() {
    let s = setup(pack(), "");
    assert!(s.kubectl(&["get", "pods"]).success().contains("web"));

    let secret = s.kubectl(&["get", "secret", "db", "-o", "json"]);
    let object: Value = serde_json::from_str(secret.success()).unwrap();
    assert!(object["data"]["password"].as_str().unwrap().starts_with("cG9zdGVybi1tYXNrZW"), "{object}");
    assert!(!secret.out.contains("aHVudGVyMi1pcy1zZWNyZXQ"), "not in last-applied either: {}", secret.out);
    assert!(secret.err.contains("Warning:") && secret.err.contains("20-mask-secrets"), "{}", secret.err);
    assert!(s.kubectl(&["get", "secrets"]).success().contains("db"), "as a Table");

    let refused = s.kubectl(&["get", "secrets", "-A"]);
    assert!(refused.failure().contains("10-no-bulk-export") && refused.err.contains("over all namespaces"), "{}", refused.err);
    let events = s.events();
    let blocked = events.iter().find(|e| e["verdict"] == "block").unwrap();
    assert_eq!((&blocked["stage"], &blocked["policies"][0]["verdict"]), (&"refused".into(), &"block".into()));
    let masked = events.iter().find(|e| e["verdict"] == "mask" && e["target"]["name"] == "db").unwrap();
    assert!(masked["masked"]["$.data.*"].as_u64().unwrap() >= 2, "{masked}");
    assert!(!std::fs::read_to_string(s.gateway.audit()).unwrap().contains("hunter2"));
}

#[test]
fn no_form_of_an_answer_shows_a_value() {
    let s = setup(pack(), "");
    let base = format!("/api/v1/namespaces/{}/secrets", s.namespace);
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    for (path, accept) in [
        (format!("{base}/db"), "application/json"),
        (format!("{base}/db"), "application/vnd.kubernetes.protobuf"),
        (format!("{base}/db"), "Application/Vnd.Kubernetes.Protobuf;type=x"),
        (format!("{base}/db"), "application/yaml"),
        (format!("{base}/db"), "application/cbor"),
        (format!("{base}/db?pretty=true"), "text/html,*/*"),
        (base.clone(), "application/json"),
        (base.clone(), table),
        (format!("{base}?includeObject=Object"), table),
        (format!("{base}?includeObject=None"), table),
        (format!("{base}?fieldSelector=metadata.name%3Ddb"), "application/json"),
        (base.clone(), "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
        (format!("{base}?watch=1&timeoutSeconds=1"), "application/json"),
        (format!("{base}?watch&timeoutSeconds=1"), table),
        (format!("/api/v1/watch/namespaces/{}/secrets?timeoutSeconds=1", s.namespace), "application/json;stream=watch"),
        (
            format!("/api/v1/watch/namespaces/{}/secrets/db?timeoutSeconds=1", s.namespace),
            "application/vnd.kubernetes.protobuf;stream=watch",
        ),
    ] {
        for more in ["", "Accept-Encoding: gzip\r\n"] {
            let answer = s.get(&path, &format!("Accept: {accept}\r\n{more}"));
            assert_eq!(code(&answer), 200, "{path} {accept}: {answer}");
            assert!(answer.contains("db"), "{path} {accept}: {answer}");
            for value in ["aHVudGVyMi1pcy1zZWNyZXQ", "hunter2"] {
                assert!(!answer.contains(value), "{path} {accept}: {answer}");
            }
        }
    }
    let upgrade =
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let request = format!("GET {base}?watch=1&timeoutSeconds=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{upgrade}\r\n", s.token);
    let answer = e2e::send(&s.gateway, &request, Duration::from_secs(5));
    assert!(code(&answer) == 101 && answer.contains(r#""name":"db""#), "a watch over WebSocket: {answer}");
    assert!(!answer.contains("aHVudGVyMi1pcy1zZWNyZXQ"), "a watch over WebSocket: {answer}");
}

#[test]
fn exec_is_policed_over_websocket_and_spdy() {
    let s = setup(pack(), "");
    for spdy in ["true", "false"] {
        let exec = |argv: &[&str]| {
            let mut command = std::process::Command::new(testbed::binary("kubectl"));
            command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", spdy).arg("--kubeconfig").arg(&s.caller);
            e2e::Ran::new(command.args(["-n", &s.namespace, "exec", "web", "--"]).args(argv).output().unwrap())
        };
        assert_eq!(exec(&["echo", "hello"]).success(), "hello\n");
        let shell = exec(&["/bin/sh", "-c", "id"]);
        assert!(shell.failure().contains("30-guard-exec") && shell.err.contains("shell sh"), "{}", shell.err);
        assert_eq!(shell.err.matches("30-guard-exec").count(), 1, "one clear message: {}", shell.err);
        assert!(exec(&["cat", "/etc/passwd"]).failure().contains("not allowed"));
    }
    let events = s.events();
    assert!(events.iter().any(|e| e["command"]["argv"][0] == "/bin/sh" && e["verdict"] == "block"));
    assert!(events.iter().any(|e| e["command"]["argv"][1] == "hello" && e["stage"] == "decided"));
    assert!(events.iter().any(|e| e["command"]["argv"][1] == "hello" && e["stage"] == "completed" && e["status"] == 101));
}

#[test]
fn helm_works_where_its_releases_are_given_whole_and_is_refused_where_not() {
    let chart = e2e::chart();
    let chart = chart.to_str().unwrap();
    let settings = "settings: {helmGroups: ['postern:caller']}\n";
    for (settings, whole) in [(settings, true), ("", false)] {
        let s = setup(vec![("20-mask-secrets", "mask-secrets", settings.into())], "");
        let helm = |args: &[&str]| e2e::Ran::new(testbed::Gateway::helm(&s.caller, &[args, &["-n", &s.namespace]].concat()).unwrap());
        if !whole {
            // What helm itself stored is neither shown nor damaged.
            testbed::Gateway::helm(&cluster().admin_kubeconfig(), &["install", "demo", chart, "-n", &s.namespace]).unwrap();
            for args in [&["upgrade", "demo", chart][..], &["list"], &["rollback", "demo", "1"], &["get", "values", "demo"]] {
                let refused = helm(args);
                assert!(refused.failure().contains("Helm releases"), "{args:?}: {}", refused.err);
            }
            let stored = testbed::Gateway::helm(&cluster().admin_kubeconfig(), &["status", "demo", "-n", &s.namespace]).unwrap();
            assert!(e2e::Ran::new(stored).success().contains("deployed"));
            continue;
        }
        helm(&["install", "demo", chart]).success();
        // A release is given whole, and nobody is told that anything was hidden.
        let listed = helm(&["list"]);
        assert!(listed.success().contains("demo") && !listed.err.contains("hidden"), "{}", listed.err);
        helm(&["upgrade", "demo", chart, "--set", "greeting=bye"]).success();
        assert_eq!(s.direct(&["get", "configmap", "demo", "-o", "jsonpath={.data.greeting}"]).success(), "bye");
        helm(&["rollback", "demo", "1"]).success();
        assert_eq!(s.direct(&["get", "configmap", "demo", "-o", "jsonpath={.data.greeting}"]).success(), "hello");
        assert!(helm(&["list"]).success().contains("deployed"));
        helm(&["uninstall", "demo"]).success();
        assert!(!helm(&["list"]).success().contains("demo-0.1.0"));
    }
}

#[test]
fn a_list_of_two_thousand_secrets_is_masked_item_by_item() {
    let s = setup(vec![("20-mask-secrets", "mask-secrets", String::new())], "");
    let items: Vec<Value> = (0..500)
        .map(|n| serde_json::json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("s{n}"), "namespace": s.namespace}, "stringData": {"a": format!("plain-value-{n}")}}))
        .collect();
    let file = e2e::scratch("list").join("list.json");
    std::fs::write(&file, serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()).unwrap();
    e2e::Ran::new(testbed::Gateway::kubectl(&cluster().admin_kubeconfig(), &["create", "-f", file.to_str().unwrap()]).unwrap()).success();
    let list: Value = serde_json::from_str(s.kubectl(&["get", "secrets", "-o", "json"]).success()).unwrap();
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 501);
    assert!(items.iter().all(|i| i["data"].as_object().unwrap().values().all(|v| v.as_str().unwrap().starts_with("cG9zdGVybi1tYXNrZW"))));
}
