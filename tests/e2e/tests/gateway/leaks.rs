//! A masked value shows nowhere: not by what a patch moves, not in what is said about a write, not in the metadata alone.

use e2e::{Setup, cluster, code, setup};
use serde_json::{Value, json};

const SECRET: &str = "hunter2-is-secret";
const ENCODED: &str = "aHVudGVyMi1pcy1zZWNyZXQ=";

fn send(s: &Setup, method: &str, path: &str, media_type: &str, body: &str) -> String {
    s.raw(&format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n{body}",
        s.token,
        body.len()
    ))
}

struct Stops<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(false, std::sync::atomic::Ordering::Relaxed);
    }
}

fn shows(answer: &str) -> bool {
    answer.contains(SECRET) || answer.contains(ENCODED)
}

#[test]
fn a_patch_moves_copies_and_tests_nothing_hidden() {
    let s = setup(vec![("20-mask", "mask-secrets", String::new())], "");
    let path = format!("/api/v1/namespaces/{}/secrets/db", s.namespace);
    for patch in [
        json!([{"op": "add", "path": "/metadata/annotations", "value": {}}, {"op": "move", "from": "/data/password", "path": "/metadata/annotations/x"}]),
        json!([{"op": "add", "path": "/metadata/labels", "value": {}}, {"op": "copy", "from": "/data/password", "path": "/metadata/labels/x"}]),
        json!([{"op": "move", "from": "/data", "path": "/metadata/annotations"}]),
        json!([{"op": "copy", "from": "", "path": "/metadata/annotations"}]),
        json!([{"op": "test", "path": "/data/password", "value": ENCODED}]),
        json!([{"op": "test", "path": "/data", "value": {"password": ENCODED, "user": "YWRtaW4="}}]),
    ] {
        for query in ["", "?dryRun=All"] {
            let answer = send(&s, "PATCH", &format!("{path}{query}"), "application/json-patch+json", &patch.to_string());
            assert!(code(&answer) == 422 && answer.contains("reaches a value hidden from you") && !shows(&answer), "{patch}: {answer}");
        }
    }
    // What reaches nothing hidden goes on.
    let patch = json!([{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}, {"op": "copy", "from": "/metadata/labels/a", "path": "/metadata/labels/c"},
        {"op": "test", "path": "/metadata/name", "value": "db"}]);
    let answer = send(&s, "PATCH", &path, "application/json-patch+json", &patch.to_string());
    assert!(code(&answer) == 200 && !shows(&answer), "{answer}");
    assert_eq!(
        s.direct(&["get", "secret", "db", "-o", "jsonpath={.metadata.labels.c} {.data.password}"]).success(),
        format!("b {ENCODED}")
    );
}

#[test]
fn what_is_said_of_a_write_repeats_nothing_hidden() {
    let settings = "settings: {fields: [{resource: pods, paths: ['$.spec.containers[*].env[*].value']}]}\n".to_owned();
    let s = setup(vec![("20-mask", "mask-secrets", settings)], "");
    cluster().run_pod_with(&s.namespace, "env", &json!({"env": [{"name": "PASSWORD", "value": SECRET}]})).unwrap();
    let path = format!("/api/v1/namespaces/{}/pods/env", s.namespace);
    // Forbidden, with a diff of the stored object: the value stands in no sentence that is known.
    let patch = json!({"spec": {"containers": [{"name": "main", "env": [{"name": "PASSWORD", "value": "another"}]}]}}).to_string();
    let direct = s.direct(&["patch", "pod", "env", "--type=strategic", "-p", &patch]);
    assert!(direct.failure().contains(SECRET), "the API server repeats it: {}", direct.err);
    let answer = send(&s, "PATCH", &path, "application/strategic-merge-patch+json", &patch);
    assert!(code(&answer) == 422 && answer.contains("postern-masked") && !shows(&answer), "{answer}");
    let told = s.kubectl(&["patch", "pod", "env", "--type=strategic", "-p", &patch]);
    assert!(!shows(told.failure()), "{}", told.err);
}

