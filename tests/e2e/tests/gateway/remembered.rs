//! What policies are known to say: decided without running them, as they would have said it.

use std::path::Path;
use std::time::Duration;

use e2e::{Setup, cluster, code, put, setup};
use serde_json::{Value, json};
use testbed::{AUDIENCE, wait_until};

use crate::tool::{postern, text};

/// What the gateway says of a policy, once it has been asked so often.
fn told(s: &Setup, policy: &str, calls: u64) -> Value {
    let config = s.gateway.directory.join("postern.yaml");
    let mut found = Value::Null;
    wait_until("the calls are told", Duration::from_secs(20), || {
        let list: Value = serde_json::from_str(postern(&["policy", "list", "--json", "--config", text(&config)]).success())?;
        found = list["policies"].as_array().into_iter().flatten().find(|line| line["name"] == policy).cloned().unwrap_or_default();
        Ok(found["counts"]["calls"].as_u64() >= Some(calls))
    })
    .unwrap();
    found
}

fn asks(questions: Value, more: &str) -> String {
    format!("settings: {}\nrules: [{{resources: [configmaps], verbs: [get, delete]}}]\n{more}", json!({"request": questions}))
}

#[test]
fn what_is_known_is_decided_as_the_module_would_and_recorded_as_if_it_had() {
    let tests =
        json!([{"in-groups": ["postern:caller", "sre"]}, {"is": ["verb", ["get"]]}, {"get": "name"}, {"annotate": ["asked", "yes"]}]);
    let s = setup(vec![("10-asks", "asks", asks(tests, ""))], "");
    let get = |name: &str| s.get(&format!("/api/v1/namespaces/{}/configmaps/{name}", s.namespace), "");
    // One path for each name, whoever asks and for what: the first two of each run the module.
    let first = ["a", "b"].map(get);
    for _ in 0..9 {
        for (name, first) in ["a", "b"].iter().zip(&first) {
            let answer = get(name);
            assert!(code(&answer) == 403 && answer.contains("10-asks: Some("), "{answer}");
            let why = |answer: &str| answer.split("blocked by").nth(1).map(str::to_owned);
            assert_eq!(why(&answer), why(first), "the same each time");
        }
    }
    let line = told(&s, "10-asks", 20);
    let counts = &line["counts"];
    assert_eq!(
        (&line["remember"], &counts["calls"], &counts["block"], &counts["remembered"]),
        (&json!("on"), &json!(20), &json!(20), &json!(16)),
        "{line}"
    );
    for event in s.events().iter().filter(|event| event["verdict"] == "block") {
        let by = &event["policies"][0];
        assert_eq!((&by["policy"], &by["annotations"][0]), (&json!("10-asks"), &json!(["asked", "yes"])), "{event}");
    }
}

#[test]
fn the_log_says_what_each_verdict_is_based_on_and_explain_tells_it() {
    let tests = json!([{"in-groups": ["postern:caller", "sre"]}, {"is": ["verb", ["get", "list"]]}, {"get": "name"}, {"claim": "email"}]);
    let s = setup(vec![("10-asks", "asks", asks(tests, "")), ("20-id", "asks", asks(json!([{"has": "name"}, "id"]), ""))], "");
    for _ in 0..4 {
        assert_eq!(code(&s.get(&format!("/api/v1/namespaces/{}/configmaps/web", s.namespace), "")), 403);
    }
    let events = s.events();
    let answers: Vec<&Value> = events.iter().filter(|event| event["verdict"] == "block").map(|event| &event["policies"][0]).collect();
    assert_eq!(answers.len(), 4);
    for asked in &answers[..2] {
        let names = json!(["in-groups", "is verb", "get name", "claim email"]);
        assert_eq!((&asked["asked"], &asked["basis"]), (&names, &Value::Null), "the module was asked: {asked}");
    }
    let basis = answers[2]["basis"].as_str().expect("it is known");
    assert!(answers[2..].iter().all(|answer| answer["basis"] == basis && answer["asked"].is_null()), "{answers:?}");
    // It is told once what that is, before the first event that names it.
    let told: Vec<usize> = (0..events.len()).filter(|at| events[*at]["stage"] == "basis").collect();
    let first = events.iter().position(|event| event["policies"][0]["basis"] == basis).unwrap();
    assert!(matches!(told.as_slice(), [at] if *at < first), "{told:?} and {first}");
    let row = &events[told[0]];
    assert_eq!((&row["policy"], &row["digest"], &row["basis"]), (&json!("10-asks"), &answers[2]["digest"], &answers[2]["basis"]));
    let questions = json!([
        {"question": "in-groups", "of": 2, "answer": "postern:caller"},
        {"question": "is verb", "of": 2, "answer": "get"},
        {"question": "get name", "answer": "web"},
        {"question": "claim email", "answer": false},
    ]);
    assert_eq!(row["questions"], questions);
    let config = s.gateway.directory.join("postern.yaml");
    let explained = |at: usize| {
        let id = events.iter().filter(|event| event["verdict"] == "block").nth(at).unwrap()["id"].as_str().unwrap().to_owned();
        postern(&["policy", "explain", &id, "--config", text(&config)]).success().to_owned()
    };
    let (asked, known) = (explained(0), explained(3));
    let now = "in-groups: postern:caller of 2, is verb: get of 2, get name: web, claim email: no";
    assert!(asked.contains("it asked in-groups, is verb, get name, claim email") && asked.contains(now), "{asked}");
    assert!(known.contains(&format!("what it said before of {now}")), "{known}");
    assert!(known.contains("has name: yes, then operation.id"), "what spoils it is told: {known}");
    // In a list for people they are not between the operations; who looks for one finds it.
    let list = |more: &[&str]| postern(&[&["audit", "list", "--config", text(&config)], more].concat()).success().to_owned();
    assert!(!list(&[]).contains(basis) && list(&["--all", "--text", basis]).contains(&format!("10-asks {basis}: {now}")));
}

