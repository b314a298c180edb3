//! `postern audit`.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::Value;

use super::table::printable;
use crate::cli::terminal::say;
use crate::record::chain::{Chain, Closing, Whole};
use crate::record::session::seal;
use crate::record::{rotated, shown};

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
        /// The gateway's public key, `session.pub` of its data directory, which signs what `postern data repair` closed; beside the log unless said.
        #[arg(long)]
        key: Option<PathBuf>,
    },
}

impl Audit {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let log = rotated::Log::open(&self.file).with_context(|| format!("cannot read {}; give --file", self.file.display()))?;
        match self.command {
            AuditCommand::Verify { first, key } => match Chain::verify(log, first) {
                Ok(whole) => {
                    let beside = self.file.with_file_name("session.pub");
                    told(&whole, key.or(beside.exists().then_some(beside)))?;
                }
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

/// Says what a log is of which no line was changed.
fn told(whole: &Whole, key: Option<PathBuf>) -> anyhow::Result<()> {
    if let Some(open) = whole.open() {
        bail!(
            "line {}: from here on several gateways wrote this log at once, each with a chain of its own ({} chains). None of the {} lines that are there was changed; `postern data repair` closes this with an event of its own",
            open.line,
            open.ends.len() + 1,
            whole.events
        );
    }
    if !whole.closings.is_empty() {
        let file = key.context("`postern data repair` closed what several gateways left in this log; give --key session.pub, to know that it was this gateway's")?;
        let key = seal::public_key(&file)?;
        for Closing { event, says, signature } in &whole.closings {
            if !seal::holds(signature, says, &key) {
                bail!("event {event} closes what several gateways left, and the key {} did not sign it: it was put in", file.display());
            }
            let line = whole.crossings.iter().find(|crossing| crossing.closed == Some(*event)).map(|crossing| crossing.line);
            let place = line.map_or("in what is kept elsewhere".to_owned(), |line| format!("from line {line} on"));
            say!("{place} several gateways wrote it at once; event {event}, signed by {}, closed that", file.display());
        }
    }
    say!("{} events, the chain is whole", whole.events);
    Ok(())
}

fn events(log: impl Read) -> impl Iterator<Item = Value> {
    BufReader::new(log).lines().map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok())
}

/// What an event is of, in words, on one line.
pub(super) fn operation_of(event: &Value) -> String {
    printable(&shown::operation_of(event))
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
