//! A scene of the demo: an AI agent uses the cluster by an MCP server that knows nothing of the gateway.

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use testbed::clients;

use crate::demo::Bed;
use crate::play::Play;

const SERVER: &str = "kubernetes-mcp-server";

/// The agent asks for a Secret, for the environment of a container, for a shell, and for a delete.
pub(crate) fn an_agent_asks(bed: &Bed, play: &mut Play) -> anyhow::Result<()> {
    play.scene("An AI agent uses the cluster by an MCP server, with a kubeconfig of its own");
    println!("   $ kubernetes-mcp-server --kubeconfig agent.kubeconfig");
    let secret = asked(play, "resources_get", &json!({"apiVersion": "v1", "kind": "Secret", "name": "db", "namespace": "default"}))?;
    play.because(secret.contains("cG9zdGVybi1tYXNrZW") && !secret.contains("aHVudGVyMi"), "the agent is shown a Secret without its values");
    let environment = asked(play, "pods_exec", &json!({"name": "app", "namespace": "default", "command": ["env"]}))?;
    play.because(
        environment.contains("PASSWORD=postern-masked") && !environment.contains("hunter2"),
        "what a container writes is hidden from it too",
    );
    let shell = asked(play, "pods_exec", &json!({"name": "app", "namespace": "default", "command": ["sh", "-c", "id"]}))?;
    play.because(shell.contains("run the command itself"), "a shell is refused, and the answer of its tool says what to do instead");

    let delete = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "namespace": "default"});
    println!("     resources_delete {delete} ...");
    let waiting = command(play, &[json!(["resources_delete", delete])]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let approver = ["approval", "--kubeconfig", "approver.kubeconfig"];
    let id = play.ticket_of(":agent")?;
    play.run("postern", &[&approver[..], &["show", &id]].concat())?;
    play.run("postern", &[&approver[..], &["deny", &id]].concat())?;
    let told = answer(&waiting.wait_with_output()?.stdout);
    println!("     {}", told.lines().next().unwrap_or_default().chars().take(200).collect::<String>());
    play.because(told.contains("denied"), "a delete waits for a person, who says no, and the agent is told");

    let api_server = format!("https://127.0.0.1:{}", bed.cluster.port);
    let ca = bed.cluster.directory.join("ca.crt").display().to_string();
    let args = ["--kubeconfig", "agent.kubeconfig", "--server", &api_server, "get", "secret", "db"];
    let direct = play.command("kubectl", &[&args[..], &["--certificate-authority", &ca]].concat()).output()?;
    play.show("kubectl", &args);
    let direct = play.printed(&direct);
    play.because(!direct.ok && direct.text.contains("logged in"), "what it can read in its kubeconfig is of no use at the API server");
    Ok(())
}

fn command(play: &Play, calls: &[Value]) -> Command {
    let script = clients("node").join("mcp.mjs").display().to_string();
    play.command("node", &[&script, SERVER, "agent.kubeconfig", &json!(calls).to_string()])
}

/// Has the agent call a tool, and shows what it is answered.
fn asked(play: &Play, tool: &str, given: &Value) -> anyhow::Result<String> {
    println!("     {tool} {given}");
    let text = answer(&command(play, &[json!([tool, given])]).output()?.stdout);
    for line in text.lines().take(8) {
        println!("       {}", line.chars().take(160).collect::<String>());
    }
    Ok(text)
}

fn answer(printed: &[u8]) -> String {
    let line: Option<Value> = String::from_utf8_lossy(printed).lines().next().and_then(|line| serde_json::from_str(line).ok());
    line.and_then(|answer| answer["text"].as_str().map(str::to_owned)).unwrap_or_default()
}