#[test]
fn metadata_alone_is_cut_from_the_masked_object() {
    let s = setup(vec![("20-mask", "mask-secrets", String::new())], "");
    let annotated = json!({"metadata": {"annotations": {"copied": format!("it is {SECRET}")}}}).to_string();
    s.direct(&["patch", "secret", "db", "--type=merge", "-p", &annotated]).success();
    let collection = format!("/api/v1/namespaces/{}/secrets", s.namespace);
    for accept in [
        "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
        "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
        "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
    ] {
        let answer = s.get(&format!("{collection}/db"), &format!("Accept: {accept}\r\n"));
        let is_partial = answer.contains("\"kind\":\"PartialObjectMetadata\"") && answer.contains("\"apiVersion\":\"meta.k8s.io/v1\"");
        assert!(
            is_partial && !answer.contains("\"data\"") && answer.contains("it is postern-masked") && !shows(&answer),
            "{accept}: {answer}"
        );
        let list = s.get(&collection, &format!("Accept: {}\r\n", accept.replace("PartialObjectMetadata", "PartialObjectMetadataList")));
        assert!(
            list.contains("\"kind\":\"PartialObjectMetadataList\"") && !list.contains("\"data\":{") && !shows(&list),
            "{accept}: {list}"
        );
        let watch = e2e::send(
            &s.gateway,
            &format!(
                "GET {collection}?watch=1&fieldSelector=metadata.name=db HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nAccept: {accept}\r\n\r\n",
                s.token
            ),
            std::time::Duration::from_secs(2),
        );
        assert!(watch.contains("PartialObjectMetadata") && !watch.contains("\"data\":{") && !shows(&watch), "{accept}: {watch}");
    }
}

#[test]
fn a_busy_masked_object_is_changed_without_a_conflict_of_the_gateways_own() {
    let s = setup(vec![("20-mask", "mask-secrets", String::new())], "");
    let (writing, namespace) = (std::sync::atomic::AtomicBool::new(true), &s.namespace);
    let shown = s.kubectl(&["get", "secret", "db", "-o", "json"]).success().to_owned();
    let mut shown: Value = serde_json::from_str(&shown).unwrap();
    for field in ["resourceVersion", "uid", "creationTimestamp", "managedFields"] {
        shown["metadata"].as_object_mut().unwrap().remove(field);
    }
    let path = format!("/api/v1/namespaces/{namespace}/secrets/db");
    std::thread::scope(|scope| {
        // However it ends, the writers end too.
        let _stops = Stops(&writing);
        for writer in 0..3 {
            let (s, writing) = (&s, &writing);
            scope.spawn(move || {
                let mut n = 0;
                while writing.load(std::sync::atomic::Ordering::Relaxed) {
                    n += 1;
                    let patch = json!({"metadata": {"annotations": {format!("writer-{writer}"): n.to_string()}}}).to_string();
                    s.direct(&["patch", "secret", "db", "--type=merge", "-p", &patch]).success();
                    std::thread::sleep(std::time::Duration::from_millis(200));
                }
            });
        }
        for n in 0..100 {
            shown["metadata"]["labels"] = json!({"step": n.to_string()});
            let merge = json!({"metadata": {"labels": {"step": format!("m{n}")}}, "data": shown["data"]}).to_string();
            let patch = json!([{"op": "replace", "path": "/data", "value": shown["data"]}]).to_string();
            for (method, media_type, query, body) in [
                ("PATCH", "application/merge-patch+json", "", merge),
                ("PATCH", "application/json-patch+json", "", patch),
                ("PATCH", "application/apply-patch+yaml", "?fieldManager=t&force=true", shown.to_string()),
            ] {
                let answer = send(&s, method, &format!("{path}{query}"), media_type, &body);
                assert!(code(&answer) == 200 && !shows(&answer), "{n} {media_type}: {answer}");
            }
        }
    });
    assert_eq!(s.direct(&["get", "secret", "db", "-o", "jsonpath={.data.password}"]).success(), ENCODED);
}

#[test]
fn the_strongest_mask_wins_and_conditions_see_what_their_policy_sees() {
    // The first file shows the end of what the second hides.
    let weaker = "settings: {does: keep-end}\nrules: [{resources: [secrets]}]\n".to_owned();
    let s = setup(vec![("10-weaker", "misbehaves", weaker), ("20-mask", "mask-secrets", String::new())], "");
    let shown = s.kubectl(&["get", "secret", "db", "-o", "jsonpath={.data.password}"]).success().to_owned();
    assert!(shown.starts_with("cG9zdGVybi1tYXNrZW"), "{shown}");
    let guessing = "settings: {does: guess-by-condition}\nrules: [{resources: [secrets]}]\n".to_owned();
    let s = setup(vec![("10-guess", "misbehaves", guessing)], "");
    let told = s.kubectl(&["get", "secret", "db"]);
    assert!(told.failure().contains("which it may not see"), "{}", told.err);
}

#[test]
fn an_approver_is_shown_no_more_than_the_requester() {
    let approve = "settings: {approvers: ['postern:approver'], verbs: [update, patch], resources: [configmaps]}\n".to_owned();
    let mask = "settings: {fields: [{resource: configmaps, paths: ['$.data.token']}]}\n".to_owned();
    let s = setup(
        vec![("20-mask", "mask-secrets", mask), ("40-approve", "approve-deletes", approve)],
        "approvals: {tellFirst: false, hold: 1}\n",
    );
    s.direct(&["create", "configmap", "app", "--from-literal=token=old", "--from-literal=plain=1"]).success();
    let patch = json!({"data": {"token": SECRET, "plain": "2"}}).to_string();
    let path = format!("/api/v1/namespaces/{}/configmaps/app", s.namespace);
    let held = send(&s, "PATCH", &path, "application/merge-patch+json", &patch);
    assert_eq!(code(&held), 429, "{held}");
    let token = cluster().token("approver", testbed::AUDIENCE).unwrap();
    let list =
        s.raw(&format!("GET /postern/v1/approvals HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"));
    assert!(list.contains("application/merge-patch+json") && list.contains("postern-masked") && list.contains("\"plain\":\"2\""), "{list}");
    assert!(!shows(&list), "{list}");
}

