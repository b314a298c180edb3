//! `postern policy`: what an author does, with real modules, toolchains, recordings and a gateway.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use e2e::{Ran, Setup, code, put, scratch, setup};
use serde_json::{Value, json};
use testbed::{Gateway, wait_until};

pub fn postern(args: &[&str]) -> Ran {
    Ran::new(Gateway::postern(args).unwrap())
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Toolchains are installed once for all that is built here.
pub fn build(args: &[&str]) -> Ran {
    let mut command = Command::new(testbed::postern());
    command
        .args(args)
        .env("POSTERN_TOOLS", testbed::cache().join("tools/languages"))
        .env("CARGO_TARGET_DIR", testbed::cache().join("wasm-new"));
    Ran::new(command.output().unwrap())
}

/// `policy new`, `test`, `check`, and into a gateway that serves.
fn begins(language: &str) {
    let s = setup(vec![], "");
    let (place, name) = (scratch("new"), format!("my-{language}"));
    postern(&["policy", "new", &name, "--lang", language, "--directory", text(&place)]).success();
    let (folder, junit) = (place.join(&name), place.join("junit.xml"));
    let tested = build(&["policy", "test", text(&folder), "--junit", text(&junit)]);
    assert!(tested.success().contains("5 of 5 cases as expected") && tested.out.contains("rules    1 of 1 reached"), "{}", tested.out);
    let xml = std::fs::read_to_string(&junit).unwrap();
    assert!(xml.contains("tests=\"5\" failures=\"0\"") && xml.contains("name=\"nor many at once\""), "{xml}");
    let module = folder.join(format!("{name}.wasm"));
    let checked = postern(&["policy", "check", text(&module)]);
    assert!(checked.success().contains("nothing is wrong with it"), "{}{}", checked.out, checked.err);

    put(&s.gateway.directory.join(format!("policies.d/50-{name}.wasm")), &std::fs::read(&module).unwrap());
    wait_until("the policy is in force", Duration::from_secs(180), || {
        Ok(!s.kubectl(&["delete", "configmap", "none"]).err.contains("not found"))
    })
    .unwrap();
    let refused = s.kubectl(&["delete", "pod", "web"]);
    assert!(
        refused.failure().contains(&format!("blocked by policy 50-{name}")) && refused.err.contains("ask one of sre"),
        "{}",
        refused.err
    );
    put(&s.gateway.directory.join(format!("policies.d/50-{name}.yaml")), b"settings: {groups: ['postern:caller']}\n");
    wait_until("the settings are in force", Duration::from_secs(180), || Ok(s.kubectl(&["delete", "pod", "web", "--wait=false"]).ok))
        .unwrap();
}

#[test]
fn a_new_policy_in_rust_builds_tests_and_guards() {
    begins("rust");
}

#[test]
fn a_new_policy_in_javascript_builds_tests_and_guards() {
    begins("js");
}

#[test]
fn a_new_policy_in_python_builds_tests_and_guards() {
    begins("python");
}

#[test]
fn a_new_policy_in_go_builds_tests_and_guards() {
    begins("go");
    // It is tried without WebAssembly too.
    let place = scratch("go");
    postern(&["policy", "new", "native", "--lang", "go", "--directory", text(&place)]).success();
    let tested = Command::new("go").current_dir(place.join("native")).args(["test", "./..."]).output().unwrap();
    assert!(tested.status.success(), "{}{}", String::from_utf8_lossy(&tested.stdout), String::from_utf8_lossy(&tested.stderr));
}

#[test]
fn a_new_policy_in_c_and_in_zig_builds_tests_and_guards() {
    begins("c");
    begins("zig");
}

/// Every template but the first (which [`begins`] has), in a language: its cases, its native tests, and all that lies beside it.
fn templates(language: &str, native: &[&str]) {
    for (template, cases) in [("secrets", 5), ("exec", 5), ("limits", 5), ("objects", 14)] {
        let (place, name) = (scratch("template"), format!("{template}-in-{language}"));
        let made = postern(&["policy", "new", &name, "--lang", language, "--template", template, "--directory", text(&place)]);
        let folder = place.join(&name);
        assert!(made.success().contains("README.md"), "{}", made.out);
        let tested = build(&["policy", "test", text(&folder)]);
        assert!(
            tested.success().contains(&format!("{cases} of {cases} cases as expected")) && !tested.out.contains("not reached"),
            "{name}: {}",
            tested.out
        );
        if let [program, arguments @ ..] = native {
            let mut tries = Command::new(program);
            tries.current_dir(&folder).args(arguments).env("CARGO_TARGET_DIR", testbed::cache().join("wasm-new"));
            let tried = tries.output().unwrap();
            assert!(tried.status.success(), "{name}: {}{}", String::from_utf8_lossy(&tried.stdout), String::from_utf8_lossy(&tried.stderr));
        }
        // The file beside it is one that a gateway takes, and says what holds without it.
        let directory = scratch("template-directory");
        for file in ["wasm", "yaml"] {
            std::fs::copy(folder.join(format!("{name}.{file}")), directory.join(format!("{name}.{file}"))).unwrap();
        }
        let with = postern(&["policy", "check", text(&directory)]);
        assert!(with.success().contains(&name) && !with.out.contains("does not"), "{}{}", with.out, with.err);
        let page = std::fs::read_to_string(folder.join("README.md")).unwrap();
        let workflow = std::fs::read_to_string(folder.join(".github/workflows/policy.yml")).unwrap();
        for text in [&page, &workflow] {
            assert!(["policy-name", "policy-source", "policy-native", "policy-setup"].iter().all(|left| !text.contains(left)), "{text}");
        }
        assert!(page.starts_with(&format!("# {name}\n")) && page.contains("| setting |"), "{page}");
        let workflow: Value = serde_saphyr::from_str(&workflow).unwrap();
        assert_eq!(workflow["jobs"]["test"]["steps"][0]["uses"], "actions/checkout@v4", "{workflow}");
    }
}

#[test]
fn every_template_in_rust_does_what_its_cases_say() {
    templates("rust", &["cargo", "test", "--quiet"]);
}

#[test]
fn every_template_in_javascript_and_python_does_what_its_cases_say() {
    templates("js", &[]);
    templates("python", &[]);
}

#[test]
fn every_template_in_go_does_what_its_cases_say() {
    templates("go", &["go", "test", "./..."]);
}

#[test]
fn every_template_in_c_and_in_zig_does_what_its_cases_say() {
    templates("c", &[]);
    templates("zig", &[]);
}

#[test]
fn the_pack_says_what_its_cases_expect() {
    let pack = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let mut names: Vec<String> = std::fs::read_dir(&pack).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() >= 20, "{names:?}");
    for name in &names {
        let (folder, module) = (pack.join(name), testbed::policy(name));
        let tested = postern(&["policy", "test", text(&folder), "--module", text(&module)]);
        assert!(tested.success().contains("cases as expected") && !tested.out.contains("not reached"), "{name}: {}", tested.out);
        assert!(postern(&["policy", "check", text(&module)]).out.contains(name), "{name}");
        let page = std::fs::read_to_string(folder.join("README.md")).unwrap();
        assert!(["```yaml", "| setting |", "cases.yaml", "The attack it answers"].iter().all(|part| page.contains(part)), "{name}: {page}");
    }
}

