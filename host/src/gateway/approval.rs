//! An operation that needs an approval: its ticket, the wait, and the release.

use std::time::{Duration, Instant};

use http::{HeaderMap, header};
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

/// How long a request is held whose client is told of its ticket first: an approval may be there by then.
const FIRST: Duration = Duration::from_millis(500);

impl Cluster {
    /// The ticket of an operation, and whether it is a new one; what waits for one is recorded.
    pub(super) async fn ask(&self, exchange: &Exchange, held: &Pending, event: &mut Event) -> Result<(Ticket, bool), Refusal> {
        let Exchange { caller, operation, headers, body, .. } = exchange;
        let intent = Intent { caller, operation, headers, body, shown: shown(exchange, held.terms())? };
        let wanted = self.approvals.wanted(&intent, held.requirements(), event.source())?;
        // It may be there though its client has gone before it was told.
        event.set("ticket", &wanted.id);
        let wanted_id = wanted.id.clone();
        let ticket = self.approvals.find_or_open(wanted).await?;
        event.set("ticket", &ticket.id);
        if ticket.state == TicketState::Pending {
            self.audit.record(event, Stage::Held);
        }
        let is_new = ticket.id == wanted_id;
        Ok((ticket, is_new))
    }

    /// Holds a request open for as long as a client bears it; one that would say nothing meanwhile is told of a new ticket first.
    pub(super) async fn wait_and_release(
        &self,
        exchange: &Exchange,
        ticket: Ticket,
        is_new: bool,
        event: &mut Event,
    ) -> Result<Passed, Refusal> {
        let waiting_since = Instant::now();
        let is_told_first = is_new && self.config.approvals.tell_first && is_silent(&exchange.headers);
        let hold = self.config.approvals.hold.duration();
        let ticket = tokio::select! {
            ticket = self.approvals.wait(&ticket.id, if is_told_first { hold.min(FIRST) } else { hold }) => ticket,
            () = self.gone.cancelled() => Err(End::ClusterChanged.refusal()),
        };
        self.audit.step(event, Step::Approve, waiting_since);
        let ticket = ticket?;
        if ticket.state == TicketState::Pending {
            if is_told_first {
                let message = format!("{}; run the same command again to wait for it, or when it is approved", waiting(&ticket));
                return Err(Refusal::too_many_requests(message).with_ticket(&ticket.id).once());
            }
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

/// Whether a client prints nothing of an answer that it asks again after, as kubectl does not: client-go repeats a request by itself where a 429 has `Retry-After`, ten times and
/// without a word, and shows one that has none.
fn is_silent(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    // client-go begins with the name of the program: `kubectl.exe` and `kubectl-1.31` are kubectl, and `oc` has it in it.
    let program = agent.split('/').next().unwrap_or_default();
    program == "oc"
        || program
            .strip_prefix("kubectl")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-', '_']) || rest.starts_with(|c: char| c.is_ascii_digit()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectl_is_known_by_its_name_whatever_it_is_called() {
        let is = |agent: &'static str| is_silent(&HeaderMap::from_iter([(header::USER_AGENT, http::HeaderValue::from_static(agent))]));
        for agent in [
            "kubectl/v1.37.0 (linux/amd64) kubernetes/abc",
            "kubectl.exe/v1.37.0 (windows/amd64)",
            "kubectl-1.31/v1.31.0",
            "kubectl1.31/v1",
            "oc/4.20",
        ] {
            assert!(is(agent), "{agent}");
        }
        for agent in ["Helm/3.20", "kubectlish/1", "ocean/1", "argocd/1 kubectl/v1.37", "my-kubectl/1", ""] {
            assert!(!is(agent), "{agent}");
        }
        assert!(!is_silent(&HeaderMap::new()));
    }
}
