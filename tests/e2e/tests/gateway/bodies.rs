//! One reading of a body: what is decided about is what the API server stores.

use e2e::{Setup, code, setup};
use serde_json::json;

fn send(s: &Setup, method: &str, path: &str, media_type: &str, body: &str) -> String {
    s.raw(&format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n{body}",
        s.token,
        body.len()
    ))
}

#[test]
fn a_key_that_is_there_twice_passes_no_policy_that_reads() {
    let images = "settings: {allow: ['registry.example/*']}\n".to_owned();
    let cel = "settings: {validations: [{expression: '!has(object.spec.hostNetwork) || object.spec.hostNetwork != true'}]}\nrules: [{resources: [pods], verbs: [create]}]\n";
    let s = setup(
        vec![("10-images", "image-allow-list", images), ("20-rbac", "guard-rbac", String::new()), ("30-cel", "cel-rules", cel.into())],
        "",
    );
    let pods = format!("/api/v1/namespaces/{}/pods", s.namespace);
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let pod = |spec: &str| format!(r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"twice"}},{spec}}}"#);
    let good = r#""containers":[{"name":"a","image":"registry.example/a:1"}]"#;
    for (path, body, place) in [
        (pods.as_str(), pod(r#""spec":{"containers":[{"name":"a","image":"evil/a"}]},"spec":{}"#), "$.spec is there twice"),
        (&pods, pod(&format!(r#""spec":{{{good},"hostNetwork":true,"hostNetwork":null}}"#)), "$.spec.hostNetwork is there twice"),
        (&pods, pod(&format!(r#""spec":{{{good},"\u0063ontainers":[]}}"#)), "$.spec.containers is there twice"),
        (
            roles,
            r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"twice"},"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}],"rules":[{}]}"#.to_owned(),
            "$.rules is there twice",
        ),
    ] {
        let answer = send(&s, "POST", &format!("{path}?fieldValidation=Ignore"), "application/json", &body);
        assert!(code(&answer) == 400 && answer.contains(place), "{body}: {answer}");
    }
    assert!(!s.direct(&["get", "pod", "twice"]).ok && !s.direct(&["get", "clusterrole", "twice"]).ok, "nothing was stored");
    assert!(s.direct(&["get", "pod", "web"]).ok);
    let answer = send(
        &s,
        "POST",
        &pods,
        "application/yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: twice}\nspec: {}\nspec: {containers: []}\n",
    );
    assert!(code(&answer) == 400 && answer.contains("$.spec is there twice"), "{answer}");
    let two = send(&s, "POST", &pods, "application/json\r\nContent-Type: application/yaml", &pod(&format!(r#""spec":{{{good}}}"#)));
    assert!(code(&two) == 400 && two.contains("several Content-Types"), "{two}");
}

#[test]
fn where_nothing_reads_a_body_passes_as_it_came() {
    let s = setup(vec![], "");
    let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"twice"},"data":{"a":"1"},"data":{"b":"2"}}"#;
    let answer =
        send(&s, "POST", &format!("/api/v1/namespaces/{}/configmaps?fieldValidation=Ignore", s.namespace), "application/json", body);
    assert_eq!(code(&answer), 201, "{answer}");
    let stored = s.direct(&["get", "configmap", "twice", "-o", "json"]);
    let stored: serde_json::Value = serde_json::from_str(stored.success()).unwrap();
    // Upstream's typed decoder makes the union: what a policy would be told otherwise, if the body were read by another reader.
    assert_eq!(stored["data"], json!({"a": "1", "b": "2"}));
}

#[test]
fn of_yaml_the_cluster_stores_what_was_decided_about() {
    let s = setup(vec![("10-read", "cel-rules", "settings: {validations: [{expression: 'object.data.mode == \"x-y\"'}]}\nrules: [{resources: [configmaps], verbs: [create, patch]}]\n".into())], "");
    let path = format!("/api/v1/namespaces/{}/configmaps", s.namespace);
    let body = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: yaml\ndata:\n  mode: \"x\\x2dy\"\n  list: |\n    a\n    b\n";
    let answer = send(&s, "POST", &path, "application/yaml", body);
    assert_eq!(code(&answer), 201, "{answer}");
    assert_eq!(s.direct(&["get", "configmap", "yaml", "-o", "jsonpath={.data.mode}|{.data.list}"]).success(), "x-y|a\nb\n");
    let answer = send(
        &s,
        "PATCH",
        &format!("{path}/yaml?fieldManager=t&force=true"),
        "application/apply-patch+yaml",
        &body.replace("list: |\n    a\n    b", "list: \"a\\n\\L\\x85c\\n\""),
    );
    assert_eq!(code(&answer), 200, "{answer}");
    assert_eq!(s.direct(&["get", "configmap", "yaml", "-o", "jsonpath={.data.list}"]).success(), "a\n\u{2028}\u{85}c\n");
    for (text, why) in [
        ("data: &a {mode: x}\nbinaryData: *a\n", "anchors"),
        ("data: {mode: !!binary eA==}\n", "tags"),
        ("data: {}\n---\nkind: x\n", "second document"),
    ] {
        let answer = send(&s, "POST", &path, "application/yaml", text);
        assert!(code(&answer) == 400 && answer.contains(why), "{text}: {answer}");
    }
}

#[test]
fn options_of_a_delete_are_read_in_one_way_or_refused() {
    let s = setup(vec![], "");
    let path = format!("/api/v1/namespaces/{}/configmaps/kube-root-ca.crt", s.namespace);
    let answer = send(&s, "DELETE", &path, "application/json", r#"{"dryRun":["All"],"dryRun":null}"#);
    assert!(code(&answer) == 400 && answer.contains("$.dryRun is there twice"), "{answer}");
}
