//! What a module can try from within its sandbox: in each hook, with more than it was given, and by the hundred.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use e2e::{Ran, cluster, code, put, scratch, setup};
use serde_json::json;
use testbed::{Gateway, wait_until};

fn misbehaving(does: &str, more: &str) -> String {
    format!("settings: {{does: {does}}}\nrules: [{{resources: [configmaps, pods/log, pods/exec], namespaces: [{does}]}}]\n{more}")
}

fn checked(directory: &Path) -> Ran {
    Ran::new(Gateway::postern(&["policy", "check", directory.to_str().unwrap()]).unwrap())
}

#[test]
fn loops_and_allocations_in_any_hook_end_and_harm_nobody() {
    let hooks = ["loop-on-object", "allocate-on-object", "loop-on-chunk", "allocate-on-chunk", "trap-on-chunk"];
    let policies =
        hooks.map(|does| (does, "misbehaves", misbehaving(does, if does.ends_with("chunk") { "grants: [streams]\n" } else { "" })));
    for namespace in hooks {
        cluster().apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).unwrap();
        cluster().apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": namespace}, "data": {"v": "in-it"}})).unwrap();
        cluster().run_pod(namespace, "web").unwrap();
    }
    let s = setup(policies.to_vec(), "");
    for does in hooks {
        let began = Instant::now();
        if does.ends_with("object") {
            let answer = s.get(&format!("/api/v1/namespaces/{does}/configmaps"), "");
            assert!(code(&answer) == 500 && answer.contains(does) && !answer.contains("in-it"), "{does}: {answer}");
        } else {
            let ran = s.kubectl(&["-n", does, "exec", "web", "--", "echo", "in-it"]);
            assert!(!ran.ok && ran.err.contains(does) && !ran.out.contains("in-it"), "{does}: {}{}", ran.out, ran.err);
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{does} took {:?}", began.elapsed());
        // Nobody else is harmed, and what the sandbox took is given back.
        assert!(s.kubectl(&["get", "pods"]).ok);
    }
    assert!(s.memory() < 400, "{} MB", s.memory());
}

#[test]
fn a_module_that_never_says_what_it_is_does_not_load() {
    let directory = scratch("describe");
    std::fs::copy(testbed::policy("misbehaves"), directory.join("p.wasm")).unwrap();
    put(&directory.join("p.yaml"), b"settings: {does: loop-in-describe}\n");
    assert!(checked(&directory).failure().contains("describe failed: it was still running at its deadline"));
}

#[test]
fn an_instance_that_was_made_ready_brings_nothing_into_an_operation() {
    let rules = "settings: {does: slow-in-describe}\nremember: off\nrules: [{resources: [configmaps]}]\n";
    let s = setup(vec![("50-slow", "misbehaves", rules.into())], "");
    let path = format!("/api/v1/namespaces/{}/configmaps", s.namespace);
    let told = || s.get(&path, "");
    // The first is served by an instance that is made for it, and those after it by others that have said what they are meanwhile: once, and no two by the same.
    assert!(told().contains("described 0 times"), "{}", told());
    wait_until("one is ready", Duration::from_secs(20), || Ok(told().contains("described 1 times"))).unwrap();
    let events = s.events();
    assert!(events.iter().any(|event| event.to_string().contains("described 1 times")), "{events:?}");
    for event in &events {
        let event = event.to_string();
        assert!(!event.contains("in-describe") && !event.contains("described 2 times"), "{event}");
    }
}

