//! Sessions: recorded, listed, shown, replayed, searched, exported and verified.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::{Setup, cluster, setup};
use serde_json::Value;
use testbed::{Gateway, GatewayOptions, wait_until};

/// The caller's session, once the index knows it.
fn id(s: &Setup) -> String {
    let mut found = String::new();
    wait_until("the session is listed", Duration::from_secs(10), || {
        let list = s.session(&["list", "--json"]);
        let row: Option<Value> = list.out.lines().next().and_then(|line| serde_json::from_str(line).ok());
        found = row.map(|row| row["id"].as_str().unwrap().to_owned()).unwrap_or_default();
        Ok(!found.is_empty())
    })
    .unwrap();
    found
}

fn streams(s: &Setup, id: &str) -> Vec<PathBuf> {
    let place = s.gateway.directory.join("data/sessions").join(id);
    let mut found: Vec<_> =
        std::fs::read_dir(place).unwrap().map(|e| e.unwrap().path()).filter(|p| p.to_string_lossy().contains(".stream")).collect();
    found.sort();
    found
}

/// The one finished stream of a session, as `SESSION/STREAM`.
fn finished(s: &Setup, id: &str) -> String {
    wait_until("the recording is sealed", Duration::from_secs(10), || {
        Ok(streams(s, id).iter().any(|p| p.extension().unwrap() == "stream"))
    })
    .unwrap();
    let path = streams(s, id).into_iter().find(|p| p.extension().unwrap() == "stream").unwrap();
    format!("{id}/{}", path.file_stem().unwrap().to_string_lossy())
}

#[test]
fn what_a_credential_did_is_one_timeline_that_plays() {
    let s = setup(
        vec![
            ("20-mask-secrets", "mask-secrets", "settings: {podSecrets: true}\n".into()),
            ("50-text", "misbehaves", "settings: {does: text}\n".into()),
        ],
        "",
    );
    s.kubectl(&["get", "pods"]).success();
    s.kubectl(&["get", "secret", "db"]).success();
    let command = "echo one; sleep 1; echo pass''word-two >&2; printf 'gr\\303\\266'; printf 'sse\\n'; cat; exit 4";
    let mut exec = Command::new(testbed::binary("kubectl"));
    exec.arg("--kubeconfig").arg(&s.caller).args(["-n", &s.namespace, "exec", "-i", "web", "--", "sh", "-c", command]);
    let mut exec = exec.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut exec.stdin.take().unwrap(), b"typed\n").unwrap();
    assert_eq!(exec.wait_with_output().unwrap().status.code(), Some(4));

    let id = id(&s);
    let stream = finished(&s, &id);
    let shown = s.session(&["show", &id]).success().to_owned();
    let order = ["list pods", "get secrets", "-- sh -c", "(exit code 4)"];
    let places: Vec<_> = order.iter().map(|part| shown.find(part).unwrap_or_else(|| panic!("{part} in {shown}"))).collect();
    assert!(places.is_sorted() && shown.contains(&stream), "{shown}");

    let began = std::time::Instant::now();
    let played = s.session(&["replay", &stream]);
    assert_eq!((played.success(), played.err.as_str()), ("one\ngrösse\ntyped\n", "postern-masked\n"));
    assert!(began.elapsed() >= Duration::from_secs(1), "with its timing");
    let began = std::time::Instant::now();
    s.session(&["replay", &stream, "--idle-limit", "0.1", "--speed", "2"]).success();
    assert!(began.elapsed() < Duration::from_secs(1));

    let cast = s.session(&["export", &stream, "--format", "asciicast"]).success().to_owned();
    let lines: Vec<Value> = cast.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines[0]["version"].as_u64(), lines[0]["width"].as_u64()), (Some(2), Some(80)), "{cast}");
    let first = lines.iter().find(|l| l[1] == "o").unwrap();
    assert_eq!(first[2], "one\r\n", "{cast}");
    assert!(lines.iter().any(|l| l[1] == "i" && l[2] == "typed\n") && !cast.contains("password-two"), "{cast}");

    assert!(s.session(&["search", "typed"]).success().contains(&stream));
    assert!(s.session(&["search", "grösse"]).success().contains("output: grösse"));
    assert!(s.session(&["search", "get secrets"]).success().contains("call: get secrets") && !s.session(&["search", "no such text"]).ok);
    assert!(!s.session(&["search", "password-two\n"]).ok, "recorded after masking");
    for (args, finds) in [
        (&["--user", "caller"][..], true),
        (&["--user", "nobody"], false),
        (&["--namespace", &s.namespace, "--resource", "pods/exec", "--pod", "web", "--verdict", "mask"], true),
        (&["--verb", "delete"], false),
        (&["--since", "1h"], true),
        (&["--until", "2020-01-01T00:00:00Z"], false),
        (&["--text", "sse"], true),
        (&["--text", "nothing of the kind"], false),
    ] {
        assert_eq!(s.session(&[&["list"], args].concat()).success().contains(&id), finds, "{args:?}");
    }
    let event = s.events().into_iter().find(|e| e["stage"] == "completed" && e["recording"] == stream.as_str()).unwrap();
    assert_eq!((event["session"].as_str(), event["exitCode"].as_u64()), (Some(id.as_str()), Some(4)));
}