/// A module that was built against the contract as it was released, and uses every part of it.
#[test]
fn a_module_built_against_the_released_contract_says_what_it_always_said() {
    for (version, cases) in [("0.1.0", 18), ("0.2.0", 20)] {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contract").join(version);
        let tested = postern(&["policy", "test", text(&kept)]);
        assert!(tested.success().contains(&format!("{cases} of {cases} cases as expected")), "{version}: {}", tested.out);
        assert!(postern(&["policy", "check", text(&kept.join("exercise.wasm"))]).success().contains("nothing is wrong with it"));
    }
}

fn no_bulk(directory: &Path) -> PathBuf {
    let module = directory.join("no-bulk.wasm");
    std::fs::copy(testbed::policy("no-bulk-export"), &module).unwrap();
    module
}

#[test]
fn what_differs_from_a_case_is_told_leaf_by_leaf() {
    let directory = scratch("cases");
    let module = no_bulk(&directory);
    std::fs::copy(testbed::policy("misbehaves"), directory.join("masks.wasm")).unwrap();
    let operation = "operation: {verb: list, resource: secrets, caller: {username: ann}}";
    put(
        &directory.join("no-bulk.cases.yaml"),
        format!("cases:\n- name: right\n  {operation}\n  expect: block\n- name: wrong\n  {operation}\n  expect: allow\n- name: another reason\n  {operation}\n  expect: {{verdict: block, reason: never said}}\n")
            .as_bytes(),
    );
    put(
        &directory.join("masks.cases.yaml"),
        json!({"cases": [
            {"name": "an object", "settings": {"does": "mask-object"}, "operation": {"verb": "get", "resource": "configmaps", "namespace": "a", "name": "b"},
                "objects": [{"object": {"data": {"token": "t", "other": "o"}}, "expect": "mask", "shows": {"data": {"token": "t", "other": "o"}}}]},
            {"name": "pieces", "settings": {"does": "chunk"}, "operation": {"verb": "create", "resource": "pods/exec", "namespace": "a", "name": "b", "command": ["id"]},
                "chunks": [{"text": "loud", "expect": "replace", "shows": "LOUD"}, {"text": "stop-here", "expect": "terminate"}]},
            {"name": "text", "settings": {"does": "text"}, "operation": {"verb": "get", "resource": "pods/log", "namespace": "a", "name": "b"},
                "chunks": [{"channel": "log", "text": "a password-word\n", "shows": "a postern-masked\n"}]},
        ]})
        .to_string()
        .as_bytes(),
    );
    let tested = postern(&["policy", "test", text(&directory)]);
    assert!(tested.failure().contains("3 cases differ"), "{}{}", tested.out, tested.err);
    for told in [
        "ok       right",
        "DIFFERS  wrong",
        "verdict: expected allow, got block (blocked by policy case-1: list of secrets over all namespaces",
        "reason: expected \"never said\" in it",
        "objects[0]: shows $.data.token: expected \"t\", got \"postern-masked\"",
        "ok       pieces",
        "ok       text",
        "3 of 6 cases as expected",
    ] {
        assert!(tested.out.contains(told), "{told}: {}", tested.out);
    }
    // What can mean nothing is said with its place, before anything is tried.
    let other = scratch("cases-none");
    let module_of_none = no_bulk(&other);
    put(
        &other.join("no-bulk.cases.yaml"),
        format!(
            "cases:\n- name: no operation\n  operation: {{verb: fetch, resource: secrets}}\n- name: right\n  {operation}\n  expect: block\n"
        )
        .as_bytes(),
    );
    let refused = postern(&["policy", "test", text(&other)]);
    assert!(refused.failure().contains("cases[0] (no operation): operation: verb: fetch is none"), "{}{}", refused.out, refused.err);
    assert!(module_of_none.exists());
    // `check` tells of the cases beside a module too, with everything else at once.
    put(&directory.join("no-bulk.yaml"), b"settings: {}\n");
    let checked = postern(&["policy", "check", text(&module)]);
    assert!(checked.failure().contains("2 findings") && checked.out.contains("case \"wrong\": verdict: expected allow"), "{}", checked.out);
}

