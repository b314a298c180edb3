//! A gateway's life: certificates renewed, restarts, drains, and running it for oneself.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::{Ran, cluster, code, put, scratch, setup, setup_with};
use serde_json::json;
use testbed::{AUDIENCE, Gateway, GatewayOptions, Process, wait_until};

fn certificate(directory: &std::path::Path, name: &str) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    put(&directory.join("tls.crt"), params.self_signed(&key).unwrap().pem().as_bytes());
    put(&directory.join("tls.key"), key.serialize_pem().as_bytes());
}

fn served(gateway: &Gateway) -> String {
    let shown = Command::new("openssl").args(["s_client", "-connect", &gateway.address]).stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&shown.stdout).into_owned()
}

#[test]
fn a_renewed_certificate_is_served_without_a_restart_and_a_broken_one_is_not() {
    let directory = scratch("tls");
    certificate(&directory, "first-certificate");
    let listen = format!(", certificateFile: '{0}/tls.crt', keyFile: '{0}/tls.key'", directory.display());
    let gateway = Gateway::start(cluster(), &scratch("gateway"), &GatewayOptions { listen, ..GatewayOptions::default() }).unwrap();
    assert!(served(&gateway).contains("first-certificate"));
    certificate(&directory, "second-certificate");
    wait_until("the second is served", Duration::from_secs(15), || Ok(served(&gateway).contains("second-certificate"))).unwrap();
    put(&directory.join("tls.crt"), b"no certificate");
    wait_until("it is told", Duration::from_secs(15), || Ok(gateway.log().contains("could not be reloaded"))).unwrap();
    assert!(served(&gateway).contains("second-certificate"), "the old pair goes on");
}

#[test]
fn a_restart_takes_compiled_policies_from_disk_and_a_changed_one_is_not_run() {
    let directory = scratch("gateway");
    let options = GatewayOptions { policies: vec![("p", "no-bulk-export", String::new())], ..GatewayOptions::default() };
    let find = || {
        let mut files = std::fs::read_dir(directory.join("data/compiled")).unwrap().map(|entry| entry.unwrap().path());
        files.find(|file| file.extension().is_some_and(|kind| kind == "cwasm"))
    };
    // A gateway serves before it has written what it compiled.
    let kept = || wait_until("the machine code is kept", Duration::from_secs(20), || Ok(find().is_some())).unwrap();
    let compiled = || {
        let file = find().unwrap();
        (file.clone(), std::fs::metadata(&file).unwrap().modified().unwrap(), std::fs::read(file).unwrap())
    };
    let gateway = Gateway::start(cluster(), &directory, &options).unwrap();
    kept();
    drop(gateway);
    let (file, first, bytes) = compiled();
    drop(Gateway::start(cluster(), &directory, &options).unwrap());
    assert_eq!(compiled().1, first, "not compiled again");
    // Whoever can write the cache and not read its key must not get code into the gateway.
    let mut changed = bytes.clone();
    let at = changed.len() / 2;
    changed[at] ^= 1;
    std::fs::write(&file, &changed).unwrap();
    let gateway = Gateway::start(cluster(), &directory, &options).unwrap();
    assert!(gateway.log().contains("was changed by somebody else"), "{}", gateway.log());
    wait_until("what was compiled anew is kept", Duration::from_secs(20), || Ok(compiled().2 != changed)).unwrap();
    let caller = gateway.kubeconfig("caller", &cluster().token("caller", AUDIENCE).unwrap()).unwrap();
    let refused = Ran::new(Gateway::kubectl(&caller, &["get", "secrets", "-A"]).unwrap());
    assert!(refused.failure().contains("blocked by policy p"), "{}", refused.err);
}