#[test]
fn a_changed_byte_and_a_missing_recording_are_found() {
    let s = setup(vec![], "");
    s.kubectl(&["exec", "web", "--", "echo", "hello"]).success();
    let id = id(&s);
    finished(&s, &id);
    wait_until("it is counted", Duration::from_secs(5), || Ok(s.session(&["list", "--json"]).out.contains("\"streams\":1"))).unwrap();
    assert!(s.session(&["verify"]).success().contains("1 recordings of 1 sessions are whole and signed"));
    let file = streams(&s, &id).remove(0);
    let whole = std::fs::read(&file).unwrap();
    let mut changed = whole.clone();
    let at = whole
        .windows(5)
        .position(|w| w == b"hello")
        .map(|at| whole[at + 5..].windows(5).position(|w| w == b"hello").map_or(at, |more| at + 5 + more))
        .unwrap();
    changed[at] ^= 0x20;
    std::fs::write(&file, &changed).unwrap();
    let found = s.session(&["verify", &id]);
    assert!(
        found.failure().contains(file.file_name().unwrap().to_str().unwrap()) && found.err.contains("do not give their hash"),
        "{}",
        found.err
    );
    std::fs::remove_file(&file).unwrap();
    assert!(s.session(&["verify"]).failure().contains("1 of its 1 streams are gone"));
}

#[test]
fn what_reached_the_disk_before_a_crash_plays_and_the_loss_is_marked() {
    let mut s = setup(vec![], "");
    let mut exec = Command::new(testbed::binary("kubectl"));
    exec.arg("--kubeconfig").arg(&s.caller).args(["-n", &s.namespace, "exec", "web", "--", "sh", "-c", "echo before; sleep 60"]);
    let mut exec = exec.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut heard = [0; 7];
    std::io::Read::read_exact(exec.stdout.as_mut().unwrap(), &mut heard).unwrap();
    let id = id(&s);
    wait_until("it is written", Duration::from_secs(5), || {
        Ok(streams(&s, &id).iter().any(|p| std::fs::read(p).unwrap().windows(7).filter(|w| w == b"before\n").count() > 0))
    })
    .unwrap();
    assert!(Command::new("kill").args(["-9", &s.gateway.process.id().to_string()]).status().unwrap().success());
    let _ = exec.wait();
    let part = streams(&s, &id).remove(0);
    assert!(part.to_string_lossy().ends_with(".stream.part"));
    let stream = format!("{id}/{}", part.file_name().unwrap().to_string_lossy().split('.').next().unwrap());
    let played = s.session(&["replay", &stream]);
    assert!(played.success().contains("before\n") && played.err.contains("cut short"), "{}", played.err);
    let directory = s.gateway.directory.clone();
    s.gateway = Gateway::start(cluster(), &directory, &GatewayOptions::default()).unwrap();
    let played = s.session(&["replay", &stream, "--idle-limit", "0.1"]);
    assert!(played.success().contains("before\n") && played.err.contains("what came last may be missing"), "{}", played.err);
    s.session(&["verify"]).success();
    assert!(s.session(&["show", &id]).success().contains("what came last may be missing"));
}

/// A mounted directory. It is unmounted however the test ends.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A small disk of its own, filled up; where mounting is not allowed the test says so.
#[test]
fn what_cannot_be_recorded_is_refused_and_ends() {
    let place = e2e::scratch("small");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(&place).status().is_ok_and(|s| s.success());
    if !mounted {
        eprintln!("NOT TESTED: a tmpfs cannot be mounted here");
        return;
    }
    let place = Mounted(place);
    let place = &place.0;
    let s = setup(vec![], &format!("sessions: {{directory: '{}'}}\n", place.display()));
    // It fills the disk with its own recording.
    let ended = s.kubectl(&["exec", "web", "--", "sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' x; sleep 30"]);
    assert!(ended.failure().contains("this session cannot be recorded"), "{}", ended.err);
    let filled: std::io::Result<()> = std::fs::File::create(place.join("filled")).and_then(|mut file| {
        loop {
            std::io::Write::write_all(&mut file, &[0; 512])?;
        }
    });
    assert!(filled.is_err());
    let refused = s.kubectl(&["exec", "web", "--", "echo", "hello"]);
    assert!(refused.failure().contains("this session cannot be recorded") && refused.out.is_empty(), "{}", refused.err);
    s.kubectl(&["get", "pods"]).success();
    assert!(s.events().iter().any(|e| e["ended"] == "recording-failed"));
    drop(s);
    let s = setup(vec![], &format!("sessions: {{directory: '{}', onFailure: allow}}\n", place.display()));
    assert_eq!(s.kubectl(&["exec", "web", "--", "echo", "hello"]).success(), "hello\n");
    assert!(s.events().iter().any(|e| e["notRecorded"].as_str().is_some_and(|why| why.contains("No space"))));
}

