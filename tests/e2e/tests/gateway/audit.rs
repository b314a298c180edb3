//! The audit log is asked: what was refused and why, who saw what, what was done with a credential.

use std::time::Duration;

use e2e::{Ran, cluster, scratch, setup};
use serde_json::Value;
use testbed::{AUDIENCE, Gateway, wait_until};

use crate::tool::text;

#[test]
fn the_log_is_asked_by_all_that_an_event_has() {
    let s = setup(vec![("10-mask-secrets", "mask-secrets", String::new()), ("20-no-bulk", "no-bulk-export", String::new())], "");
    let config = s.gateway.directory.join("postern.yaml");
    let audit = |args: &[&str]| Ran::new(Gateway::postern(&[&["audit", "--config", text(&config)], args].concat()).unwrap());
    s.kubectl(&["get", "secret", "db", "-o", "yaml"]).success();
    s.kubectl(&["get", "configmaps"]).success();
    s.kubectl(&["get", "secrets", "--all-namespaces"]).failure();
    s.kubectl(&["create", "configmap", "made", "--from-literal=a=b"]).success();
    let stranger = s.gateway.kubeconfig("stranger", "e30.eyJzdWIiOiJldmlsIiwiaXNzIjoieCJ9.e30").unwrap();
    s.kubectl_of(&stranger, &["get", "pods"]).failure();
    let events = |args: &[&str]| -> Vec<Value> {
        let ran = audit(&[&["list", "-o", "json"], args].concat());
        ran.success().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    wait_until("all is written", Duration::from_secs(10), || Ok(!events(&["--verdict", "unauthenticated"]).is_empty())).unwrap();

    let blocked = audit(&["list", "--since", "1h", "--verdict", "block"]);
    assert!(blocked.success().contains("list secrets") && blocked.out.contains("blocked by policy 20-no-bulk"), "{}", blocked.out);
    assert!(blocked.out.lines().next().unwrap().starts_with("TIME (UTC)") && !blocked.out.contains("configmaps"), "{}", blocked.out);
    let of_secret = events(&["--resource", "secret", "-n", &s.namespace, "--name", "db", "--policy", "10-mask-secrets"]);
    assert!(!of_secret.is_empty() && of_secret.iter().all(|event| event["target"]["name"] == "db"), "{of_secret:?}");
    // Of a change its end is told, and both on demand.
    let made = ["--verb", "create", "--resource", "configmaps", "-n", &s.namespace];
    let stages = |events: Vec<Value>| events.iter().map(|event| event["stage"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(stages(events(&made)), ["completed"]);
    assert_eq!(stages(events(&[&made[..], &["--all"]].concat())), ["decided", "completed"]);
    // A failed login is told with its address, and with what its token said, which nobody has verified.
    let stranger = audit(&["list", "--verdict", "unauthenticated", "--status", "4xx"]);
    assert!(
        stranger.success().contains("from 127.0.0.1") && stranger.out.contains("its token says, unverified: subject evil, issuer x"),
        "{}",
        stranger.out
    );
    // What was done with a credential: its kubeconfig, or its session.
    let of_caller = events(&["--token", text(&s.caller)]);
    let sessions: std::collections::BTreeSet<&str> = of_caller.iter().map(|event| event["session"].as_str().unwrap()).collect();
    assert!(of_caller.len() >= 4 && sessions.len() == 1, "{sessions:?}");
    let session = sessions.first().unwrap();
    assert_eq!(events(&["--session", &session[..8]]).len(), of_caller.len());
    let other = s.gateway.kubeconfig("other", &cluster().token("approver", AUDIENCE).unwrap()).unwrap();
    assert!(events(&["--token", text(&other)]).is_empty());

    // What was not done, by whomever it was refused.
    let refused = audit(&["list", "--refused"]);
    assert!(
        refused.success().contains("20-no-bulk") && refused.out.contains("unverified") && !refused.out.contains("get configmaps"),
        "{}",
        refused.out
    );
    assert!(audit(&["list", "--token", "mistyped.kubeconfig"]).failure().contains("there is no file mistyped.kubeconfig"));
    // A session by the beginning of its id, and of it what is asked for.
    wait_until("the index knows it", Duration::from_secs(10), || Ok(s.session(&["list", "-o", "name"]).out.contains(*session))).unwrap();
    let show = |args: &[&str]| s.session(&[&["show", &session[..6]], args].concat());
    assert!(show(&["--verdict", "block"]).success().contains("list secrets") && !show(&["--verdict", "block"]).out.contains("configmaps"));
    let json: Value = serde_json::from_str(show(&["--verb", "create", "-o", "json"]).success().lines().next().unwrap()).unwrap();
    assert_eq!(json["target"]["resource"], "configmaps");
    assert!(s.session(&["list", "-o", "name"]).success().lines().any(|id| id == *session));
    assert!(!s.session(&["list", "--no-headers"]).success().contains("CALLER"));

    let seen = audit(&["who-saw", "secret/db", "-n", &s.namespace]);
    let line =
        seen.success().lines().find(|line| line.contains("system:serviceaccount:postern:caller")).unwrap_or_else(|| panic!("{}", seen.out));
    let counts: Vec<&str> = line.split_whitespace().take(3).collect();
    assert_eq!(counts, ["0", "1", "0"], "masked, and never in clear: {}", seen.out);
    assert!(audit(&["who-saw", "secret/none", "-n", "nowhere"]).success().contains("nobody was shown it"));

    let top = audit(&["top", "--by", "verdict"]);
    assert!(["allow", "mask", "block", "unauthenticated"].iter().all(|verdict| top.success().contains(verdict)), "{}", top.out);
    assert!(audit(&["top", "--by", "policy", "--verdict", "block"]).success().contains("20-no-bulk: block"));
    // What can mean nothing is said to, with what could.
    for (args, told) in [
        (["--verdict", "blocked"], "did you mean block?"),
        (["--verb", "fetch"], "deletecollection"),
        (["--since", "lately"], "yesterday"),
        (["--session", "zz"], "16 hexadecimal digits"),
        (["--status", "4x"], "4xx"),
    ] {
        let ran = audit(&[&["list"], &args[..]].concat());
        assert!(ran.failure().contains(told), "{args:?}: {}", ran.err);
    }
    let nothing = audit(&["list", "--user", "nobody-of-that-name"]);
    assert!(nothing.ok && nothing.err.contains("no events of that kind"), "{}", nothing.err);
    assert!(!std::fs::read_to_string(s.gateway.audit()).unwrap().contains("hunter2"));

    // It is followed as it is written.
    let mut following = std::process::Command::new(testbed::postern());
    following.args(["audit", "--config", text(&config), "list", "-f", "--no-headers", "--limit", "1", "--name", "later"]);
    let following = following.stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    s.kubectl(&["get", "configmap", "later"]).failure();
    let followed = following.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&followed.stdout).contains("get configmaps"), "{followed:?}");
}

/// At a terminal what is long is shown by a pager: all of it, with the command's own exit status; and who leaves it is not kept waiting.
#[test]
fn what_is_long_is_shown_by_a_pager_that_can_be_left() {
    let s = setup(vec![], "");
    for _ in 0..30 {
        s.kubectl(&["get", "pods"]).success();
    }
    let log = s.gateway.directory.join("data/audit.jsonl");
    wait_until("the log has them", Duration::from_secs(10), || Ok(s.events().iter().filter(|e| e["verb"] == "list").count() >= 30))
        .unwrap();
    let clients = testbed::cache().join("clients/python");
    let with = |environment: &[(&str, &str)], args: &[&str]| {
        let mut command = std::process::Command::new(clients.join("venv/bin/python"));
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/python/pager.py")).arg("").arg(testbed::postern()).args(args);
        Ran::new(command.envs(environment.iter().copied()).env_remove("LESS").output().unwrap()).success().to_owned()
    };
    let at_terminal = |pager: &str, args: &[&str]| with(&[("POSTERN_PAGER", pager)], args);
    let list = ["audit", "list", "--file", text(&log), "--verb", "list"];
    let numbered = at_terminal("cat -n", &list);
    assert!(numbered.contains("ended with 0") && numbered.contains("    31\t"), "the head and thirty events: {numbered}");
    let left = at_terminal("head -n 3", &list);
    assert!(left.contains("ended with 0") && left.matches("list pods").count() == 2, "{left}");
    for none in ["/nowhere/pager", "no-such-pager -x", "cat", ""] {
        let whole = at_terminal(none, &list);
        assert!(whole.contains("ended with 0") && whole.matches("list pods").count() >= 30, "{none}: {whole}");
    }
    let fails = at_terminal("cat", &["audit", "show", "none", "--file", text(&log)]);
    assert!(fails.contains("ended with 1") && fails.contains("no event of none"), "{fails}");
    let fails = at_terminal("cat -n", &["audit", "show", "none", "--file", text(&log)]);
    assert!(fails.contains("ended with 1") && fails.contains("no event of none"), "{fails}");
    // Whoever is lent another's rights is given no program with them.
    for lent in ["SUDO_UID", "DOAS_USER", "PKEXEC_UID"] {
        let shown = with(&[("POSTERN_PAGER", "echo chosen"), (lent, "1000")], &list);
        assert!(shown.contains("ended with 0") && shown.contains("list pods") && !shown.contains("chosen"), "{lent}: {shown}");
    }
    // A pager that fails at once is no success.
    let broken = at_terminal("false", &list);
    assert!(broken.contains("ended with 1"), "{broken}");
    // A gateway that does not answer is not waited for by one who has left.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let kubeconfig = scratch("silent").join("kubeconfig");
    let server = format!("https://{}", silent.local_addr().unwrap());
    let mut own: Value = serde_json::from_slice(&std::fs::read(&s.caller).unwrap()).unwrap();
    own["clusters"][0]["cluster"]["server"] = server.into();
    std::fs::write(&kubeconfig, own.to_string()).unwrap();
    let waits = at_terminal("sleep 2", &["approval", "list", "--kubeconfig", text(&kubeconfig)]);
    let seconds: u32 = waits.split(" in ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap();
    assert!(waits.contains("ended with 0") && seconds < 30, "{waits}");
}