#[test]
fn a_drain_lets_open_requests_end_and_takes_no_new_ones() {
    let settings = "settings: {approvers: [nobody], resources: [configmaps]}\n";
    let mut s = setup(vec![("40-approve", "approve-deletes", settings.into())], "approvals: {hold: 3}\n");
    s.direct(&["create", "configmap", "a"]).success();
    let request = format!(
        "DELETE /api/v1/namespaces/{}/configmaps/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
        s.namespace, s.token
    );
    let (address, ca) = (s.gateway.address.clone(), s.gateway.ca());
    let waiting = std::thread::spawn(move || e2e::raw_at(&address, &ca, &request));
    std::thread::sleep(Duration::from_millis(1000));
    s.gateway.process.terminate(Duration::from_secs(20)).unwrap();
    let answer = waiting.join().unwrap();
    assert!(code(&answer) == 429 && answer.contains("waiting for approval"), "the open request was answered: {answer}");
    assert!(std::net::TcpStream::connect(&s.gateway.address).is_err());
    let events = s.events();
    assert!(events.iter().any(|e| e["status"] == 429), "and recorded");
    assert_eq!(events.last().unwrap()["stage"], "stopped");
    let file = s.gateway.audit();
    Ran::new(Gateway::postern(&["audit", "--file", file.to_str().unwrap(), "verify"]).unwrap()).success();
}

#[test]
fn a_drain_lets_a_command_end() {
    let mut s = setup(vec![], "");
    let mut exec = Command::new(testbed::binary("kubectl"));
    exec.arg("--kubeconfig").arg(&s.caller).args(["-n", &s.namespace, "exec", "web", "--", "sh", "-c", "echo begun; sleep 3; echo ended"]);
    let mut exec = exec.stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = BufReader::new(exec.stdout.take().unwrap()).lines();
    assert_eq!(printed.next().unwrap().unwrap(), "begun");
    s.gateway.process.terminate(Duration::from_secs(20)).unwrap();
    assert_eq!(printed.next().unwrap().unwrap(), "ended");
    assert!(exec.wait().unwrap().success());
    let events = s.events();
    assert!(events.iter().any(|e| e["status"] == 101 && e["ended"] == "ok"), "{events:?}");
}

#[test]
fn approvals_are_kept_over_a_restart() {
    let settings = "settings: {approvers: ['postern:approver'], resources: [configmaps]}\n";
    let options = || GatewayOptions {
        policies: vec![("40-approve", "approve-deletes", settings.into())],
        config: "approvals: {hold: 0}\n".into(),
        ..GatewayOptions::default()
    };
    let mut s = setup_with(options());
    s.direct(&["create", "configmap", "a"]).success();
    let delete = format!(
        "DELETE /api/v1/namespaces/{}/configmaps/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
        s.namespace, s.token
    );
    assert_eq!(code(&s.raw(&delete)), 429);
    s.gateway.process.terminate(Duration::from_secs(20)).unwrap();
    let directory = s.gateway.directory.clone();
    s.gateway = Gateway::start(cluster(), &directory, &options()).unwrap();
    let approver = s.gateway.kubeconfig("approver", &cluster().token("approver", AUDIENCE).unwrap()).unwrap();
    let approval =
        |args: &[&str]| Ran::new(Gateway::postern(&[&["approval", "--kubeconfig", approver.to_str().unwrap()], args].concat()).unwrap());
    let list: serde_json::Value = serde_json::from_str(approval(&["list", "--json"]).success()).unwrap();
    approval(&["approve", list["items"][0]["id"].as_str().unwrap()]).success();
    assert_eq!(code(&s.raw(&delete)), 200);
    assert!(!s.direct(&["get", "configmap", "a"]).ok);
    assert_ne!(code(&s.raw(&delete)), 200, "not a second time");
}

