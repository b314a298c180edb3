//! Two gateways in one data directory, as one could have them before the directory was locked: what they leave is told from a change, and closed.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::{Ran, Setup, setup};
use serde_json::Value;
use testbed::{Gateway, Process, wait_until};

/// A command on its way: what it reads ends it.
fn running(s: &Setup) -> (std::process::Child, impl FnMut() -> String + use<>) {
    let mut exec = Command::new(testbed::binary("kubectl"));
    exec.arg("--kubeconfig").arg(&s.caller).args([
        "-n",
        &s.namespace,
        "exec",
        "-i",
        "web",
        "--",
        "sh",
        "-c",
        "echo one; read x; echo two; read x",
    ]);
    let mut exec = exec.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(exec.stdout.take().unwrap()).lines();
    (exec, move || lines.next().unwrap().unwrap())
}

/// Starts a second gateway in the first one's data directory, whose lock somebody took away; it goes on with the same audit log, in a file of its own: the log's own
/// lock holds.
fn second(s: &Setup) -> (Process, PathBuf) {
    let (directory, log) = (&s.gateway.directory, s.gateway.directory.join("second.jsonl"));
    std::fs::remove_file(directory.join("data/lock")).unwrap();
    std::fs::copy(s.gateway.audit(), &log).unwrap();
    let config = std::fs::read_to_string(directory.join("postern.yaml")).unwrap() + &format!("audit: {{file: '{}'}}\n", log.display());
    std::fs::write(directory.join("second.yaml"), config).unwrap();
    let mut command = Command::new(testbed::postern());
    command.arg("serve").arg("--config").arg(directory.join("second.yaml")).arg("--address-file").arg(directory.join("second-address"));
    let process = Process::start("postern", command, &directory.join("second.log")).unwrap();
    wait_until("the second gateway listens", Duration::from_secs(30), || Ok(directory.join("second-address").exists())).unwrap();
    (process, log)
}

fn postern(s: &Setup, args: &[&str]) -> Ran {
    Ran::new(Command::new(testbed::postern()).args(args).current_dir(&s.gateway.directory).output().unwrap())
}

