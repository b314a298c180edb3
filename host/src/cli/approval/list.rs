//! `postern approval list`.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::{APPROVALS, Wanted, ago, left, missing, operation};
use crate::approve::{Ticket, TicketState};
use crate::cli::listing::{Form, Heads, Listed, Output};
use crate::cli::remote::Remote;
use crate::cli::terminal::say;
use crate::clock::now;

/// How long the gateway waits for others before it answers, and how long whoever waits for them does before it is asked again.
const WAIT_SECONDS: &str = "100";
const PAUSE: Duration = Duration::from_secs(1);
const AFTER_AN_ERROR: Duration = Duration::from_secs(5);

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

/// A page of tickets.
#[derive(Deserialize)]
struct Page {
    items: Vec<Ticket>,
    #[serde(rename = "continue")]
    go_on: Option<String>,
    revision: String,
}

/// All tickets that one may see, and the revision of the first page: at once, or when it is another than one that is known.
fn tickets(remote: &Remote, known: Option<&str>) -> anyhow::Result<(Vec<Ticket>, String)> {
    let waiting = known.map(|revision| [("revision", revision), ("waitSeconds", WAIT_SECONDS)]);
    let Page { items: mut all, go_on: mut after, revision } = remote.get(APPROVALS, waiting.as_ref().map_or(&[], |waiting| waiting))?;
    while let Some(place) = after {
        let mut page: Page = remote.get(APPROVALS, &[("continue", &place)])?;
        all.append(&mut page.items);
        after = page.go_on;
    }
    Ok((all, revision))
}

pub(super) fn list(remote: &Remote, wanted: Wanted, output: Output, watches: bool) -> anyhow::Result<()> {
    let fitting = |known: Option<&str>| -> anyhow::Result<(Vec<Ticket>, String)> {
        let (tickets, revision) = tickets(remote, known)?;
        Ok((tickets.into_iter().filter(|ticket| wanted.fits(ticket)).collect(), revision))
    };
    let (mut known, mut revision) = fitting(None)?;
    tell(&known, output)?;
    if known.is_empty() && !watches && output.is_for_people() {
        eprintln!("no tickets of that kind");
    }
    if !watches {
        return Ok(());
    }
    let mut may_wait = true;
    loop {
        std::thread::sleep(PAUSE);
        // A gateway that starts anew is there again in a moment; one at which as many wait as may answers who does not.
        let asked = fitting(may_wait.then_some(&revision));
        may_wait = asked.is_ok();
        let (current, next) = match asked {
            Ok(current) => current,
            Err(error) => {
                eprintln!("{error:#}; it is asked again");
                std::thread::sleep(AFTER_AN_ERROR);
                continue;
            }
        };
        let is_new = |ticket: &&Ticket| !known.iter().any(|known| known.id == ticket.id && known.state == ticket.state);
        let new: Vec<Ticket> = current.iter().filter(is_new).cloned().collect();
        if !new.is_empty() {
            tell(&new, output.with_headers(false))?;
        }
        (known, revision) = (current, next);
    }
}

fn tell(tickets: &[Ticket], output: Output) -> anyhow::Result<()> {
    // All of them in one object, as the API has a page; of JSON on a line, for those who read line by line what comes.
    if output.form() == Form::Json {
        say!("{}", json!({"items": tickets}));
        return Ok(());
    }
    if output.form() == Form::Yaml && !output.has_headers() {
        say!("---");
    }
    if output.whole(&json!({"items": tickets}))? {
        return Ok(());
    }
    let listed = |ticket: &Ticket| {
        let (age, ends) = (ago(now().saturating_sub(ticket.created)), left(ticket.ends));
        let reason = ticket.requirements.first().map_or("", |requirement| &requirement.reason);
        let texts = |cells: &[&str]| cells.iter().map(|&cell| cell.to_owned()).collect();
        Listed {
            name: ticket.id.clone(),
            whole: json!(ticket),
            cells: texts(&[&ticket.id, ticket.state.name(), &age, &ends, &ticket.username, &operation(ticket)]),
            wide: texts(&[&missing(ticket), &ticket.operation.cluster, &ticket.source, &ticket.session, reason]),
        }
    };
    let items: Vec<_> = tickets.iter().map(listed).collect();
    let heads = Heads(&["ID", "STATE", "AGE", "ENDS", "REQUESTER", "OPERATION"], &["APPROVERS", "CLUSTER", "SOURCE", "SESSION", "REASON"]);
    output.list(&heads, &items)
}