#[test]
fn all_that_is_wrong_with_a_module_is_told_at_once() {
    let directory = scratch("check");
    // (component (import "evil:files/read@1.0.0" (instance)) (import "wasi:cli/environment@0.2.0" (instance)))
    let module = directory.join("p.wasm");
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    component.extend(b"\x07\x03\x01\x42\0"); // one type: an instance of nothing
    for name in ["evil:files/read@1.0.0", "evil:other/thing@2.0.0"] {
        let mut import = vec![1, 0, name.len() as u8];
        import.extend(name.as_bytes());
        import.extend([5, 0]);
        component.push(10);
        component.push(import.len() as u8);
        component.extend(import);
    }
    std::fs::write(&module, &component).unwrap();
    put(&directory.join("p.yaml"), b"setings: 1\n");
    let checked = postern(&["policy", "check", text(&module)]);
    assert!(checked.failure().contains("4 findings"), "{}{}", checked.out, checked.err);
    for told in
        ["it imports evil:files/read@1.0.0", "it imports evil:other/thing@2.0.0", "does not export postern:policy/policy@0.1.0", "setings"]
    {
        assert!(checked.out.contains(told), "{told}: {}", checked.out);
    }
    // One that behaves while it is checked is still refused when it does not in earnest.
    std::fs::copy(testbed::policy("misbehaves"), &module).unwrap();
    put(&directory.join("p.yaml"), b"settings: {does: behave-in-check}\n");
    assert!(postern(&["policy", "check", text(&module)]).success().contains("nothing is wrong"));
    let s = setup(vec![("p", "misbehaves", "settings: {does: behave-in-check}\n".into())], "");
    let answer = s.get("/api/v1/pods", "");
    assert!(code(&answer) == 500 && answer.contains("the policy p failed, so nothing passed"), "{answer}");
    put(&directory.join("p.yaml"), b"settings: {does: trap}\n");
    let checked = postern(&["policy", "check", text(&module)]);
    assert!(checked.failure().contains("finding") && checked.out.contains("asked about get pods it fails"), "{}", checked.out);
}

