//! An operation waits for somebody else's yes.

use std::time::Duration;

use e2e::{Ran, cluster, setup};
use serde_json::{Value, json};
use testbed::{AUDIENCE, Gateway, wait_until};

#[test]
fn a_delete_waits_is_approved_by_another_and_passes_once() {
    let settings = "settings: {approvers: ['postern:approver'], resources: [deployments]}\n";
    let s = setup(vec![("40-approve", "approve-deletes", settings.into())], "approvals: {hold: 20}\n");
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": s.namespace}, "spec": {"replicas": 0,
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    cluster().apply(&deployment).unwrap();
    let approver = s.gateway.kubeconfig("approver", &cluster().token("approver", AUDIENCE).unwrap()).unwrap();
    let approval = |kubeconfig: &std::path::Path, args: &[&str]| {
        Ran::new(Gateway::postern(&[&["approval", "--kubeconfig", kubeconfig.to_str().unwrap()], args].concat()).unwrap())
    };
    let delete = || s.kubectl(&["delete", "deployment", "web", "--wait=false"]);
    let pending = || -> Option<Value> {
        let list: Value = serde_json::from_str(approval(&approver, &["list", "--json"]).success()).unwrap();
        list["items"].as_array().unwrap().iter().find(|t| t["state"] == "pending").cloned()
    };
    std::thread::scope(|scope| {
        let waiting = scope.spawn(delete);
        wait_until("the ticket is there", Duration::from_secs(15), || Ok(pending().is_some())).unwrap();
        let id = pending().unwrap()["id"].as_str().unwrap().to_owned();
        assert!(approval(&approver, &["list"]).success().contains("delete deployments"));
        assert!(approval(&s.caller, &["approve", &id]).failure().contains("asked for themselves"));
        assert!(s.direct(&["get", "deployment", "web"]).ok, "not before it is approved");
        approval(&approver, &["approve", &id]).success();
        waiting.join().unwrap().success();
    });
    assert!(!s.direct(&["get", "deployment", "web"]).ok);

    // Not a second time: the same intent asks anew, and a no is told.
    cluster().apply(&deployment).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(delete);
        wait_until("a new ticket is there", Duration::from_secs(15), || Ok(pending().is_some())).unwrap();
        approval(&approver, &["deny", pending().unwrap()["id"].as_str().unwrap()]).success();
        assert!(waiting.join().unwrap().failure().contains("denied"));
    });
    assert!(s.direct(&["get", "deployment", "web"]).ok);
    let events = s.events();
    assert!(events.iter().any(|e| e["stage"] == "held" && e["ticket"].is_string()));
    assert!(events.iter().any(|e| e["approvedBy"][0] == "system:serviceaccount:postern:approver" && e["stage"] == "decided"));
}

#[test]
fn a_client_that_is_not_answered_in_time_is_told_the_ticket() {
    let settings = "settings: {approvers: [nobody], resources: [configmaps]}\n";
    let s = setup(vec![("40-approve", "approve-deletes", settings.into())], "approvals: {hold: 0}\n");
    s.direct(&["create", "configmap", "a"]).success();
    let answer = s.raw(&format!(
        "DELETE /api/v1/namespaces/{}/configmaps/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
        s.namespace, s.token
    ));
    assert!(
        e2e::code(&answer) == 429 && answer.to_lowercase().contains("retry-after: 1") && answer.contains("waiting for approval"),
        "{answer}"
    );
    assert!(s.direct(&["get", "configmap", "a"]).ok);
}
