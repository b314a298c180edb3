//! What is not in force is said: at the start, in the list, and in the log.

use std::path::Path;
use std::time::Duration;

use e2e::{Ran, Setup, cluster, scratch, setup, setup_with};
use serde_json::Value;
use testbed::{Gateway, GatewayOptions, wait_until};

fn postern(args: &[&str]) -> Ran {
    Ran::new(Gateway::postern(args).unwrap())
}

fn list(s: &Setup) -> Ran {
    postern(&["policy", "list", "-o", "wide", "--config", s.gateway.directory.join("postern.yaml").to_str().unwrap()])
}

/// The events that tell what is in force.
fn told(s: &Setup) -> Vec<Value> {
    s.events().into_iter().filter(|event| event["stage"] == "policies").collect()
}

fn no_bulk() -> Vec<(&'static str, &'static str, String)> {
    vec![("10-no-bulk", "no-bulk-export", "settings: {resources: [secrets]}\n".to_owned())]
}

#[test]
fn what_is_in_force_and_what_is_not_is_in_the_log_by_name_and_digest() {
    let s = setup(no_bulk(), "");
    let first = &told(&s)[0];
    let digest = first["inForce"][0]["digest"].as_str().unwrap().to_owned();
    assert!(first["inForce"][0]["name"] == "10-no-bulk" && digest.len() == 64 && first["gone"].is_null(), "{first}");
    let directory = s.gateway.directory.join("policies.d");
    // Settings whose module is not there: somebody means it to guard.
    std::fs::write(directory.join("20-alone.yaml"), "settings: {}\n").unwrap();
    wait_until("it is told", Duration::from_secs(20), || Ok(told(&s).last().unwrap()["notLoaded"][0]["name"] == "20-alone")).unwrap();
    let listed = list(&s);
    assert!(
        listed.out.contains("20-alone")
            && listed.out.contains("not-loaded")
            && format!("{}{}", listed.out, listed.err).contains("its module"),
        "{}{}",
        listed.out,
        listed.err
    );
    std::fs::remove_file(directory.join("20-alone.yaml")).unwrap();
    // Its module alone goes: the version that served goes on, and it is told.
    std::fs::remove_file(directory.join("10-no-bulk.wasm")).unwrap();
    wait_until("the last good goes on", Duration::from_secs(20), || Ok(list(&s).out.contains("last-good"))).unwrap();
    assert!(s.kubectl(&["get", "secrets", "-A"]).failure().contains("10-no-bulk"));
    // All of it goes: it is no longer in force, which is said.
    std::fs::remove_file(directory.join("10-no-bulk.yaml")).unwrap();
    wait_until("it is gone", Duration::from_secs(20), || Ok(told(&s).last().unwrap()["gone"][0]["digest"] == digest.as_str())).unwrap();
    assert!(list(&s).out.contains("gone") && s.gateway.log().contains("no longer in force"), "{}", list(&s).out);
    s.kubectl(&["get", "secrets", "-A"]).success();
    let verified = postern(&["audit", "--file", s.gateway.audit().to_str().unwrap(), "verify"]);
    assert!(verified.ok, "{}{}", verified.out, verified.err);
    assert!(postern(&["audit", "--file", s.gateway.audit().to_str().unwrap(), "list"]).success().contains("policies"));
}

#[test]
fn settings_without_a_module_and_a_required_policy_that_is_missing_are_told_at_the_start() {
    let alone = |directory: &Path| {
        std::fs::create_dir_all(directory.join("policies.d")).unwrap();
        std::fs::write(directory.join("policies.d/20-alone.yaml"), "settings: {}\n").unwrap();
    };
    let directory = scratch("gateway");
    alone(&directory);
    let options = GatewayOptions { policies: no_bulk(), ..GatewayOptions::default() };
    let refused = Gateway::start(cluster(), &directory, &options).err().unwrap();
    assert!(format!("{refused:#}").contains("the policy 20-alone does not load: its settings are there"), "{refused:#}");
    let checked = postern(&["config", "check", directory.join("postern.yaml").to_str().unwrap()]);
    assert!(checked.failure().contains("20-alone does not load"), "{}", checked.err);
    // What it left says why, and the next one finds its log whole.
    let left = postern(&["policy", "list", "--config", directory.join("postern.yaml").to_str().unwrap()]);
    assert!(
        left.out.contains("20-alone") && left.out.contains("its settings are there") && !left.out.contains("compiling"),
        "{}{}",
        left.out,
        left.err
    );
    assert!(left.out.contains("no-bulk") && !left.out.contains("serving"), "{}", left.out);
    std::fs::remove_file(directory.join("policies.d/20-alone.yaml")).unwrap();
    let witness = "audit: {witness: {url: 'https://127.0.0.1:1/heads', caFile: /nonexistent/ca.pem}}\n";
    let options = GatewayOptions { config: witness.into(), ..GatewayOptions::default() };
    assert!(Gateway::start(cluster(), &directory, &options).is_err(), "its witness cannot be one");
    let next = Gateway::start(cluster(), &directory, &GatewayOptions::default()).unwrap();
    let log = std::fs::read_to_string(next.audit()).unwrap();
    let stages: Vec<_> = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
    assert!(stages.iter().all(|event| event["endUnknown"].is_null() && event["cutOff"].is_null()), "{log}");
    let stages: Vec<_> = stages.iter().map(|event| event["stage"].as_str().unwrap()).take(3).collect();
    assert_eq!(stages, ["started", "stopped", "started"], "{log}");
    let required =
        setup_with(GatewayOptions { policies: no_bulk(), guard: ", required: [05-missing]".into(), ..GatewayOptions::default() });
    assert!(required.gateway.log().contains("nothing passes until they are"), "{}", required.gateway.log());
    assert_eq!(told(&required)[0]["missing"][0], "05-missing");
    assert!(required.get("/api/v1/pods", "").contains("the required policy 05-missing is missing or broken"));
}