#[test]
fn bodies_are_kept_by_rule_and_after_masking() {
    let rules = "sessions:\n  bodies:\n  - {resources: [secrets], keep: requestAndResponse}\n  - {verbs: [create], resources: [configmaps], keep: request}\n";
    let s = setup(vec![("20-mask-secrets", "mask-secrets", String::new())], rules);
    s.kubectl(&["get", "secret", "db", "-o", "json"]).success();
    // kubectl create sends protobuf.
    s.kubectl(&["create", "secret", "generic", "other", "--from-literal=password=plain-in-the-request"]).success();
    s.kubectl(&["create", "configmap", "kept", "--from-literal=a=kept-value"]).success();
    s.kubectl(&["get", "configmap", "kept", "-o", "json"]).success();
    let id = id(&s);
    let mut shown = String::new();
    wait_until("the calls are there", Duration::from_secs(10), || {
        shown = s.session(&["show", &id, "--bodies"]).success().to_owned();
        Ok(shown.contains("get configmaps"))
    })
    .unwrap();
    let bodies: Vec<&str> = shown.lines().filter(|line| line.starts_with("    ")).collect();
    assert_eq!(bodies.len(), 4, "{shown}");
    assert!(
        bodies.iter().filter(|b| b.contains("cG9zdGVybi1tYXNrZW")).count() == 3
            && shown.contains("request: {\"apiVersion\":\"v1\",\"data\":{\"a\":\"kept-value\"}"),
        "{shown}"
    );
    let everything = std::fs::read_dir(s.gateway.directory.join("data/sessions").join(&id)).unwrap();
    for file in everything {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for value in ["plain-in-the-request", "cGxhaW4taW4tdGhlLXJlcXVlc3Q", "aHVudGVyMi1pcy1zZWNyZXQ", "hunter2"] {
            assert!(!text.contains(value), "{value}");
        }
    }
    assert!(s.session(&["search", "kept-value"]).success().contains("request of call"));
}

#[test]
fn a_body_that_only_a_look_at_each_object_would_mask_is_not_kept() {
    let rules = "sessions: {bodies: [{keep: requestAndResponse}]}\n";
    let s = setup(vec![("70-mask", "misbehaves", "settings: {does: mask-object}\nrules: [{resources: [configmaps]}]\n".into())], rules);
    s.kubectl(&["create", "configmap", "c", "--from-literal=token=typed-token"]).success();
    assert!(!s.kubectl(&["get", "configmap", "c", "-o", "json"]).success().contains("typed-token"));
    let id = id(&s);
    wait_until("the call is there", Duration::from_secs(10), || Ok(s.session(&["show", &id]).success().contains("get configmaps")))
        .unwrap();
    let shown = s.session(&["show", &id, "--bodies"]).success().to_owned();
    assert!(shown.contains("request: not kept") && shown.contains("postern-masked") && !shown.contains("typed-token"), "{shown}");
}

