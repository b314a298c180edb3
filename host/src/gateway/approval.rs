//! An operation that needs an approval: its ticket, the wait, and the release.

use std::time::Instant;

use serde_json::Value;

use super::Cluster;
use super::exchange::Exchange;
use super::keep::masked;
use crate::approve::{GivenRefusal, Intent, Ticket, TicketState};
use crate::classify::Shape;
use crate::decide::{Passed, Pending, Ruling, Terms, may_hide, no_longer_covered};
use crate::record::Event;
use crate::status::Refusal;
use crate::stream::end::End;
use crate::words::{Stage, Step};

impl Cluster {
    /// The ticket of an operation; what waits for one is recorded.
    pub(super) async fn ask(&self, exchange: &Exchange, held: &Pending, event: &mut Event) -> Result<Ticket, Refusal> {
        let Exchange { caller, operation, headers, body, .. } = exchange;
        let intent = Intent { caller, operation, headers, body, shown: shown(exchange, held.terms())? };
        let wanted = self.approvals.wanted(&intent, held.requirements(), event.source())?;
        // It may be there though its client has gone before it was told.
        event.set("ticket", &wanted.id);
        let ticket = self.approvals.find_or_open(wanted).await?;
        event.set("ticket", &ticket.id);
        if ticket.state == TicketState::Pending {
            self.audit.record(event, Stage::Held);
        }
        Ok(ticket)
    }

    /// Holds a request open for as long as a client bears it.
    pub(super) async fn wait_and_release(&self, exchange: &Exchange, ticket: Ticket, event: &mut Event) -> Result<Passed, Refusal> {
        let waiting_since = Instant::now();
        let ticket = tokio::select! {
            ticket = self.approvals.wait(&ticket.id, self.config.approvals.hold.duration()) => ticket,
            () = self.gone.cancelled() => Err(End::ClusterChanged.refusal()),
        };
        self.audit.step(event, Step::Approve, waiting_since);
        let ticket = ticket?;
        if ticket.state == TicketState::Pending {
            let message = format!("{}; run the same command again when it is approved", waiting(&ticket));
            return Err(Refusal::too_many_requests(message).with_ticket(&ticket.id));
        }
        self.release(exchange, ticket, event).await
    }

    /// What was approved is decided again: by now the policies or the objects may differ. Then the ticket is used.
    pub(super) async fn release(&self, exchange: &Exchange, ticket: Ticket, event: &mut Event) -> Result<Passed, Refusal> {
        let id = &ticket.id;
        let used = || Refusal::forbidden(format!("approval {id} was used already; run the command again to ask anew"));
        match ticket.state {
            TicketState::Approved => {}
            TicketState::Pending => {
                return Err(Refusal::forbidden(format!("approval {id} was not given in time; run the command again to ask anew")));
            }
            TicketState::Denied => return Err(Refusal::forbidden(format!("approval {id} was denied{}", said(&ticket)))),
            TicketState::Revoked => {
                return Err(Refusal::forbidden(format!("approval {id} was revoked{}; run the command again to ask anew", said(&ticket))));
            }
            TicketState::Cancelled => {
                return Err(Refusal::forbidden(format!("approval {id} was cancelled; run the command again to ask anew")));
            }
            TicketState::Used => return Err(used()),
        }
        self.is_there()?;
        let again = self.decide(exchange, event).await?;
        match &again {
            Ruling::Refuse(refused) => return Err(refused.refusal.clone()),
            Ruling::Hold(held) if !held.is_covered_by(&ticket) => return Err(no_longer_covered(&ticket)),
            Ruling::Hold(_) | Ruling::Pass(_) => {}
        }
        event.set("approvedBy", ticket.approvals.iter().map(|a| &a.username).collect::<Vec<_>>());
        // A ticket is not used up for what cannot be sent.
        self.is_there()?;
        let taken = self.approvals.take(&ticket).await?.ok_or_else(used)?;
        if ticket.reusable {
            event.set("reusedUntil", ticket.ends);
        }
        again.released(taken)
    }
}

/// The body as an approver may see it: as the requester would be shown it.
fn shown(exchange: &Exchange, terms: &Terms) -> Result<Option<Value>, Refusal> {
    if exchange.body.is_empty() || may_hide(&terms.on_object) {
        return Ok(None);
    }
    let body = match exchange.operation.shape {
        Shape::Answer => exchange.body.read_if_known()?,
        _ => exchange.body.read().ok(),
    };
    let text = body.and_then(|body| masked(body, terms.masks.as_deref(), &exchange.resource()));
    Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
}

/// Who refused a ticket, and what they said to it.
pub(super) fn said(ticket: &Ticket) -> String {
    match &ticket.refusal {
        Some(GivenRefusal { username, comment: Some(comment), .. }) => format!(" by {username}: {comment}"),
        Some(GivenRefusal { username, .. }) => format!(" by {username}"),
        None => String::new(),
    }
}

/// What a caller is told who waits.
pub(super) fn waiting(ticket: &Ticket) -> String {
    let groups: Vec<&str> = ticket.requirements.iter().flat_map(|r| &r.approvers).map(String::as_str).collect();
    let reason = ticket.requirements.first().map(|r| r.reason.as_str()).unwrap_or_default();
    format!("waiting for approval {} by {}: {reason}", ticket.id, groups.join(", "))
}
