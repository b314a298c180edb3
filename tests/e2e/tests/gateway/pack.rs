//! The policies that ship, each against the attack it answers, with real clients.

use e2e::{Setup, cluster, setup};
use serde_json::json;

fn refused(s: &Setup, args: &[&str], by: &str, why: &str) {
    let ran = s.kubectl(args);
    assert!(ran.failure().contains(by) && ran.err.contains(why), "{args:?}: {}", ran.err);
}

#[test]
fn credentials_roles_proxies_and_images_are_guarded() {
    let s = setup(
        vec![
            ("40-proxy", "guard-proxy", String::new()),
            ("40-rbac", "guard-rbac", String::new()),
            ("40-tokens", "guard-tokens", String::new()),
            ("50-images", "image-allow-list", "settings: {allow: ['docker.io/testbed/*']}\n".into()),
            ("50-latest", "no-latest-tag", String::new()),
        ],
        "",
    );
    let service = format!("/api/v1/namespaces/{}/services/web/proxy/", s.namespace);
    refused(&s, &["get", "--raw", &service], "40-proxy", "services/proxy is closed");
    refused(&s, &["create", "token", "default"], "40-tokens", "issues a credential");
    let secret = e2e::scratch("secret").join("secret.json");
    std::fs::write(
        &secret,
        json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": {"name": "robot", "annotations": {"kubernetes.io/service-account.name": "default"}}})
        .to_string(),
    )
    .unwrap();
    refused(&s, &["create", "-f", secret.to_str().unwrap()], "40-tokens", "never ends");
    refused(&s, &["create", "clusterrolebinding", "mine", "--clusterrole=cluster-admin", "--user=eve"], "40-rbac", "cluster-admin");
    refused(&s, &["create", "role", "mine", "--verb=escalate", "--resource=roles.rbac.authorization.k8s.io"], "40-rbac", "escalate");
    s.kubectl(&["create", "role", "reader", "--verb=get", "--resource=pods"]).success();
    let patch = r#"[{"op":"add","path":"/rules/0/verbs/-","value":"*"}]"#;
    refused(&s, &["patch", "role", "reader", "--type=json", "-p", patch], "40-rbac", "gives too much");

    let gathers = e2e::scratch("role").join("role.json");
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "gathers"},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}, "rules": []});
    std::fs::write(&gathers, role.to_string()).unwrap();
    refused(&s, &["create", "-f", gathers.to_str().unwrap()], "40-rbac", "gathers others");

    // A Deployment is sent in protobuf, a pod and patches in JSON.
    refused(&s, &["create", "deployment", "evil", "--image=busybox:1"], "50-images", "docker.io/library/busybox:1");
    refused(&s, &["run", "evil", "--image=ghcr.io/testbed/main:1"], "50-images", "ghcr.io");
    refused(&s, &["run", "evil", "--image=testbed/main"], "50-latest", "no version");
    s.kubectl(&["create", "deployment", "good", "--image=testbed/main:1"]).success();
    refused(&s, &["set", "image", "deployment/good", "main=busybox:1"], "50-images", "busybox");
    let patch = r#"[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"busybox:1"}]"#;
    refused(&s, &["patch", "deployment", "good", "--type=json", "-p", patch], "50-images", "busybox");
    refused(&s, &["debug", "web", "--image=busybox:1", "--attach=false"], "50-images", "busybox");
    assert_eq!(s.direct(&["get", "pods,deployments,clusterrolebindings", "-o", "name"]).success().matches("evil").count(), 0);
}

#[test]
fn who_may_only_look_changes_nothing() {
    let s = setup(vec![("05-read-only", "read-only", "settings: {groups: ['postern:caller']}\n".into())], "");
    assert!(s.kubectl(&["get", "pods"]).success().contains("web"));
    let may = s.kubectl(&["auth", "can-i", "delete", "pods"]);
    assert!(!may.ok && may.out.contains("no - blocked by policy 05-read-only"), "{}{}", may.out, may.err);
    s.kubectl(&["delete", "pod", "web", "--dry-run=server"]).success();
    for args in [
        &["delete", "pod", "web"][..],
        &["label", "pod", "web", "a=b"],
        &["create", "configmap", "mine"],
        &["exec", "web", "--", "id"],
        &["scale", "deployment/x", "--replicas=0"],
    ] {
        let ran = s.kubectl(args);
        assert!(!ran.ok && (ran.err.contains("05-read-only") || ran.err.contains("not found")), "{args:?}: {}", ran.err);
    }
    let proxied = format!("/api/v1/namespaces/{}/pods/web/proxy/", s.namespace);
    refused(&s, &["get", "--raw", &proxied], "05-read-only", "pods/proxy");
    assert!(s.direct(&["get", "pod", "web"]).ok);
}

#[test]
fn a_freeze_closes_changes_and_a_leader_may_open_them() {
    let windows = "windows: [{from: '2020-01-01T00:00:00Z', until: '2020-02-01T00:00:00Z', reason: long ago}, {from: '2026-01-01T00:00:00Z', until: '2199-01-01T00:00:00Z', reason: a long winter}]";
    let s = setup(vec![("05-freeze", "freeze", format!("settings: {{{windows}}}\n"))], "");
    refused(&s, &["create", "configmap", "mine"], "05-freeze", "until 2199-01-01T00:00:00Z: a long winter");
    assert!(s.kubectl(&["get", "pods"]).success().contains("web"));
    s.kubectl(&["create", "configmap", "mine", "--dry-run=server"]).success();
    let s = setup(vec![("05-freeze", "freeze", format!("settings: {{{windows}, approvers: [leaders], namespaces: [elsewhere]}}\n"))], "");
    s.kubectl(&["create", "configmap", "mine"]).success();
}

