//! The gateway's own API, held against its OpenAPI document; and the command line as its client.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::{Ran, Setup, cluster, code, setup_with};
use serde_json::Value;
use testbed::{AUDIENCE, Gateway, GatewayOptions, wait_until};

fn start() -> Setup {
    let config = "auditors: {groups: ['postern:approver']}\napprovals: {tellFirst: false, hold: 1}\n";
    let policies = vec![
        ("10-mask-secrets", "mask-secrets", String::new()),
        ("40-approve", "approve-deletes", "settings: {approvers: ['postern:approver'], resources: [pods]}\n".to_owned()),
    ];
    setup_with(GatewayOptions { policies, config: config.into(), ..GatewayOptions::default() })
}

/// The answer to a GET: its code, and what it says in JSON.
/// Asks the API by a token: the status, and the answer.
pub fn get(s: &Setup, token: &str, path: &str) -> (u16, Value) {
    let answer = s.raw(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"));
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (code(&answer), serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

/// A token of one who sees what others did, in a gateway whose auditors are the approvers.
pub fn auditor() -> String {
    cluster().token("approver", AUDIENCE).unwrap()
}

#[test]
fn answers_are_what_the_document_says() {
    let s = start();
    s.kubectl(&["get", "secret", "db"]).success();
    s.kubectl(&["exec", "web", "--", "echo", "needle"]).success();
    assert!(s.kubectl(&["delete", "pod", "web"]).failure().contains("waiting for approval"));
    let auditor = auditor();
    let (_, document) = get(&s, &s.token, "/postern/v1/openapi");
    let session = get(&s, &s.token, "/postern/v1/identity").1["session"].as_str().unwrap().to_owned();
    let timeline = format!("/postern/v1/sessions/{session}/timeline");
    wait_until("it is recorded", Duration::from_secs(15), || {
        Ok(get(&s, &auditor, &timeline).1["items"].as_array().is_some_and(|items| items.len() >= 3))
    })
    .unwrap();
    let ticket = get(&s, &auditor, "/postern/v1/approvals").1["items"][0]["id"].as_str().unwrap().to_owned();
    let mut seen = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        let Some(schema) = operations["get"].pointer("/responses/200/content/application~1json/schema") else { continue };
        let id = if path.contains("approvals") { &ticket } else { &session };
        let query = if path.ends_with("/search") { "?text=needle" } else { "" };
        let (status, answer) = get(&s, &auditor, &format!("{}{query}", path.replace("{id}", id)));
        assert_eq!(status, 200, "{path}: {answer}");
        let mut whole = schema.clone();
        whole["components"] = document["components"].clone();
        let validator = jsonschema::draft202012::new(&whole).unwrap();
        let wrong: Vec<String> = validator.iter_errors(&answer).map(|error| format!("{}: {error}", error.instance_path)).collect();
        assert!(wrong.is_empty(), "{path}: {wrong:#?}\n{answer}");
        // A schema that takes everything says nothing.
        assert!(path.ends_with("/openapi") || !validator.is_valid(&serde_json::json!({"nothing": 1})), "{path}");
        seen += 1;
        let status_of = jsonschema::draft202012::new(&document["components"]["schemas"]["Status-metav1"]).unwrap();
        for (token, query) in [("nonsense", ""), (auditor.as_str(), "?unknown=x")] {
            let (status, error) = get(&s, token, &format!("{}{query}", path.replace("{id}", id)));
            assert!((400..500).contains(&status) && status_of.is_valid(&error), "{path}: {error}");
        }
    }
    assert!(seen >= 9, "{seen}");
    assert!(!document.to_string().contains("hunter2"));
}

#[test]
fn callers_see_what_is_theirs_and_auditors_all() {
    let s = start();
    s.kubectl(&["get", "secret", "db"]).success();
    s.kubectl(&["exec", "web", "--", "echo", "needle"]).success();
    let own = get(&s, &s.token, "/postern/v1/identity").1["session"].as_str().unwrap().to_owned();
    let path = format!("/postern/v1/sessions/{own}");
    wait_until("it is listed", Duration::from_secs(15), || Ok(get(&s, &s.token, &path).0 == 200)).unwrap();
    let agent = cluster().token("agent", AUDIENCE).unwrap();
    for (token, status) in [(&s.token, 200), (&auditor(), 200), (&agent, 404)] {
        for rest in ["", "/timeline"] {
            assert_eq!(get(&s, token, &format!("{path}{rest}")).0, status, "{rest}");
        }
    }
    // What policies answered, and the files that have it, are for auditors.
    let timeline = |token: &str| get(&s, token, &format!("{path}/timeline")).1.to_string();
    wait_until("the call is there", Duration::from_secs(10), || Ok(timeline(&auditor()).contains("10-mask-secrets"))).unwrap();
    assert!(!timeline(&s.token).contains("10-mask-secrets"));
    assert!(timeline(&s.token).contains("needle"));
    let name = get(&s, &s.token, &path).1["recordings"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|name| name.as_str().filter(|name| name.ends_with(".stream")))
        .unwrap()
        .to_owned();
    for rest in [
        format!("{path}/recordings/{name}"),
        format!("{path}/recordings/{name}?follow=true"),
        format!("{path}/search?text=needle"),
        "/postern/v1/sessions?text=needle".into(),
    ] {
        assert_eq!((get(&s, &auditor(), &rest).0, get(&s, &s.token, &rest).0, get(&s, &agent, &rest).0), (200, 403, 403), "{rest}");
    }
    assert_eq!(get(&s, &auditor(), "/postern/v1/sessions?continue=nonsense").0, 400);
    assert_eq!(get(&s, &auditor(), "/postern/v1/sessions?since=18446744073709551615").0, 200);
    let of = |token: &str| -> Vec<Value> { get(&s, token, "/postern/v1/sessions").1["items"].as_array().unwrap().clone() };
    assert!(of(&agent).iter().all(|row| row["username"] == "system:serviceaccount:postern:agent"));
    assert!(of(&auditor()).iter().any(|row| row["id"] == own.as_str()));
    for path in ["/postern/v1/status", "/postern/v1/policies"] {
        assert_eq!((get(&s, &s.token, path).0, get(&s, &auditor(), path).0), (403, 200));
    }
    for odd in ["..%2f..%2fetc", "....", "0123456789abcdef", "%00"] {
        assert!(matches!(get(&s, &auditor(), &format!("/postern/v1/sessions/{odd}")).0, 400 | 404), "{odd}");
        let (status, body) = get(&s, &auditor(), &format!("{path}/recordings/{odd}"));
        assert!(matches!(status, 400 | 404), "{odd}: {status} {body}");
    }
    // Who looked at what is in the log before they see it.
    let events = s.events();
    let looked = |stage: &str| {
        events.iter().any(|event| {
            event["stage"] == stage
                && event["caller"]["username"] == "system:serviceaccount:postern:approver"
                && event["path"] == format!("{path}/timeline").as_str()
        })
    };
    assert!(looked("decided") && looked("completed"));
}

#[test]
fn the_command_line_reads_a_gateway_as_it_reads_its_files() {
    let s = start();
    s.kubectl(&["exec", "web", "--", "sh", "-c", "echo needle; echo hay >&2"]).success();
    s.kubectl(&["get", "pods"]).success();
    let kubeconfig = s.gateway.kubeconfig("auditor", &auditor()).unwrap();
    let session = get(&s, &s.token, "/postern/v1/identity").1["session"].as_str().unwrap().to_owned();
    let remote = |args: &[&str]| {
        Ran::new(Gateway::postern(&[&["session"], args, &["--kubeconfig", kubeconfig.to_str().unwrap()]].concat()).unwrap())
    };
    wait_until("it is recorded", Duration::from_secs(15), || Ok(remote(&["show", &session]).out.lines().count() >= 4)).unwrap();
    let stream = remote(&["show", &session])
        .success()
        .lines()
        .find_map(|line| line.split_whitespace().last().filter(|last| last.starts_with(&session)).map(str::to_owned))
        .unwrap();
    for args in [
        vec!["show", &session, "--bodies"],
        vec!["search", "needle"],
        vec!["list", "--text", "needle"],
        vec!["list", "--resource", "pods/exec", "--json"],
        vec!["export", &stream],
        vec!["replay", &stream, "--speed", "100"],
        vec!["verify", &session],
    ] {
        let (there, here) = (remote(&args), s.session(&args));
        // What is missed is known by the audit log, which is here alone.
        let of = |out: &str| out.split("; all ").flat_map(|part| part.split("; whether ")).next().unwrap_or_default().trim_end().to_owned();
        assert_eq!((of(there.success()), &there.err), (of(here.success()), &here.err), "{args:?}");
    }
    assert!(remote(&["show", "0123456789abcdef"]).failure().contains("no such session"));
    // Which policies are in force, without its files too.
    let policies = Ran::new(Gateway::postern(&["policy", "list", "--kubeconfig", kubeconfig.to_str().unwrap()]).unwrap());
    assert!(policies.success().contains("10-mask-secrets") && policies.out.contains("serving"), "{}", policies.out);
    let own = Ran::new(Gateway::postern(&["policy", "list", "--kubeconfig", s.caller.to_str().unwrap()]).unwrap());
    assert!(own.failure().contains("auditors"), "{}", own.err);
}

#[test]
fn a_stream_is_seen_while_it_goes_on() {
    let s = start();
    let mut command = Command::new(testbed::binary("kubectl"));
    command.arg("--kubeconfig").arg(&s.caller).args([
        "-n",
        &s.namespace,
        "exec",
        "web",
        "--",
        "sh",
        "-c",
        "for i in 1 2 3 4 5 6 7 8; do echo tick-$i; sleep 1; done",
    ]);
    let mut exec = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let session = get(&s, &s.token, "/postern/v1/identity").1["session"].as_str().unwrap().to_owned();
    let path = format!("/postern/v1/sessions/{session}");
    let token = auditor();
    let mut name = String::new();
    wait_until("it is recorded", Duration::from_secs(15), || {
        let names = get(&s, &token, &path).1["recordings"].as_array().cloned().unwrap_or_default();
        name = names.iter().find_map(|name| name.as_str().filter(|name| name.ends_with(".stream"))).unwrap_or_default().to_owned();
        Ok(!name.is_empty())
    })
    .unwrap();
    let request = format!(
        "GET {path}/recordings/{name}?follow=true HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    // While it goes on some of it is there; whoever stays to its end has all of it, sealed.
    let early = e2e::send(&s.gateway, &request, Duration::from_secs(2));
    assert!(early.contains("tick-1") && !early.contains("tick-8") && exec.try_wait().unwrap().is_none(), "{early}");
    let whole = s.raw_bytes(request.as_bytes());
    assert!(whole.contains("tick-8") && whole.contains("tick-1"));
    exec.wait().unwrap();
    let file = s.gateway.directory.join(format!("data/sessions/{session}/{name}"));
    wait_until("it is finished", Duration::from_secs(10), || Ok(file.exists())).unwrap();
    let body = PathBuf::from(&file);
    assert!(String::from_utf8_lossy(&std::fs::read(body).unwrap()).len() <= whole.len());
}
