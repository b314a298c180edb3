//! What is gone is missed: the end of the audit log, recordings that it knows, whole sessions; and what was changed of policies, configuration and keys is told.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use e2e::{Ran, Setup, cluster, setup_with};
use serde_json::Value;
use testbed::{Gateway, GatewayOptions, wait_until};

use crate::tool::text;

fn postern(args: &[&str]) -> Ran {
    Ran::new(Gateway::postern(args).unwrap())
}

fn options(config: &str) -> GatewayOptions {
    let no_bulk = ("10-no-bulk", "no-bulk-export", "settings: {resources: [secrets]}\n".to_owned());
    GatewayOptions { policies: vec![no_bulk], config: config.into(), ..GatewayOptions::default() }
}

/// Ends the gateway, does something with its directory, and starts another there.
fn meanwhile(s: &mut Setup, config: &str, change: impl FnOnce(&Path)) {
    s.gateway.process.terminate(Duration::from_secs(20)).unwrap();
    change(&s.gateway.directory);
    let options = GatewayOptions { policies: Vec::new(), ..options(config) };
    s.gateway = Gateway::start(cluster(), &s.gateway.directory.clone(), &options).unwrap();
}

/// A server that keeps what it is told.
fn keeper() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, kept) = (format!("http://{}/heads", listener.local_addr().unwrap()), Arc::new(Mutex::new(Vec::new())));
    let of_thread = Arc::clone(&kept);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (mut text, mut piece) = (Vec::new(), [0; 4096]);
            let is_whole = |text: &[u8]| {
                let text = String::from_utf8_lossy(text).to_lowercase();
                let length = text.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next()?.parse::<usize>().ok());
                text.split_once("\r\n\r\n").is_some_and(|(_, body)| length.is_some_and(|length| body.len() >= length))
            };
            while !is_whole(&text) {
                match stream.read(&mut piece) {
                    Ok(read) if read > 0 => text.extend_from_slice(&piece[..read]),
                    _ => break,
                }
            }
            of_thread.lock().unwrap().push(String::from_utf8_lossy(&text).into_owned());
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        }
    });
    (url, kept)
}

