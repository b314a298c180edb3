//! `postern approval`: the gateway's own API, with the credential of a kubeconfig.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::remote::Remote;
use super::table::{self, printable, row, time};
use crate::approve::{Requirement, Ticket, TicketState};
use crate::cli::terminal::say;
use crate::clock::now;

const APPROVALS: &str = "/postern/v1/approvals";
/// How often it is looked whether there are others, by who waits for them.
const LOOK: Duration = Duration::from_secs(5);

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
        /// How they are written.
        #[arg(long, short, value_enum, default_value_t)]
        output: Form,
        /// Prints JSON: `-o json`.
        #[arg(long, hide = true)]
        json: bool,
        /// Without the line that names the columns.
        #[arg(long)]
        no_headers: bool,
    },
    /// Shows a ticket: what would be done, by whom, from where, and who may answer.
    Show {
        /// Its id.
        id: String,
        /// How it is written.
        #[arg(long, short, value_enum, default_value_t)]
        output: ShowForm,
    },
    /// Lets the operation pass.
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

impl Wanted {
    fn fits(self, ticket: &Ticket) -> bool {
        let (state, is_over) = (ticket.state, ticket.ends <= now());
        match self {
            Self::All => true,
            Self::Live => !is_over && matches!(state, TicketState::Pending | TicketState::Approved | TicketState::Denied),
            Self::Expired => is_over && matches!(state, TicketState::Pending | TicketState::Approved | TicketState::Denied),
            Self::Pending => !is_over && state == TicketState::Pending,
            Self::Approved => !is_over && state == TicketState::Approved,
            Self::Denied => state == TicketState::Denied,
            Self::Used => state == TicketState::Used,
            Self::Cancelled => state == TicketState::Cancelled,
            Self::Revoked => state == TicketState::Revoked,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// In columns.
    #[default]
    Table,
    /// In more columns.
    Wide,
    /// As the API has them.
    Json,
    /// Their ids.
    Name,
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

/// A page of tickets.
#[derive(Deserialize)]
struct Page {
    items: Vec<Ticket>,
    #[serde(rename = "continue")]
    go_on: Option<String>,
}

impl Approval {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let remote = Remote::open(self.kubeconfig)?;
        match self.command {
            ApprovalCommand::List { state, watch, output, json, no_headers } => {
                let form = if json { Form::Json } else { output };
                list(&remote, state, form, !no_headers, watch)
            }
            ApprovalCommand::Show { id, output } => show(&remote, &id, output),
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

/// All tickets that one may see.
fn tickets(remote: &Remote) -> anyhow::Result<Vec<Ticket>> {
    let (mut all, mut after) = (Vec::new(), None::<String>);
    loop {
        let query: Vec<(&str, &str)> = after.as_deref().map(|after| ("continue", after)).into_iter().collect();
        let Page { mut items, go_on } = remote.get(APPROVALS, &query)?;
        all.append(&mut items);
        match go_on {
            Some(place) => after = Some(place),
            None => return Ok(all),
        }
    }
}

fn list(remote: &Remote, wanted: Wanted, form: Form, has_headers: bool, watches: bool) -> anyhow::Result<()> {
    let fitting = || -> anyhow::Result<Vec<Ticket>> { Ok(tickets(remote)?.into_iter().filter(|ticket| wanted.fits(ticket)).collect()) };
    let mut known = fitting()?;
    tell(&known, form, has_headers);
    if known.is_empty() && !watches && matches!(form, Form::Table | Form::Wide) {
        eprintln!("no tickets of that kind");
    }
    if !watches {
        return Ok(());
    }
    loop {
        std::thread::sleep(LOOK);
        // A gateway that starts anew is there again in a moment.
        let current = match fitting() {
            Ok(current) => current,
            Err(error) => {
                eprintln!("{error:#}; it is asked again");
                continue;
            }
        };
        let is_new = |ticket: &&Ticket| !known.iter().any(|known| known.id == ticket.id && known.state == ticket.state);
        let new: Vec<Ticket> = current.iter().filter(is_new).cloned().collect();
        if !new.is_empty() {
            tell(&new, form, false);
        }
        known = current;
    }
}

fn tell(tickets: &[Ticket], form: Form, has_headers: bool) {
    match form {
        Form::Json => say!("{}", json!({"items": tickets})),
        Form::Name => tickets.iter().for_each(|ticket| say!("{}", ticket.id)),
        Form::Table | Form::Wide => {
            let is_wide = form == Form::Wide;
            let mut rows = Vec::new();
            if has_headers {
                let mut head = row(["ID", "STATE", "AGE", "ENDS", "REQUESTER", "OPERATION"]);
                if is_wide {
                    head.extend(row(["APPROVERS", "CLUSTER", "SOURCE", "SESSION", "REASON"]));
                }
                rows.push(head);
            }
            rows.extend(tickets.iter().map(|ticket| {
                let (age, ends) = (ago(now().saturating_sub(ticket.created)), left(ticket.ends));
                let mut cells = row([&ticket.id, ticket.state.name(), &age, &ends, &ticket.username, &operation(ticket)]);
                if is_wide {
                    let reason = ticket.requirements.first().map_or("", |requirement| &requirement.reason);
                    cells.extend(row([&missing(ticket), &ticket.operation.cluster, &ticket.source, &ticket.session, reason]));
                }
                cells
            }));
            if !tickets.is_empty() || has_headers {
                table::print(&rows);
            }
        }
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

fn show(remote: &Remote, id: &str, form: ShowForm) -> anyhow::Result<()> {
    let value: Value = remote.get(&format!("{APPROVALS}/{}", word(id)?), &[])?;
    match form {
        ShowForm::Json => say!("{value:#}"),
        ShowForm::Yaml => super::terminal::out(&serde_saphyr::to_string(&value)?),
        ShowForm::Text => told(&serde_json::from_value(value).context("the gateway's answer is no ticket")?)?,
    }
    Ok(())
}

fn told(ticket: &Ticket) -> anyhow::Result<()> {
    let line = |name: &str, text: &str| {
        if !text.is_empty() {
            say!("{name:<12} {}", printable(text));
        }
    };
    let of = &ticket.operation;
    line("ticket", &ticket.id);
    let ends = if ticket.ends <= now() { "expired".to_owned() } else { format!("ends {} ({})", time(ticket.ends), left(ticket.ends)) };
    line(
        "state",
        &format!("{}; asked for {} ({} ago), {ends}", ticket.state.name(), time(ticket.created), ago(now().saturating_sub(ticket.created))),
    );
    line("requester", &format!("{} ({})", ticket.username, ticket.requester.split(' ').next().unwrap_or_default()));
    line("groups", &ticket.groups.join(", "));
    line("from", &ticket.source);
    line("session", &ticket.session);
    line("cluster", &of.cluster);
    line("operation", &operation(ticket));
    line("request", &format!("{} {}", of.method, of.path));
    let query: Vec<String> = of.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    line("query", &query.join("&"));
    line("media type", of.media_type.as_deref().unwrap_or_default());
    line("headers", &of.headers.join(", "));
    for requirement in &ticket.requirements {
        line("why", &format!("{}: {}", requirement.policy, requirement.reason));
    }
    line("needs", &missing(ticket));
    for given in &ticket.approvals {
        let reuse = given.reuse_seconds.map(|seconds| format!(", for {}", ago(seconds))).unwrap_or_default();
        line("approved", &format!("by {} at {}{reuse}{}", given.username, time(given.at), comment(given.comment.as_deref())));
    }
    if let Some(refusal) = &ticket.refusal {
        line(ticket.state.name(), &format!("by {} at {}{}", refusal.username, time(refusal.at), comment(refusal.comment.as_deref())));
    }
    if let Some(body) = &of.body {
        say!("body");
        serde_saphyr::to_string(body)?.lines().for_each(|line| say!("    {}", printable(line)));
    } else if let Some(digest) = &of.body_digest {
        line("body", &format!("not shown; SHA-256 {digest}"));
    }
    Ok(())
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
