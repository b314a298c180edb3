//! What policies may see and do: no more than their manifests ask for and their files grant.

use e2e::{cluster, code, put, scratch, setup};
use serde_json::{Value, json};
use testbed::GatewayOptions;

#[test]
fn a_policy_from_elsewhere_sees_no_value_of_a_secret() {
    let file = |grants: &str| format!("settings: {{does: read-secret}}\n{grants}rules: [{{resources: [secrets]}}]\n");
    let secret = scratch("secret").join("secret.json");
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "new", "annotations": {"note": "aHVudGVyMg=="}},
        "data": {"password": "aHVudGVyMg=="}, "stringData": {"other": "in-clear"}});
    std::fs::write(&secret, object.to_string()).unwrap();
    let s = setup(vec![("50-reads", "misbehaves", file(""))], "");
    let create = ["create", "-f", secret.to_str().unwrap()];
    let told = s.kubectl(&create).failure().to_owned();
    assert!(told.contains("it sees") && told.contains("cG9zdGVybi1tYXNrZWQ=") && told.contains("password"), "{told}");
    assert!(!told.contains("aHVudGVyMg") && !told.contains("in-clear"), "{told}");
    let patch = r#"[{"op":"replace","path":"/data/password","value":"aHVudGVyMg=="}]"#;
    let told = s.kubectl(&["patch", "secret", "db", "--type=json", "-p", patch]).failure().to_owned();
    assert!(told.contains("it sees") && told.contains("/data/password") && !told.contains("aHVudGVyMg"), "{told}");
    // It hides what it can read, and can read nothing.
    s.direct(&["create", "-f", secret.to_str().unwrap()]).success();
    assert!(s.kubectl(&["get", "secrets"]).success().contains("new"));
    assert!(s.kubectl(&["get", "secret", "new"]).ok);
    let list = s.gateway.directory.join("postern.yaml");
    let list = e2e::Ran::new(testbed::Gateway::postern(&["policy", "list", "-o", "wide", "--config", list.to_str().unwrap()]).unwrap());
    assert!(list.success().contains("bodies") && !list.out.contains("secret-values"), "{}", list.out);

    let granted = setup(vec![("50-reads", "misbehaves", file("grants: [bodies, secret-values]\n"))], "");
    assert!(granted.kubectl(&create).failure().contains("aHVudGVyMg=="));
    granted.direct(&["create", "-f", secret.to_str().unwrap()]).success();
    assert!(!granted.kubectl(&["get", "secrets"]).success().contains("new"), "what it may see it hides");
}

#[test]
fn what_a_manifest_does_not_name_is_not_there() {
    let policies = [("read-as-metadata", "bodies"), ("count-unasked", "counters")];
    let rules =
        |does: &str| format!("settings: {{does: {does}}}\nrules: [{{resources: [configmaps], verbs: [create], namespaces: [{does}]}}]\n");
    let s = setup(policies.iter().map(|(does, _)| (*does, "misbehaves", rules(does))).collect(), "");
    for (does, capability) in policies {
        let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"ok":"yes"}}"#;
        let answer = s.raw(&format!(
            "POST /api/v1/namespaces/{does}/configmaps HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            s.token,
            body.len()
        ));
        assert!(code(&answer) == 500 && answer.contains(does) && answer.contains(&format!("capability {capability}")), "{answer}");
    }
}

#[test]
fn what_a_file_does_not_grant_is_asked_for_in_words() {
    for (does, grants, says) in [
        ("chunk", "", "it asks for streams, which its file does not grant; if it may have that, write grants: [bodies, counters, streams]"),
        ("budget", "grants: [bodies]\n", "write grants: [bodies, counters]"),
        ("read-body", "grants: []\n", "write grants: [bodies]"),
        ("chunk", "grants: [everything]\n", "everything"),
    ] {
        let directory = scratch("grants");
        std::fs::copy(testbed::policy("misbehaves"), directory.join("p.wasm")).unwrap();
        put(&directory.join("p.yaml"), format!("settings: {{does: {does}}}\n{grants}").as_bytes());
        let checked = e2e::Ran::new(testbed::Gateway::postern(&["policy", "check", directory.to_str().unwrap()]).unwrap());
        assert!(checked.failure().contains(says), "{does} {grants}: {}", checked.err);
    }
}

