//! Policies that fail: nothing passes, nothing else is harmed, and the message names the one that failed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::{cluster, code, put, setup};
use serde_json::{Value, json};
use testbed::wait_until;

fn misbehaving(does: &str, namespace: &str, more: &str) -> String {
    format!("settings: {{does: {does}}}\nrules: [{{resources: [configmaps, pods/log, pods/exec], namespaces: [{namespace}]}}]\n{more}")
}

#[test]
fn a_policy_that_fails_on_a_request_lets_nothing_pass_and_harms_nobody() {
    let cases = [
        ("trap", "it panicked"),
        ("loop", "still running at its deadline"),
        ("allocate", "failed"),
        ("recurse", "it trapped"),
        ("absurd-path", "a mask that is none"),
        ("absurd-pattern", "a mask that is none"),
        ("endless-pattern", "a mask that is none"),
        ("absurd-approval", "without naming who"),
        ("annotate-without-end", "at most 32 facts"),
        ("count-without-end", "failed"),
        ("many-conditions", "at most 64 are taken"),
        ("long-pattern", "at most 4096 are taken"),
        ("terminate-on-request", "valid from on-object only"),
    ];
    let names: Vec<&'static str> = cases.iter().map(|(does, _)| *does).collect();
    let policies = names.iter().map(|does| (*does, "misbehaves", misbehaving(does, does, ""))).collect();
    let s = setup(policies, "");
    for (does, why) in cases {
        if does == "loop" {
            // By now the clock that deadlines are measured by rests: it must be woken.
            std::thread::sleep(Duration::from_millis(1500));
        }
        let answer = s.get(&format!("/api/v1/namespaces/{does}/configmaps"), "");
        assert_eq!(code(&answer), 500, "{does}: {answer}");
        assert!(answer.contains(&format!("the policy {does} failed, so nothing passed")) && answer.contains(why), "{does}: {answer}");
        assert!(answer.len() < 2000, "what is said of it is short: {does}: {} bytes", answer.len());
    }
    s.kubectl(&["get", "pods"]).success();
    let events = s.events();
    for does in names {
        let of = |e: &&Value| e["path"].as_str().is_some_and(|p| p.contains(&format!("/{does}/")));
        let event = events.iter().find(of).unwrap_or_else(|| panic!("no event for {does}"));
        assert_eq!((&event["stage"], &event["policies"][0]["verdict"]), (&json!("refused"), &json!("failed")), "{event}");
    }
    // An answer that makes no sense is a failure wherever it is counted, not what it claims to be.
    let config = s.gateway.directory.join("postern.yaml");
    wait_until("all are counted", Duration::from_secs(20), || {
        let list = ["policy", "list", "--json", "--config", config.to_str().unwrap()];
        let told: Value = serde_json::from_str(e2e::Ran::new(testbed::Gateway::postern(&list)?).success())?;
        let lines = told["policies"].as_array().into_iter().flatten();
        // What does not compile is known after the call was counted.
        let compiled = |line: &&Value| !["absurd-path", "absurd-pattern", "endless-pattern"].iter().any(|does| line["name"] == *does);
        Ok(lines.filter(compiled).filter(|line| line["counts"]["failed"] == 1 && line["counts"]["calls"] == 1).count() == cases.len() - 3)
    })
    .unwrap();
}

/// A call has so much of the processor's time: what others take of it makes no policy fail.
#[test]
fn a_machine_with_much_to_do_makes_no_policy_fail() {
    let s = setup(vec![("work", "misbehaves", misbehaving("work", "work", "remember: off\n"))], "");
    let asked = |steps: u64| {
        let began = Instant::now();
        let answer = s.get(&format!("/api/v1/namespaces/work/configmaps/{steps}"), "");
        (began.elapsed(), answer)
    };
    // A third of what it is allowed.
    let mut steps = 1 << 20;
    while (0..3).map(|_| asked(steps).0).min() < Some(Duration::from_millis(30)) {
        steps += steps / 2;
    }
    let done = AtomicBool::new(false);
    let answers: Vec<(Duration, String)> = std::thread::scope(|scope| {
        for _ in 0..6 * std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let answers = (0..5).map(|_| asked(steps)).collect();
        done.store(true, Ordering::Relaxed);
        answers
    });
    for (took, answer) in &answers {
        assert_eq!(code(answer), 404, "{steps} steps, after {took:?}: {answer}");
    }
    assert!(answers.iter().any(|(took, _)| *took > Duration::from_millis(100)), "the machine was not busy: {answers:?}");
}