#[test]
fn an_api_server_that_cannot_be_asked_is_told_at_the_start() {
    let directory = scratch("away");
    let kubeconfig = directory.join("kubeconfig");
    let own = std::fs::read_to_string(cluster().gateway_kubeconfig().unwrap()).unwrap();
    let port = testbed::free_port().unwrap();
    std::fs::write(&kubeconfig, own.replace(&format!("127.0.0.1:{}", cluster().port), &format!("127.0.0.1:{port}"))).unwrap();
    let options = GatewayOptions { kubeconfig: Some(kubeconfig), ..GatewayOptions::default() };
    let gateway = Gateway::start(cluster(), &scratch("gateway"), &options).unwrap();
    wait_until("it is told", Duration::from_secs(30), || {
        let log = std::fs::read_to_string(gateway.audit())?;
        Ok(log.contains(r#""stage":"unreachable""#) && gateway.log().contains("the API server cannot be asked"))
    })
    .unwrap();
}

/// What `serve` refuses, `config check` finds.
#[test]
fn a_configuration_is_checked_as_it_is_served() {
    let s = setup(no_bulk(), "");
    let (file, scratch) = (s.gateway.directory.join("postern.yaml"), scratch("checked"));
    let text = std::fs::read_to_string(&file).unwrap();
    let policies = s.gateway.directory.join("policies.d").display().to_string();
    let text = text.replace("directory: policies.d", &format!("directory: '{policies}'"));
    let checked = |text: &str| {
        let file = scratch.join("postern.yaml");
        std::fs::write(&file, text).unwrap();
        (postern(&["config", "check", file.to_str().unwrap()]), file)
    };
    // That of a gateway that runs: nothing of its is touched.
    assert!(checked(&text).0.success().contains("is valid"));
    assert!(postern(&["config", "check", "--config", file.to_str().unwrap()]).success().contains("is valid"));
    let kubeconfig = cluster().gateway_kubeconfig().unwrap().display().to_string();
    for (from, to, told) in [
        (kubeconfig.as_str(), "/nonexistent/kubeconfig", "nonexistent"),
        (
            "address: '127.0.0.1:0'",
            "address: '127.0.0.1:0', certificateFile: /nonexistent/tls.crt, keyFile: /nonexistent/tls.key",
            "nonexistent",
        ),
        ("address: '127.0.0.1:0'", "address: 'no address'", "address"),
        ("dataDirectory: data", "dataDirectory: /etc/hostname/data", "/etc/hostname"),
        ("dataDirectory: data", "dataDirectroy: data", "did you mean `dataDirectory`?"),
        ("dataDirectory: data", "dataDirectory: data\nlimits: {connections: many}", "limits.connections: "),
        ("dataDirectory: data", "dataDirectory: data\nauditors: {users: ann}", "auditors.users: "),
        ("dataDirectory:", "sessions: {objectStore: {url: 'no-store'}}\ndataDirectory:", "no-store"),
        (&format!("directory: '{policies}'"), "directory: /nonexistent", "nonexistent"),
        (&format!("directory: '{policies}'"), &format!("directory: '{policies}', required: [05-missing]"), "05-missing"),
        (
            &format!("directory: '{policies}'"),
            &format!("directory: '{policies}', trusted: [{{name: a, keyFile: /nonexistent/key}}]"),
            "nonexistent",
        ),
    ] {
        assert!(text.contains(from), "{from}: {text}");
        let (ran, file) = checked(&text.replace(from, to));
        assert!(ran.failure().contains(told), "{to}: {}", ran.err);
        if to.contains("required") {
            // The one thing that a gateway starts with all the same: nothing passes, and it says so.
            continue;
        }
        let mut serve = std::process::Command::new(testbed::postern());
        let served = Ran::new(serve.args(["serve", "--config"]).arg(file).current_dir(&scratch).output().unwrap());
        assert!(served.failure().contains(told), "{to}: {}", served.err);
    }
}
