//! `postern audit`.

mod list;
mod top;
mod verify;
mod which;
mod who_saw;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::Value;

use super::place::Place;
use super::table::printable;
use crate::cli::listing::Output;
use crate::cli::terminal::say;
use crate::record::query::{self, Query};
use crate::record::shown;
use list::How;
use top::By;
use which::Which;

/// Asks the audit log.
#[derive(Args)]
pub struct Audit {
    /// The log, where no configuration says.
    #[arg(long, global = true)]
    file: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Lists events, the oldest first.
    ///
    /// Of a change the log has two events, that it is about to be sent and how it ended: the second is listed, with --all both.
    #[command(after_help = "Examples:
  postern audit list --since 1h --verdict block       what was refused in the last hour, and why
  postern audit list --user ci-bot --resource secrets -n shop --since yesterday
  postern audit list --token ~/.kube/ci.kubeconfig    what was done with that credential
  postern audit list -f --status 5xx                  failures, as they happen")]
    List {
        #[command(flatten)]
        output: Output,
        /// Goes on with what is written later.
        #[arg(long, short)]
        follow: bool,
        /// Lists every event of an operation, and not the last alone.
        #[arg(long)]
        all: bool,
        /// Ends after so many.
        #[arg(long, value_name = "COUNT")]
        limit: Option<usize>,
        #[command(flatten)]
        which: Box<Which>,
    },
    /// Counts operations, those there are most of first.
    #[command(after_help = "Examples:
  postern audit top --by user --verdict block --since 1d     who is refused most
  postern audit top --by policy --since 1h                   what each policy answers")]
    Top {
        /// What they are counted by.
        #[arg(long, value_enum)]
        by: By,
        /// So many lines.
        #[arg(long, value_name = "COUNT", default_value_t = 20)]
        limit: usize,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        which: Box<Which>,
    },
    /// Tells who was shown an object, in clear or with something hidden, and from where.
    #[command(after_help = "Example:
  postern audit who-saw secret/db -n shop")]
    WhoSaw {
        /// `RESOURCE/NAME`.
        object: String,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        which: Box<Which>,
    },
    /// Shows every event of an operation.
    Show {
        /// The operation's id.
        id: String,
    },
    /// Says whether any line was changed, taken out or put in, over all files the log was rotated into, and whether its end was cut off.
    ///
    /// Every few seconds the gateway signs the number and the hash of the last event. The latest signature lies beside the log, and a witness (audit.witness) keeps all.
    #[command(after_help = "Examples:
  postern audit verify
  postern audit verify --witness heads.jsonl --key session.pub    with what was kept elsewhere")]
    Verify {
        /// The number (`seq`) of the first event that is there: what came before is kept elsewhere.
        #[arg(long, default_value_t = 1)]
        first: u64,
        /// The gateway's public key, `session.pub` of its data directory, which signs how far the log had got, and what `postern data repair` closed; beside the log
        /// unless said.
        #[arg(long)]
        key: Option<PathBuf>,
        /// A file of signed heads that was kept elsewhere (audit.witness): each of them must be in the log.
        #[arg(long, value_name = "FILE")]
        witness: Vec<PathBuf>,
    },
}

impl Audit {
    pub(super) fn is_read_at_length(&self) -> bool {
        !matches!(self.command, AuditCommand::List { follow: true, .. } | AuditCommand::Verify { .. })
    }

    pub(super) fn run(self) -> anyhow::Result<()> {
        let log = self.place.audit_file(self.file)?;
        let read = || format!("cannot read {}; give --file, or --config", log.display());
        if !query::is_log(&log).with_context(read)? {
            bail!("{} is no audit log: its first line is no event. One that was compressed is read when it is not", log.display());
        }
        match self.command {
            AuditCommand::Verify { first, key, witness } => {
                let (key, witness) = (key.or(self.place.session_key()?), if witness.is_empty() { self.place.witness()? } else { witness });
                verify::verify(&log, first, key, &witness)?;
            }
            AuditCommand::Show { id } => show(&log, &id)?,
            AuditCommand::List { which, output, follow, all, limit } => {
                let how = How { form: output.form(), has_headers: output.has_headers(), follows: follow, is_whole: all, limit };
                list::list(&log, &which.query()?, how).with_context(read)?;
            }
            AuditCommand::Top { by, which, limit, output } => top::top(&log, &which.query()?, by, limit, output).with_context(read)?,
            AuditCommand::WhoSaw { object, which, output } => {
                if which.names_object() {
                    bail!("which object is meant is said once, as {object}: leave --name and --resource out");
                }
                let (resource, name) = who_saw::parse(&object)?;
                let query = which.query()?;
                let namespace = query.namespace.clone();
                // Lists over all namespaces, and without a name, are looked at too.
                let query = Query { namespace: None, name: None, ..query };
                who_saw::who_saw(&log, &resource, &name, namespace.as_deref(), query, output).with_context(read)?;
            }
        }
        Ok(())
    }
}

/// Shows every event of an operation.
fn show(log: &Path, id: &str) -> anyhow::Result<()> {
    let mut found = false;
    query::ask(log, &Query { text: Some(id.to_owned()), ..Query::default() }, |line| {
        if let Ok(event) = serde_json::from_slice::<Value>(line)
            && event["id"] == id
        {
            found = true;
            say!("{event:#}");
        }
        ControlFlow::Continue(())
    })?;
    if !found {
        bail!("no event of {id}; `postern audit list -o wide` shows the ids");
    }
    Ok(())
}

/// An address without its port, as people write it; what is none as it is.
fn address_of(source: &str) -> String {
    query::address_of(source).map_or_else(|| source.to_owned(), |address| address.to_string())
}

/// What an event is of, in words, on one line.
pub(super) fn operation_of(event: &Value) -> String {
    printable(&shown::operation_of(event))
}
