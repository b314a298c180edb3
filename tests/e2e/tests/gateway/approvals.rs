//! An operation waits for somebody else's yes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use e2e::{Ran, Setup, cluster, setup};
use serde_json::{Value, json};
use testbed::{AUDIENCE, Gateway, wait_until};

/// The approver of a gateway.
struct Approver<'a> {
    kubeconfig: std::path::PathBuf,
    setup: &'a Setup,
}

impl<'a> Approver<'a> {
    fn of(setup: &'a Setup) -> Self {
        let token = cluster().token("approver", AUDIENCE).unwrap();
        Self { kubeconfig: setup.gateway.kubeconfig("approver", &token).unwrap(), setup }
    }

    fn run(&self, args: &[&str]) -> Ran {
        approval(&self.kubeconfig, args)
    }

    /// The id of the ticket that is pending, once there is one.
    fn pending(&self) -> String {
        let mut id = String::new();
        wait_until("a ticket is pending", Duration::from_secs(15), || {
            let list: Value = serde_json::from_str(self.run(&["list", "--json"]).success())?;
            let pending = list["items"].as_array().unwrap().iter().find(|t| t["state"] == "pending");
            id = pending.map(|t| t["id"].as_str().unwrap().to_owned()).unwrap_or_default();
            Ok(!id.is_empty())
        })
        .unwrap();
        id
    }

    /// kubectl exec, under way, with its input.
    fn exec(&self, websockets: bool, args: &[&str]) -> Child {
        let mut command = Command::new(testbed::binary("kubectl"));
        command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets.to_string()).arg("--kubeconfig").arg(&self.setup.caller);
        command.args(["-n", &self.setup.namespace, "exec"]).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

fn approval(kubeconfig: &std::path::Path, args: &[&str]) -> Ran {
    Ran::new(Gateway::postern(&[&["approval", "--kubeconfig", kubeconfig.to_str().unwrap()], args].concat()).unwrap())
}

#[test]
fn a_delete_waits_is_approved_by_another_and_passes_once() {
    let settings = "settings: {approvers: ['postern:approver'], resources: [deployments]}\n";
    let s = setup(vec![("40-approve", "approve-deletes", settings.into())], "approvals: {tellFirst: false, hold: 20}\n");
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": s.namespace}, "spec": {"replicas": 0,
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    cluster().apply(&deployment).unwrap();
    let approver = Approver::of(&s);
    let delete = || s.kubectl(&["delete", "deployment", "web", "--wait=false"]);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(delete);
        let id = approver.pending();
        assert!(approver.run(&["list"]).success().contains("delete deployments"));
        assert!(approval(&s.caller, &["approve", &id]).failure().contains("asked for themselves"));
        assert!(s.direct(&["get", "deployment", "web"]).ok, "not before it is approved");
        approver.run(&["approve", &id]).success();
        waiting.join().unwrap().success();
    });
    assert!(!s.direct(&["get", "deployment", "web"]).ok);

    // Not a second time: the same intent asks anew, and a no is told.
    cluster().apply(&deployment).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(delete);
        approver.run(&["deny", &approver.pending()]).success();
        assert!(waiting.join().unwrap().failure().contains("denied"));
    });
    assert!(s.direct(&["get", "deployment", "web"]).ok);
    let events = s.events();
    assert!(events.iter().any(|e| e["stage"] == "held" && e["ticket"].is_string()));
    assert!(events.iter().any(|e| e["approvedBy"][0] == "system:serviceaccount:postern:approver" && e["stage"] == "decided"));
}

/// Who leaves a list open is told as soon as there is something, and asks, and is recorded, seldom.
#[test]
fn a_list_is_waited_for_and_not_asked_for_again_and_again() {
    let settings = "settings: {approvers: ['postern:approver'], resources: [configmaps]}\n";
    let s = setup(vec![("40-approve", "approve-deletes", settings.into())], "approvals: {tellFirst: false, hold: 20}\n");
    cluster().apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "namespace": s.namespace}})).unwrap();
    let approver = Approver::of(&s);
    let mut watching = Command::new(testbed::postern());
    watching.args(["approval", "--kubeconfig", approver.kubeconfig.to_str().unwrap(), "list", "--watch", "-o", "name"]);
    let mut watching = watching.stdout(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(watching.stdout.take().unwrap()).lines();
    let asked = || s.events().iter().filter(|e| e["path"] == "/postern/v1/approvals").count();
    wait_until("it is asked", Duration::from_secs(15), || Ok(asked() > 0)).unwrap();
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(asked(), 1);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| s.kubectl(&["delete", "configmap", "one"]));
        let id = told.next().unwrap().unwrap();
        approver.run(&["approve", id.trim()]).success();
        waiting.join().unwrap().success();
    });
    // It waits again, and goes away: nobody waits for it, and that is in the log.
    std::thread::sleep(Duration::from_secs(3));
    watching.kill().unwrap();
    watching.wait().unwrap();
    assert!(asked() <= 4, "once at first, and once for each of what became of the ticket: {}", asked());
    wait_until("it is gone", Duration::from_secs(5), || {
        Ok(s.events().iter().any(|e| e["path"] == "/postern/v1/approvals" && e["ended"].is_string()))
    })
    .unwrap();

    // As many as may: what the one waited for that went away has its place back.
    let auditor = crate::api::auditor();
    let (_, page) = crate::api::get(&s, &auditor, "/postern/v1/approvals");
    let wait = format!("/postern/v1/approvals?waitSeconds=10&revision={}", page["revision"].as_str().unwrap());
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..12).map(|_| scope.spawn(|| crate::api::get(&s, &auditor, &wait).0)).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert_eq!(
        (answers.iter().filter(|code| **code == 200).count(), answers.iter().filter(|code| **code == 429).count()),
        (8, 4),
        "{answers:?}"
    );
}