/// Whoever may write where recordings lie, and has no key, takes a seal off and writes what he likes: no gateway signs that.
#[test]
fn what_this_gateway_did_not_write_it_does_not_sign() {
    let mut s = setup(vec![], "");
    s.kubectl(&["exec", "web", "--", "echo", "harmless"]).success();
    let id = id(&s);
    let stream = finished(&s, &id);
    let file = stream.rsplit('/').next().unwrap();
    let place = s.gateway.directory.join("data/sessions").join(&id);
    s.gateway.process.terminate(Duration::from_secs(20)).unwrap();
    let sealed = place.join(format!("{file}.stream"));
    let (bytes, part) = (std::fs::read(&sealed).unwrap(), place.join(format!("{file}.stream.part")));
    // The magic line, then one frame that nobody recorded, and its hash counted anew.
    let mut forged = bytes[..bytes.iter().position(|b| *b == b'\n').unwrap() + 1].to_vec();
    let mut frames = vec![b'o'];
    frames.extend_from_slice(&[0; 8]);
    frames.extend_from_slice(&6u32.to_be_bytes());
    frames.extend_from_slice(b"forged");
    let digest = |bytes: &[u8]| {
        let out =
            Command::new("sh").args(["-c", "sha256sum | cut -d' ' -f1"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut out.stdin.as_ref().unwrap(), bytes).unwrap();
        let text = String::from_utf8(out.wait_with_output().unwrap().stdout).unwrap();
        (0..32).map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap()).collect::<Vec<u8>>()
    };
    let hash = digest(&[digest(&forged), frames.clone()].concat());
    forged.extend_from_slice(&frames);
    forged.push(b'#');
    forged.extend_from_slice(&[0; 8]);
    forged.extend_from_slice(&32u32.to_be_bytes());
    forged.extend_from_slice(&hash);
    std::fs::remove_file(&sealed).unwrap();
    std::fs::write(&part, &forged).unwrap();
    let again = Gateway::start(cluster(), &s.gateway.directory.clone(), &GatewayOptions::default()).unwrap();
    assert!(again.log().contains("this gateway did not write"), "{}", again.log());
    assert_eq!(std::fs::read(&part).unwrap(), forged, "it stays as it is, unsigned");
    // One recording in the place of another.
    std::fs::remove_file(&part).unwrap();
    let other = place.join("other.stream");
    std::fs::write(&other, &bytes).unwrap();
    std::fs::write(&sealed, &bytes).unwrap();
    let verify = e2e::Ran::new(again.session(&["verify", &id]).unwrap());
    assert!(verify.failure().contains("stands in the place of"), "{}", verify.err);
}

/// What is a credential by its kind is in the gateway's memory for no auditor, whatever policies read; nor is what a rule keeps out.
#[test]
fn no_credential_and_nothing_that_a_rule_keeps_out_is_kept_in_memory() {
    let reads = "settings: {validations: [{expression: \"!has(object.kind) || object.kind != 'Nothing'\", message: never}]}\n";
    let config = "auditors: {groups: ['postern:approver']}\nsessions: {recentBodies: 1Mi, bodies: [{resources: [pods], keep: metadata}, {keep: recent}]}\n";
    let s = setup(vec![("50-reads", "cel-rules", reads.into())], config);
    let post = |path: &str, body: Value| {
        let body = body.to_string();
        s.raw(&format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\nAuthorization: Bearer {}\r\n\r\n{body}",
            body.len(),
            s.token
        ))
    };
    let of = |kind: &str, version: &str, rest: Value| {
        let mut object = serde_json::json!({"kind": kind, "apiVersion": version, "metadata": {"generateName": "kept-"}});
        object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        object
    };
    let own = format!("/api/v1/namespaces/{}", s.namespace);
    let review = of("TokenReview", "authentication.k8s.io/v1", serde_json::json!({"spec": {"token": "hunter2-live-token"}}));
    post("/apis/authentication.k8s.io/v1/tokenreviews", review);
    post(&format!("{own}/secrets"), of("Secret", "v1", serde_json::json!({"stringData": {"password": "hunter2-secret"}})));
    // A kind that is called so elsewhere, whoever serves it.
    post(
        &format!("/apis/vault.example/v1/namespaces/{}/secrets", s.namespace),
        of("Secret", "vault.example/v1", serde_json::json!({"spec": {"password": "hunter2-vault"}})),
    );
    let request = of("TokenRequest", "authentication.k8s.io/v1", serde_json::json!({"spec": {"audiences": ["hunter2-audience"]}}));
    post(&format!("{own}/serviceaccounts/default/token"), request);
    let pod = serde_json::json!({"spec": {"containers": [{"name": "hunter2-pod", "image": "registry.example/web:1"}]}});
    post(&format!("{own}/pods"), of("Pod", "v1", pod));
    // A Secret that is sent to where none is taken.
    post(&format!("{own}/configmaps"), of("Secret", "v1", serde_json::json!({"data": {"password": "hunter2-elsewhere"}})));
    assert!(post(&format!("{own}/configmaps"), of("ConfigMap", "v1", serde_json::json!({"data": {"a": "plain"}}))).contains(" 201 "));
    let session = id(&s);
    let (status, kept) = crate::api::get(&s, &crate::api::auditor(), &format!("/postern/v1/sessions/{session}/bodies"));
    assert!(status == 200 && kept.to_string().contains("plain"), "what is no credential is there: {status} {kept}");
    assert!(!kept.to_string().contains("hunter2"), "{kept}");
}