#[test]
fn each_policy_is_remembered_as_its_file_says() {
    let tests = json!([{"is": ["verb", ["get"]]}]);
    let observed = |questions: &Value, more: &str| asks(questions.clone(), &format!("mode: observe\n{more}"));
    let s = setup(
        vec![
            ("10-on", "asks", observed(&tests, "")),
            ("20-off", "asks", observed(&tests, "remember: off\n")),
            ("30-own", "asks", observed(&tests, "remember: per-caller\n")),
            ("40-id", "asks", observed(&json!([{"is": ["verb", ["get"]]}, "id"]), "")),
            ("50-counts", "asks", observed(&json!([{"count": ["k", 1, 60]}]), "")),
            ("60-around", "asks", "settings: {request: [{look-around: namespace}], needs: [namespace]}\nrules: [{resources: [configmaps], verbs: [get]}]\nmode: observe\n".into()),
        ],
        "",
    );
    let other = s.gateway.kubeconfig("other", &cluster().token("approver", AUDIENCE).unwrap()).unwrap();
    s.direct(&["create", "configmap", "kept"]).success();
    for _ in 0..5 {
        s.kubectl(&["get", "configmap", "kept"]).success();
    }
    for _ in 0..3 {
        s.kubectl_of(&other, &["get", "configmap", "kept"]);
    }
    for (policy, how, remembered) in [
        // It asks nothing about the object that comes back: what it says of that is remembered too.
        ("10-on", "on", 6 + 6),
        ("20-off", "off", 0),
        ("30-own", "per-caller", 4 + 4),
        ("40-id", "on", 6),
        ("50-counts", "on", 6),
        ("60-around", "on", 6),
    ] {
        let line = told(&s, policy, 8);
        let counts = (&line["counts"]["remembered"], &line["counts"]["requests"]);
        assert_eq!((&line["remember"], counts), (&json!(how), (&json!(remembered), &json!(8))), "{line}");
    }
    // What a module of contract 0.1 read of an operation nobody knows.
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contract/0.1.0/exercise.wasm");
    put(&s.gateway.directory.join("policies.d/70-told.yaml"), b"grants: [bodies, secret-values, streams, counters]\n");
    put(&s.gateway.directory.join("policies.d/70-told.wasm"), &std::fs::read(kept).unwrap());
    wait_until("it is compiled", Duration::from_secs(60), || Ok(told(&s, "70-told", 0)["state"] == "serving")).unwrap();
    assert_eq!(told(&s, "70-told", 0)["remember"], "contract");
    let config = s.gateway.directory.join("postern.yaml");
    let list = postern(&["policy", "list", "-o", "wide", "--config", text(&config)]);
    assert!(list.success().contains("REMEMBERED") && list.out.contains(" 75% ") && list.out.contains(" off "), "{}", list.out);
}

