//! `postern audit`.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::Value;

use super::table::printable;
use crate::cli::terminal::say;
use crate::record::chain::{Chain, Whole};
use crate::record::rotated;

/// Reads the audit log.
#[derive(Args)]
pub struct Audit {
    /// The log.
    #[arg(long, global = true, default_value = "audit.jsonl")]
    file: PathBuf,
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Lists events, a line each.
    List,
    /// Shows every event of an operation.
    Show {
        /// The operation's id.
        id: String,
    },
    /// Says whether any line was changed, taken out or put in, over all files the log was rotated into.
    Verify {
        /// The number (`seq`) of the first event that is there: what came before is kept elsewhere.
        #[arg(long, default_value_t = 1)]
        first: u64,
    },
}

impl Audit {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let log = rotated::Log::open(&self.file).with_context(|| format!("cannot read {}; give --file", self.file.display()))?;
        match self.command {
            AuditCommand::Verify { first } => match Chain::verify(log, first) {
                Ok(whole) => told(&whole)?,
                Err(broken) => bail!("line {}: {}", broken.line, broken.why),
            },
            AuditCommand::Show { id } => {
                let mut found = false;
                for event in events(log).filter(|e| e["id"] == id.as_str()) {
                    found = true;
                    say!("{}", serde_json::to_string_pretty(&event)?);
                }
                if !found {
                    bail!("no event of {id}; `postern audit list` shows the ids");
                }
            }
            AuditCommand::List => {
                let mut out = std::io::stdout().lock();
                writeln!(out, "{:<24} {:<15} {:<10} {:<16} {:>6} {:<36} OPERATION", "TIME", "ID", "STAGE", "VERDICT", "STATUS", "CALLER")?;
                for event in events(log) {
                    if writeln!(out, "{}", line(&event)).is_err() {
                        break; // The reader has had enough, as `head` does.
                    }
                }
            }
        }
        Ok(())
    }
}

/// Says what a log is that nobody changed.
fn told(whole: &Whole) -> anyhow::Result<()> {
    if let Some(open) = whole.open() {
        bail!(
            "line {}: from here on two gateways wrote this log at once, each with a chain of its own ({} of them). All {} events are there and none was changed; `postern data repair` closes this with an event of its own",
            open.line,
            open.ends.len() + 1,
            whole.events
        );
    }
    say!("{} events, the chain is whole", whole.events);
    for crossing in &whole.crossings {
        let closed = crossing.closed.unwrap_or_default();
        say!(
            "from line {} on two gateways wrote it at once; that was closed by event {closed}, and every line is of one of their chains",
            crossing.line
        );
    }
    Ok(())
}

fn events(log: impl Read) -> impl Iterator<Item = Value> {
    BufReader::new(log).lines().map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok())
}

/// What an event is of, in words, on one line.
pub(super) fn operation_of(event: &Value) -> String {
    let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or("-");
    let mut operation = match event["target"].as_object() {
        Some(_) => {
            let part =
                |path: &str, mark: &str| event.pointer(path).and_then(Value::as_str).map(|v| format!("{mark}{v}")).unwrap_or_default();
            let resource = format!("{}{}", text("/target/resource"), part("/target/subresource", "/"));
            format!("{} {resource}{}{}", text("/verb"), part("/target/namespace", " -n "), part("/target/name", " "))
        }
        None => format!("{} {}", text("/method"), text("/path")),
    };
    if let Some(argv) = event.pointer("/command/argv").and_then(Value::as_array) {
        operation += &format!(" -- {}", argv.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "));
    }
    if let Some(by) = event["approvedBy"].as_array() {
        operation += &format!("  (approved by {})", by.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "));
    }
    if let Some(why) = event["refusal"].as_str() {
        operation += &format!("  ({why})");
    }
    printable(&operation)
}

fn line(event: &Value) -> String {
    let text = |path: &str| printable(event.pointer(path).and_then(Value::as_str).unwrap_or("-"));
    let status = event["status"].as_u64().map_or_else(|| "-".into(), |s| s.to_string());
    let operation = operation_of(event);
    format!(
        "{:<24} {:<15} {:<10} {:<16} {status:>6} {:<36} {operation}",
        text("/time"),
        text("/id"),
        text("/stage"),
        text("/verdict"),
        text("/caller/username")
    )
}