#[test]
fn what_a_container_left_behind_shows_nowhere() {
    let s = setup(vec![("20-mask", "mask-secrets", "settings: {podSecrets: true, how: redact}\n".into())], "");
    let words = format!("cannot log in with {SECRET}");
    let ended = json!({"exitCode": 1, "reason": "Error", "message": words, "startedAt": null, "finishedAt": null});
    let status = json!({"status": {"phase": "Running", "containerStatuses": [{"name": "main", "image": "x", "imageID": "", "ready": false, "restartCount": 1,
        "state": {"waiting": {"reason": "PostStartHookError", "message": words}}, "lastState": {"terminated": ended}}]}});
    let admin = cluster().admin_kubeconfig();
    let patched = s.kubectl_of(&admin, &["patch", "pod", "web", "--subresource=status", "--type=merge", "-p", &status.to_string()]);
    patched.success();
    let about = json!({"kind": "Pod", "name": "web", "namespace": s.namespace});
    for (n, reason) in ["Unhealthy", "ProbeWarning", "FailedPostStartHook", "FailedPreStopHook", "Scheduled"].into_iter().enumerate() {
        let message = if reason == "Scheduled" { "assigned to node-1" } else { words.as_str() };
        let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": format!("e{n}"), "namespace": s.namespace}, "involvedObject": about,
            "reason": reason, "message": message, "type": "Warning"});
        cluster().apply(&event).unwrap();
    }
    for asked in [
        &["get", "pod", "web", "-o", "yaml"][..],
        &["get", "pods", "-o", "wide"],
        &["describe", "pod", "web"],
        &["get", "events"],
        &["get", "events", "-o", "json"],
        &["get", "events.events.k8s.io", "-o", "yaml"],
        &["events"],
    ] {
        let direct = s.direct(asked);
        let shown = s.kubectl(asked);
        assert!(!shows(shown.success()), "{asked:?}: {}", shown.out);
        // A list of pods has no room for it.
        assert_eq!(shows(direct.success()), asked.get(1) != Some(&"pods"), "{asked:?}: {}", direct.out);
        assert!(!shows(&direct.out) || shown.out.contains("postern-masked"), "{asked:?}: {}", shown.out);
        assert_eq!(direct.out.contains("assigned to node-1"), shown.out.contains("assigned to node-1"), "{asked:?}: {}", shown.out);
    }
}

#[test]
fn who_set_a_hidden_element_is_told_without_its_value() {
    let settings = "settings: {fields: [{resource: configmaps, paths: ['$.metadata.finalizers[*]']}]}\n".to_owned();
    let s = setup(vec![("20-mask", "mask-secrets", settings)], "");
    let hidden = format!("example.com/{SECRET}");
    cluster()
        .apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": s.namespace, "finalizers": [hidden]}, "data": {"a": "b"}}))
        .unwrap();
    let whole = ["get", "configmap", "c", "-o", "json", "--show-managed-fields"];
    assert!(s.direct(&whole).success().matches(SECRET).count() >= 2, "managedFields name it too");
    let shown = s.kubectl(&whole);
    assert!(!shows(shown.success()) && shown.out.contains(r#""v:\"postern-masked"#), "{}", shown.out);

    // What reads and writes back, as controllers do, changes what it means to and nothing else.
    let owners =
        ["get", "configmap", "c", "--show-managed-fields", "-o", "jsonpath={.metadata.managedFields[0].fieldsV1.f:metadata.f:finalizers}"];
    let before = s.direct(&owners).success().to_owned();
    let mut object: Value = serde_json::from_str(&shown.out).unwrap();
    object["data"]["a"] = "c".into();
    let path = format!("/api/v1/namespaces/{}/configmaps/c", s.namespace);
    let answer = send(&s, "PUT", &path, "application/json", &object.to_string());
    assert!(code(&answer) == 200 && !shows(&answer), "{answer}");
    assert_eq!(s.direct(&["get", "configmap", "c", "-o", "jsonpath={.data.a} {.metadata.finalizers[0]}"]).success(), format!("c {hidden}"));
    assert!(before.contains(SECRET) && s.direct(&owners).success() == before, "who set the finalizer is as it was");
    s.direct(&["patch", "configmap", "c", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]).success();
}
