//! `postern approval`: the gateway's own API, with the credential of a kubeconfig.

mod changes;
mod list;
mod show;

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::Value;

use super::remote::Remote;
use super::table::time;
use crate::approve::{Requirement, Ticket, TicketState};
use crate::cli::listing::Output;
use crate::cli::terminal::say;
use crate::clock::now;

const APPROVALS: &str = "/postern/v1/approvals";

/// Lists and answers approvals.
#[derive(Args)]
pub struct Approval {
    /// Kubeconfig of the gateway with your own credential; what `KUBECONFIG` names when absent.
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    #[command(subcommand)]
    command: ApprovalCommand,
}

#[derive(Subcommand)]
enum ApprovalCommand {
    /// Lists the tickets you asked for and those you may answer: those that are not over, unless --state says otherwise.
    #[command(after_help = "Examples:
  postern approval list --watch            tells of tickets as they come
  postern approval list --state denied
  postern approval list --state all -o json")]
    List {
        /// Which.
        #[arg(long, value_enum, default_value_t)]
        state: Wanted,
        /// Goes on, and tells of each that comes.
        #[arg(long, short, conflicts_with = "json")]
        watch: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Shows a ticket: what would be done, by whom, from where, and who may answer.
    #[command(after_help = "Examples:
  postern approval show 4f1c09aa72be
  postern approval show 4f1c09aa72be -o yaml")]
    Show {
        /// Its id.
        id: String,
        /// How it is written.
        #[arg(long, short, value_enum, default_value_t)]
        output: ShowForm,
    },
    /// Lets the operation pass.
    #[command(after_help = "Examples:
  postern approval approve 4f1c09aa72be --comment 'as agreed in CHG-17'
  postern approval approve 4f1c09aa72be --minutes 30    as often as it is asked for, for half an hour")]
    Approve {
        /// Its id.
        id: String,
        /// Lets it pass as often as it is asked for within so many minutes, instead of once.
        #[arg(long)]
        minutes: Option<u64>,
        /// What the requester is told with it.
        #[arg(long)]
        comment: Option<String>,
    },
    /// Refuses the operation.
    #[command(after_help = "Example:
  postern approval deny 4f1c09aa72be --comment 'scale it down instead'")]
    Deny(Answered),
    /// Takes back a denial of your own: the ticket is pending again.
    Reopen(Answered),
    /// Ends a ticket that was approved and may still be used. What runs already is not ended by it.
    Revoke(Answered),
    /// Ends a ticket of your own that you want no more.
    Cancel(Answered),
}

#[derive(Args)]
struct Answered {
    /// The ticket's id.
    id: String,
    /// What is said with it.
    #[arg(long)]
    comment: Option<String>,
}

/// Which tickets are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Wanted {
    /// Those that are not over: pending, approved and not used, denied and not expired.
    #[default]
    Live,
    /// Those that wait for an answer.
    Pending,
    /// Those that may pass.
    Approved,
    /// Those that were refused.
    Denied,
    /// Those that have passed.
    Used,
    /// Those that their requesters ended.
    Cancelled,
    /// Those that approvers ended.
    Revoked,
    /// Those whose time is over.
    Expired,
    /// All of the last thirty days.
    All,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ShowForm {
    /// For people.
    #[default]
    Text,
    /// As the API has it, in YAML.
    Yaml,
    /// As the API has it.
    Json,
}

impl Approval {
    pub(super) fn is_read_at_length(&self) -> bool {
        matches!(self.command, ApprovalCommand::List { watch: false, .. } | ApprovalCommand::Show { .. })
    }

    pub(super) fn run(self) -> anyhow::Result<()> {
        let remote = Remote::open(self.kubeconfig)?;
        match self.command {
            ApprovalCommand::List { state, watch, output } => list::list(&remote, state, output, watch),
            ApprovalCommand::Show { id, output } => show::show(&remote, &id, output),
            ApprovalCommand::Approve { id, minutes, comment } => {
                answer(&remote, &id, "approve", minutes.map(|minutes| minutes.saturating_mul(60)), comment)
            }
            ApprovalCommand::Deny(answered) => answered.give(&remote, "deny"),
            ApprovalCommand::Reopen(answered) => answered.give(&remote, "reopen"),
            ApprovalCommand::Revoke(answered) => answered.give(&remote, "revoke"),
            ApprovalCommand::Cancel(answered) => answered.give(&remote, "cancel"),
        }
    }
}

impl Answered {
    fn give(&self, remote: &Remote, what: &str) -> anyhow::Result<()> {
        answer(remote, &self.id, what, None, self.comment.clone())
    }
}

fn answer(remote: &Remote, id: &str, what: &str, reuse_seconds: Option<u64>, comment: Option<String>) -> anyhow::Result<()> {
    // What is not said is not there: older gateways know less.
    let mut body = serde_json::Map::new();
    body.extend(reuse_seconds.map(|seconds| ("reuseSeconds".to_owned(), Value::from(seconds))));
    body.extend(comment.map(|comment| ("comment".to_owned(), Value::from(comment))));
    let body = if body.is_empty() { String::new() } else { Value::from(body).to_string() };
    let ticket: Ticket = remote.call(Method::POST, &format!("{APPROVALS}/{}/{what}", word(id)?), body)?;
    let more = match ticket.state {
        TicketState::Pending if what == "approve" => format!("; it needs more: {}", missing(&ticket)),
        TicketState::Approved if ticket.reusable => format!(", until {}", time(ticket.ends)),
        _ => String::new(),
    };
    say!("{id} is {}{more}", ticket.state.name());
    Ok(())
}

fn word(id: &str) -> anyhow::Result<&str> {
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        bail!("{id:?} is not the id of a ticket; `postern approval list` shows those");
    }
    Ok(id)
}

fn comment(text: Option<&str>) -> String {
    text.map(|text| format!(": {text}")).unwrap_or_default()
}

/// How long it is until a second.
fn left(second: u64) -> String {
    match second.checked_sub(now()).filter(|left| *left > 0) {
        Some(left) => format!("in {}", ago(left)),
        None => "over".to_owned(),
    }
}

/// A length of time in its largest unit, as kubectl tells ages.
fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// An operation as it would be typed.
fn operation(ticket: &Ticket) -> String {
    let of = &ticket.operation;
    let namespace = of.namespace.as_ref().map(|namespace| format!(" -n {namespace}")).unwrap_or_default();
    let name = of.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let command = of.command.as_ref().map(|words| format!(" -- {}", words.join(" "))).unwrap_or_default();
    match of.resource.as_str() {
        "" => format!("{} {}", of.verb, of.path),
        resource => format!("{} {resource}{namespace}{name}{command}", of.verb),
    }
}

/// Whose yes is missing.
fn missing(ticket: &Ticket) -> String {
    let of = |requirement: &Requirement| {
        let given = ticket.approvals.iter().filter(|given| given.groups.iter().any(|group| requirement.approvers.contains(group))).count();
        format!("{} of {} by {}", given, requirement.required, requirement.approvers.join(" or "))
    };
    ticket.requirements.iter().map(of).collect::<Vec<_>>().join(", ")
}
