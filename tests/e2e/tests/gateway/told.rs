//! What callers are told beside their answers: what policies would say, and what they hide.

use e2e::{Setup, setup};
use serde_json::Value;

fn guarded(config: &str) -> Setup {
    let policies = vec![
        ("10-read-only", "read-only", "settings: {groups: ['postern:approver']}\n".to_owned()),
        ("20-mask-secrets", "mask-secrets", String::new()),
        ("25-mask-env", "mask-env", "warnings: false\n".to_owned()),
        ("30-guard-exec", "guard-exec", String::new()),
        ("40-approve-deletes", "approve-deletes", "settings: {approvers: ['postern:approver'], resources: [deployments]}\n".to_owned()),
        ("45-rbac", "guard-rbac", String::new()),
        ("50-no-bulk-export", "no-bulk-export", "settings: {resources: [secrets]}\n".to_owned()),
        (
            "60-budget",
            "exfiltration-budget",
            "grants: [bodies, counters, streams]\nsettings: {secretValues: {block: 3}, objects: {}, bytes: {}, resources: [secrets]}\n"
                .to_owned(),
        ),
    ];
    setup(policies, config)
}

#[test]
fn who_asks_what_they_may_is_told_what_policies_would_say() {
    let s = guarded("");
    let can_i = |args: &[&str]| s.kubectl(&[&["auth", "can-i"], args].concat());
    assert_eq!(can_i(&["get", "pods"]).success(), "yes\n");
    // Refused: with the policy's words, and the exit code of a no.
    let all = can_i(&["list", "secrets", "-A"]);
    assert!(
        !all.ok && all.out.starts_with("no - blocked by policy 50-no-bulk-export") && all.out.contains("over all namespaces"),
        "{}{}",
        all.out,
        all.err
    );
    assert_eq!(can_i(&["list", "secrets"]).success(), "yes\n");
    // What waits is a yes with a note.
    let waits = can_i(&["delete", "deployments/web"]);
    assert!(
        waits.success() == "yes\n" && waits.err.contains("policy 40-approve-deletes has it wait for an approval by postern:approver"),
        "{}",
        waits.err
    );
    // What depends on the command, or on a body, is not told.
    assert_eq!(can_i(&["create", "pods", "--subresource", "exec"]).success(), "yes\n");
    assert_eq!(can_i(&["create", "clusterroles"]).success(), "yes\n");
    // Asking counts nothing: three values may be read afterwards as before.
    for _ in 0..10 {
        assert_eq!(can_i(&["get", "secrets/db"]).success(), "yes\n");
    }
    s.kubectl(&["get", "secret", "db"]).success();
    s.kubectl(&["get", "secret", "db"]).failure();
    let spent = can_i(&["get", "secrets/db"]);
    assert!(!spent.ok && spent.out.contains("60-budget"), "{}", spent.out);
    // What RBAC refuses is RBAC's to tell.
    let approver = s.gateway.kubeconfig("approver", &e2e::cluster().token("approver", testbed::AUDIENCE).unwrap()).unwrap();
    let deleted = s.kubectl_of(&approver, &["auth", "can-i", "delete", "pods"]);
    assert!(!deleted.ok && deleted.out.contains("blocked by policy 10-read-only"), "{}", deleted.out);
    assert_eq!(s.kubectl_of(&approver, &["auth", "can-i", "get", "pods"]).success(), "yes\n");
}

#[test]
fn a_list_of_rights_leaves_out_what_policies_refuse() {
    let s = guarded("");
    let role = s.namespace.clone() + "-role";
    let direct = |args: &[&str]| s.direct(args).success().to_owned();
    // A ServiceAccount with few rights of its own, as whom the caller comes.
    direct(&["create", "serviceaccount", "few"]);
    direct(&["create", "role", &role, "--verb=get,list,delete", "--resource=pods,deployments.apps"]);
    direct(&["create", "rolebinding", &role, "--role", &role, &format!("--serviceaccount={}:few", s.namespace)]);
    let access = format!("[{{as: {{serviceAccount: {{namespace: {}, name: few}}}}}}]", s.namespace);
    let few = e2e::setup_with(testbed::GatewayOptions {
        policies: vec![
            ("10-read-only", "read-only", "settings: {groups: ['postern:caller']}\n".to_owned()),
            ("40-approve-deletes", "approve-deletes", "settings: {approvers: ['postern:approver'], resources: [deployments]}\n".to_owned()),
        ],
        access,
        ..testbed::GatewayOptions::default()
    });
    let list = few.kubectl_of(&few.caller, &["-n", &s.namespace, "auth", "can-i", "--list"]);
    let told = list.success();
    let verbs = |resource: &str| {
        let line = told.lines().find(|line| line.starts_with(resource)).unwrap_or_else(|| panic!("{resource}: {told}"));
        line[line.rfind('[').unwrap()..].to_owned()
    };
    assert_eq!((verbs("pods"), verbs("deployments.apps")), ("[get list]".into(), "[get list]".into()), "{told}");
    assert!(
        list.err.contains("the list may be incomplete") && list.err.contains("delete pods: blocked by policy 10-read-only"),
        "{}",
        list.err
    );
    let raw = r#"{"kind":"SelfSubjectRulesReview","apiVersion":"authorization.k8s.io/v1","spec":{"namespace":"default"}}"#;
    let protobuf = "Accept: application/vnd.kubernetes.protobuf, application/json\r\n";
    let answer = few.raw(&format!(
        "POST /apis/authorization.k8s.io/v1/selfsubjectrulesreviews HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n{protobuf}Content-Length: {}\r\nAuthorization: Bearer {}\r\n\r\n{raw}",
        raw.len(),
        few.token
    ));
    let review: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(review["kind"], "SelfSubjectRulesReview", "{answer}");
}

#[test]
fn warnings_are_one_and_can_be_turned_off() {
    let s = guarded("");
    assert!(s.kubectl(&["get", "secret", "db", "-o", "yaml"]).err.contains("are hidden by policy 20-mask-secrets"));
    // The file of the policy says so.
    e2e::cluster().run_pod_with(&s.namespace, "env", &serde_json::json!({"env": [{"name": "A", "value": "in-it"}]})).unwrap();
    let quiet = s.kubectl(&["get", "pod", "env", "-o", "yaml", "--warnings-as-errors"]);
    assert!(quiet.success().contains("postern-masked") && quiet.err.is_empty(), "{}", quiet.err);
    // Of several policies there is one, beside those of the API server.
    let both = vec![
        ("20-mask-secrets", "mask-secrets", "settings: {fields: [{resource: componentstatuses, paths: ['$.metadata.name']}]}\n".to_owned()),
        ("21-mask-more", "mask-secrets", "settings: {how: redact}\n".to_owned()),
    ];
    let two = setup(both, "");
    let told = two.kubectl(&["get", "secret", "db", "-o", "yaml"]);
    assert_eq!(told.err.matches("Warning").count(), 1, "{}", told.err);
    assert!(told.err.contains("hidden by policies 20-mask-secrets, 21-mask-more"), "{}", told.err);
    let deprecated = two.kubectl(&["get", "componentstatuses", "-o", "json"]);
    assert!(deprecated.err.contains("v1 ComponentStatus is deprecated"), "{}", deprecated.err);
    // The configuration names who is not warned.
    let off = guarded("withoutWarnings: {groups: ['postern:caller']}\n");
    let quiet = off.kubectl(&["get", "secret", "db", "-o", "yaml", "--warnings-as-errors"]);
    assert!(quiet.success().contains("cG9zdGVybi1tYXNrZW") && quiet.err.is_empty(), "{}", quiet.err);
}