#[test]
fn the_end_of_the_log_that_was_cut_off_is_missed_and_no_other_gateway_heals_it() {
    let (url, told) = keeper();
    let headers = e2e::scratch("witness").join("headers");
    std::fs::write(&headers, "Authorization: Bearer s3cr3t-of-witness\n").unwrap();
    let config = format!("audit: {{headEvery: 1, witness: {{file: heads.jsonl, url: '{url}', headersFile: '{}'}}}}\n", headers.display());
    let mut s = setup_with(options(&config));
    s.kubectl(&["get", "pods"]).success();
    let (log, witness) = (s.gateway.audit(), s.gateway.directory.join("heads.jsonl"));
    let log_text = log.to_str().unwrap().to_owned();
    let verify = |more: &[&str]| postern(&[&["audit", "--file", &log_text, "verify"], more].concat());
    let lines = || std::fs::read_to_string(&witness).unwrap_or_default().lines().count();
    wait_until("the witness hears of it", Duration::from_secs(10), || Ok(lines() > 0 && !told.lock().unwrap().is_empty())).unwrap();
    let heard = lines();
    s.kubectl(&["get", "secrets", "-A"]).failure();
    wait_until("and of what came later", Duration::from_secs(10), || Ok(lines() > heard)).unwrap();
    assert!(verify(&[]).success().contains("its end is there up to event"), "{}", verify(&[]).out);
    let kept = ["--witness", text(&witness)];
    assert!(verify(&kept).success().contains("all that the gateway signed is in it"), "{}", verify(&kept).out);
    // The server was told the same, with its credential, which stands nowhere else.
    let first = told.lock().unwrap()[0].clone();
    let head: Value = serde_json::from_str(first.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert!(first.to_lowercase().contains("authorization: bearer s3cr3t-of-witness") && head["seq"].is_u64(), "{first}");
    assert!(std::fs::read_to_string(&witness).unwrap().contains(head["signature"].as_str().unwrap()));

    // The refusal is taken out of the log, while nobody writes it: the chain of the rest is whole, and the head says what is missing.
    s.gateway.process.terminate(Duration::from_secs(20)).unwrap();
    let whole = std::fs::read_to_string(&log).unwrap();
    assert!(whole.lines().last().unwrap().contains(r#""stage":"stopped""#) && verify(&kept).ok, "{}", verify(&kept).err);
    let cut = whole
        .lines()
        .take_while(|line| !line.contains("10-no-bulk") || line.contains("inForce"))
        .fold(String::new(), |all, line| all + line + "\n");
    assert!(cut.len() < whole.len() && !cut.contains(r#""verdict":"block""#));
    std::fs::write(&log, &cut).unwrap();
    assert!(verify(&[]).failure().contains("its end was cut off"), "{}", verify(&[]).err);
    // Who takes the head away too is found by the witness alone.
    let head = log.with_extension("head");
    let signed = std::fs::read(&head).unwrap();
    std::fs::remove_file(&head).unwrap();
    assert!(verify(&[]).success().contains("CANNOT BE TOLD"), "{}", verify(&[]).out);
    assert!(verify(&kept).failure().contains("its end was cut off"), "{}", verify(&kept).err);
    std::fs::write(&head, &signed).unwrap();

    // The gateway that goes on says so, and so does the log from then on.
    meanwhile(&mut s, &config, |_| ());
    assert!(s.gateway.log().contains("the audit log is not the one that this gateway wrote"), "{}", s.gateway.log());
    let why = verify(&[]);
    assert!(why.failure().contains("are not there: they were taken out, or cut off its end"), "{}", why.err);
    let listed = postern(&["audit", "--file", &log_text, "list"]);
    assert!(listed.success().contains("THE LOG WAS CUT OFF"), "{}", listed.out);
    assert!(!format!("{}{}", s.gateway.log(), std::fs::read_to_string(&log).unwrap()).contains("s3cr3t-of-witness"));
    // A head that nobody signed is said to be none.
    let forged = String::from_utf8(signed).unwrap().replace("\"seq\":", "\"seq\":1");
    std::fs::write(&witness, forged + "\n").unwrap();
    std::fs::write(&log, &whole).unwrap();
    std::fs::remove_file(&head).unwrap();
    assert!(verify(&kept).failure().contains("not signed by this gateway"), "{}", verify(&kept).err);
}

#[test]
fn recordings_that_the_log_knows_are_missed() {
    let mut s = setup_with(options(""));
    s.kubectl(&["get", "pods"]).success();
    s.kubectl(&["exec", "web", "--", "echo", "hello"]).success();
    s.gateway.process.terminate(Duration::from_secs(20)).unwrap();
    let events = s.events();
    let recorded: Vec<&str> =
        events.iter().filter(|event| event["stage"] == "recorded").map(|event| event["recording"].as_str().unwrap()).collect();
    let place = |recording: &str| s.gateway.directory.join("data/sessions").join(recording);
    assert!(recorded.len() == 2 && recorded.iter().all(|recording| place(recording).is_file()), "{recorded:?}");
    let last = events.last().unwrap();
    assert!(last["stage"] == "stopped", "what was sealed at the end is in the log before its end: {last}");
    let calls = recorded.iter().find(|recording| recording.ends_with(".calls")).unwrap();
    let stream = recorded.iter().find(|recording| recording.ends_with(".stream")).unwrap();
    let whole = s.session(&["verify"]);
    assert!(whole.success().contains("all 2 that the audit log knows are there"), "{}", whole.out);
    // Calls: the index knows of streams alone.
    let kept = std::fs::read(place(calls)).unwrap();
    std::fs::remove_file(place(calls)).unwrap();
    let name = calls.split_once('/').unwrap().1;
    assert!(s.session(&["verify"]).failure().contains(&format!("the audit log knows {name}, and it is gone")));
    std::fs::write(place(calls), kept).unwrap();
    s.session(&["verify"]).success();
    // The whole of a session, and what the index knew of it.
    std::fs::remove_dir_all(place(calls).parent().unwrap()).unwrap();
    for beside in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(s.gateway.directory.join(format!("data/postern.db{beside}")));
    }
    meanwhile(&mut s, "", |_| ());
    let id = stream.split_once('/').unwrap().0;
    let gone = s.session(&["verify"]);
    assert!(gone.failure().contains(&format!("session {id}: all 2 recordings that the audit log knows are gone")), "{}", gone.err);
    assert!(s.session(&["verify", id]).failure().contains("are gone"));
    // What was finished before a time may be kept elsewhere.
    std::thread::sleep(Duration::from_millis(1100));
    s.session(&["verify", "--since", "0s"]).success();
}

#[test]
fn what_was_changed_of_policies_is_told_with_what_was_before_also_while_no_gateway_ran() {
    let mut s = setup_with(options(""));
    let config = s.gateway.directory.join("postern.yaml");
    let told = |s: &Setup| -> Vec<Value> { s.events().into_iter().filter(|event| event["stage"] == "policies").collect() };
    let first = told(&s)[0].clone();
    assert!(first["changed"].is_null() && first["inForce"][0]["module"].as_str().unwrap().starts_with("sha256:"), "{first}");
    let settings = s.gateway.directory.join("policies.d/10-no-bulk.yaml");
    std::fs::write(&settings, "settings: {resources: [secrets, configmaps]}\n").unwrap();
    wait_until("it is told", Duration::from_secs(20), || Ok(told(&s).len() > 1)).unwrap();
    let change = told(&s).last().unwrap()["changed"][0].clone();
    assert_eq!(change["before"]["digest"], first["inForce"][0]["digest"], "{change}");
    assert!(
        change["before"]["module"] == change["after"]["module"] && change["before"]["settings"] != change["after"]["settings"],
        "{change}"
    );
    // While none runs, one goes and another comes.
    meanwhile(&mut s, "", |directory| {
        let policies = directory.join("policies.d");
        ["wasm", "yaml"].iter().for_each(|end| std::fs::remove_file(policies.join(format!("10-no-bulk.{end}"))).unwrap());
        std::fs::copy(testbed::policy("read-only"), policies.join("20-read-only.wasm")).unwrap();
    });
    assert!(
        s.gateway.log().contains("was in force when a gateway ran last") && s.gateway.log().contains("10-no-bulk"),
        "{}",
        s.gateway.log()
    );
    let history = |args: &[&str]| postern(&[&["policy", "history", "--config", text(&config)], args].concat());
    let shown = history(&[]).success().to_owned();
    let columns: Vec<Vec<&str>> = shown.lines().skip(1).map(|line| line.split_whitespace().skip(2).take(2).collect()).collect();
    assert_eq!(
        columns,
        [["10-no-bulk", "added"], ["10-no-bulk", "settings"], ["10-no-bulk", "removed"], ["20-read-only", "added"]],
        "{shown}"
    );
    assert_eq!(history(&["20-read-only"]).success().lines().count(), 2);
    assert!(history(&["--at", "now"]).success().contains("20-read-only") && !history(&["--at", "now"]).out.contains("10-no-bulk"));
    assert!(history(&["--at", "1h"]).success().contains("nothing was in force"));
    let json: Value = serde_json::from_str(history(&["--json", "10-no-bulk"]).success().lines().last().unwrap()).unwrap();
    assert!(json["what"] == "removed" && json["before"]["digest"].is_string() && json["after"].is_null(), "{json}");
}

#[test]
fn what_was_changed_of_the_configuration_is_told_and_sighup_has_it_read() {
    let s = setup_with(options("approvals: {hold: 20}\n"));
    let file = s.gateway.directory.join("postern.yaml");
    let begun = std::fs::read_to_string(&file).unwrap();
    let told = || -> Vec<Value> { s.events().into_iter().filter(|event| event["stage"] == "configuration").collect() };
    let started = s.events()[0].clone();
    assert!(
        started["configuration"]["digest"].as_str().unwrap().starts_with("sha256:") && started["keys"]["session.pub"].is_string(),
        "{started}"
    );
    let hangup = || {
        assert!(std::process::Command::new("kill").args(["-HUP", &s.gateway.process.id().to_string()]).status().unwrap().success());
    };
    let says = |text: &str| wait_until(text, Duration::from_secs(10), || Ok(s.gateway.log().contains(text))).unwrap();
    hangup();
    says("the configuration was read again: it is as it was");
    assert!(told().is_empty());
    std::fs::write(&file, begun.replace("hold: 20", "hold: 21")).unwrap();
    hangup();
    wait_until("it is told", Duration::from_secs(10), || Ok(told().len() == 1)).unwrap();
    let event = told().remove(0);
    assert_eq!(
        (&event["atNextStart"][0], &event["configuration"]["before"]),
        (&"approvals".into(), &started["configuration"]["digest"]),
        "{event}"
    );
    says("takes effect at the next start");
    // What cannot be taken is told by its place, without what stands there.
    std::fs::write(&file, begun.replace("hold: 20", "hold: s3cr3t-in-a-wrong-place")).unwrap();
    wait_until("it is told", Duration::from_secs(20), || Ok(told().len() == 2)).unwrap();
    let event = told().remove(1);
    assert!(event["notTaken"].as_str().unwrap().contains("line ") && !s.gateway.log().contains("s3cr3t"), "{event}");
    std::fs::write(&file, &begun).unwrap();
    wait_until("and that it is as it was", Duration::from_secs(20), || Ok(told().len() == 3)).unwrap();
    assert!(told()[2]["atNextStart"].is_null() && told()[2]["configuration"]["digest"] == started["configuration"]["digest"]);
    // A key that is another.
    let public = s.gateway.directory.join("data/session.pub");
    let key = std::fs::read_to_string(&public).unwrap();
    std::fs::write(&public, "AAAA").unwrap();
    wait_until("it is told", Duration::from_secs(20), || Ok(told().len() >= 4)).unwrap();
    let event = told().remove(3);
    assert!(
        event["keysChanged"][0]["name"] == "session.pub" && event["keysChanged"][0]["before"] == started["keys"]["session.pub"],
        "{event}"
    );
    std::fs::write(&public, key).unwrap();
    let listed = postern(&["audit", "--config", text(&file), "list"]);
    assert!(
        ["at the next start: approvals", "not taken: line", "session.pub"].iter().all(|part| listed.success().contains(part)),
        "{}",
        listed.out
    );
    s.kubectl(&["get", "pods"]).success();
}

/// What the log knows as finished is not taken up again as if it had been cut off by a crash: neither found whole, nor healed by the gateway's own seal.
#[test]
fn a_finished_recording_that_is_cut_short_and_called_unfinished_is_found_before_and_after_a_start() {
    let mut s = setup_with(options(""));
    (0..5).for_each(|_| drop(s.kubectl(&["get", "pods"])));
    s.gateway.process.terminate(Duration::from_secs(20)).unwrap();
    let events = s.events();
    let recording = events.iter().find(|event| event["stage"] == "recorded").unwrap()["recording"].as_str().unwrap().to_owned();
    let file = s.gateway.directory.join("data/sessions").join(&recording);
    s.session(&["verify"]).success();
    std::fs::write(file.with_extension("calls.part"), b"POSTERN-SESSION 1\n").unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(s.session(&["verify"]).failure().contains("its end was taken away"), "{}", s.session(&["verify"]).err);
    meanwhile(&mut s, "", |_| ());
    wait_until("it is taken up", Duration::from_secs(10), || Ok(file.exists())).unwrap();
    let healed = s.session(&["verify"]);
    assert!(healed.failure().contains("it was finished 2 times"), "{}{}", healed.out, healed.err);
}

#[test]
fn where_it_cannot_be_told_whether_the_log_was_cut_off_that_is_in_the_log() {
    let mut s = setup_with(options(""));
    meanwhile(&mut s, "", |directory| {
        let log = directory.join("data/audit.jsonl");
        let cut: Vec<String> = std::fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
        std::fs::write(&log, cut[..cut.len() - 2].join("\n") + "\n").unwrap();
        std::fs::write(directory.join("data/audit.head"), "junk").unwrap();
    });
    let started = s.events().into_iter().rfind(|event| event["stage"] == "started").unwrap();
    assert!(started["endUnknown"].as_str().unwrap().contains("is no signed head"), "{started}");
    let listed = postern(&["audit", "--config", text(&s.gateway.directory.join("postern.yaml")), "list"]);
    assert!(listed.success().contains("whether the log was cut off cannot be told"), "{}", listed.out);
}

/// `config check` finds a witness that cannot be one, and with `--online` who does not answer.
#[test]
fn a_configuration_is_checked_with_those_it_names() {
    let s = setup_with(options(""));
    let file = s.gateway.directory.join("postern.yaml");
    let begun = std::fs::read_to_string(&file).unwrap();
    let scratch = e2e::scratch("online");
    let check = |text: &str, more: &[&str]| {
        let file = scratch.join("postern.yaml");
        std::fs::write(
            &file,
            text.replace("directory: policies.d", &format!("directory: '{}'", s.gateway.directory.join("policies.d").display())),
        )
        .unwrap();
        postern(&[&["config", "check", file.to_str().unwrap()], more].concat())
    };
    for (witness, told) in [
        ("{file: data/audit.jsonl}", "is the audit log's own"),
        ("{file: data/audit.head}", "is the audit log's own"),
        ("{file: nowhere/heads.jsonl}", "there is no directory"),
        ("{url: 'https://127.0.0.1:1', caFile: nothere.pem}", "nothere.pem"),
        ("{url: 'https://127.0.0.1:1/?token=s3cr3t'}", "audit.witness.headersFile"),
    ] {
        std::fs::create_dir_all(scratch.join("data")).unwrap();
        let checked = check(&format!("{begun}audit: {{witness: {witness}}}\n"), &[]);
        assert!(checked.failure().contains(told) && !checked.err.contains("s3cr3t"), "{witness}: {}", checked.err);
    }
    let online = check(&begun, &["--online"]);
    assert!(
        online.success().contains("cluster testbed") && online.out.contains("v1.") && online.out.contains(" keys"),
        "{}{}",
        online.out,
        online.err
    );
    // An API server that is not there, and an issuer that is none.
    let port = testbed::free_port().unwrap();
    let own = std::fs::read_to_string(cluster().gateway_kubeconfig().unwrap()).unwrap();
    let away = scratch.join("away.kubeconfig");
    std::fs::write(&away, own.replace(&format!("127.0.0.1:{}", cluster().port), &format!("127.0.0.1:{port}"))).unwrap();
    let text = begun
        .replace(&cluster().gateway_kubeconfig().unwrap().display().to_string(), &away.display().to_string())
        .replace(&cluster().issuer(), &format!("https://127.0.0.1:{port}"));
    let down = check(&text, &["--online"]);
    assert!(down.failure().contains("2 of them do not answer") && down.out.contains("cannot be reached"), "{}{}", down.out, down.err);
    let nobody = check(&begun.replace("access: [{as", "access: [] #"), &[]);
    assert!(nobody.success().contains("is valid") && nobody.err.contains("access has no rule"), "{}{}", nobody.out, nobody.err);
}