/// kubectl prints nothing while it is held: it is told of a new ticket first, and the same command again waits. Who asks by other means is held from the beginning.
#[test]
fn kubectl_is_told_of_its_ticket_at_once_and_waits_when_it_is_run_again() {
    let settings = "settings: {approvers: ['postern:approver'], resources: [configmaps]}\n";
    let s = setup(vec![("40-approve", "approve-deletes", settings.into())], "approvals: {hold: 20}\n");
    let approver = Approver::of(&s);
    s.direct(&["create", "configmap", "a"]).success();
    s.direct(&["create", "configmap", "b"]).success();
    let delete = || s.kubectl(&["delete", "configmap", "a"]);
    let began = std::time::Instant::now();
    let told = delete();
    // Held, and repeated by client-go without a word, it would be told after minutes.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let id = approver.pending();
    let message = format!("Error from server (TooManyRequests): waiting for approval {id} by postern:approver");
    assert!(told.failure().contains(&message) && told.err.contains("run the same command again to wait"), "{}", told.err);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(delete);
        std::thread::sleep(Duration::from_secs(2));
        assert!(!waiting.is_finished() && s.direct(&["get", "configmap", "a"]).ok, "it waits now, for the same ticket");
        assert_eq!(approver.pending(), id);
        approver.run(&["approve", &id]).success();
        waiting.join().unwrap().success();
    });
    assert!(!s.direct(&["get", "configmap", "a"]).ok);
    // Of several objects each has its ticket, and all are told.
    s.direct(&["create", "configmap", "c"]).success();
    let both = s.kubectl(&["delete", "configmap", "b", "c"]);
    assert_eq!(both.failure().matches("waiting for approval").count(), 2, "{}", both.err);
    // A client of another name is held, and told when to come again.
    s.direct(&["create", "configmap", "d"]).success();
    let began = std::time::Instant::now();
    let held = s.raw(&format!(
        "DELETE /api/v1/namespaces/{}/configmaps/d HTTP/1.1\r\nHost: x\r\nUser-Agent: Helm/3.20\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
        s.namespace, s.token
    ));
    assert!(e2e::code(&held) == 429 && held.to_lowercase().contains("retry-after: 1"), "{held}");
    assert!(began.elapsed() >= Duration::from_secs(19), "{:?}", began.elapsed());
}