#[test]
fn on_failure_and_observe_are_kept_and_recorded() {
    let s = setup(
        vec![
            ("a", "misbehaves", misbehaving("trap", "allowed", "on-failure: allow\n")),
            ("b", "misbehaves", misbehaving("trap", "observed", "mode: observe\n")),
            ("c", "misbehaves", misbehaving("long-reason", "long", "")),
        ],
        "",
    );
    for namespace in ["allowed", "observed"] {
        assert_eq!(code(&s.get(&format!("/api/v1/namespaces/{namespace}/configmaps"), "")), 200, "{namespace}");
    }
    let long = s.get("/api/v1/namespaces/long/configmaps", "");
    assert!(code(&long) == 403 && long.len() < 4000 && long.contains("a  ba  b"), "one line, cut: {long}");
    let failed = s.events().iter().filter(|e| e["stage"] == "completed" && e["policies"][0]["verdict"] == "failed").count();
    assert_eq!(failed, 2, "what was let through is recorded as failed");
}

#[test]
fn a_policy_that_fails_in_configure_is_refused() {
    for does in ["trap-in-configure", "allocate-in-configure", "nothing-known"] {
        let directory = e2e::scratch("policies");
        std::fs::copy(testbed::policy("misbehaves"), directory.join("p.wasm")).unwrap();
        put(&directory.join("p.yaml"), misbehaving(does, "x", "").as_bytes());
        let checked = e2e::Ran::new(testbed::Gateway::postern(&["policy", "check", directory.to_str().unwrap()]).unwrap());
        assert!(checked.failure().contains("policy p does not load"), "{does}: {}", checked.err);
    }
}

#[test]
fn objects_are_hidden_and_masked_one_by_one_and_a_failure_shows_none() {
    let policies =
        ["hide", "mask-object", "trap-on-object", "loop-on-object"].map(|does| (does, "misbehaves", misbehaving(does, does, ""))).to_vec();
    for (namespace, _, _) in &policies {
        cluster().apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).unwrap();
        for (name, hide) in [("seen", "no"), ("unseen", "yes")] {
            cluster()
                .apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace, "labels": {"hide": hide}},
                    "data": {"token": format!("value-of-{name}"), "other": "plain"}}))
                .unwrap();
        }
    }
    let s = setup(policies, "");
    let base = |namespace: &str| format!("/api/v1/namespaces/{namespace}/configmaps");
    let table = "Accept: application/json;as=Table;v=v1;g=meta.k8s.io\r\n";
    for (path, headers) in [(base("hide"), ""), (base("hide"), table), (format!("{}?watch=1&timeoutSeconds=1", base("hide")), "")] {
        let answer = s.get(&path, headers);
        assert!(code(&answer) == 200 && answer.contains("\"seen\"") && !answer.contains("unseen"), "{path} {headers}: {answer}");
    }
    assert_eq!(code(&s.get(&format!("{}/seen", base("hide")), "")), 200);
    let hidden = s.get(&format!("{}/unseen", base("hide")), "");
    assert!(code(&hidden) == 403 && hidden.contains("hides this object") && !hidden.contains("value-of"), "{hidden}");

    for path in [base("mask-object"), format!("{}/seen", base("mask-object")), format!("{}?watch=1&timeoutSeconds=1", base("mask-object"))]
    {
        let answer = s.get(&path, "");
        assert!(code(&answer) == 200 && answer.contains("plain") && !answer.contains("value-of"), "{path}: {answer}");
    }
    for does in ["trap-on-object", "loop-on-object"] {
        let single = s.get(&format!("{}/seen", base(does)), "");
        assert!(code(&single) == 500 && single.contains(does) && !single.contains("value-of"), "{does}: {single}");
        let list = s.get(&base(does), "");
        assert!(code(&list) == 500 && list.contains(does) && !list.contains("value-of"), "{does}: {list}");
    }
}

