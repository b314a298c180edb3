//! Older clients must not notice the gateway: the same script through it and directly, with the same output and exit codes.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use e2e::{Ran, Setup, cluster, setup};

/// kubectl of these versions, built from upstream; the current one has a suite of its own.
const VERSIONS: [&str; 4] = ["kubectl-1.28", "kubectl-1.30", "kubectl-1.32", "kubectl-1.34"];

/// What a command printed and how it ended, without what differs from run to run.
fn run(program: &Path, kubeconfig: &Path, namespace: &str, args: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(program);
    command.arg("--kubeconfig").arg(kubeconfig).args(["-n", namespace]).args(args).env("HOME", kubeconfig.with_extension("home"));
    command.env("KUBE_EDITOR", "sed -i s/before/after/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        // Times, versions and ports of the caller's own differ. "Unknown stream id" is client-go's own race (to 1.32, `remotecommand/websocket.go`): it reads
        // before it has registered its streams, and says so when the API server's empty first message is early.
        let lines = text.lines().filter(|line| {
            !["Unknown stream id", "resourceVersion", "uid:", "Timestamp", "generation", "time:", "--- /", "+++ /", "diff -"]
                .iter()
                .any(|part| line.contains(part))
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn kubectl_of_every_age_sees_the_same_through_the_gateway() {
    let s = setup(vec![], "");
    let direct = cluster().acts_as_kubeconfig().unwrap();
    let place = e2e::scratch("clients");
    std::fs::write(place.join("map.yaml"), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: map}\ndata: {key: before}\n").unwrap();
    let map = place.join("map.yaml").display().to_string();
    let big = place.join("big");
    std::fs::write(&big, "some text that is copied\n".repeat(40_000)).unwrap();
    let big = big.display().to_string();
    for version in VERSIONS {
        let program = testbed::binary(version);
        for spdy in [false, true] {
            let steps: Vec<(Vec<&str>, &str)> = vec![
                (vec!["version", "-o", "json"], ""),
                (vec!["get", "pods", "-o", "custom-columns=N:.metadata.name,NODE:.spec.nodeName"], ""),
                (vec!["get", "pods", "-o", "yaml"], ""),
                (vec!["exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 7"], ""),
                (vec!["exec", "-i", "web", "--", "cat"], "typed\nand more\n"),
                (vec!["exec", "web", "--", "head", "-c", "300000", "/dev/zero"], ""),
                (vec!["exec", "nobody", "--", "id"], ""),
                (vec!["attach", "-i", "web"], "attached\n"),
                (vec!["logs", "web"], ""),
                (vec!["logs", "web", "--tail", "1"], ""),
                (vec!["create", "-f", &map], ""),
                (vec!["get", "-f", &map, "-o", "jsonpath={.data}"], ""),
                (vec!["edit", "-f", &map], ""),
                (vec!["diff", "-f", &map], ""),
                (vec!["apply", "--server-side", "--force-conflicts", "-f", &map], ""),
                (vec!["apply", "-f", &map], ""),
                (vec!["wait", "configmap/map", "--for", "jsonpath={.data.key}=before", "--timeout", "5s"], ""),
                (vec!["get", "configmaps", "-w", "-o", "name", "--request-timeout", "2s"], ""),
                (vec!["label", "configmap", "map", "a=b"], ""),
                (vec!["delete", "-f", &map], ""),
                (vec!["run", "runs", "--image", "testbed/main", "--dry-run=server", "-o", "name"], ""),
                (vec!["create", "deployment", "d", "--image", "testbed/main"], ""),
                (vec!["rollout", "history", "deployment/d"], ""),
                (vec!["scale", "deployment/d", "--replicas", "2"], ""),
                (vec!["delete", "deployment", "d"], ""),
                (vec!["drain", "node-1", "--dry-run=client", "--force", "--pod-selector", "app=nobody"], ""),
                (vec!["auth", "can-i", "get", "pods"], ""),
                (vec!["api-resources", "--api-group", "apps"], ""),
                (vec!["cp", &big, "web:/tmp/postern-clients-copy"], ""),
                (vec!["exec", "web", "--", "cksum", "/tmp/postern-clients-copy"], ""),
                (vec!["exec", "web", "--", "rm", "/tmp/postern-clients-copy"], ""),
            ];
            let script = |kubeconfig: &Path| -> Vec<_> {
                let wanted = steps.iter().filter(|(args, _)| !spdy || matches!(args[0], "exec" | "attach" | "cp"));
                let ran = wanted.map(|(args, input)| match spdy {
                    true => with_spdy(&program, &s, kubeconfig, args, input),
                    false => run(&program, kubeconfig, &s.namespace, args, input),
                });
                ran.collect()
            };
            let (through, directly) = (script(&s.caller), script(&direct));
            for (number, (through, directly)) in through.iter().zip(&directly).enumerate() {
                assert_eq!(through, directly, "{version}, SPDY {spdy}, step {number}");
            }
            assert!(through.iter().filter(|(code, ..)| *code == Some(0)).count() > through.len() * 2 / 3, "{through:?}");
        }
        terminal(&program, &s);
        println!("{version}: the same through the gateway");
    }
}

fn with_spdy(program: &Path, s: &Setup, kubeconfig: &Path, args: &[&str], input: &str) -> (Option<i32>, String, String) {
    let wrapper = e2e::scratch("spdy").join("kubectl");
    std::fs::write(&wrapper, format!("#!/bin/sh\nKUBECTL_REMOTE_COMMAND_WEBSOCKETS=false exec {} \"$@\"\n", program.display())).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&wrapper, executable).unwrap();
    run(&wrapper, kubeconfig, &s.namespace, args, input)
}

/// A terminal: its size goes in, one stream comes out, and the exit code is the command's.
fn terminal(program: &Path, s: &Setup) {
    let command = format!(
        "stty rows 41 cols 133; {} --kubeconfig {} -n {} exec -it web -- sh -c 'sleep 0.3; stty size; echo err >&2; exit 5'",
        program.display(),
        s.caller.display(),
        s.namespace
    );
    let output = Command::new("script").args(["-qec", &command, "/dev/null"]).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() == Some(5) && shown.contains("41 133") && shown.contains("err"), "{shown}");
}

#[test]
fn helm_3_works_unchanged() {
    let s = setup(vec![("20-mask-secrets", "mask-secrets", "settings: {helmGroups: ['postern:caller']}\n".into())], "");
    let (chart, helm) = (e2e::chart(), testbed::binary("helm3"));
    let chart = chart.to_str().unwrap();
    for (args, expected) in [
        (vec!["install", "shop", chart], "STATUS: deployed"),
        (vec!["upgrade", "shop", chart, "--set", "greeting=bye"], "REVISION: 2"),
        (vec!["history", "shop"], "superseded"),
        (vec!["get", "values", "shop"], "greeting: bye"),
        (vec!["rollback", "shop", "1"], "Rollback was a success"),
        (vec!["list"], "shop"),
        (vec!["uninstall", "shop"], "uninstalled"),
    ] {
        let (code, out, err) = run(&helm, &s.caller, &s.namespace, &args, "");
        assert!(code == Some(0) && out.contains(expected), "{args:?}: {out}{err}");
    }
}

#[test]
fn kube_rs_works_unchanged() {
    let s = setup(vec![], "");
    let of = |kubeconfig: &Path| {
        let mut command = Command::new(testbed::built("kube-rs"));
        Ran::new(command.arg("use").arg(kubeconfig).arg(&s.namespace).output().unwrap())
    };
    let direct = of(&cluster().acts_as_kubeconfig().unwrap());
    let seen: Vec<&str> = direct.success().lines().collect();
    assert!(seen.len() > 14 && seen.iter().any(|line| line.starts_with("exec: \"through and back\" \"oops\\n\"")), "{seen:#?}");
    let through = of(&s.caller);
    assert_eq!((through.success(), &through.err), (direct.success(), &direct.err));
}

/// `kubectl debug` adds a container to a pod that runs, waits until it runs too, and attaches to it.
#[test]
fn debug_is_the_same_and_what_it_does_is_recorded() {
    let s = setup(vec![], "");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // The kubelet's part.
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                cluster().run_ephemeral_containers(&s.namespace, "web").unwrap();
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
        });
        for version in VERSIONS.into_iter().chain(["kubectl"]) {
            let debug = |kubeconfig: &Path, name: &str| {
                let name = format!("{name}-{}", version.replace('.', "-"));
                let args = ["debug", "-i", "web", "--image", "testbed/main", "--profile", "general", "-c", &name, "--", "cat"];
                let (code, out, err) = run(&testbed::binary(version), kubeconfig, &s.namespace, &args, "typed into it\n");
                (code, out, err.replace(&name, "NAME"))
            };
            let (direct, through) = (debug(&cluster().acts_as_kubeconfig().unwrap(), "direct"), debug(&s.caller, "through"));
            assert_eq!(through, direct, "{version}");
            assert_eq!((direct.0, direct.1.as_str()), (Some(0), "typed into it"), "{version}: {}", direct.2);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let events = s.events();
    let of = |subresource: &str| events.iter().filter(|e| e["target"]["subresource"] == subresource && e["stage"] == "completed").count();
    assert_eq!((of("ephemeralcontainers"), of("attach")), (5, 5), "{events:#?}");
    let found = s.session(&["search", "typed into it"]);
    assert_eq!(found.success().matches("output: typed into it").count(), 5, "{}", found.out);
    assert!(events.iter().any(|e| e["command"]["container"] == "through-kubectl" && e["recording"].is_string()), "{events:#?}");
}