/// What an approver says reaches the requester; a wrong no is taken back, a yes for a time ended, and what one wants no more cancelled.
#[test]
fn an_answer_has_a_comment_and_can_be_taken_back() {
    let settings = "settings: {approvers: ['postern:approver'], resources: [configmaps]}\n";
    let s = setup(vec![("40-approve", "approve-deletes", settings.into())], "approvals: {tellFirst: false, hold: 0}\n");
    let approver = Approver::of(&s);
    s.direct(&["create", "configmap", "a"]).success();
    let delete = || {
        s.raw(&format!(
            "DELETE /api/v1/namespaces/{}/configmaps/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
            s.namespace, s.token
        ))
    };
    assert_eq!(e2e::code(&delete()), 429);
    let id = approver.pending();
    let shown = approver.run(&["show", &id]);
    for part in [
        "state        pending; asked for",
        "requester    system:serviceaccount:",
        "operation    delete configmaps -n",
        "from         127.0.0.1:",
        "needs        0 of 1 by postern:approver",
    ] {
        assert!(shown.success().contains(part), "{part}: {}", shown.out);
    }
    let listed = approver.run(&["list", "-o", "wide"]);
    assert!(["ID", "AGE", "ENDS", "APPROVERS", "SOURCE"].iter().all(|head| listed.success().contains(head)), "{}", listed.out);
    assert_eq!(approver.run(&["list", "-o", "name"]).success().trim(), id);
    assert!(approver.run(&["deny", &id, "--comment", "one\nline"]).failure().contains("a line of at most"));
    approver.run(&["deny", &id, "--comment", "not on a Friday"]).success();
    let denied = delete();
    assert!(
        e2e::code(&denied) == 403 && denied.contains("was denied by system:serviceaccount:postern:approver: not on a Friday"),
        "{denied}"
    );
    assert!(approval(&s.caller, &["reopen", &id]).failure().contains("asked for themselves"));
    approver.run(&["reopen", &id]).success();
    assert!(approver.run(&["approve", &id, "--minutes", "10"]).success().contains("approved, until"));
    approver.run(&["revoke", &id, "--comment", "enough"]).success();
    assert!(s.direct(&["get", "configmap", "a"]).ok);
    assert_eq!(e2e::code(&delete()), 429, "asked for anew");
    let again = approver.pending();
    assert_ne!(again, id);
    assert!(approver.run(&["cancel", &again]).failure().contains("who asked for it cancels it"));
    approval(&s.caller, &["cancel", &again]).success();
    assert!(approver.run(&["approve", &again]).failure().contains("is cancelled already"));
    assert_eq!(approver.run(&["list", "-o", "name"]).success(), "", "what is over is not listed");
    let log = s.gateway.directory.join("data/audit.jsonl");
    let told = Ran::new(Gateway::postern(&["audit", "list", "--user", "approver", "--file", log.to_str().unwrap()]).unwrap());
    for answer in [format!("approval deny {id}  (not on a Friday)"), format!("approval revoke {id}  (enough)")] {
        assert!(told.success().contains(&answer), "{answer}: {}", told.out);
    }
    assert!(told.out.contains("GET /postern/v1/approvals"), "what else was asked has its place: {}", told.out);
    for (state, id) in [("revoked", &id), ("cancelled", &again)] {
        assert_eq!(approver.run(&["list", "--state", state, "-o", "name"]).success().trim(), id);
    }
    let events = s.events();
    let answers: Vec<&str> = events.iter().filter(|e| e["stage"] == "completed").filter_map(|e| e["answer"].as_str()).collect();
    assert_eq!(answers, ["deny", "reopen", "approve", "revoke", "cancel"]);
    assert!(events.iter().any(|e| e["stage"] == "decided" && e["answer"] == "deny" && e["comment"] == "not on a Friday"));
}

#[test]
fn what_was_approved_is_decided_again_when_it_is_released() {
    let settings = "settings: {approvers: ['postern:approver'], resources: [configmaps]}\n";
    let s = setup(vec![("40-approve", "approve-deletes", settings.into())], "approvals: {tellFirst: false, hold: 20}\n");
    let approver = Approver::of(&s);
    s.direct(&["create", "configmap", "a"]).success();
    let policies = s.gateway.directory.join("policies.d");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| s.kubectl(&["delete", "configmap", "a"]));
        let id = approver.pending();
        // Meanwhile somebody closes deletes for everybody.
        e2e::put(&policies.join("10-closed.yaml"), b"settings: {does: long-reason}\nrules: [{verbs: [delete]}]\n");
        e2e::put(&policies.join("10-closed.wasm"), &std::fs::read(testbed::policy("misbehaves")).unwrap());
        let config = s.gateway.directory.join("postern.yaml");
        let list = Ran::new(Gateway::postern(&["policy", "list", "--wait", "--config", config.to_str().unwrap()]).unwrap());
        assert!(list.success().contains("10-closed"), "{}", list.out);
        approver.run(&["approve", &id]).success();
        let refused = waiting.join().unwrap();
        assert!(refused.failure().contains("blocked by policy 10-closed"), "{}", refused.err);
    });
    assert!(s.direct(&["get", "configmap", "a"]).ok);
}

