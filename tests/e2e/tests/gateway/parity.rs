//! Without a policy, commands give the same through the gateway as directly.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use e2e::{Setup, cluster, setup, setup_with};
use serde_json::json;

/// What differs from one moment to the next, or by who asks.
fn stable(text: &str) -> String {
    text.lines()
        .filter(|line| {
            !["resourceVersion:", "uid:", "creationTimestamp:", "\"time\":", "Warning:", "LAST DEPLOYED:"]
                .iter()
                .any(|noise| line.contains(noise))
        })
        .map(|line| line.split_whitespace().filter(|word| !is_age(word)).collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n")
}

fn is_age(word: &str) -> bool {
    word.strip_suffix(['s', 'm']).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit() || b == b'm'))
}

fn same(s: &Setup, args: &[&str]) {
    let (through, direct) = (s.kubectl(args), s.direct(args));
    assert_eq!((through.ok, stable(&through.out)), (direct.ok, stable(&direct.out)), "{args:?}\n{}\n{}", through.err, direct.err);
    assert_eq!(stable(&through.err), stable(&direct.err), "{args:?}");
}

#[test]
fn what_reads_reads_the_same() {
    let s = setup(vec![], "");
    cluster()
        .apply(&json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app", "namespace": s.namespace}, "spec": {"replicas": 0,
            "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}}))
        .unwrap();
    for args in [
        &["get", "pods", "-o", "wide"][..],
        &["get", "pods,secrets,deployments"],
        &["get", "pod", "web", "-o", "yaml"],
        &["get", "secret", "db", "-o", "json"],
        // Of this test alone: others run beside it.
        &["get", "pods", "-A", "--field-selector", &format!("metadata.namespace={}", s.namespace), "-l", "app=web"],
        &["get", "nothing"],
        &["get", "pod", "none"],
        &["get", "--raw", "/version"],
        &["get", "--raw", "/apis"],
        &["describe", "secret", "db"],
        &["describe", "deployment", "app"],
        &["describe", "pod", "web"],
        &["rollout", "history", "deployment", "app"],
        &["top", "pods"],
        &["api-resources"],
        &["api-versions"],
        &["explain", "pod.spec.containers.env"],
        &["logs", "web"],
        &["auth", "can-i", "delete", "pods"],
        &["auth", "can-i", "--list"],
        &["version"],
        &["wait", "--for=condition=Ready", "pod/web", "--timeout=5s"],
        &["diff", "-f", "/nonexistent"],
    ] {
        same(&s, args);
    }
}

#[test]
fn what_writes_writes_the_same() {
    let gateway = setup(vec![], "");
    let file = e2e::scratch("apply").join("deployment.json");
    let apply = |replicas: u32| {
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"}, "spec": {"replicas": replicas,
            "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
        std::fs::write(&file, deployment.to_string()).unwrap();
    };
    let path = file.to_str().unwrap().to_owned();
    let run = |through: bool| -> Vec<(bool, String)> {
        let mut results = Vec::new();
        let mut step = |args: &[&str]| {
            let ran = if through { gateway.kubectl(args) } else { gateway.direct(args) };
            results.push((ran.ok, stable(&format!("{}{}", ran.out, ran.err))));
        };
        apply(1);
        step(&["apply", "-f", &path]);
        apply(2);
        step(&["apply", "-f", &path]);
        step(&["apply", "-f", &path, "--server-side", "--force-conflicts"]);
        step(&["patch", "deployment", "app", "--type=json", "-p", r#"[{"op":"replace","path":"/spec/replicas","value":3}]"#]);
        step(&["patch", "deployment", "app", "-p", r#"{"spec":{"replicas":4}}"#]);
        step(&["scale", "deployment", "app", "--replicas=5"]);
        step(&["rollout", "restart", "deployment", "app"]);
        step(&["rollout", "history", "deployment", "app"]);
        step(&["set", "image", "deployment/app", "c=j"]);
        step(&["label", "deployment", "app", "x=y"]);
        step(&["annotate", "deployment", "app", "x=y"]);
        step(&["get", "deployment", "app", "-o", "jsonpath={.spec.replicas} {.spec.template.spec.containers[0].image}"]);
        step(&["create", "configmap", "cm", "--from-literal=a=b"]);
        step(&["create", "configmap", "cm", "--from-literal=a=b"]);
        step(&["create", "secret", "generic", "se", "--from-literal=a=b"]);
        step(&["delete", "configmap,secret", "cm", "se"]);
        step(&["delete", "secret", "se"]);
        step(&["delete", "deployment", "app", "--dry-run=server"]);
        step(&["delete", "deployment", "app"]);
        step(&["delete", "configmap", "--all"]);
        results
    };
    let (through, direct) = (run(true), run(false));
    assert_eq!(through, direct);
    assert!(direct.iter().filter(|(ok, _)| *ok).count() > 15, "{direct:#?}");
}

#[test]
fn helm_does_the_same() {
    let s = setup(vec![], "");
    let chart = e2e::chart();
    let chart = chart.to_str().unwrap();
    let run = |kubeconfig: &std::path::Path| -> Vec<(bool, String)> {
        let steps = [
            &["install", "demo", chart][..],
            &["install", "demo", chart],
            &["upgrade", "demo", chart, "--set", "greeting=bye"],
            &["status", "demo"],
            &["get", "values", "demo"],
            &["get", "manifest", "demo"],
            &["rollback", "demo", "1"],
            &["list", "--short"],
            &["uninstall", "demo"],
            &["list", "--short"],
            &["status", "demo"],
        ];
        let helm = |args: &&[&str]| {
            let ran = e2e::Ran::new(testbed::Gateway::helm(kubeconfig, &[args, &["-n", &s.namespace][..]].concat()).unwrap());
            (ran.ok, stable(&format!("{}{}", ran.out, ran.err)))
        };
        steps.iter().map(helm).collect()
    };
    let (through, direct) = (run(&s.caller), run(&cluster().acts_as_kubeconfig().unwrap()));
    assert_eq!(through, direct);
    assert_eq!(direct.iter().filter(|(ok, _)| *ok).count(), 9, "{direct:#?}");
}

#[test]
fn edit_works() {
    let s = setup(vec![], "");
    let mut edit = Command::new(testbed::binary("kubectl"));
    let editor = e2e::scratch("editor").join("editor.sh");
    std::fs::write(&editor, "#!/bin/sh\nexec sed -i 's/app: web/app: edited/' \"$1\"\n").unwrap();
    std::fs::set_permissions(&editor, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    edit.env("KUBE_EDITOR", &editor).arg("--kubeconfig").arg(&s.caller);
    let ran = e2e::Ran::new(edit.args(["-n", &s.namespace, "edit", "pod", "web"]).output().unwrap());
    ran.success();
    assert_eq!(s.direct(&["get", "pod", "web", "-o", "jsonpath={.metadata.labels.app}"]).success(), "edited");
}

#[test]
fn streams_pass_both_ways() {
    let s = setup(vec![], "");
    assert_eq!(s.kubectl(&["exec", "web", "--", "sh", "-c", "echo out; echo err >&2"]).success(), "out\n");
    let code = |kubeconfig: &std::path::Path| {
        let mut command = Command::new(testbed::binary("kubectl"));
        command
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["-n", &s.namespace, "exec", "web", "--", "sh", "-c", "exit 7"])
            .output()
            .unwrap()
            .status
            .code()
    };
    assert_eq!((code(&s.caller), code(&cluster().admin_kubeconfig())), (Some(7), Some(7)));

    let directory = e2e::scratch("cp");
    let (from, to) = (directory.join("from"), directory.join("to"));
    let bytes: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&from, &bytes).unwrap();
    let inside = directory.join("inside").display().to_string();
    s.kubectl(&["cp", from.to_str().unwrap(), &format!("web:{inside}")]).success();
    s.kubectl(&["cp", &format!("web:{inside}"), to.to_str().unwrap()]).success();
    assert!(std::fs::read(&to).unwrap() == bytes, "cp both ways");

    let mut forward = Command::new(testbed::binary("kubectl"))
        .arg("--kubeconfig")
        .arg(&s.caller)
        .args(["-n", &s.namespace, "port-forward", "pod/web", &format!(":{}", cluster().port)])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut line = String::new();
    // Kept open: kubectl ends when it cannot print.
    let mut printed = BufReader::new(forward.stdout.take().unwrap());
    printed.read_line(&mut line).unwrap();
    let port = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_else(|| panic!("{line}")).to_owned();
    let connected =
        Command::new("openssl").args(["s_client", "-connect", &format!("127.0.0.1:{port}")]).stdin(Stdio::null()).output().unwrap();
    forward.kill().unwrap();
    forward.wait().unwrap();
    assert!(
        String::from_utf8_lossy(&connected.stdout).contains("kube-apiserver"),
        "{} {}: the API server's certificate through the tunnel",
        String::from_utf8_lossy(&connected.stdout),
        String::from_utf8_lossy(&connected.stderr)
    );
}

#[test]
fn a_followed_log_and_a_watch_come_as_they_happen() {
    let s = setup_with(testbed::GatewayOptions::default());
    let follow = |args: &[&str]| {
        let mut child = Command::new(testbed::binary("kubectl"))
            .arg("--kubeconfig")
            .arg(&s.caller)
            .args(["-n", &s.namespace])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines)
    };
    let (mut logs, mut lines) = follow(&["logs", "-f", "web"]);
    assert!((1..=5).all(|n| lines.next().unwrap().unwrap().starts_with(&format!("line {n} of web"))));
    logs.kill().unwrap();
    logs.wait().unwrap();
    let (mut watch, mut lines) = follow(&["get", "configmaps", "--watch-only", "-o", "name"]);
    std::thread::sleep(std::time::Duration::from_millis(800));
    s.direct(&["create", "configmap", "seen"]).success();
    assert_eq!(lines.next().unwrap().unwrap(), "configmap/seen");
    watch.kill().unwrap();
    watch.wait().unwrap();
}