#[test]
fn huge_strings_and_lists_are_bounded_both_ways() {
    let policies = ["select-all", "many-masks", "catastrophic-pattern", "huge-chunk"];
    let files = policies.map(|does| {
        (
            does,
            "misbehaves",
            misbehaving(
                does,
                if does == "huge-chunk" {
                    "grants: [streams]\nlimits: {deadlineMilliseconds: 2000}\n"
                } else {
                    "limits: {deadlineMilliseconds: 2000}\n"
                },
            ),
        )
    });
    for namespace in policies {
        cluster().apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).unwrap();
        cluster().run_pod(namespace, "web").unwrap();
    }
    let s = setup(files.to_vec(), "");
    // A path that matches a million nodes, in the largest body there is.
    let body = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"a\"}},\"binaryData\":[{}0]}}",
        "1,".repeat(1_000_000)
    );
    let post = |namespace: &str, body: &str| {
        let head = format!(
            "POST /api/v1/namespaces/{namespace}/configmaps HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            s.token,
            body.len()
        );
        s.raw(&(head + body))
    };
    let answer = post("select-all", &body);
    assert!(code(&answer) == 500 && answer.contains("more than 10,000 values"), "{}", &answer[..answer.len().min(600)]);
    let answer = s.get("/api/v1/namespaces/many-masks/configmaps", "");
    assert!(
        code(&answer) == 500 && answer.contains("at most 64 are taken")
            || ["it trapped", "it panicked", "deadline"].iter().any(|why| answer.contains(why)),
        "{answer}"
    );
    // A pattern that backtracking would never finish: here it takes as long as its text is long.
    let began = Instant::now();
    let ran =
        s.kubectl(&["-n", "catastrophic-pattern", "exec", "web", "--", "sh", "-c", "head -c 200000 /dev/zero | tr '\\0' x; echo done"]);
    assert!(ran.success().contains("done") && began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let ran = s.kubectl(&["-n", "huge-chunk", "exec", "web", "--", "echo", "small"]);
    assert!(ran.out.len() >= 24 << 20 || !ran.ok, "{} bytes", ran.out.len());
    assert!(s.kubectl(&["get", "pods"]).ok && s.memory() < 400, "{} MB", s.memory());
}

/// Where the host puts what it hands over the guest's own `cabi_realloc` says: one that calls the host from there would find it in the middle of a call.
#[test]
fn what_many_ways_lead_to_and_what_is_selected_cost_what_is_there() {
    let policies = ["many-ways", "select-images", "many-ways-in-mask"];
    let files = policies.map(|does| (does, "misbehaves", misbehaving(does, "")));
    for namespace in policies {
        cluster().apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).unwrap();
        cluster()
            .apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": namespace}, "data": {"v": "x"}}))
            .unwrap();
    }
    let s = setup(files.to_vec(), "");
    let post = |namespace: &str, body: &str| {
        s.raw(&format!(
            "POST /api/v1/namespaces/{namespace}/configmaps HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            s.token,
            body.len()
        ))
    };
    let before = s.memory();
    // Four hundred bytes, nested sixty deep: more ways than atoms.
    let deep = format!("{{\"kind\":\"ConfigMap\",\"a\":{}1{}}}", "{\"a\":".repeat(60), "}".repeat(60));
    let began = Instant::now();
    let answer = post("many-ways", &deep);
    assert!(code(&answer) == 403 && answer.contains("nothing is there"), "{answer}");
    let answer = s.get("/api/v1/namespaces/many-ways-in-mask/configmaps/a", "");
    assert_eq!(code(&answer), 200, "{answer}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // Half a megabyte whose paths, each written out, would be gigabytes.
    let wide = format!("{{\"{}\":[{}0]}}", "k".repeat(280_000), "{\"image\":1},".repeat(9_000));
    let answer = post("select-images", &wide);
    assert!(code(&answer) == 500 && answer.contains("more than 8 MiB"), "{}", &answer[..answer.len().min(400)]);
    assert!(s.memory() < before + 150, "{} MB, {before} before", s.memory());
    assert!(s.kubectl(&["get", "pods"]).ok);
}

