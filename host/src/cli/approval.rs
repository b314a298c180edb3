//! `postern approval`: the gateway's own API, with the credential of a kubeconfig.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use super::remote::Remote;
use super::table::{self, row};
use crate::cli::terminal::say;

/// Lists and answers approvals.
#[derive(Args)]
pub struct Approval {
    /// Kubeconfig of the gateway with your own credential; what `KUBECONFIG` names when absent.
    #[arg(long, global = true)]
    kubeconfig: Option<PathBuf>,
    #[command(subcommand)]
    command: ApprovalCommand,
}

#[derive(Subcommand)]
enum ApprovalCommand {
    /// Lists the tickets you asked for and those you may answer.
    List {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows a ticket whole.
    Show {
        /// Its id.
        id: String,
    },
    /// Lets the operation pass.
    Approve {
        /// Its id.
        id: String,
        /// Lets it pass as often as it is asked for within so many minutes, instead of once.
        #[arg(long)]
        minutes: Option<u64>,
    },
    /// Refuses the operation.
    Deny {
        /// Its id.
        id: String,
    },
}

impl Approval {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let remote = Remote::open(self.kubeconfig)?;
        let call = |method, path: String, body: String| remote.call::<Value>(method, &path, body);
        let approvals = "/postern/v1/approvals";
        match self.command {
            ApprovalCommand::List { json } => {
                let tickets = call(Method::GET, approvals.into(), String::new())?;
                if json {
                    say!("{tickets}");
                } else {
                    list(&tickets);
                }
            }
            ApprovalCommand::Show { id } => {
                say!("{}", serde_json::to_string_pretty(&call(Method::GET, format!("{approvals}/{}", word(&id)?), String::new())?)?)
            }
            ApprovalCommand::Approve { id, minutes } => {
                let body = minutes.map(|m| serde_json::json!({"reuseSeconds": m * 60}).to_string()).unwrap_or_default();
                let ticket = call(Method::POST, format!("{approvals}/{}/approve", word(&id)?), body)?;
                say!("{id} is {}", ticket["state"].as_str().unwrap_or("?"));
            }
            ApprovalCommand::Deny { id } => {
                call(Method::POST, format!("{approvals}/{}/deny", word(&id)?), String::new())?;
                say!("{id} is denied");
            }
        }
        Ok(())
    }
}

fn word(id: &str) -> anyhow::Result<&str> {
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        bail!("{id:?} is not the id of a ticket; `postern approval list` shows those");
    }
    Ok(id)
}

fn list(tickets: &Value) {
    let mut rows = vec![row(["ID", "STATE", "REQUESTER", "OPERATION", "REASON"])];
    for ticket in tickets["items"].as_array().into_iter().flatten() {
        let text = |path: &str| ticket.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let namespace = match text("/operation/namespace") {
            "" => String::new(),
            namespace => format!(" -n {namespace}"),
        };
        let words = ticket.pointer("/operation/command").and_then(Value::as_array);
        let words: Vec<&str> = words.into_iter().flatten().filter_map(Value::as_str).collect();
        let command = if words.is_empty() { String::new() } else { format!(" -- {}", words.join(" ")) };
        let operation =
            format!("{} {}{namespace} {}{command}", text("/operation/verb"), text("/operation/resource"), text("/operation/name"));
        rows.push(row([text("/id"), text("/state"), text("/username"), &operation, text("/requirements/0/reason")]));
    }
    table::print(&rows);
}
