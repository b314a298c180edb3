//! Policies of contract 0.2, which ask about an operation, beside those of 0.1, which are told of it.

use std::path::Path;

use e2e::{cluster, put, scratch, setup};
use serde_json::json;
use testbed::AUDIENCE;

use crate::tool::{postern, text};

/// Settings of the policy that asks: questions in a hook.
fn asking(hook: &str, questions: serde_json::Value, rules: &str) -> String {
    format!("settings: {}\n{rules}\n", json!({hook: questions}))
}

#[test]
fn what_is_asked_is_answered_as_the_contract_says() {
    let directory = scratch("asks");
    std::fs::copy(testbed::policy("asks"), directory.join("asks.wasm")).unwrap();
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../asks/asks.cases.yaml"), directory.join("asks.cases.yaml")).unwrap();
    let tested = postern(&["policy", "test", text(&directory)]);
    assert!(tested.success().contains("19 of 19 cases as expected"), "{}", tested.out);
    let inspected = postern(&["policy", "inspect", text(&directory.join("asks.wasm"))]);
    assert!(inspected.success().contains("postern:policy/policy@0.2.0"), "{}", inspected.out);
    // What is of an operation is not there before one is.
    put(&directory.join("asks.yaml"), b"settings: {too-early: true}\n");
    let checked = postern(&["policy", "check", text(&directory.join("asks.wasm"))]);
    assert!(
        !checked.ok && checked.out.contains("spend is there for operations, not for configure or describe"),
        "{} {}",
        checked.out,
        checked.err
    );
}

/// A policy in each language whose library is written by hand for it asks everything there is, and is answered the same.
#[test]
fn every_library_asks_and_is_answered_the_same() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contract/libraries");
    for (language, file) in [("go", "policy.go"), ("js", "policy.js"), ("python", "policy.py")] {
        let (place, name) = (scratch("libraries"), format!("asks-in-{language}"));
        postern(&["policy", "new", &name, "--lang", language, "--directory", text(&place)]).success();
        let folder = place.join(&name);
        let source = std::fs::read_to_string(kept.join(file)).unwrap().replace("policy-name", &name);
        put(&folder.join(file), source.as_bytes());
        let _ = std::fs::remove_file(folder.join("policy_test.go"));
        std::fs::copy(kept.join("cases.yaml"), folder.join("cases.yaml")).unwrap();
        let tested = crate::tool::build(&["policy", "test", text(&folder)]);
        assert!(tested.success().contains("2 of 2 cases as expected"), "{language}: {}", tested.out);
    }
}