#[test]
fn a_policy_is_inspected_and_measured() {
    let module = testbed::policy("no-bulk-export");
    let told: Value = serde_json::from_str(postern(&["policy", "inspect", text(&module), "--json"]).success()).unwrap();
    assert_eq!((&told["name"], &told["hooks"], &told["capabilities"]), (&json!("no-bulk-export"), &json!(["on-request"]), &json!([])));
    assert!(told["settingsSchema"]["properties"]["names"].is_object() && told["digest"].as_str().unwrap().starts_with("sha256:"), "{told}");
    let shown = postern(&["policy", "inspect", text(&module)]);
    assert!(shown.success().contains("verbs list, watch, deletecollection; resources secrets, configmaps"), "{}", shown.out);
    // A name alone, with a file beside it, in the directory one is in.
    let here = scratch("here");
    std::fs::copy(&module, here.join("p.wasm")).unwrap();
    put(&here.join("p.yaml"), b"settings: {resources: [pods]}\n");
    let shown = Command::new(testbed::postern()).args(["policy", "inspect", "p.wasm"]).current_dir(&here).output().unwrap();
    assert!(Ran::new(shown).success().contains("resources pods"));
    let told: Value = serde_json::from_str(postern(&["policy", "bench", text(&module), "--seconds", "0.2", "--json"]).success()).unwrap();
    assert_eq!((&told["questions"], &told["spoiltBy"]), (&json!([{"question": "has namespace", "answer": true}]), &Value::Null), "{told}");
    for (policy, says) in [
        ("no-bulk-export", "on-request asked has namespace: yes; what it says is remembered by a gateway"),
        ("rate-limit", "on-request asked is-command: no; then spend, for which what it says is not remembered"),
    ] {
        let bench = postern(&["policy", "bench", text(&testbed::policy(policy)), "--seconds", "0.1"]);
        assert!(bench.success().contains(says), "{}", bench.out);
    }
    let hook = &told["hooks"][0];
    assert!(hook["hook"] == "on-request" && hook["callsPerSecond"].as_f64().unwrap() > 10.0, "{told}");
    assert!(
        hook["p50Nanoseconds"].as_u64() <= hook["p99Nanoseconds"].as_u64() && hook["memoryBytes"].as_u64().unwrap() >= 65_536,
        "{told}"
    );
}

/// The caller's session, once the index knows it.
fn session(s: &Setup) -> String {
    let mut found = None;
    wait_until("the session is listed", Duration::from_secs(10), || {
        let list = s.session(&["list", "--json"]);
        let row: Option<Value> = list.out.lines().next().and_then(|line| serde_json::from_str(line).ok());
        found = row.and_then(|row| Some(row["id"].as_str()?.to_owned()));
        Ok(found.is_some())
    })
    .unwrap();
    found.unwrap()
}

