//! Pages of the docs, followed to the letter: their commands are run exactly as they print them, one after another.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use e2e::{Ran, cluster, path, scratch, setup};
use serde_json::json;
use testbed::{AUDIENCE, wait_until};

/// A block of the page.
struct Block {
    /// What stands after the backticks.
    kind: String,
    text: String,
    /// The file that the sentence before it names, where it says to put it there.
    file: Option<PathBuf>,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut before = "";
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else {
            before = if line.is_empty() { before } else { line };
            continue;
        };
        let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let file = before.strip_suffix("`:").and_then(|before| before.rsplit_once("Put this into `").map(|(_, file)| file.into()));
        blocks.push(Block { kind: kind.to_owned(), text: text.join("\n") + "\n", file });
    }
    blocks
}

#[test]
fn who_follows_the_page_has_a_policy_that_guards() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/writing-a-policy.md")).unwrap();
    let s = setup(vec![], "");
    let place = scratch("guide");
    let (mut written, mut run) = (0, 0);
    for block in blocks(&page) {
        match (block.kind.as_str(), &block.file) {
            ("sh" | "sh refused", _) => {
                let mut shell = Command::new("bash");
                shell.args(["-euc", &block.text]).current_dir(&place).env("PATH", path()).env("DEMO", &s.gateway.directory);
                shell.env("POSTERN_TOOLS", testbed::cache().join("tools/languages"));
                let ran = Ran::new(shell.output().unwrap());
                match block.kind.as_str() {
                    "sh" => drop(ran.success().to_owned()),
                    _ => assert!(
                        ran.failure().contains("blocked by policy 70-keep-protected: rates is labelled protected: yes"),
                        "{}",
                        ran.err
                    ),
                }
                run += block.text.lines().count();
                if block.text.contains("policies.d/70-keep-protected.wasm") {
                    // The page says that it takes some seconds, and how to see that it serves.
                    let list = ["policy", "list", "-o", "wide", "--config", s.gateway.directory.join("postern.yaml").to_str().unwrap()]
                        .map(str::to_owned);
                    wait_until("the policy serves", Duration::from_secs(180), || {
                        let list: Vec<&str> = list.iter().map(String::as_str).collect();
                        Ok(Ran::new(testbed::Gateway::postern(&list)?).out.contains("70-keep-protected  serving"))
                    })
                    .unwrap();
                }
            }
            (_, Some(file)) => {
                std::fs::write(place.join(file), &block.text).unwrap();
                written += 1;
            }
            (kind, None) => panic!("the page has a block of {kind} that belongs nowhere"),
        }
    }
    assert!(written == 2 && run >= 14, "{written} files, {run} commands");
}

#[test]
fn who_follows_the_page_gives_an_agent_a_cluster() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/agents.md")).unwrap();
    // What the page says the demo's gateway has.
    let policies = vec![
        ("20-mask-secrets", "mask-secrets", "settings: {podSecrets: true}\n".to_owned()),
        ("30-guard-exec", "guard-exec", String::new()),
        ("40-approve-deletes", "approve-deletes", "settings: {approvers: ['postern:approver'], resources: [deployments]}\n".to_owned()),
        ("50-no-bulk-export", "no-bulk-export", "settings: {resources: [secrets]}\n".to_owned()),
    ];
    let s = setup(policies, "");
    for name in ["agent", "approver"] {
        // In the namespace of this test: the demo's is `default`.
        let kubeconfig = s.gateway.kubeconfig(name, &cluster().token(name, AUDIENCE).unwrap()).unwrap();
        let args = ["--kubeconfig", kubeconfig.to_str().unwrap(), "config", "set-context", "--current", "--namespace", &s.namespace];
        Ran::new(Command::new(testbed::binary("kubectl")).args(args).output().unwrap()).success();
    }
    cluster().run_pod(&s.namespace, "app").unwrap();
    let shell = |text: &str| {
        let mut shell = Command::new("bash");
        shell.args(["-euc", text]).current_dir(&s.gateway.directory).env("PATH", path()).env("DEMO", &s.gateway.directory);
        shell.env("POLICIES", testbed::cache().join("policies"));
        shell
    };
    let serves = |names: &[&str]| {
        let config = s.gateway.directory.join("postern.yaml");
        wait_until("the policies serve", Duration::from_secs(60), || {
            let list = Ran::new(testbed::Gateway::postern(&["policy", "list", "-o", "wide", "--config", config.to_str().unwrap()])?);
            let serves = |name: &str| list.out.lines().any(|line| line.starts_with(name) && line.contains(" serving"));
            Ok(names.iter().all(|name| serves(name)) && serves("10-agents") == names.contains(&"10-agents-read-only"))
        })
        .unwrap();
    };
    let (mut printed, mut told, mut ran) = (String::new(), String::new(), 0);
    for block in blocks(&page) {
        match (block.kind.as_str(), &block.file) {
            ("sh", _) => {
                let output = Ran::new(shell(&block.text).output().unwrap());
                printed += output.success();
                match &block.text {
                    text if text.contains("10-agents-read-only.wasm\npostern") => serves(&["10-agents-read-only", "60-agents-budget"]),
                    text if text.contains("15-agents-ask.wasm") => serves(&["15-agents-ask", "60-agents-budget"]),
                    _ => {}
                }
                ran += 1;
            }
            ("sh refused", _) => {
                told = Ran::new(shell(&block.text).output().unwrap()).failure().to_owned();
                ran += 1;
            }
            ("text", _) => assert!(told.contains(block.text.trim()), "{}: {told}", block.text),
            ("json", _) => {
                // What it says of the server is what is tried with it.
                let told: serde_json::Value = serde_json::from_str(&block.text).unwrap();
                let args = &told["mcpServers"]["kubernetes"]["args"];
                let pinned = std::fs::read_to_string(testbed::clients("node").join("package.json")).unwrap();
                let pinned: serde_json::Value = serde_json::from_str(&pinned).unwrap();
                assert_eq!(
                    args[1],
                    json!(format!("kubernetes-mcp-server@{}", pinned["dependencies"]["kubernetes-mcp-server"].as_str().unwrap()))
                );
                let calls = json!([["pods_list_in_namespace", {"namespace": s.namespace}], ["pods_delete", {"name": "web", "namespace": s.namespace}]]);
                let mut agent = Command::new("node");
                agent
                    .arg(testbed::clients("node").join("mcp.mjs"))
                    .arg("kubernetes-mcp-server")
                    .arg(s.gateway.directory.join("agent.kubeconfig"));
                let answered = Ran::new(agent.arg(calls.to_string()).output().unwrap());
                assert!(
                    answered.success().contains("web") && answered.out.contains("blocked by policy 10-agents-read-only"),
                    "{}",
                    answered.out
                );
            }
            (_, Some(file)) => std::fs::write(s.gateway.directory.join(file), &block.text).unwrap(),
            (kind, None) => panic!("the page has a block of {kind} that belongs nowhere"),
        }
    }
    assert!(printed.contains("pod/web labeled"), "what was approved went through when it was asked again: {printed}");
    let masked = "cG9zdGVybi1tYXNrZW";
    assert!(printed.contains(masked) && !printed.contains("aHVudGVyMi") && printed.contains("system:serviceaccount:postern:"), "{printed}");
    assert!(ran >= 10, "{ran} blocks were run");
}

