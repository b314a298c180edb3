//! The policy directory, live.

use std::time::Duration;

use e2e::{put, setup};
use testbed::wait_until;

#[test]
fn a_policy_dropped_in_changes_the_next_answer_and_a_broken_one_does_not() {
    let s = setup(vec![], "");
    let directory = s.gateway.directory.join("policies.d");
    let blocked = || Ok(!s.kubectl(&["get", "secrets", "-A"]).ok);
    s.kubectl(&["get", "secrets", "-A"]).success();
    let module = std::fs::read(testbed::policy("no-bulk-export")).unwrap();
    put(&directory.join("10-no-bulk.wasm"), &module);
    wait_until("the policy is in force", Duration::from_secs(20), blocked).unwrap();

    for broken in [&module[..module.len() / 2], b"text named .wasm".as_slice()] {
        put(&directory.join("10-no-bulk.wasm"), broken);
        std::thread::sleep(Duration::from_millis(800));
        assert!(blocked().unwrap(), "the last good one goes on");
    }
    put(&directory.join("10-no-bulk.wasm"), &module);
    put(&directory.join("10-no-bulk.yaml"), b"settings: {exemptGroups: ['postern:caller']}\n");
    wait_until("the settings are in force", Duration::from_secs(20), || Ok(!blocked()?)).unwrap();
    put(&directory.join("10-no-bulk.yaml"), b"settings: {exemptGroup: [x]}\n");
    std::thread::sleep(Duration::from_millis(800));
    assert!(!blocked().unwrap(), "settings that do not validate change nothing");
    put(&directory.join("10-no-bulk.yaml"), b"mode: observe\n");
    wait_until("it observes", Duration::from_secs(20), || {
        s.kubectl(&["get", "secrets", "-A"]).success();
        Ok(s.events().iter().any(|e| e["policies"][0]["observed"] == true && e["policies"][0]["verdict"] == "block"))
    })
    .unwrap();
    std::fs::remove_file(directory.join("10-no-bulk.yaml")).unwrap();
    wait_until("it enforces", Duration::from_secs(20), blocked).unwrap();
    std::fs::remove_file(directory.join("10-no-bulk.wasm")).unwrap();
    wait_until("it is gone", Duration::from_secs(20), || Ok(!blocked()?)).unwrap();
    let log = std::fs::read_to_string(s.gateway.directory.join("postern.log")).unwrap();
    assert!(log.contains("does not load") && log.contains("exemptGroup"), "{log}");
}

/// A core module with the contract's exports missing, importing WASI, or misbehaving, by `postern policy check`.
#[test]
fn what_is_no_policy_is_refused_by_name() {
    let check = |bytes: &[u8], settings: &str| {
        let directory = e2e::scratch("policies");
        std::fs::write(directory.join("p.wasm"), bytes).unwrap();
        if !settings.is_empty() {
            std::fs::write(directory.join("p.yaml"), settings).unwrap();
        }
        e2e::Ran::new(testbed::Gateway::postern(&["policy", "check", directory.to_str().unwrap()]).unwrap())
    };
    let module = std::fs::read(testbed::policy("guard-exec")).unwrap();
    check(&module, "").success();
    assert!(check(&module[..1000], "").failure().contains("policy p does not load"));
    assert!(check(b"hello", "").failure().contains("not a WebAssembly file"));
    assert!(check(&module, "settings: {allow: ['(']}\n").failure().contains("regular expression"));
    assert!(check(&module, "setings: {}\n").failure().contains("setings"));
    // (module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32))))
    let mut wasi =
        b"\0asm\x01\0\0\0\x01\x09\x01\x60\x04\x7f\x7f\x7f\x7f\x01\x7f\x02\x23\x01\x16wasi_snapshot_preview1\x08fd_write\0\0".to_vec();
    let refused = check(&wasi, "");
    assert!(refused.failure().contains("wasi_snapshot_preview1") || refused.err.contains("not a policy"), "{}", refused.err);
    wasi.truncate(8);
    assert!(!check(&wasi, "").ok, "an empty module");
    let out = e2e::scratch("policies");
    std::os::unix::fs::symlink(testbed::policy("guard-exec"), out.join("p.wasm")).unwrap();
    let linked = e2e::Ran::new(testbed::Gateway::postern(&["policy", "check", out.to_str().unwrap()]).unwrap());
    assert!(linked.failure().contains("link out of the policy directory"), "{}", linked.err);
}

#[test]
fn a_gateway_does_not_start_half_guarded() {
    let directory = e2e::scratch("broken");
    std::fs::create_dir_all(directory.join("policies.d")).unwrap();
    std::fs::write(directory.join("policies.d/x.wasm"), "text").unwrap();
    let started = testbed::Gateway::start(e2e::cluster(), &directory, &testbed::GatewayOptions::default());
    let error = format!("{:#}", started.err().expect("it does not start"));
    assert!(error.contains("policy x does not load"), "{error}");
}
