//! An operation that needs an approval: its ticket, the wait, and the release.

use serde_json::Value;

use super::keep::masked;
use super::{Exchange, Gateway};
use crate::approve::{Intent, State, Ticket};
use crate::classify::Shape;
use crate::decide::{Decision, may_hide};
use crate::policy::Live;
use crate::record::Event;
use crate::status::Refusal;

impl Gateway {
    /// The ticket of an operation; what waits for one is recorded.
    pub(super) async fn ask(&self, exchange: &Exchange, decision: &Decision, event: &mut Event) -> Result<Ticket, Refusal> {
        let Exchange { caller, operation, headers, body, .. } = exchange;
        let intent = Intent { caller, operation, headers, body, shown: shown(exchange, decision)? };
        let ticket = self.approvals.ticket(&intent, &decision.approvals).await?;
        event.set("ticket", &ticket.id);
        if ticket.state == State::Pending {
            self.audit.record(event, "held");
        }
        Ok(ticket)
    }

    /// Holds a request open for as long as a client bears it.
    pub(super) async fn wait_and_release(&self, exchange: &Exchange, ticket: Ticket, event: &mut Event) -> Result<Decision, Refusal> {
        let ticket = self.approvals.wait(&ticket.id, self.config.approvals.hold.duration()).await?;
        if ticket.state == State::Pending {
            let message = format!("{}; run the same command again when it is approved", waiting(&ticket));
            return Err(Refusal::too_many_requests(message).with_ticket(&ticket.id));
        }
        self.release(exchange, ticket, event).await
    }

    /// What was approved is decided again: by now the policies or the objects may differ. Then the ticket is used.
    pub(super) async fn release(&self, exchange: &Exchange, ticket: Ticket, event: &mut Event) -> Result<Decision, Refusal> {
        let id = &ticket.id;
        let used = || Refusal::forbidden(format!("approval {id} was used already; run the command again to ask anew"));
        match ticket.state {
            State::Approved => {}
            State::Pending => {
                return Err(Refusal::forbidden(format!("approval {id} was not given in time; run the command again to ask anew")));
            }
            State::Denied => return Err(Refusal::forbidden(format!("approval {id} was denied"))),
            State::Used => return Err(used()),
        }
        let mut again = self.decide(exchange).await?;
        event.decision(&again);
        if let Some(refusal) = again.refusal.take() {
            return Err(refusal);
        }
        let is_covered = again.approvals.len() == ticket.requirements.len()
            && again.approvals.iter().zip(&ticket.requirements).all(|(now, then)| now.is_same(then));
        if !again.approvals.is_empty() && !is_covered {
            return Err(Refusal::forbidden(format!("approval {id} no longer covers this operation: the policies ask for another one now")));
        }
        if !self.approvals.take(&ticket).await? {
            return Err(used());
        }
        if ticket.reusable {
            event.set("reusedUntil", ticket.ends);
        }
        event.set("approvedBy", ticket.approvals.iter().map(|a| &a.username).collect::<Vec<_>>());
        again.approvals.clear();
        again.approved = true;
        again.live.iter_mut().for_each(Live::approved);
        Ok(again)
    }
}

/// The body as an approver may see it: as the requester would be shown it.
fn shown(exchange: &Exchange, decision: &Decision) -> Result<Option<Value>, Refusal> {
    if exchange.body.is_empty() || may_hide(&decision.on_object) {
        return Ok(None);
    }
    let body = match exchange.operation.shape {
        Shape::Answer => exchange.body.read_if_known()?,
        _ => exchange.body.read().ok(),
    };
    let text = body.and_then(|body| masked(body, decision.masks.as_deref(), &exchange.resource()));
    Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
}

/// What a caller is told who waits.
pub(super) fn waiting(ticket: &Ticket) -> String {
    let groups: Vec<&str> = ticket.requirements.iter().flat_map(|r| &r.approvers).map(String::as_str).collect();
    let reason = ticket.requirements.first().map(|r| r.reason.as_str()).unwrap_or_default();
    format!("waiting for approval {} by {}: {reason}", ticket.id, groups.join(", "))
}