#[test]
fn recorded_traffic_makes_cases_is_replayed_and_explained() {
    let bodies = "sessions: {bodies: [{resources: [configmaps, secrets], keep: requestAndResponse}]}\n";
    let s = setup(vec![("20-mask-secrets", "mask-secrets", String::new()), ("50-no-bulk", "no-bulk-export", String::new())], bodies);
    let config = s.gateway.directory.join("postern.yaml");
    let config = ["--config", text(&config)];
    for _ in 0..3 {
        s.kubectl(&["get", "secrets"]).success();
    }
    s.kubectl(&["get", "secret", "db", "-o", "json"]).success();
    assert!(!s.kubectl(&["get", "secrets", "-A"]).ok);
    s.kubectl(&["create", "configmap", "made", "--from-literal=a=b"]).success();
    s.kubectl(&["exec", "web", "--", "echo", "hello"]).success();
    let id = session(&s);
    wait_until("the stream is recorded", Duration::from_secs(10), || Ok(s.session(&["show", &id]).out.contains("exit code 0"))).unwrap();

    let file = scratch("captured").join("cases.yaml");
    let captured = postern(&[&["policy", "capture", &id, "--policy", "50-no-bulk", "--output", text(&file)], &config[..]].concat());
    assert!(captured.success().contains("cases in"), "{}", captured.out);
    let cases = std::fs::read_to_string(&file).unwrap();
    assert!(!cases.contains("aHVudGVyMi1pcy1zZWNyZXQ") && !cases.contains("hunter2"), "what was masked stays so: {cases}");
    for kept in ["kind: ConfigMap", "hello", "over all namespaces", "not-asked", "cG9zdGVybi1tYXNrZW"] {
        assert!(cases.contains(kept), "{kept}: {cases}");
    }
    let tested = postern(&["policy", "test", text(file.parent().unwrap()), "--module", text(&testbed::policy("no-bulk-export"))]);
    assert!(tested.success().contains("cases as expected"), "{}", tested.out);

    // A stricter version: configmaps may be listed over all namespaces no more, and names are guarded.
    let stricter = scratch("stricter").join("50-no-bulk.wasm");
    std::fs::copy(testbed::policy("no-bulk-export"), &stricter).unwrap();
    put(&stricter.with_extension("yaml"), b"settings: {names: [d*], resources: [secrets, configmaps]}\n");
    let replayed = postern(&[&["policy", "replay", text(&stricter), "--from", &id], &config[..]].concat());
    assert!(replayed.success().contains("allow -> block") && replayed.out.contains("named d* are not given out"), "{}", replayed.out);
    let since: Value =
        serde_json::from_str(postern(&[&["policy", "replay", text(&stricter), "--from", "1h", "--json"], &config[..]].concat()).success())
            .unwrap();
    assert_eq!(
        (&since["changed"], &since["groups"][0]["count"], &since["groups"][0]["verb"]),
        (&json!(1), &json!(1), &json!("get")),
        "{since}"
    );
    let same = postern(
        &[&["policy", "replay", text(&testbed::policy("no-bulk-export")), "--name", "50-no-bulk", "--from", &id], &config[..]].concat(),
    );
    assert!(same.success().contains(" 0 otherwise"), "{}", same.out);
    let beside = postern(
        &[&["policy", "replay", text(&stricter), "--beside", text(&testbed::policy("no-bulk-export")), "--from", &id], &config[..]]
            .concat(),
    );
    assert!(beside.success().contains("1 otherwise"), "{}", beside.out);

    let refused = s.events().into_iter().find(|e| e["verdict"] == "block").unwrap()["id"].as_str().unwrap().to_owned();
    let explained = postern(&[&["policy", "explain", &refused], &config[..]].concat());
    assert!(explained.success().contains("today's answer is the same: block"), "{}", explained.out);
    assert!(explained.out.contains("hides $.data.*"), "what each says: {}", explained.out);
    put(&s.gateway.directory.join("policies.d/50-no-bulk.yaml"), b"settings: {exemptGroups: ['postern:caller']}\n");
    let explained = postern(&[&["policy", "explain", &refused], &config[..]].concat());
    assert!(
        explained.success().contains("what differs: 50-no-bulk") && explained.out.contains("have changed since then: 50-no-bulk"),
        "{}",
        explained.out
    );
    assert!(postern(&[&["policy", "explain", "none"], &config[..]].concat()).failure().contains("has no event of none"));
    // One that is observed answers what it would, which decides nothing; one that does not load is told of, and the others are asked.
    put(&s.gateway.directory.join("policies.d/50-no-bulk.yaml"), b"mode: observe\n");
    put(&s.gateway.directory.join("policies.d/60-broken.wasm"), b"no module");
    let explained = postern(&[&["policy", "explain", &refused], &config[..]].concat());
    let row = explained.success().lines().find(|line| line.starts_with("50-no-bulk")).unwrap();
    assert_eq!(row.split_whitespace().skip(1).take(2).collect::<Vec<_>>(), ["block", "block"], "{}", explained.out);
    assert!(explained.out.contains("60-broken") && explained.out.contains("it does not load"), "{}", explained.out);
    assert!(explained.out.contains("cannot be told; without those it is"), "{}", explained.out);
    let short = &id[..6];
    let captured = postern(&[&["policy", "capture", short, "--policy", "50-no-bulk", "--output", text(&file)], &config[..]].concat());
    assert!(captured.success().contains("cases in"), "{}{}", captured.out, captured.err);
}

