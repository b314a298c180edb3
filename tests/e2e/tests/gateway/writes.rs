//! Writes: bodies of every encoding are read, and what was hidden is never stored as its placeholder.

use std::process::Command;

use e2e::{Ran, Setup, cluster, code, setup};
use serde_json::{Value, json};

const SECRET: &str = "aHVudGVyMi1pcy1zZWNyZXQ=";

fn masked() -> Setup {
    setup(vec![("20-mask-secrets", "mask-secrets", "settings: {fields: [{resource: configmaps, paths: ['$.data.token']}]}\n".into())], "")
}

/// What is stored of the Secret, read without the gateway.
fn stored(s: &Setup, path: &str) -> String {
    s.direct(&["get", "secret", "db", "-o", &format!("jsonpath={{{path}}}")]).success().to_owned()
}

fn no_placeholder_in_etcd(s: &Setup) {
    for resource in ["secrets", "configmaps"] {
        let held = cluster().stored_under(&format!("/registry/{resource}/{}/", s.namespace)).unwrap();
        assert!(!held.is_empty());
        let text = String::from_utf8_lossy(&held).into_owned();
        assert!(!text.contains("postern-masked") && !text.contains("cG9zdGVybi1tYXNrZW"), "{resource}: {text}");
    }
}

/// Sends a body as it is.
fn send(s: &Setup, method: &str, path: &str, media_type: &str, body: &[u8]) -> String {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\nAuthorization: Bearer {}\r\n\r\n",
        body.len(),
        s.token
    );
    s.raw_bytes(&[head.as_bytes(), body].concat())
}