#[test]
fn text_is_masked_in_logs() {
    cluster().apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "texts"}})).unwrap();
    cluster().run_pod("texts", "password-hunter").unwrap();
    let s = setup(vec![("text", "misbehaves", misbehaving("text", "texts", ""))], "");
    let whole = cluster().acts_as_kubeconfig().unwrap();
    let direct = e2e::Ran::new(testbed::Gateway::kubectl(&whole, &["-n", "texts", "logs", "password-hunter"]).unwrap());
    assert!(direct.success().contains("password-hunter"), "the node writes the pod's name: {}", direct.out);
    let masked = s.kubectl(&["-n", "texts", "logs", "password-hunter"]);
    assert!(masked.success().contains("line 1 of") && !masked.out.contains("password-hunter"), "{}", masked.out);
    assert!(masked.err.contains("Warning:"), "{}", masked.err);
    let events = s.events();
    let event = events.iter().find(|e| e["target"]["subresource"] == "log" && e["stage"] == "completed").unwrap();
    assert!(event["masked"]["text"].as_u64().unwrap() >= 1, "{event}");
}

#[test]
fn what_is_observed_is_asked_and_recorded_and_changes_nothing() {
    let observing =
        |does: &str| ("50-observed", "misbehaves", format!("settings: {{does: {does}}}\nmode: observe\ngrants: [bodies, streams]\n"));
    let directly = |s: &e2e::Setup, args: &[&str]| s.direct(args).success().to_owned();
    // The second is asked a moment after the first.
    let is_age = |word: &str| word.strip_suffix('s').is_some_and(|number| number.parse::<u32>().is_ok());
    let ageless = |out: &str| out.split(' ').filter(|word| !is_age(word.trim_end())).collect::<String>();
    let recorded = |s: &e2e::Setup| {
        let events = s.events();
        let told = |e: &&Value| e["stage"] == "completed" && !e["observed"].is_null();
        events.iter().filter(told).map(|e| (e["verb"].as_str().unwrap_or_default().to_owned(), e["observed"].clone())).collect::<Vec<_>>()
    };
    for (does, verdict) in
        [("hide", "block"), ("mask-object", "mask"), ("terminate", "terminate"), ("trap-on-object", "failed"), ("loop-on-object", "failed")]
    {
        let s = setup(vec![observing(does)], "");
        let labels = json!({"hide": "yes", "end": "here"});
        cluster()
            .apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seen", "namespace": s.namespace, "labels": labels}, "data": {"token": "t"}}))
            .unwrap();
        let watch = format!("/api/v1/namespaces/{}/configmaps?watch=1&timeoutSeconds=1", s.namespace);
        for args in [
            &["get", "configmap", "seen", "-o", "json"][..],
            &["get", "configmaps", "-o", "yaml"],
            &["get", "configmaps", "--show-labels"],
            &["get", "--raw", &watch],
        ] {
            let (through, direct) = (s.kubectl(args), s.direct(args));
            assert_eq!((ageless(&through.out), through.ok), (ageless(&direct.out), direct.ok), "{does}: {args:?}: {}", through.err);
            assert!(through.out.contains("seen") && !through.err.contains("Warning"), "{does}: {args:?}: {}", through.err);
        }
        let recorded = recorded(&s);
        for verb in ["get", "list", "watch"] {
            let (_, observed) = recorded.iter().find(|(v, _)| v == verb).unwrap_or_else(|| panic!("{does}: no {verb} in {recorded:?}"));
            assert!(observed["50-observed"][verdict].as_u64().unwrap() >= 1, "{does}: {verb}: {observed}");
        }
    }
    let s = setup(vec![observing("chunk")], "");
    let said = ["exec", "web", "--", "sh", "-c", "echo loud; sleep 0.3; echo stop-here; sleep 0.3; echo on"];
    assert_eq!(s.kubectl(&said).success(), "loud\nstop-here\non\n");
    assert_eq!(s.kubectl(&["logs", "web"]).success(), directly(&s, &["logs", "web"]));
    let recorded = recorded(&s);
    assert!(recorded.iter().any(|(_, observed)| *observed == json!({"50-observed": {"mask": 1, "terminate": 1}})), "{recorded:?}");
    // What an enforced policy does beside it is done.
    let s = setup(vec![observing("hide"), ("60-enforced", "misbehaves", "settings: {does: mask-object}\n".into())], "");
    s.direct(&["create", "configmap", "mine", "--from-literal=token=value-of-it"]).success();
    let shown = s.kubectl(&["get", "configmap", "mine", "-o", "yaml"]);
    assert!(shown.success().contains("postern-masked") && !shown.out.contains("value-of-it"), "{}", shown.out);
}