#[test]
fn a_restart_gives_nobody_a_new_budget() {
    let options = || GatewayOptions {
        policies: vec![("40-budget", "misbehaves", "settings: {does: budget}\nrules: [{resources: [configmaps]}]\n".into())],
        ..GatewayOptions::default()
    };
    let mut s = setup_with(options());
    let create = |s: &e2e::Setup, name: &str| s.kubectl(&["create", "configmap", name]);
    for name in ["a", "b", "c"] {
        create(&s, name).success();
    }
    s.gateway.process.terminate(Duration::from_secs(20)).unwrap();
    let directory = s.gateway.directory.clone();
    s.gateway = Gateway::start(cluster(), &directory, &options()).unwrap();
    s.caller = s.gateway.kubeconfig("caller", &s.token).unwrap();
    assert!(create(&s, "d").failure().contains("4 creates in an hour"));
    // Killed, it forgets at most the last second.
    std::thread::sleep(Duration::from_secs(2));
    Command::new("kill").args(["-9", &s.gateway.process.id().to_string()]).status().unwrap();
    s.gateway = Gateway::start(cluster(), &directory, &options()).unwrap();
    s.caller = s.gateway.kubeconfig("caller", &s.token).unwrap();
    assert!(create(&s, "e").failure().contains("5 creates in an hour"));
}

#[test]
fn serve_with_a_kubeconfig_alone_prints_one_that_works() {
    let directory = scratch("personal");
    let address = directory.join("address");
    let mut command = Command::new(testbed::postern());
    command.arg("serve").arg("--kubeconfig").arg(cluster().admin_kubeconfig()).arg("--data-directory").arg(&directory);
    command.args(["--listen", "127.0.0.1:0", "--address-file"]).arg(&address);
    let log = directory.join("log");
    let _process = Process::start("postern", command, &log).unwrap();
    wait_until("it listens", Duration::from_secs(20), || Ok(address.exists())).unwrap();
    wait_until("it prints", Duration::from_secs(5), || Ok(std::fs::read_to_string(&log)?.contains("try it: kubectl --kubeconfig")))
        .unwrap();
    let kubeconfig = directory.join("kubeconfig");
    assert!(Ran::new(Gateway::kubectl(&kubeconfig, &["get", "namespaces"]).unwrap()).success().contains("default"));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&kubeconfig).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "it holds a key");
}