#[test]
fn objects_that_are_alike_are_judged_from_memory_and_each_by_what_it_is() {
    let team = json!({"document-is": ["$.metadata.labels.team", ["\"red\"", "\"blue\""]]});
    let judges = |questions: Value, more: &str| {
        format!("settings: {}\nrules: [{{resources: [configmaps], verbs: [get]}}]\n{more}", json!({"object": questions}))
    };
    let value = json!([{"document-get": "$.metadata.labels.team"}]);
    let s = setup(
        vec![
            ("10-asks", "asks", judges(json!([{"is": ["verb", ["get"]]}, team, {"document-matches": "$.metadata.labels.team"}]), "")),
            ("05-reads", "asks", judges(value, "mode: observe\n")),
        ],
        "",
    );
    for (name, label) in [("a", "team=red"), ("b", "team=blue"), ("c", "other=red"), ("d", "team=red")] {
        s.direct(&["create", "configmap", name]).success();
        s.direct(&["label", "configmap", name, label]).success();
    }
    let get = |name: &str| s.get(&format!("/api/v1/namespaces/{}/configmaps/{name}", s.namespace), "");
    for _ in 0..3 {
        for (name, told) in
            [("a", "Some(0); Some(0); 1"), ("b", "Some(0); Some(1); 1"), ("c", "Some(0); None; 0"), ("d", "Some(0); Some(0); 1")]
        {
            let answer = get(name);
            assert!(code(&answer) == 403 && answer.contains(told), "{name}: {answer}");
        }
    }
    // A label that changes is another answer, with the next request.
    s.direct(&["label", "--overwrite", "configmap", "a", "team=blue"]).success();
    assert!(get("a").contains("Some(0); Some(1); 1"));
    // Of 13 operations all but two, and of as many objects all but two of each kind.
    let line = told(&s, "10-asks", 26);
    assert_eq!(line["counts"]["remembered"], 11 + 13 - 6, "{line}");
    // What stands there is not remembered, only what it is not: who waits for an answer would learn it.
    assert_eq!(told(&s, "05-reads", 26)["counts"]["remembered"], 11);
}

/// Under load, what settings say that changed is what holds, from the first operation after they are in force.
#[test]
fn a_verdict_goes_with_the_settings_that_gave_it() {
    let s = setup(vec![("10-closed", "no-bulk-export", "settings: {names: ['kept-*'], resources: [configmaps]}\n".into())], "");
    let file = s.gateway.directory.join("policies.d/10-closed.yaml");
    s.direct(&["create", "configmap", "kept-a"]).success();
    let get = || code(&s.get(&format!("/api/v1/namespaces/{}/configmaps/kept-a", s.namespace), ""));
    for (settings, expected) in [("names: ['kept-*']", 403), ("names: ['other-*']", 200), ("names: ['kept-a*']", 403)] {
        put(&file, format!("settings: {{{settings}, resources: [configmaps]}}\n").as_bytes());
        wait_until("the settings are in force", Duration::from_secs(60), || Ok(get() == expected)).unwrap();
        assert!((0..50).all(|_| get() == expected), "{settings}");
    }
    assert!(told(&s, "10-closed", 50)["counts"]["remembered"].as_u64() > Some(40));
}

#[test]
fn a_policy_that_changes_its_mind_is_found_and_never_remembered_again() {
    let s = setup(
        vec![("10-moody", "misbehaves", "settings: {does: slow-in-describe}\nrules: [{resources: [configmaps], verbs: [get]}]\n".into())],
        "",
    );
    let get = || s.get(&format!("/api/v1/namespaces/{}/configmaps/a", s.namespace), "");
    // An instance that was made warm knows that it was asked before. There are few of them.
    wait_until("both are said", Duration::from_secs(60), || {
        std::thread::scope(|scope| (0..32).for_each(|_| drop(scope.spawn(get))));
        Ok(s.gateway.log().contains("it is not deterministic"))
    })
    .unwrap();
    let calls = told(&s, "10-moody", 1)["counts"]["calls"].as_u64().unwrap();
    for _ in 0..20 {
        get();
    }
    let line = told(&s, "10-moody", calls + 20);
    let remembered = line["counts"]["remembered"].clone();
    assert_eq!(line["remember"], "not-deterministic", "{line}");
    (0..20).for_each(|_| drop(get()));
    assert_eq!(told(&s, "10-moody", calls + 40)["counts"]["remembered"], remembered, "it is asked each time");
    let config = s.gateway.directory.join("postern.yaml");
    let list = postern(&["policy", "list", "--config", text(&config)]);
    assert!(list.success().contains("10-moody is not deterministic"), "{}", list.out);
}