#[test]
fn a_policy_that_asks_stands_beside_one_that_is_told() {
    let of_request = asking(
        "request",
        json!([{"get": "verb"}, {"is": ["kind", ["pods", "configmaps"]]}, {"like": ["place", ["*/kept-*"]]}, {"get": "cluster"}, {"get": "username"}]),
        "rules: [{resources: [configmaps], verbs: [delete]}]",
    );
    let of_object = asking("object", json!([{"document-is": ["$.metadata.labels.hide", ["\"yes\""]]}]), "rules: [{resources: [services]}]");
    let of_chunk =
        asking("chunk", json!([{"get": "name"}, "is-command"]), "rules: [{resources: [pods/exec]}]\ngrants: [bodies, counters, streams]");
    let s = setup(
        vec![
            ("10-request", "asks", of_request),
            ("20-told", "mask-secrets", String::new()),
            ("30-object", "asks", of_object),
            ("40-chunk", "asks", of_chunk),
        ],
        "",
    );
    s.direct(&["create", "configmap", "kept-a"]).success();
    let refused = s.kubectl(&["delete", "configmap", "kept-a"]);
    let told = r#"blocked by policy 10-request: Some("delete"); Some(1); Some(0); Some(""#;
    assert!(refused.failure().contains(told) && refused.err.contains("caller"), "{}", refused.err);
    assert!(s.direct(&["get", "configmap", "kept-a"]).ok, "it is there still");
    let secret = s.kubectl(&["get", "secret", "db", "-o", "yaml"]);
    assert!(!secret.success().contains("aHVudGVyMi1pcy1zZWNyZXQ="), "who is told masks as before: {}", secret.out);
    s.direct(&["create", "service", "clusterip", "a", "--tcp=1"]).success();
    let hidden = s.kubectl(&["get", "service", "a"]);
    assert!(hidden.failure().contains("None"), "an object is asked about: {}", hidden.err);
    let shown = s.kubectl(&["exec", "web", "--", "echo", "hello"]);
    assert!(shown.success().starts_with(r#"Some("web"); true"#) && !shown.out.contains("hello"), "{}", shown.out);
    let events = s.events();
    let event = events.iter().find(|e| e["verb"] == "delete" && e["verdict"] == "block").unwrap();
    assert_eq!(
        (event["policies"][0]["policy"].as_str(), event["policies"][0]["verdict"].as_str()),
        (Some("10-request"), Some("block")),
        "{event}"
    );
}

#[test]
fn what_one_caller_spends_is_not_anothers() {
    let spends = asking("request", json!([{"spend": ["gets", 1, 3600, [2, 3]]}]), "rules: [{resources: [configmaps], verbs: [get]}]");
    let s = setup(vec![("10-spends", "asks", spends)], "");
    let other = s.gateway.kubeconfig("other", &cluster().token("approver", AUDIENCE).unwrap()).unwrap();
    let over = |of: &Path| {
        let refused = s.kubectl_of(of, &["get", "configmap", "kube-root-ca.crt"]);
        let why = refused.failure();
        (0..3).find(|over| why.contains(&format!("10-spends: {over}"))).unwrap_or_else(|| panic!("{why}"))
    };
    let mine: Vec<i32> = (0..4).map(|_| over(&s.caller)).collect();
    assert_eq!((mine, over(&other)), (vec![0, 0, 1, 2], 0));
}

/// kube-apiserver makes the integer 0 of each of these; who looks for it finds it, whether by a test or by its text.
#[test]
fn a_number_is_what_the_api_server_makes_of_it() {
    let looks = json!([{"document-is": ["$.spec.replicas", ["0"]]}, {"document-get": "$.spec.replicas"}]);
    let s = setup(
        vec![(
            "10-looks",
            "asks",
            asking("request", looks, "rules: [{resources: [deployments, replicationcontrollers], verbs: [create, patch]}]"),
        )],
        "",
    );
    let json = ["0", "-0"].map(|number| ("json", number));
    let yaml = ["0", "-0", "0.0", "-0.0", "0e0", "00", "0x0"].map(|number| ("yaml", number));
    for (form, number) in json.into_iter().chain(yaml) {
        let body =
            format!(r#"{{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {{"name": "a"}}, "spec": {{"replicas": {number}}}}}"#);
        let answer = s.raw(&format!(
            "POST /apis/apps/v1/namespaces/{}/deployments HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\nContent-Type: application/{form}\r\nContent-Length: {}\r\n\r\n{body}",
            s.namespace,
            s.token,
            body.len()
        ));
        assert!(answer.contains(r#"10-looks: Some(0); Some(\"0\")"#), "{form} {number}: {answer}");
    }
    // Of a patch it keeps the low 32 bits of what is longer and says nothing: that is not read as the number that it is not.
    s.direct(&["create", "deployment", "a", "--image=nginx", "--replicas=0"]).success();
    let with = |number: i64| {
        let spec = json!({"replicas": number, "selector": {"matchLabels": {"app": "a"}}, "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "nginx", "image": "nginx"}]}}});
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": spec}).to_string()
    };
    let replicas = || s.direct(&["get", "deployment", "a", "-o", "jsonpath={.spec.replicas}"]).success().to_owned();
    let long = (1i64 << 32) + 2;
    let patched = |number: i64, directly: bool| {
        let patch = with(number);
        let args = ["patch", "deployment", "a", "--type=strategic", "-p", &patch];
        if directly { s.direct(&args) } else { s.kubectl(&args) }
    };
    patched(long, true).success();
    assert_eq!(replicas(), "2", "so it is without a gateway");
    let refused = s.kubectl(&["patch", "deployment", "a", "-p", r#"{"spec":{"$deleteFromPrimitiveList/replicas":5}}"#]);
    assert!(refused.failure().contains("would set the field"), "{}", refused.err);
    s.direct(&["patch", "deployment", "a", "-p", r#"{"spec":{"$deleteFromPrimitiveList/replicas":5}}"#]).success();
    assert_eq!(replicas(), "5", "so it is without a gateway");
    patched(2, true).success();
    let refused = patched(long + 1, false);
    assert!(refused.failure().contains("$.spec.replicas is 4294967299, which is longer than"), "{}", refused.err);
    let file = scratch("long").join("a.json");
    put(&file, with(long + 1).as_bytes());
    for version in ["apps/v1", "/v1"] {
        let applied = with(long + 1)
            .replace("apps/v1", version)
            .replace("Deployment", if version == "/v1" { "ReplicationController" } else { "Deployment" });
        let resource =
            if version == "/v1" { "/api/v1/namespaces/NS/replicationcontrollers/a" } else { "/apis/apps/v1/namespaces/NS/deployments/a" };
        let answer = s.raw(&format!(
            "PATCH {}?fieldManager=a&force=true HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\nContent-Type: application/apply-patch+yaml\r\nContent-Length: {}\r\n\r\n{applied}",
            resource.replace("NS", &s.namespace),
            s.token,
            applied.len()
        ));
        assert!(answer.contains("$.spec.replicas is 4294967299, which is longer than"), "{version}: {answer}");
    }
    let refused = s.kubectl(&["apply", "--server-side", "--force-conflicts", "--validate=false", "-f", text(&file)]);
    assert!(refused.failure().contains("$.spec.replicas is 4294967299, which is longer than"), "{}", refused.err);
    assert_eq!(replicas(), "2");
    assert!(patched(3, false).failure().contains(r#"10-looks: None; Some("3")"#), "what fits is read");
}
