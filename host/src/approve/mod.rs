//! Approve: an operation that needs an approval waits for its ticket, and passes once.
//!
//! A ticket is bound to the intent: caller, cluster, operation and body. Whatever repeats the intent finds the same ticket;
//! whatever differs in anything finds another.

pub mod api;
mod ticket;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{digest, rand};
use tokio::sync::watch;

use crate::classify::Operation;
use crate::decide::Requirement;
use crate::identify::{Caller, now};
use crate::status::Refusal;
use crate::store::Store;
pub use ticket::{Given, State, Summary, Ticket};

/// Tickets, and those who wait for them.
pub struct Approvals {
    store: Store,
    cluster: String,
    pending_per_caller: u32,
    changed: watch::Sender<u64>,
}

/// Who a caller is among all issuers.
fn identity(caller: &Caller) -> String {
    format!("{} {}", caller.issuer, caller.username)
}

impl Approvals {
    /// Keeps tickets in a store.
    pub fn new(store: Store, cluster: &str, pending_per_caller: u32) -> Arc<Self> {
        Arc::new(Self { store, cluster: cluster.into(), pending_per_caller, changed: watch::channel(0).0 })
    }

    /// The ticket of an intent, made when there is none.
    pub fn ticket(&self, caller: &Caller, operation: &Operation, body: &[u8], requirements: &[Requirement]) -> Result<Ticket, Refusal> {
        let intent = intent(caller, &self.cluster, operation, body, requirements);
        let now = now();
        if let Some(ticket) = self.store.live(&intent, now).map_err(|e| unusable(&e))? {
            return Ok(ticket);
        }
        let requester = identity(caller);
        if self.store.pending_of(&requester, now).map_err(|e| unusable(&e))? >= self.pending_per_caller {
            return Err(Refusal::forbidden(format!(
                "{} approvals of yours are pending already; wait for those first",
                self.pending_per_caller
            )));
        }
        let life = requirements.iter().map(|r| u64::from(r.valid_seconds)).min().unwrap_or(0);
        let ticket = Ticket {
            id: ticket_id()?,
            intent,
            requester,
            username: caller.username.clone(),
            groups: caller.groups.clone(),
            operation: summary(&self.cluster, operation, body),
            requirements: requirements.to_vec(),
            approvals: Vec::new(),
            state: State::Pending,
            created: now,
            ends: now + life,
            reusable: false,
        };
        self.store.put(&ticket).map_err(|e| unusable(&e))?;
        Ok(ticket)
    }

    /// Waits until the ticket is no longer pending, or `hold` has passed.
    pub async fn wait(&self, id: &str, hold: Duration) -> Result<Ticket, Refusal> {
        let mut changes = self.changed.subscribe();
        let deadline = tokio::time::Instant::now() + hold;
        loop {
            let ticket = self.store.get(id).map_err(|e| unusable(&e))?.ok_or_else(|| Refusal::forbidden("the approval is gone"))?;
            if ticket.state != State::Pending || tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                return Ok(ticket);
            }
        }
    }

    /// Takes an approved ticket for one operation; false when it was taken before.
    pub fn take(&self, ticket: &Ticket) -> Result<bool, Refusal> {
        if ticket.ends <= now() {
            return Ok(false);
        }
        if ticket.reusable { Ok(true) } else { self.store.use_up(ticket).map_err(|e| unusable(&e)) }
    }

    /// The tickets a caller may see: its own, and those it may approve.
    pub fn list(&self, caller: &Caller) -> Result<Vec<Ticket>, Refusal> {
        let tickets = self.store.list(1000).map_err(|e| unusable(&e))?;
        Ok(tickets.into_iter().filter(|t| may_see(t, caller)).collect())
    }

    /// One ticket a caller may see.
    pub fn get(&self, id: &str, caller: &Caller) -> Result<Ticket, Refusal> {
        let ticket = self.store.get(id).map_err(|e| unusable(&e))?.filter(|t| may_see(t, caller));
        ticket.ok_or_else(|| no_such(id))
    }

    /// Approves or denies. `reuse` lets the ticket be used for so many seconds instead of once.
    pub fn answer(&self, id: &str, caller: &Caller, approve: bool, reuse: Option<u64>) -> Result<Ticket, Refusal> {
        let now = now();
        let changed = self.store.change(id, |ticket| {
            let mut ticket = ticket.filter(|t| may_see(t, caller)).ok_or_else(|| no_such(id))?;
            if ticket.requester == identity(caller) {
                return Err(Refusal::forbidden("nobody approves or denies what they asked for themselves"));
            }
            if !may_answer(&ticket, caller) {
                return Err(Refusal::forbidden("the approval must come from another group; the ticket names which"));
            }
            if ticket.state != State::Pending || ticket.ends <= now {
                let state = if ticket.ends <= now { "expired" } else { ticket.state.name() };
                return Err(Refusal::conflict(format!("the ticket {id} is {state} already")));
            }
            let by = identity(caller);
            if ticket.approvals.iter().any(|given| given.by == by) {
                return Err(Refusal::conflict("you have approved this already; the ticket needs somebody else too"));
            }
            if !approve {
                ticket.state = State::Denied;
                return Ok(ticket);
            }
            ticket.approvals.push(Given { by, username: caller.username.clone(), groups: caller.groups.clone(), at: now });
            if let Some(seconds) = reuse {
                ticket.reusable = true;
                ticket.ends = ticket.ends.min(now.saturating_add(seconds));
            }
            if ticket.is_satisfied() {
                ticket.state = State::Approved;
            }
            Ok(ticket)
        });
        let ticket = changed.map_err(|e| unusable(&e))??;
        self.changed.send_modify(|n| *n += 1);
        Ok(ticket)
    }
}