#[test]
fn a_module_that_calls_the_host_while_the_host_calls_it_is_stopped() {
    let place = scratch("reenters");
    Ran::new(Gateway::postern(&["policy", "new", "reenters", "--lang", "c", "--directory", place.to_str().unwrap()]).unwrap()).success();
    let (folder, source) = (place.join("reenters"), place.join("reenters/policy.c"));
    let written = std::fs::read_to_string(&source).unwrap();
    let armed = written.replacen(
        "static texts_t groups;\n",
        r#"#include <stdlib.h>
static texts_t groups;
static bool armed;
static bool arm(text_t *why) {
  (void)why;
  return armed = true;
}
__attribute__((import_module("postern:policy/host@0.2.0"), import_name("annotate"))) void annotate_raw(const char *, size_t, const char *, size_t);
__attribute__((export_name("cabi_realloc"))) void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
  (void)old_size, (void)align;
  if (armed) annotate_raw("from", 4, "within", 6);
  return realloc(old, size ? size : 1);
}
"#,
        1,
    );
    let armed = armed.replacen("    .on_request =", "    .configure = arm,\n    .on_request =", 1);
    assert!(armed.contains(".configure = arm") && armed.contains("return armed = true"), "{armed}");
    std::fs::write(&source, armed).unwrap();
    crate::tool::build(&["policy", "build", folder.to_str().unwrap()]).success();
    let s = setup(vec![], "");
    put(&s.gateway.directory.join("policies.d/50-reenters.wasm"), &std::fs::read(folder.join("reenters.wasm")).unwrap());
    let mut told = String::new();
    wait_until("it is asked, and stopped", Duration::from_secs(60), || {
        told = s.kubectl(&["delete", "configmap", "none"]).err;
        Ok(told.contains("50-reenters"))
    })
    .unwrap();
    assert!(
        told.contains("the policy 50-reenters failed, so nothing passed") && told.contains("cannot leave component instance"),
        "{told}"
    );
    assert!(s.kubectl(&["get", "pods"]).success().contains("web"));
    assert!(!s.events().iter().any(|e| e.to_string().contains("within")));
}

#[test]
fn a_module_of_another_version_of_the_contract_is_told_so() {
    let directory = scratch("version");
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contract/0.1.0/exercise.wasm");
    let pretends = |version: &[u8; 6]| {
        let mut module = std::fs::read(&kept).unwrap();
        for at in 0..module.len() - version.len() {
            if module[at..].starts_with(b"@0.1.0") {
                module[at..at + version.len()].copy_from_slice(version);
            }
        }
        std::fs::write(directory.join("p.wasm"), module).unwrap();
        checked(&directory)
    };
    // One that says it is of another version than it was built against is not called as if it were.
    let told = pretends(b"@0.2.0");
    assert!(told.failure().contains("its hooks are not those of the contract"), "{}", told.err);
    let told = pretends(b"@0.9.0");
    assert!(told.failure().contains("0.9.0"), "{}", told.err);
    let file = Ran::new(Gateway::postern(&["policy", "check", directory.join("p.wasm").to_str().unwrap()]).unwrap());
    assert!(
        !file.ok && file.out.contains("this gateway speaks postern:policy/policy@0.1.0 and postern:policy/policy@0.2.0"),
        "{}",
        file.out
    );
    // Two modules of one name: one that lies there, and one that its file says is elsewhere.
    std::fs::copy(testbed::policy("read-only"), directory.join("p.wasm")).unwrap();
    put(&directory.join("p.yaml"), format!("source: oci://registry.example/p@sha256:{}\n", "0".repeat(64)).as_bytes());
    assert!(checked(&directory).failure().contains("remove one of the two"));
}

#[test]
fn two_hundred_modules_serve_at_once_on_one_engine() {
    let s = setup(vec![("000", "no-bulk-export", String::new())], "");
    let alone = s.memory();
    let module = std::fs::read(testbed::policy("no-bulk-export")).unwrap();
    for n in 1..200 {
        std::fs::write(s.gateway.directory.join(format!("policies.d/{n:03}.partial")), &module).unwrap();
    }
    for n in 1..200 {
        let file = |end: &str| s.gateway.directory.join(format!("policies.d/{n:03}.{end}"));
        std::fs::rename(file("partial"), file("wasm")).unwrap();
    }
    let config = s.gateway.directory.join("postern.yaml");
    let list = || Ran::new(Gateway::postern(&["policy", "list", "-o", "wide", "--config", config.to_str().unwrap()]).unwrap()).out;
    wait_until("all serve", Duration::from_secs(60), || Ok(list().matches("serving").count() == 200)).unwrap();
    // Each of them is asked about a list in one namespace, and each says allow.
    assert_eq!(code(&s.get(&format!("/api/v1/namespaces/{}/secrets", s.namespace), "")), 200);
    let event = s.events().into_iter().rfind(|e| e["verb"] == "list" && e["stage"] == "completed").unwrap();
    assert_eq!(event["policies"].as_array().unwrap().len(), 200);
    let grown = s.memory().saturating_sub(alone);
    assert!(grown < 200, "199 more modules took {grown} MB");
}

