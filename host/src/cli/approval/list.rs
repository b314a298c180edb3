//! `postern approval list`.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::{APPROVALS, Form, Wanted, ago, left, missing, operation};
use crate::approve::{Ticket, TicketState};
use crate::cli::remote::Remote;
use crate::cli::table::{self, row};
use crate::cli::terminal::say;
use crate::clock::now;

/// How often it is looked whether there are others, by who waits for them.
const LOOK: Duration = Duration::from_secs(5);

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

pub(super) fn list(remote: &Remote, wanted: Wanted, form: Form, has_headers: bool, watches: bool) -> anyhow::Result<()> {
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
                if is_wide { table::print(&rows) } else { table::print_cut(&rows) }
            }
        }
    }
}
