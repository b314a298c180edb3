//! The rights of docs/operations.md are enough, and no more than that: constrained impersonation (KEP-5284) on a real API server.

use std::path::Path;
use std::time::Duration;

use e2e::{Issuer, cluster, code, scratch, setup_with};
use serde_json::{Value, json};
use testbed::{GatewayOptions, wait_until};

const MAPPINGS: &str = "    claimMappings:\n      username: {claim: sub, prefix: 'corp:'}\n      groups: {claim: roles, prefix: 'role:'}\n";

#[test]
fn what_the_page_grants_is_what_the_gateway_needs() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md")).unwrap();
    let block = page
        .split("```yaml\n")
        .map(|rest| rest.split("```").next().unwrap())
        .find(|block| block.contains("impersonate:user-info"))
        .unwrap();
    let file = scratch("role").join("role.yaml");
    std::fs::write(&file, block).unwrap();
    let issuer = Issuer::start();
    let s = setup_with(GatewayOptions {
        kubeconfig: Some(cluster().certificate_kubeconfig("constrained", &[]).unwrap()),
        issuers: issuer.entry(MAPPINGS),
        access: "[{as: {impersonate: {}}}]".into(),
        policies: vec![("10-read-only", "read-only", "settings: {groups: ['role:guest']}\n".into())],
        cluster: format!(", serviceAccountIssuers: ['{}']", cluster().issuer()),
        ..GatewayOptions::default()
    });
    let admin = |args: &[&str]| s.kubectl_of(&cluster().admin_kubeconfig(), args);
    admin(&["apply", "-f", file.to_str().unwrap()]).success();
    admin(&["create", "clusterrolebinding", "constrained", "--clusterrole=postern", "--user=constrained"]).success();
    admin(&["create", "role", "ann", "--verb=get,list,watch,delete", "--resource=pods,pods/log,secrets"]).success();
    admin(&["create", "rolebinding", "ann", "--role=ann", "--user=corp:ann"]).success();
    let token = issuer.token("first", 600, &json!({"roles": ["dev"]}));
    let ask = |method: &str, path: &str, body: &str| {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n");
        s.raw(&format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    };
    let pods = format!("/api/v1/namespaces/{}/pods", s.namespace);
    let knows = wait_until("RBAC knows", Duration::from_secs(20), || Ok(code(&ask("GET", &pods, "")) == 200));
    assert!(knows.is_ok(), "{}", ask("GET", &pods, ""));
    for path in [&format!("{pods}/web"), &format!("{pods}/web/log"), "/apis", "/openapi/v3", "/version"] {
        let answer = ask("GET", path, "");
        assert_eq!(code(&answer), 200, "{path}: {answer}");
    }
    // The caller may, and the gateway may not do it in their name.
    let secrets = ask("GET", &format!("/api/v1/namespaces/{}/secrets", s.namespace), "");
    assert!(code(&secrets) == 403 && !secrets.contains("aHVudGVyMi"), "{secrets}");
    assert_eq!(code(&ask("DELETE", &format!("{pods}/web"), "")), 403);
    // Reviews of rights go on working: the caller's own, and those of the gateway in their name, which end what is open.
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "list", "resource": "pods", "namespace": s.namespace}}});
    let answer = ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review.to_string());
    let review: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(review["status"]["allowed"], true, "{answer}");
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| ask("GET", &format!("{pods}?watch=1"), ""));
        std::thread::sleep(Duration::from_secs(3));
        admin(&["delete", "rolebinding", "ann"]).success();
        assert_eq!(code(&watch.join().unwrap()), 200, "it ends when the right does, and not when patience does");
    });
    assert!(s.events().iter().any(|event| event["ended"] == "right-withdrawn"), "{:#?}", s.events().last());
    admin(&["delete", "clusterrolebinding", "constrained"]).success();
}