/// A policy is not asked what it would say without what it reads; and what no rule keeps, the gateway may have in memory.
#[test]
fn what_was_not_kept_is_told_and_the_latest_bodies_are_in_memory() {
    let config = "auditors: {groups: ['postern:approver']}\nsessions: {recentBodies: 1Mi, bodies: [{verbs: [create], resources: [pods], keep: recent}]}\n";
    let s = setup(vec![("20-mask-env", "mask-env", String::new()), ("50-no-latest", "no-latest-tag", String::new())], config);
    let pod = scratch("pod").join("pod.json");
    let made = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "made"},
        "spec": {"containers": [{"name": "main", "image": "registry.example/web:1.2", "env": [{"name": "TOKEN", "value": "hunter2-in-memory"}]}]}});
    put(&pod, made.to_string().as_bytes());
    s.kubectl(&["create", "-f", text(&pod)]).success();
    let mut id = String::new();
    wait_until("it is in the log", Duration::from_secs(10), || {
        let found = s.events().into_iter().find(|event| event["verb"] == "create" && event["target"]["resource"] == "pods");
        id = found.and_then(|event| event["id"].as_str().map(str::to_owned)).unwrap_or_default();
        Ok(!id.is_empty())
    })
    .unwrap();
    let session = session(&s);
    wait_until("it is recorded", Duration::from_secs(10), || Ok(s.session(&["show", &session]).out.contains("create pods"))).unwrap();

    let place = s.gateway.directory.join("postern.yaml");
    let explain = |more: &[&str]| postern(&[&["policy", "explain", &id, "--config", text(&place)], more].concat());
    let without = explain(&[]);
    assert!(without.success().contains("they do not load: 50-no-latest"), "{}", without.out);
    assert!(without.out.contains("unknown") && without.out.contains("cannot be told; without those it is mask"), "{}", without.out);
    let auditor = s.gateway.kubeconfig("auditor", &crate::api::auditor()).unwrap();
    let with = explain(&["--kubeconfig", text(&auditor)]);
    assert!(with.success().contains("today's answer is the same: mask") && !with.out.contains("unknown"), "{}", with.out);

    // A stricter version is asked about it too.
    let stricter = scratch("stricter-images").join("50-no-latest.wasm");
    std::fs::copy(testbed::policy("no-latest-tag"), &stricter).unwrap();
    put(&stricter.with_extension("yaml"), b"settings: {digests: true}\n");
    let replay = |more: &[&str]| postern(&[&["policy", "replay", text(&stricter), "--from", &session], more].concat());
    let without = replay(&["--config", text(&place)]);
    assert!(without.success().contains("1 could not be asked about: the policy reads bodies"), "{}", without.out);
    let with = replay(&["--kubeconfig", text(&auditor)]);
    assert!(with.success().contains("allow -> block") && with.out.contains("is not named by its digest"), "{}", with.out);
    // Nobody else is shown them, and asking is in the log.
    let (status, answer) = crate::api::get(&s, &s.token, &format!("/postern/v1/sessions/{session}/bodies"));
    assert!(status == 403 && answer["message"].as_str().unwrap().contains("auditors"), "{status} {answer}");
    assert!(s.events().iter().any(|event| event["asked"]["bodies"] == "recent"), "who asks for them is in the log");
    // What masks hide is hidden in them.
    let (status, bodies) = crate::api::get(&s, &crate::api::auditor(), &format!("/postern/v1/sessions/{session}/bodies"));
    assert!(status == 200 && bodies["items"][0]["body"]["kind"] == "Pod", "{status} {bodies}");
    assert!(bodies.to_string().contains("TOKEN") && !bodies.to_string().contains("hunter2-in-memory"), "{bodies}");
}