#[test]
fn who_follows_the_page_gives_each_no_more_than_they_need() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/least-privilege.md")).unwrap();
    let directory = scratch("least");
    std::fs::create_dir_all(directory.join("policies.d")).unwrap();
    let all = blocks(&page);
    for account in ["ci", "backup", "admins"] {
        cluster()
            .apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": "postern"}}))
            .unwrap();
    }
    let shell = |text: &str, kubeconfig: &Path| {
        let mut shell = Command::new("bash");
        shell.args(["-euc", text]).current_dir(&directory).env("PATH", path()).env("KUBECONFIG", kubeconfig);
        shell.env("POLICIES", testbed::cache().join("policies")).env("POSTERN_CONFIG", directory.join("postern.yaml"));
        Ran::new(shell.output().unwrap())
    };
    // What is set up comes first, and what is tried when the gateway is there.
    let is_tried = |block: &&Block| {
        block.kind.split(' ').nth(1).is_some_and(|who| who != "admin") || block.kind == "text" || block.text.contains("audit list")
    };
    for block in all.iter().filter(|block| !is_tried(block)) {
        match &block.file {
            Some(file) => std::fs::write(directory.join(file), &block.text).unwrap(),
            None => drop(shell(&block.text, &cluster().admin_kubeconfig()).success().to_owned()),
        }
    }
    let options = testbed::GatewayOptions {
        access: format!("\n{}", std::fs::read_to_string(directory.join("access.yaml")).unwrap().trim_end()),
        guard: ", required: [10-backup]".into(),
        ..testbed::GatewayOptions::default()
    };
    let gateway = testbed::Gateway::start(cluster(), &directory, &options).unwrap();
    let (mut told, mut ran) = (String::new(), 0);
    for block in all.iter().filter(is_tried) {
        let words: Vec<&str> = block.kind.split(' ').collect();
        match words.as_slice() {
            ["text"] => assert!(told.contains(block.text.trim()), "{}: {told}", block.text),
            ["sh", who, rest @ ..] => {
                let kubeconfig = gateway.kubeconfig(who, &cluster().token(who, AUDIENCE).unwrap()).unwrap();
                let tried = shell(&block.text, &kubeconfig);
                told = if *rest == ["refused"] { tried.failure().to_owned() } else { tried.success().to_owned() };
                ran += 1;
            }
            ["sh"] => {
                told = shell(&block.text, &cluster().admin_kubeconfig()).success().to_owned();
                assert!(told.contains("backups of Secrets are made by who may read them") && told.contains("postern:ci"), "{told}");
            }
            other => panic!("the page has a block of {other:?} that belongs nowhere"),
        }
    }
    assert_eq!(ran, 7);
    // Who is in none of the groups is nobody.
    let stranger = gateway.kubeconfig("stranger", &cluster().token("caller", AUDIENCE).unwrap()).unwrap();
    assert!(shell("kubectl get pods -n shop", &stranger).failure().contains("Forbidden"));
    // A backup reads nothing of what runs, whatever its verbs are called.
    cluster().run_pod("shop", "web").unwrap();
    cluster().apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": "shop"}})).unwrap();
    let backup = gateway.kubeconfig("backup", &cluster().token("backup", AUDIENCE).unwrap()).unwrap();
    for (reading, told) in [
        ("kubectl get --raw /api/v1/namespaces/shop/secrets/db", "backups of Secrets are made by"),
        ("kubectl -n shop logs web", "a backup reads objects"),
        ("kubectl -n shop exec web -- id", "a backup reads objects"),
        ("kubectl get --raw /api/v1/namespaces/shop/pods/web/proxy/", "a backup reads objects"),
    ] {
        assert!(shell(reading, &backup).failure().contains(told), "{reading}: {}", shell(reading, &backup).err);
    }
    assert!(shell("kubectl -n shop get pod web", &backup).ok);
}
