//! `postern approval`: the gateway's own API, with the credential of a kubeconfig.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::{Method, Request, header};
use http_body_util::Full;
use serde_json::Value;

use super::table::{self, row};
use crate::cli::terminal::say;
use crate::config::Cluster;
use crate::fetch::fetch;
use crate::forward::{Access, OwnToken};

/// Lists and answers approvals.
#[derive(Args)]
pub struct Approval {
    /// Kubeconfig of the gateway with your own credential.
    #[arg(long, global = true, env = "KUBECONFIG")]
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
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let kubeconfig = self.kubeconfig.context("give --kubeconfig FILE, or set KUBECONFIG")?;
        let access = Access::load(&Cluster {
            name: String::new(),
            kubeconfig: Some(kubeconfig),
            context: None,
            service_account_issuers: Vec::new(),
        })?;
        let call = |method, path: String, body: String| {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(call(&access, method, &path, body))
        };
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

async fn call(access: &Access, method: Method, path: &str, body: String) -> anyhow::Result<Value> {
    let host = if access.host.contains(':') { format!("[{}]", access.host) } else { access.host.clone() };
    let mut request = Request::builder()
        .method(method)
        .uri(format!("https://{host}:{}{}{path}", access.port, access.prefix))
        .header(header::CONTENT_TYPE, "application/json");
    let token = match &access.token {
        OwnToken::Fixed(token) => Some(token.to_string()),
        OwnToken::File(file) => Some(std::fs::read_to_string(file)?.trim().to_owned()),
        OwnToken::None => None,
    };
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let tls = Arc::clone(&access.own_tls);
    let (status, _, answer) = fetch(&tls, request.body(Full::new(Bytes::from(body)))?, Duration::from_secs(30), 16 << 20).await?;
    let value: Value = serde_json::from_slice(&answer).with_context(|| format!("the gateway answered {status} and no JSON"))?;
    if !status.is_success() {
        bail!("{}", value["message"].as_str().unwrap_or("the gateway refused"));
    }
    Ok(value)
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