/// Where a pod finds its credential is a fixed place: a namespace of mounts of its own puts one there, for the gateway alone.
#[test]
fn inside_a_pod_the_gateway_uses_its_service_account() {
    let unshared = Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "tmpfs", "/run"]).status();
    if !unshared.is_ok_and(|s| s.success()) {
        println!("no namespace of mounts can be made here, so that nothing can lie where a pod finds it");
        return;
    }
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "gateway", "namespace": "postern"}});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "gateway-in-a-pod"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "postern-gateway"},
        "subjects": [{"kind": "ServiceAccount", "name": "gateway", "namespace": "postern"}]});
    cluster().apply(&account).unwrap();
    cluster().apply(&binding).unwrap();
    let directory = scratch("pod");
    put(&directory.join("token"), cluster().token("gateway", &cluster().issuer()).unwrap().as_bytes());
    let config = format!(
        "listen: {{address: '127.0.0.1:0'}}\ncluster: {{name: in-a-pod}}\nauthentication: {{clientCaFile: '{}'}}\naccess: [{{as: {{serviceAccount: {{namespace: postern, name: acts-as}}}}}}]\ndataDirectory: data\n",
        cluster().directory.join("ca.crt").display()
    );
    put(&directory.join("postern.yaml"), config.as_bytes());
    let place = "/run/secrets/kubernetes.io/serviceaccount";
    let address = directory.join("address");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec"]).arg(format!(
        "mount -t tmpfs tmpfs /run; mkdir -p {place}; cp '{1}' {place}/ca.crt; cp '{0}/token' {place}/token; exec '{2}' serve --config '{0}/postern.yaml' --address-file '{0}/address'",
        directory.display(),
        cluster().directory.join("ca.crt").display(),
        testbed::postern().display()
    ));
    command.env("KUBERNETES_SERVICE_HOST", "127.0.0.1").env("KUBERNETES_SERVICE_PORT", cluster().port.to_string());
    let _process = Process::start("postern", command, &directory.join("log")).unwrap();
    wait_until("it listens", Duration::from_secs(20), || Ok(address.exists())).unwrap();
    let pem = |name: &str| cluster().directory.join(name).display().to_string();
    let who = Command::new(testbed::binary("kubectl"))
        .args(["--server", &format!("https://{}", std::fs::read_to_string(&address).unwrap())])
        .args(["--certificate-authority", &directory.join("data/ca.crt").display().to_string()])
        .args(["--client-certificate", &pem("admin.crt"), "--client-key", &pem("admin.key")])
        .args(["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])
        .env("HOME", &directory)
        .output()
        .unwrap();
    assert_eq!(Ran::new(who).success(), "system:serviceaccount:postern:acts-as");
}

#[test]
fn a_command_that_outlasts_the_drain_is_told_goodbye() {
    let mut s = setup(vec![], "");
    let mut exec = Command::new(testbed::binary("kubectl"));
    exec.arg("--kubeconfig").arg(&s.caller).args(["-n", &s.namespace, "exec", "web", "--", "sh", "-c", "echo begun; sleep 60"]);
    let mut exec = exec.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut printed = BufReader::new(exec.stdout.take().unwrap()).lines();
    assert_eq!(printed.next().unwrap().unwrap(), "begun");
    s.gateway.process.terminate(Duration::from_secs(20)).unwrap();
    let ended = Ran::new(exec.wait_with_output().unwrap());
    assert!(ended.failure().contains("the gateway is being stopped"), "{}", ended.err);
    assert!(s.events().iter().any(|e| e["ended"] == "gateway-stopped"));
}

#[test]
fn a_data_directory_is_one_gateways_and_nobody_elses_to_read() {
    use std::os::unix::fs::PermissionsExt;
    let s = setup(vec![], "");
    let data = s.gateway.directory.join("data");
    let config = s.gateway.directory.join("postern.yaml");
    let second = Ran::new(Gateway::postern(&["serve", "--config", config.to_str().unwrap()]).unwrap());
    let why = format!("in use by the gateway with the process id {}", s.gateway.process.id());
    assert!(second.failure().contains(&why), "{}", second.err);
    s.kubectl(&["get", "pods"]).success();
    for entry in std::fs::read_dir(&data).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        let (mode, name) = (entry.metadata().unwrap().permissions().mode() & 0o077, entry.file_name());
        assert!(mode == 0 || name == "ca.crt" || name == "session.pub", "{name:?} is open to others: {mode:03o}");
    }
    assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn an_audit_log_goes_on_in_another_file_and_verifies_across_them() {
    let s = setup(vec![], "audit: {rotateSize: 8Ki}\n");
    for n in 0..20 {
        s.kubectl(&["create", "configmap", &format!("c{n}"), "--from-literal=a=b"]).success();
    }
    let log = s.gateway.audit();
    let files =
        std::fs::read_dir(log.parent().unwrap()).unwrap().flatten().filter(|f| f.file_name().to_string_lossy().starts_with("audit."));
    let mut files: Vec<_> = files.map(|file| file.path()).collect();
    files.sort();
    assert!(files.len() > 3, "{files:?}");
    let audit = |args: &[&str]| Ran::new(Gateway::postern(&[&["audit", "--file", log.to_str().unwrap()], args].concat()).unwrap());
    assert!(audit(&["verify"]).success().contains("the chain is whole"));
    assert!(audit(&["list"]).success().matches("create configmaps").count() >= 20, "events of all files are listed");
    // A file that is gone is found, and one that is kept elsewhere is said to be.
    std::fs::remove_file(&files[0]).unwrap();
    audit(&["verify"]).failure();
    let first = files[1].file_stem().unwrap().to_str().unwrap().rsplit_once('.').unwrap().1.trim_start_matches('0').to_owned();
    assert!(audit(&["verify", "--first", &first]).success().contains("the chain is whole"));
}