#[test]
fn an_answer_ends_where_a_policy_ends_it() {
    cluster().apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ends"}})).unwrap();
    for n in 0..30 {
        let labels = json!({"end": if n == 20 { "here" } else { "not-yet" }});
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("map-{n:02}"), "namespace": "ends", "labels": labels}, "data": {"v": "value-in-it"}});
        cluster().apply(&object).unwrap();
    }
    let rules = "rules: [{resources: [configmaps]}]\n";
    let policies = vec![
        ("50-end", "misbehaves", format!("settings: {{does: terminate}}\n{rules}")),
        ("60-absurd", "misbehaves", "settings: {does: terminate-on-request}\nrules: [{resources: [services]}]\n".into()),
    ];
    let s = e2e::setup_with(GatewayOptions { policies, ..GatewayOptions::default() });
    let base = "/api/v1/namespaces/ends/configmaps";
    let list = s.get(base, "");
    assert!(
        code(&list) == 403 && list.contains("blocked by policy 50-end: this is the end; ask for less") && !list.contains("value-in-it"),
        "{list}"
    );
    assert!(s.kubectl(&["-n", "ends", "get", "configmaps"]).failure().contains("this is the end"));
    assert_eq!(code(&s.get(&format!("{base}/map-20"), "")), 403);
    assert_eq!(code(&s.get(&format!("{base}/map-19"), "")), 200);
    assert_eq!(code(&s.get(&format!("{base}?limit=10"), "")), 200, "a page before it");
    let watch = s.get(&format!("{base}?watch=1&timeoutSeconds=5"), "");
    assert!(code(&watch) == 200 && watch.contains("value-in-it") && watch.contains(r#""type":"ERROR""#), "{watch}");
    assert!(watch.contains("this is the end") && !watch.contains("map-29"), "nothing follows: {watch}");
    let absurd = s.get(&format!("/api/v1/namespaces/{}/services", s.namespace), "");
    assert!(code(&absurd) == 500 && absurd.contains("terminate is valid from on-object only"), "{absurd}");
    let ended: Vec<Value> =
        s.events().into_iter().filter(|e| e["refusal"].as_str().is_some_and(|why| why.contains("this is the end"))).collect();
    assert!(ended.len() >= 3 && ended.iter().any(|e| e["ended"] == "terminated"), "{ended:?}");
}

/// What is longer than may be held back was sent in part by then: it must not look whole.
#[test]
fn a_list_too_long_to_be_held_back_breaks_off() {
    let s = setup(vec![("50-end", "misbehaves", "settings: {does: terminate}\nrules: [{resources: [configmaps]}]\n".into())], "");
    for n in 0..14 {
        let labels = json!({"end": if n == 13 { "here" } else { "not-yet" }});
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("map-{n:02}"), "labels": labels}, "data": {"v": "x".repeat(900_000)}});
        let file = scratch("long").join("object.json");
        std::fs::write(&file, object.to_string()).unwrap();
        // `apply` would keep it in an annotation once more, and that is too long.
        s.direct(&["create", "-f", file.to_str().unwrap()]).success();
    }
    let ran = s.kubectl(&["get", "--raw", &format!("/api/v1/namespaces/{}/configmaps", s.namespace)]);
    assert!(!ran.ok && !ran.out.contains("map-13"), "{} bytes, {}", ran.out.len(), ran.err);
    let event = s.events().into_iter().find(|e| e["ended"] == "terminated").expect("it is recorded");
    assert!(event["refusal"].as_str().unwrap().contains("this is the end"), "{event}");
}