fn may_answer(ticket: &Ticket, caller: &Caller) -> bool {
    ticket.requirements.iter().flat_map(|r| &r.approvers).any(|group| caller.groups.contains(group))
}

fn may_see(ticket: &Ticket, caller: &Caller) -> bool {
    ticket.requester == identity(caller) || may_answer(ticket, caller)
}

fn no_such(id: &str) -> Refusal {
    let shown: String = id.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    Refusal::not_found(format!("no ticket {shown} that you may see; `postern approval list` shows those"))
}

fn unusable(error: &anyhow::Error) -> Refusal {
    tracing::error!(error = format!("{error:#}"), "the database of approvals cannot be used");
    Refusal::unavailable("the gateway's database of approvals cannot be used, so nothing that needs one passes")
}

fn ticket_id() -> Result<String, Refusal> {
    let mut bytes = [0; 6];
    rand::fill(&mut bytes).map_err(|_| Refusal::internal("no randomness"))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// The digest of everything that makes two requests the same.
fn intent(caller: &Caller, cluster: &str, operation: &Operation, body: &[u8], requirements: &[Requirement]) -> String {
    // kubectl asks for an exec by GET and then by POST: the method is in the verb. Options of the connection are no intent.
    let mut query = operation.query.clone();
    query.sort();
    let command = operation.command.as_ref().map(|c| (&c.container, &c.argv, c.stdin, c.tty));
    let parts = serde_json::json!([
        identity(caller),
        cluster,
        operation.verb,
        operation.path,
        query,
        command,
        digest_of(&canonical(body)),
        requirements
    ]);
    digest_of(parts.to_string().as_bytes())
}

/// Equal objects are one body, however a client spaces or orders them.
fn canonical(body: &[u8]) -> Vec<u8> {
    serde_json::from_slice::<serde_json::Value>(body).map_or_else(|_| body.to_vec(), |value| value.to_string().into_bytes())
}

fn summary(cluster: &str, operation: &Operation, body: &[u8]) -> Summary {
    let target = operation.target.as_ref();
    let is_secret = target.is_some_and(|t| t.resource == "secrets");
    Summary {
        cluster: cluster.into(),
        verb: operation.verb.clone(),
        resource: operation.resource_path().unwrap_or_default(),
        namespace: target.and_then(|t| t.namespace.clone()),
        name: target.and_then(|t| t.name.clone()),
        path: operation.path.clone(),
        query: operation.query.clone(),
        command: operation.command.as_ref().map(|c| c.argv.clone()),
        body_digest: (!body.is_empty()).then(|| digest_of(body)),
        body: if is_secret || body.len() > 64 << 10 { None } else { serde_json::from_slice(body).ok() },
    }
}

fn digest_of(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests;
