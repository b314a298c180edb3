//! Pages of the docs, followed to the letter: their commands are run exactly as they print them, one after another.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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
                    let list =
                        ["policy", "list", "--config", s.gateway.directory.join("postern.yaml").to_str().unwrap()].map(str::to_owned);
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
            let list = Ran::new(testbed::Gateway::postern(&["policy", "list", "--config", config.to_str().unwrap()])?);
            let serves = |name: &str| list.out.lines().any(|line| line.starts_with(name) && line.contains(" serving"));
            Ok(names.iter().all(|name| serves(name)) && serves("10-agents") == names.contains(&"10-agents-read-only"))
        })
        .unwrap();
    };
    let (mut printed, mut told, mut waits, mut ran) = (String::new(), String::new(), None, 0);
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
            ("sh waits", _) => {
                waits = Some(shell(&block.text).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
                let list = shell("postern approval --kubeconfig approver.kubeconfig list --json");
                let mut list = list;
                wait_until("it waits", Duration::from_secs(30), || Ok(Ran::new(list.output()?).out.contains("an agent changes something")))
                    .unwrap();
            }
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
    let done = Ran::new(waits.unwrap().wait_with_output().unwrap());
    assert!(done.success().contains("pod/web labeled"), "{}{}", done.out, done.err);
    let masked = "cG9zdGVybi1tYXNrZW";
    assert!(printed.contains(masked) && !printed.contains("aHVudGVyMi") && printed.contains("system:serviceaccount:postern:"), "{printed}");
    assert!(ran >= 9, "{ran} blocks were run");
}