/// Instances of slow modules are kept ready: together they must leave room for those that are called.
#[test]
fn many_interpreters_serve_at_once() {
    let s = setup(vec![], "");
    let (module, settings) = (
        std::fs::read(testbed::policy("time-window")).unwrap(),
        "settings: {windows: ['mon-sun 00:00-24:00']}\nlimits: {deadlineMilliseconds: 5000}\n",
    );
    let config = s.gateway.directory.join("postern.yaml");
    for n in 0..24 {
        let file = |end: &str| s.gateway.directory.join(format!("policies.d/{n:02}.{end}"));
        put(&file("yaml"), settings.as_bytes());
        put(&file("wasm"), &module);
    }
    wait_until("all serve", Duration::from_secs(180), || {
        let list = Ran::new(Gateway::postern(&["policy", "list", "-o", "wide", "--config", config.to_str().unwrap()])?);
        Ok(list.out.matches("serving").count() == 24)
    })
    .unwrap();
    for n in 0..12 {
        s.kubectl(&["create", "configmap", &format!("c{n}")]).success();
    }
    let asked = s.events().into_iter().rfind(|e| e["verb"] == "create" && e["stage"] == "completed").unwrap();
    assert_eq!(asked["policies"].as_array().unwrap().len(), 24);
}

#[test]
fn a_directory_that_changes_all_the_time_fails_no_request_and_is_never_half_loaded() {
    // Both versions of the settings refuse the list; and the two policies are there together or not at all.
    let s = setup(
        vec![("50-no-bulk", "no-bulk-export", String::new()), ("60-read-only", "read-only", "settings: {groups: [nobody]}\n".into())],
        "",
    );
    let (over, asked, wrong) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let file = |name: &str| s.gateway.directory.join("policies.d").join(name);
    let module = std::fs::read(testbed::policy("no-bulk-export")).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let [refused, passed] = ["/api/v1/secrets", "/api/v1/namespaces/default/pods"].map(|path| code(&s.get(path, "")));
                    asked.fetch_add(1, Ordering::Relaxed);
                    wrong.fetch_add(u64::from((refused, passed) != (403, 200)), Ordering::Relaxed);
                }
            });
        }
        // On a busy machine it takes longer until it was read a second time.
        let read = || s.gateway.log().matches("the policy directory was read").count();
        let began = Instant::now();
        for n in (0..).take_while(|n| *n < 60 || read() < 2 && began.elapsed() < Duration::from_secs(120)) {
            put(&file("50-no-bulk.yaml"), format!("settings: {{names: [x{n}]}}\n").as_bytes());
            if n % 10 == 0 {
                put(&file("50-no-bulk.wasm"), &module[..1000]);
            } else {
                put(&file("50-no-bulk.wasm"), &module);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(asked.load(Ordering::Relaxed) > 20 && wrong.load(Ordering::Relaxed) == 0, "{wrong:?} of {asked:?}");
    let loaded = s.gateway.log().matches("the policy directory was read").count();
    assert!(loaded >= 2, "it was taken up {loaded} times while it changed");
    let named =
        s.events().into_iter().filter(|e| e["path"] == "/api/v1/secrets").all(|e| e["policies"].as_array().is_some_and(|p| p.len() == 1));
    assert!(named, "the first that refuses is the last that is asked, and it was always there");
}