/// The intent is the caller, the operation and the body: whatever differs in one of them is asked for anew.
#[test]
fn an_approval_is_for_one_intent_and_no_other() {
    let settings = "settings: {approvers: ['postern:approver'], verbs: [update], resources: [configmaps]}\n";
    let s = setup(vec![("40-approve", "approve-deletes", settings.into())], "approvals: {tellFirst: false, hold: 0}\n");
    let approver = Approver::of(&s);
    s.direct(&["create", "configmap", "a"]).success();
    let put = |name: &str, body: &str| {
        let object = format!("{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"{name}\"}},{body}}}");
        let answer = s.raw(&format!(
            "PUT /api/v1/namespaces/{}/configmaps/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\nAuthorization: Bearer {}\r\n\r\n{object}",
            s.namespace, object.len(), s.token
        ));
        e2e::code(&answer)
    };
    let good = r#""data":{"a":"approved","b":"c"}"#;
    assert_eq!(put("a", good), 429);
    approver.run(&["approve", &approver.pending()]).success();
    assert_eq!(put("a", r#""data":{"a":"something else","b":"c"}"#), 429, "another body");
    assert_eq!(put("b", good), 429, "another object");
    assert_eq!(put("a", r#" "data": { "b":"c", "a":"approved" }"#), 200, "the same object, written otherwise");
    assert_eq!(put("a", good), 429, "once");
    assert_eq!(s.direct(&["get", "configmap", "a", "-o", "jsonpath={.data.a}"]).success(), "approved");
}

#[test]
fn a_client_that_is_not_answered_in_time_is_told_the_ticket() {
    let settings = "settings: {approvers: [nobody], resources: [configmaps]}\n";
    let s = setup(vec![("40-approve", "approve-deletes", settings.into())], "approvals: {tellFirst: false, hold: 0}\n");
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

fn exec_needs_approval(valid_seconds: u32) -> Setup {
    let settings =
        format!("settings: {{approvers: ['postern:approver'], verbs: [create], resources: [pods/exec], validSeconds: {valid_seconds}}}\n");
    setup(vec![("40-approve", "approve-deletes", settings)], "approvals: {tellFirst: false, hold: 1}\n")
}

#[test]
fn a_command_waits_on_its_terminal_and_keeps_what_was_typed() {
    [true, false].into_iter().for_each(waits_and_keeps);
}

fn waits_and_keeps(websocket: bool) {
    let s = exec_needs_approval(600);
    let approver = Approver::of(&s);
    let mut waiting = approver.exec(websocket, &["-i", "web", "--", "cat"]);
    waiting.stdin.take().unwrap().write_all(b"typed before it was approved\n").unwrap();
    let id = approver.pending();
    // Longer than a hold, and than kubectl's first pings.
    std::thread::sleep(Duration::from_secs(6));
    assert!(waiting.try_wait().unwrap().is_none());
    approver.run(&["approve", &id]).success();
    let done = Ran::new(waiting.wait_with_output().unwrap());
    assert_eq!(done.success(), "typed before it was approved\n");
    assert_eq!(done.err.matches(&format!("postern: waiting for approval {id} by postern:approver")).count(), 1, "{}", done.err);
    let events = s.events();
    for stage in ["held", "decided", "completed"] {
        let of: Vec<_> = events.iter().filter(|e| e["ticket"] == id.as_str() && e["stage"] == stage).collect();
        assert_eq!(of.len(), 1, "{stage}: {of:?}");
    }
    let exits = approver.exec(websocket, &["web", "--", "sh", "-c", "echo out; exit 7"]);
    approver.run(&["approve", &approver.pending()]).success();
    let exits = exits.wait_with_output().unwrap();
    assert_eq!((exits.status.code(), exits.stdout.as_slice()), (Some(7), b"out\n".as_slice()));
}

#[test]
fn a_command_that_is_denied_or_never_approved_ends_with_one_message() {
    [true, false].into_iter().for_each(ends_with_one_message);
}

fn ends_with_one_message(websocket: bool) {
    let s = exec_needs_approval(600);
    let approver = Approver::of(&s);
    let denied = approver.exec(websocket, &["web", "--", "echo", "denied"]);
    let id = approver.pending();
    approver.run(&["deny", &id]).success();
    let denied = Ran::new(denied.wait_with_output().unwrap());
    assert_eq!(denied.failure().matches(&format!("approval {id} was denied")).count(), 1, "{}", denied.err);
    assert!(denied.out.is_empty());

    let s = exec_needs_approval(2);
    let late = Ran::new(Approver::of(&s).exec(websocket, &["web", "--", "echo", "late"]).wait_with_output().unwrap());
    assert_eq!(late.failure().matches("was not given in time").count(), 1, "{}", late.err);
    assert!(late.out.is_empty());
}

#[test]
fn a_command_whose_caller_went_away_is_not_run() {
    let s = exec_needs_approval(600);
    let approver = Approver::of(&s);
    let mark = e2e::scratch("gone").join("mark");
    let mut gone = approver.exec(true, &["web", "--", "touch", mark.to_str().unwrap()]);
    let id = approver.pending();
    gone.kill().unwrap();
    gone.wait().unwrap();
    wait_until("it is told", Duration::from_secs(10), || {
        Ok(s.events().iter().any(|e| e["stage"] == "refused" && e["refusal"].as_str().unwrap_or_default().contains("went away")))
    })
    .unwrap();
    approver.run(&["approve", &id]).success();
    std::thread::sleep(Duration::from_secs(1));
    assert!(!mark.exists());
    // The approval is for the intent: whoever asks the same again has it, once.
    Ran::new(approver.exec(true, &["web", "--", "touch", mark.to_str().unwrap()]).wait_with_output().unwrap()).success();
    assert!(mark.exists());
}