/// What `bench` asks about is what the policy is for.
#[test]
fn a_bench_asks_about_what_the_rules_name_or_about_a_case() {
    let module = testbed::policy("no-latest-tag");
    let benched = postern(&["policy", "bench", text(&module), "--seconds", "0.1"]);
    assert!(benched.success().contains("asked about: create ") && benched.out.contains("with a body"), "{}", benched.out);
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/no-latest-tag/cases.yaml");
    let benched = postern(&["policy", "bench", text(&module), "--seconds", "0.1", "--cases", text(&cases)]);
    assert!(benched.success().contains("asked about: "), "{}", benched.out);
    let none = postern(&["policy", "bench", text(&module), "--cases", text(&cases), "--case", "nowhere"]);
    assert!(none.failure().contains("there is no case \"nowhere\"; there are "), "{}", none.err);
}

#[test]
fn two_versions_are_laid_side_by_side() {
    let directory = scratch("versions");
    let (old, new) = (no_bulk(&directory), directory.join("new.wasm"));
    std::fs::copy(testbed::policy("guard-exec"), &new).unwrap();
    assert!(postern(&["policy", "diff", text(&old), text(&old)]).success().contains("they do not differ"));
    put(
        &directory.join("new.cases.yaml"),
        b"cases:\n- name: a list\n  operation: {verb: list, resource: secrets, caller: {username: ann}}\n",
    );
    let differ = postern(&["policy", "diff", text(&old), text(&new)]);
    for told in [
        "name: no-bulk-export -> guard-exec",
        "rules: - verbs list",
        "rules: + resources pods/exec",
        "settings: - names",
        "case \"a list\": block",
    ] {
        assert!(differ.success().contains(told), "{told}: {}", differ.out);
    }
}

#[test]
fn the_list_tells_what_each_policy_has_done() {
    let s = setup(vec![("20-mask-secrets", "mask-secrets", String::new()), ("50-no-bulk", "no-bulk-export", String::new())], "");
    for _ in 0..4 {
        assert_eq!(code(&s.get("/api/v1/secrets", "")), 403);
    }
    let config = s.gateway.directory.join("postern.yaml");
    let list = || postern(&["policy", "list", "--config", text(&config), "--json"]);
    let mut told = Value::Null;
    wait_until("the calls are told", Duration::from_secs(15), || {
        told = serde_json::from_str(list().success())?;
        Ok(told["policies"][1]["counts"]["block"] == 4)
    })
    .unwrap();
    let policy = &told["policies"][0];
    assert_eq!(
        (&policy["counts"]["calls"], &policy["counts"]["mask"], &policy["state"]),
        (&json!(4), &json!(4), &json!("serving")),
        "{told}"
    );
    assert!(policy["counts"]["p99"].as_u64().unwrap() > 0 && policy["digest"].as_str().unwrap().starts_with("sha256:"), "{told}");
    let shown = postern(&["policy", "list", "-o", "wide", "--config", text(&config)]);
    assert!(shown.success().contains("P99") && shown.out.contains("metadata"), "{}", shown.out);
}
