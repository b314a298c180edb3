//! What AI agents use: MCP servers with the gateway's kubeconfig. Without a policy they see what is there, with the pack they see it masked, and are refused
//! with what to do instead, in words that reach the agent.

use std::path::Path;
use std::process::Command;

use e2e::{Ran, Setup, cluster, path, scratch, setup};
use serde_json::{Value, json};
use testbed::clients;

/// Both servers, and how each is asked for the same.
const SERVERS: [&str; 2] = ["kubernetes-mcp-server", "mcp-server-kubernetes"];

/// What an agent asks for.
enum Ask {
    Secret,
    Run(&'static [&'static str]),
    Logs,
    Delete,
}

impl Ask {
    fn of(&self, server: &str, namespace: &str) -> Value {
        let first = server == SERVERS[0];
        let pod = json!({"name": "web", "namespace": namespace});
        let with = |more: Value| {
            let mut all = pod.clone();
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            all
        };
        match self {
            Self::Secret if first => json!(["resources_get", {"apiVersion": "v1", "kind": "Secret", "name": "db", "namespace": namespace}]),
            Self::Secret => json!(["kubectl_get", {"resourceType": "secret", "name": "db", "namespace": namespace, "output": "yaml"}]),
            Self::Run(command) if first => json!(["pods_exec", with(json!({"command": command}))]),
            Self::Run(command) => json!(["exec_in_pod", with(json!({"command": command}))]),
            Self::Logs if first => json!(["pods_log", pod]),
            Self::Logs => json!(["kubectl_logs", with(json!({"resourceType": "pod"}))]),
            Self::Delete if first => json!(["pods_delete", pod]),
            Self::Delete => json!(["kubectl_delete", with(json!({"resourceType": "pod"}))]),
        }
    }
}

fn ask(server: &str, kubeconfig: &Path, namespace: &str, asks: &[Ask]) -> Vec<Value> {
    let calls: Vec<Value> = asks.iter().map(|ask| ask.of(server, namespace)).collect();
    let mut command = Command::new("node");
    command.arg(clients("node").join("mcp.mjs")).arg(server).arg(kubeconfig).arg(json!(calls).to_string());
    let ran = Ran::new(command.env("PATH", path()).env("HOME", scratch("home")).output().unwrap());
    ran.success().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(answer: &Value) -> &str {
    answer["text"].as_str().unwrap()
}

#[test]
fn without_a_policy_agents_see_what_they_see_directly() {
    let s = setup(vec![], "");
    let asks = [Ask::Secret, Ask::Run(&["sh", "-c", "echo through $((40+2))"]), Ask::Run(&["false"]), Ask::Logs];
    for server in SERVERS {
        let through = ask(server, &s.caller, &s.namespace, &asks);
        let direct = ask(server, &cluster().acts_as_kubeconfig().unwrap(), &s.namespace, &asks);
        assert_eq!(through, direct, "{server}");
        assert!(text(&through[1]).contains("through 42") && text(&through[3]).contains("line 1 of web"), "{server}: {through:#?}");
        // Of its own the second shows no value.
        assert!(server == SERVERS[1] || text(&through[0]).contains("aHVudGVyMi1pcy1zZWNyZXQ="), "{through:#?}");
    }
}

fn guarded() -> Setup {
    let approve = "settings: {approvers: ['postern:approver'], resources: [pods]}\n";
    let policies = vec![
        ("20-mask-secrets", "mask-secrets", "settings: {podSecrets: true}\n".to_owned()),
        ("30-guard-exec", "guard-exec", String::new()),
        ("40-approve-deletes", "approve-deletes", approve.to_owned()),
    ];
    setup(policies, "approvals: {hold: 0}\n")
}

#[test]
fn with_the_pack_agents_are_shown_what_they_may_see_and_told_what_to_do() {
    let s = guarded();
    let password = json!([{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]);
    s.direct(&["delete", "pod", "web", "--grace-period=0", "--force"]).success();
    cluster().run_pod_with(&s.namespace, "web", &json!({"env": password})).unwrap();
    cluster().set_environment(&s.namespace, "web", "PASSWORD=hunter2-is-secret\n").unwrap();
    for server in SERVERS {
        let told = ask(server, &s.caller, &s.namespace, &[Ask::Secret, Ask::Run(&["env"]), Ask::Run(&["sh", "-c", "id"]), Ask::Delete]);
        let all: Vec<&str> = told.iter().map(text).collect();
        assert!(all.iter().all(|text| !text.contains("hunter2") && !text.contains("aHVudGVyMi1pcy1zZWNyZXQ")), "{server}: {all:#?}");
        assert!(all[0].contains("kind: Secret") && (server == SERVERS[1] || all[0].contains("cG9zdGVybi1tYXNrZW")), "{server}: {}", all[0]);
        assert!(all[1].contains("PASSWORD=postern-masked"), "{server}: {}", all[1]);
        assert!(all[2].contains("the shell sh is not allowed; run the command itself"), "{server}: {}", all[2]);
        assert!(all[3].contains("waiting for approval") && all[3].contains("postern:approver"), "{server}: {}", all[3]);
    }
    s.direct(&["get", "pod", "web"]).success();
}

/// An agent reads the files of the machine it runs on. What is in its kubeconfig opens nothing but the gateway.
#[test]
fn the_kubeconfig_of_an_agent_opens_nothing_but_the_gateway() {
    let s = guarded();
    let server = format!("https://127.0.0.1:{}", cluster().port);
    let ca = cluster().directory.join("ca.crt").display().to_string();
    for args in [&["get", "secret", "db"][..], &["create", "namespace", "of-an-agent"], &["get", "--raw", "/api/v1/nodes"]] {
        let ran = s.kubectl(&[&["--server", &server, "--certificate-authority", &ca], args].concat());
        assert!(ran.failure().contains("Unauthorized") || ran.err.contains("must be logged in"), "{args:?}: {}", ran.err);
    }
    let kubeconfig = std::fs::read_to_string(&s.caller).unwrap();
    assert!(!kubeconfig.contains("client-key") && !kubeconfig.contains(&server), "{kubeconfig}");
}