#[test]
fn what_two_gateways_left_is_told_from_a_change_and_closed() {
    let mut s = setup(vec![], "");
    let (mut exec, mut says) = running(&s);
    assert_eq!(says(), "one");
    s.kubectl(&["create", "configmap", "before", "--from-literal=a=b"]).success();
    let (mut other, second_log) = second(&s);
    let said = std::fs::read_to_string(s.gateway.directory.join("second.log")).unwrap();
    assert!(said.contains("is sealed as far as it goes"), "{said}");
    // The first one writes on, and so does the command.
    s.kubectl(&["create", "configmap", "meanwhile", "--from-literal=a=b"]).success();
    exec.stdin.as_mut().unwrap().write_all(b"x\n").unwrap();
    assert_eq!(says(), "two");
    exec.stdin.take().unwrap().write_all(b"x\n").unwrap();
    assert!(exec.wait().unwrap().success());
    other.terminate(Duration::from_secs(20)).unwrap();
    let config = s.gateway.directory.join("postern.yaml");
    let config = config.to_str().unwrap();
    let repair = |s: &Setup| postern(s, &["data", "repair", "--config", config]);
    s.gateway.process.terminate(Duration::from_secs(20)).unwrap();

    // Both in one file, as it was when nothing locked it.
    let log = s.gateway.audit();
    let common = std::fs::read_to_string(s.gateway.audit()).unwrap();
    let theirs = std::fs::read_to_string(&second_log).unwrap();
    let theirs: Vec<&str> = theirs.lines().filter(|line| !common.contains(line)).collect();
    assert!(theirs.len() > 1, "{theirs:?}");
    let mixed = common.clone() + &theirs.join("\n") + "\n";
    std::fs::write(&log, &mixed).unwrap();

    let audit = |s: &Setup| postern(s, &["audit", "--file", log.to_str().unwrap(), "verify"]);
    let told = audit(&s);
    assert!(told.failure().contains("several gateways wrote this log at once") && told.err.contains("postern data repair"), "{}", told.err);
    let verified = s.session(&["verify"]);
    assert!(
        verified.failure().contains("it goes on behind its seal") && verified.err.contains("What is there is signed"),
        "{}",
        verified.err
    );

    // What somebody changed is not repaired, and nothing is written.
    std::fs::write(&log, mixed.replacen("\"verb\":\"create\"", "\"verb\":\"get\"", 1)).unwrap();
    let changed = std::fs::read(&log).unwrap();
    let refused = repair(&s);
    assert!(refused.failure().contains("is not repaired"), "{}", refused.err);
    assert!(std::fs::read(&log).unwrap() == changed, "nothing was written");
    s.session(&["verify"]).failure();
    std::fs::write(&log, &mixed).unwrap();

    let done = repair(&s);
    assert!(
        done.success().contains("several gateways wrote it at once (2 chains)")
            && done.out.contains("put together from what two gateways wrote"),
        "{}",
        done.out
    );
    assert!(std::fs::read_to_string(&log).unwrap().starts_with(&mixed), "every line stays");
    let whole = audit(&s);
    assert!(whole.success().contains("the chain is whole") && whole.out.contains("session.pub, closed that"), "{}", whole.out);
    let event = s.events().pop().unwrap();
    let recordings: Vec<&str> = event["recordings"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(event["stage"] == "repaired" && event["joins"].as_array().is_some_and(|joins| joins.len() == 1), "{event}");
    assert!(s.session(&["verify"]).success().contains("are whole and signed"));
    let recording = recordings.iter().find_map(|name| name.strip_suffix(".stream")).unwrap();
    assert_eq!(s.session(&["replay", recording, "--idle-limit", "0.1"]).success(), "one\ntwo\n");
    assert!(repair(&s).success().contains("nothing to repair"));
    // What was closed over is not taken out afterwards, and nobody else closes anything.
    let closed = std::fs::read_to_string(&log).unwrap();
    let last = common.lines().last().unwrap();
    std::fs::write(&log, closed.replace(&format!("{last}\n"), "")).unwrap();
    assert!(audit(&s).failure().contains("that was taken out"));
    std::fs::write(&log, &closed).unwrap();
    let public = log.with_file_name("session.pub");
    let other = std::fs::read(&public).unwrap();
    std::fs::write(&public, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
    assert!(audit(&s).failure().contains("did not sign it: it was put in"));
    std::fs::write(&public, other).unwrap();

    // A gateway goes on with it.
    let mut command = Command::new(testbed::postern());
    command.args(["serve", "--config", config, "--address-file"]).arg(s.gateway.directory.join("third-address"));
    let mut third = Process::start("postern", command, &s.gateway.directory.join("third.log")).unwrap();
    wait_until("it listens", Duration::from_secs(30), || Ok(s.gateway.directory.join("third-address").exists())).unwrap();
    let busy = repair(&s);
    assert!(busy.failure().contains("is in use by the gateway with the process id"), "{}", busy.err);
    third.terminate(Duration::from_secs(20)).unwrap();
    assert!(audit(&s).success().contains("the chain is whole"));
}

#[test]
fn a_directory_that_is_not_there_is_not_made_to_be_repaired() {
    let directory = e2e::scratch("repair");
    let config = std::fs::read_to_string(setup(vec![], "").gateway.directory.join("postern.yaml")).unwrap();
    std::fs::write(directory.join("postern.yaml"), config.replace("dataDirectory: data", "dataDirectory: none")).unwrap();
    std::fs::create_dir_all(directory.join("policies.d")).unwrap();
    let ran = Ran::new(Gateway::postern(&["data", "repair", "--config", directory.join("postern.yaml").to_str().unwrap()]).unwrap());
    assert!(ran.failure().contains("there is no data directory") && !directory.join("none").exists(), "{}", ran.err);
}