#[test]
fn a_masked_object_is_edited_applied_patched_and_replaced_without_harm() {
    let s = masked();
    let file = e2e::scratch("file").join("object.yaml");
    let file = file.to_str().unwrap();
    // Made by apply, so that there is a last-applied text with the value in it too.
    let plain = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": s.namespace, "labels": {"tier": "data"}},
        "data": {"password": SECRET, "user": "YWRtaW4="}});
    std::fs::write(file, plain.to_string()).unwrap();
    s.direct(&["apply", "-f", file]).success();
    s.direct(&["create", "configmap", "app", "--from-literal=token=correct-horse", "--from-literal=plain=1"]).success();

    for (number, write) in [&["replace"][..], &["apply"], &["apply", "--server-side", "--force-conflicts"]].into_iter().enumerate() {
        let shown = s.kubectl(&["get", "secret", "db", "-o", "yaml"]).success().to_owned();
        assert!(shown.contains("cG9zdGVybi1tYXNrZW") && !shown.contains(SECRET));
        let mut changed = shown.replace("tier: data", &format!("tier: data\n    step: s{number}"));
        if write.contains(&"--server-side") {
            let without: Vec<&str> = changed.lines().filter(|line| !line.contains("managedFields")).collect();
            changed = without.join("\n");
        }
        std::fs::write(file, changed).unwrap();
        s.kubectl(&[write, &["-f", file]].concat()).success();
        assert_eq!((stored(&s, ".data.password"), stored(&s, ".metadata.labels.step")), (SECRET.into(), format!("s{number}")), "{write:?}");
    }
    let edit = |what: &str, script: &str| {
        let mut command = Command::new(testbed::binary("kubectl"));
        command.env("KUBE_EDITOR", format!("sed -i {script}")).arg("--kubeconfig").arg(&s.caller).args(["-n", &s.namespace, "edit", what]);
        Ran::new(command.output().unwrap())
    };
    edit("secret/db", "s/tier:.data/tier:\\ edited/").success();
    assert_eq!((stored(&s, ".data.password"), stored(&s, ".metadata.labels.tier")), (SECRET.into(), "edited".into()));
    edit("configmap/app", "s/plain:.*/plain:\\ changed/").success();
    let app = s.direct(&["get", "configmap", "app", "-o", "jsonpath={.data.token} {.data.plain}"]);
    assert_eq!(app.success(), "correct-horse changed");
    for (kind, patch) in [
        ("merge", r#"{"metadata":{"labels":{"a":"b"}},"data":{"password":"cG9zdGVybi1tYXNrZWQ="}}"#),
        ("strategic", r#"{"metadata":{"labels":{"a":"c"}},"stringData":{"password":"postern-masked"}}"#),
        (
            "json",
            r#"[{"op":"add","path":"/metadata/labels/a","value":"d"},{"op":"replace","path":"/data/password","value":"cG9zdGVybi1tYXNrZWQ="}]"#,
        ),
    ] {
        s.kubectl(&["patch", "secret", "db", "--type", kind, "-p", patch]).success();
        assert_eq!(stored(&s, ".data.password"), SECRET, "{kind}");
    }
    // A value that is meant is written.
    s.kubectl(&["patch", "secret", "db", "-p", r#"{"stringData":{"password":"new-value"}}"#]).success();
    assert_eq!(stored(&s, ".data.password"), "bmV3LXZhbHVl");
    no_placeholder_in_etcd(&s);
    assert!(s.events().iter().filter(|e| e["stage"] == "completed" && e["restored"].as_u64().is_some_and(|n| n >= 1)).count() >= 5);
}

#[test]
fn a_controller_that_reads_changes_and_writes_back_does_no_harm() {
    let s = masked();
    let path = format!("/api/v1/namespaces/{}/secrets/db", s.namespace);
    let answer = s.get(&path, "Accept: application/json\r\n");
    let mut object: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    object["metadata"]["annotations"]["touched"] = "yes".into();
    let answer = send(&s, "PUT", &path, "application/json", object.to_string().as_bytes());
    assert_eq!(code(&answer), 200, "{answer}");
    assert!(!answer.contains(SECRET));
    assert_eq!((stored(&s, ".data.password"), stored(&s, ".metadata.annotations.touched")), (SECRET.into(), "yes".into()));
    // The object changed meanwhile: the old version is a conflict, as it is without the gateway.
    assert_eq!(code(&send(&s, "PUT", &path, "application/json", object.to_string().as_bytes())), 409);
    // The same as a Go controller does it: it asks for protobuf, is given JSON, and writes protobuf.
    let put = protobuf_secret(&s.namespace, b"postern-masked");
    let answer = send(&s, "PUT", &path, "application/vnd.kubernetes.protobuf", &put);
    assert_eq!(code(&answer), 200, "{answer}");
    assert_eq!(stored(&s, ".data.password"), SECRET);
    no_placeholder_in_etcd_of_secrets(&s);
}

fn no_placeholder_in_etcd_of_secrets(s: &Setup) {
    let held = cluster().stored_under(&format!("/registry/secrets/{}/", s.namespace)).unwrap();
    assert!(!String::from_utf8_lossy(&held).contains("postern-masked"));
}

/// A Secret `db` with one value, as Go clients write it.
fn protobuf_secret(namespace: &str, value: &[u8]) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
    let meta = [field(1, b"db"), field(3, namespace.as_bytes())].concat();
    let data = [field(1, b"password"), field(2, value)].concat();
    let raw = [field(1, &meta), field(2, &data)].concat();
    let type_meta = [field(1, b"v1"), field(2, b"Secret")].concat();
    [b"k8s\0".as_slice(), &field(1, &type_meta), &field(2, &raw)].concat()
}

/// A Go client newer than the gateway sends what the gateway has no name for. kube-apiserver passes over it, and so does the gateway where no policy may be
/// reading it.
#[test]
fn a_field_newer_than_the_gateway_refuses_only_who_may_be_reading_it() {
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
    let newer = b"\xa2\x06\x01x";
    let body = |name: &str, in_metadata: bool| {
        let metadata = [field(1, name.as_bytes()), if in_metadata { newer.to_vec() } else { Vec::new() }].concat();
        let data = field(2, &[field(1, b"ok"), field(2, b"yes")].concat());
        let outside = if in_metadata { Vec::new() } else { newer.to_vec() };
        let type_meta = [field(1, b"v1"), field(2, b"ConfigMap")].concat();
        [b"k8s\0".as_slice(), &field(1, &type_meta), &field(2, &[field(1, &metadata), data, outside].concat())].concat()
    };
    let cel =
        "settings:\n  match: [{verbs: [create], resources: [configmaps]}]\n  validations: [{expression: 'object.data.ok == \"yes\"'}]\n";
    let s = setup(
        vec![("30-reads", "misbehaves", "settings: {does: read-body}\nrules: [{verbs: [create], resources: [configmaps]}]\n".into())],
        "",
    );
    let all = setup(vec![("30-cel", "cel-rules", cel.into())], "");
    for (number, in_metadata) in [false, true].into_iter().enumerate() {
        let create = |s: &Setup| {
            let path = format!("/api/v1/namespaces/{}/configmaps", s.namespace);
            send(s, "POST", &path, "application/vnd.kubernetes.protobuf", &body(&format!("newer-{number}"), in_metadata))
        };
        let along_its_path = create(&s);
        assert_eq!(code(&along_its_path), 201, "{along_its_path}");
        let whole = create(&all);
        let place = if in_metadata { "$.metadata (v1.ObjectMeta)" } else { "$ (v1.ConfigMap)" };
        assert!(
            code(&whole) == 415 && whole.contains(&format!("{place} has a field 100")) && whole.contains("send application/json"),
            "{whole}"
        );
    }
    assert_eq!(s.direct(&["get", "configmap", "newer-0", "newer-1", "-o", "jsonpath={.items[*].data.ok}"]).success(), "yes yes");
}

#[test]
fn a_placeholder_where_nothing_was_hidden_is_refused_and_named() {
    let s = masked();
    let refused = |ran: Ran, place: &str| assert!(ran.failure().contains(place) && ran.err.contains("postern-masked"), "{}", ran.err);
    refused(s.kubectl(&["create", "secret", "generic", "copy", "--from-literal=a=postern-masked"]), "the body");
    refused(s.kubectl(&["create", "configmap", "copy", "--from-literal=a=postern-masked"]), "the body");
    refused(s.kubectl(&["patch", "secret", "db", "-p", r#"{"stringData":{"other":"postern-masked"}}"#]), "$.stringData.other");
    refused(s.kubectl(&["patch", "secret", "db", "-p", r#"{"metadata":{"labels":{"a":"postern-masked"}}}"#]), "$.metadata.labels.a");
    let moved = r#"[{"op":"add","path":"/data/copy","value":"cG9zdGVybi1tYXNrZWQ="}]"#;
    refused(s.kubectl(&["patch", "secret", "db", "--type", "json", "-p", moved]), "$[1].value".replace('1', "0").as_str());
    // The value cannot be copied to where it would be seen: it is hidden wherever it shows.
    let copy = r#"[{"op":"copy","from":"/data/password","path":"/metadata/annotations/seen"}]"#;
    let copied = s.kubectl(&["patch", "secret", "db", "--type", "json", "-p", copy, "-o", "json"]);
    assert!(!copied.out.contains(SECRET), "{}", copied.out);
    assert!(!s.kubectl(&["get", "secret", "db", "-o", "yaml"]).success().contains(SECRET));
    // Renamed and annotated in base64, it is still none that was shown there.
    no_placeholder_in_etcd_of_secrets(&s);
}

#[test]
fn a_body_in_protobuf_is_read_and_one_that_cannot_be_is_refused() {
    let s = setup(vec![("50-body", "misbehaves", "settings: {does: read-body}\nrules: [{resources: [configmaps]}]\n".into())], "");
    // kubectl create sends protobuf.
    s.kubectl(&["create", "configmap", "good", "--from-literal=ok=yes"]).success();
    assert!(s.kubectl(&["create", "configmap", "bad", "--from-literal=ok=no"]).failure().contains("the body does not say ok"));
    let path = format!("/api/v1/namespaces/{}/configmaps", s.namespace);
    let mut newer = protobuf_secret(&s.namespace, b"x");
    let at = newer.windows(6).position(|w| w == b"Secret").unwrap();
    newer[at..at + 6].copy_from_slice(b"Gizmos");
    for (media_type, body, why) in [
        ("application/vnd.kubernetes.protobuf", newer, "does not know the type v1 Gizmos"),
        ("application/vnd.kubernetes.protobuf", b"k8s\0\x0a\x7f".to_vec(), "cannot be decoded"),
        ("Application/Vnd.Kubernetes.Protobuf;odd=1", b"k8s\0\x0a\x7f".to_vec(), "cannot be decoded"),
        ("application/cbor", b"\xa0".to_vec(), "is not decoded by the gateway"),
    ] {
        let answer = send(&s, "POST", &path, media_type, &body);
        assert!(code(&answer) == 415 && answer.contains(why), "{media_type}: {answer}");
    }
    for (method, media_type, body) in [
        ("PATCH", "application/merge-patch+json", r#"{"data":{"ok":"no"}}"#),
        ("PATCH", "application/strategic-merge-patch+json", r#"{"data":{"ok":"no"}}"#),
        ("PATCH", "application/apply-patch+yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good}\ndata: {ok: 'no'}\n"),
        ("PUT", "application/yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good}\ndata: {ok: 'no'}\n"),
    ] {
        let answer = send(&s, method, &format!("{path}/good?fieldManager=x"), media_type, body.as_bytes());
        assert!(code(&answer) == 403 && answer.contains("the body does not say ok"), "{media_type}: {answer}");
    }
    assert_eq!(s.direct(&["get", "configmap", "good", "-o", "jsonpath={.data.ok}"]).success(), "yes");
    let events = s.events();
    assert!(events.iter().any(|e| e["status"] == 415 && e["policies"][0]["verdict"] == "failed"));
}