#[test]
fn what_stands_in_pods_and_logs_is_hidden() {
    let s = setup(
        vec![("20-env", "mask-env", String::new()), ("20-patterns", "mask-patterns", "settings: {patterns: ['tok-[0-9]{4}']}\n".into())],
        "",
    );
    cluster().run_pod_with(&s.namespace, "leaks", &json!({"env": [{"name": "PASSWORD", "value": "hunter2-in-a-pod"}]})).unwrap();
    let key = "AKIAIOSFODNN7EXAMPLE";
    s.direct(&["create", "configmap", "leaks", &format!("--from-literal=config=aws_key={key} card=4111-1111-1111-1111")]).success();
    for args in [
        &["get", "pod", "leaks", "-o", "yaml"][..],
        &["describe", "pod", "leaks"],
        &["get", "configmap", "leaks", "-o", "json"],
        &["logs", "leaks"],
    ] {
        let ran = s.kubectl(args);
        let shown = format!("{}{}", ran.success(), ran.err);
        assert!(shown.contains("postern-masked"), "{args:?}: {shown}");
        for secret in ["hunter2-in-a-pod", key, "4111-1111", "tok-1001"] {
            assert!(!shown.contains(secret), "{args:?}: {shown}");
        }
    }
    // Subresources that answer with the pod itself.
    for form in ["status", "ephemeralcontainers"] {
        let ran = s.kubectl(&["get", "--raw", &format!("/api/v1/namespaces/{}/pods/leaks/{form}", s.namespace)]);
        assert!(ran.success().contains("postern-masked") && !ran.out.contains("hunter2-in-a-pod"), "{form}: {}", ran.out);
    }
    // What was hidden is still there when the object was changed.
    s.kubectl(&["label", "pod", "leaks", "seen=yes"]).success();
    assert_eq!(s.direct(&["get", "pod", "leaks", "-o", "jsonpath={.spec.containers[0].env[0].value}"]).success(), "hunter2-in-a-pod");
}

#[test]
fn a_budget_holds_within_an_answer_and_over_it_somebody_is_asked() {
    let settings = "grants: [bodies, counters, streams]\nsettings: {secretValues: {approve: 4, block: 10}, objects: {}, bytes: {block: 3000000}, resources: [secrets, pods/exec, pods/log], approvers: ['postern:approver']}\n";
    let s = setup(vec![("60-budget", "exfiltration-budget", settings.into())], "approvals: {tellFirst: false, hold: 20}\n");
    let get = || s.kubectl(&["get", "secret", "db", "-o", "jsonpath={.data.user}"]);
    // Each has two values. The third would pass the first limit: it is cut there, and nothing of it is shown.
    assert_eq!([get().success(), get().success()], ["YWRtaW4=", "YWRtaW4="]);
    let cut = get();
    assert!(
        cut.failure().contains("over the budget of 4 values of Secrets in 3600 seconds") && cut.err.contains("run the same command again"),
        "{}",
        cut.err
    );
    assert!(cut.out.is_empty(), "{}", cut.out);
    let token = cluster().token("approver", testbed::AUDIENCE).unwrap();
    let approver = s.gateway.kubeconfig("approver", &token).unwrap();
    let approval = |args: &[&str]| {
        e2e::Ran::new(testbed::Gateway::postern(&[&["approval", "--kubeconfig", approver.to_str().unwrap()], args].concat()).unwrap())
    };
    std::thread::scope(|scope| {
        let asked = scope.spawn(get);
        let mut id = String::new();
        testbed::wait_until("somebody is asked", std::time::Duration::from_secs(15), || {
            let list = approval(&["list"]);
            id = list
                .out
                .lines()
                .find(|line| line.contains("pending"))
                .and_then(|line| line.split(' ').next())
                .unwrap_or_default()
                .to_owned();
            Ok(!id.is_empty())
        })
        .unwrap();
        approval(&["approve", &id]).success();
        assert_eq!(asked.join().unwrap().success(), "YWRtaW4=");
    });
    // A list that would pass the last limit: not one of its objects is shown. After it nothing goes at all.
    let others = setup(vec![("60-budget", "exfiltration-budget", settings.replace("approve: 4, block: 10", "block: 3"))], "");
    refused(&others, &["get", "secrets", "-A", "-o", "json"], "60-budget", "over the budget of 3");
    refused(&others, &["get", "secret", "db"], "60-budget", "over the budget of 3");
    // What a container writes counts as bytes, and ends in the middle.
    let bytes = setup(vec![("60-budget", "exfiltration-budget", settings.to_owned())], "");
    let ran = bytes.kubectl(&["exec", "web", "--", "head", "-c", "20000000", "/dev/zero"]);
    assert!(!ran.ok && ran.out.len() < 20_000_000 && ran.err.contains("bytes in 3600 seconds"), "{} {}", ran.out.len(), ran.err);
}
