//! Approve: an operation that needs an approval waits for its ticket, and passes once.
//!
//! A ticket is bound to the intent: caller, cluster, operation and body. Whatever repeats the intent finds the same ticket;
//! whatever differs in anything finds another.

mod intent;
mod ticket;
mod tickets;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use tokio::sync::watch;

use crate::clock::now;
use crate::config;
use crate::digest::hex;
use crate::identify::Caller;
use crate::status::Refusal;
pub use intent::Intent;
pub use ticket::{Answer, GivenApproval, GivenRefusal, Requirement, Summary, Taken, Ticket, TicketState};
pub use tickets::{Page, Seen, SqliteTickets, Tickets};

/// How often an answer is put to a ticket that others answer at the same moment.
const ATTEMPTS: u32 = 8;

/// Tickets, and those who wait for them.
pub struct Approvals {
    store: Box<dyn Tickets>,
    pending_per_caller: u32,
    /// Names of which each is one person's.
    same_person: Vec<Vec<String>>,
    /// Answers that were given, for those whose operations wait.
    answered: watch::Sender<u64>,
    /// That, and tickets that were opened and used, for those who look at lists.
    changed: watch::Sender<u64>,
}

/// Who a caller is among all issuers.
fn identity(caller: &Caller) -> String {
    format!("{} {}", caller.issuer, caller.username)
}

impl Approvals {
    /// Keeps tickets where they are kept.
    pub fn new(store: impl Tickets + 'static, config: &config::Approvals) -> Arc<Self> {
        let config::Approvals { pending_per_caller, same_person, .. } = config.clone();
        Arc::new(Self {
            store: Box::new(store),
            pending_per_caller,
            same_person,
            answered: watch::channel(0).0,
            changed: watch::channel(0).0,
        })
    }

    /// Whether two names are one person's. Equal names of two issuers are two people when something is asked for, and one when it is approved: both times the
    /// safer way.
    fn is_same_person(&self, one: &str, other: &str) -> bool {
        let is_of = |names: &[String], name: &str| names.iter().any(|known| known == name);
        one == other || self.same_person.iter().any(|names| is_of(names, one) && is_of(names, other))
    }

    /// The ticket that an intent gets where it has none; `source` is the address it comes from.
    pub fn wanted(&self, intent: &Intent<'_>, requirements: &[Requirement], source: &str) -> Result<Ticket, Refusal> {
        let Intent { caller, operation, .. } = intent;
        let now = now();
        let life = requirements.iter().map(|r| u64::from(r.valid_seconds)).min().unwrap_or(0);
        Ok(Ticket {
            id: ticket_id()?,
            intent: intent.digest(&operation.cluster, requirements)?,
            requester: identity(caller),
            username: caller.username.clone(),
            groups: caller.groups.clone(),
            operation: intent.summary(&operation.cluster),
            requirements: requirements.to_vec(),
            approvals: Vec::new(),
            refusal: None,
            source: source.to_owned(),
            session: caller.credential.clone(),
            state: TicketState::Pending,
            created: now,
            ends: now + life,
            reusable: false,
            version: 0,
        })
    }

    /// The ticket of the same intent that has not ended; this one where there is none.
    pub async fn find_or_open(&self, wanted: Ticket) -> Result<Ticket, Refusal> {
        let id = wanted.id.clone();
        // It may be there though its client has gone before it was told.
        let told = Told([&self.changed]);
        let ticket = self.store.find_or_open(wanted, self.pending_per_caller).await.map_err(|e| unusable(&e))?;
        if ticket.as_ref().is_none_or(|ticket| ticket.id != id) {
            // It was there before.
            std::mem::forget(told);
        }
        ticket.ok_or_else(|| {
            Refusal::forbidden(format!(
                "{} approvals of yours are pending in this cluster already; wait for those first",
                self.pending_per_caller
            ))
        })
    }

    /// Waits until the ticket is no longer pending, or `hold` has passed.
    pub async fn wait(&self, id: &str, hold: Duration) -> Result<Ticket, Refusal> {
        let mut changes = self.answered.subscribe();
        let deadline = tokio::time::Instant::now() + hold;
        loop {
            let ticket = self.store.get(id).await.map_err(|e| unusable(&e))?.ok_or_else(|| Refusal::forbidden("the approval is gone"))?;
            if ticket.state != TicketState::Pending || tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                return Ok(ticket);
            }
        }
    }

    /// How many wait for an answer at this moment.
    pub fn waiting(&self) -> usize {
        self.answered.receiver_count()
    }

    /// Hears of every ticket that is opened, answered or used.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Takes an approved ticket for one operation; none when it was taken before, or has ended.
    pub async fn take(&self, ticket: &Ticket) -> Result<Option<Taken>, Refusal> {
        if ticket.state != TicketState::Approved || ticket.ends <= now() {
            return Ok(None);
        }
        if ticket.reusable {
            // It may have been revoked since it was looked at.
            let now_kept = self.store.get(&ticket.id).await.map_err(|e| unusable(&e))?;
            return Ok(now_kept.filter(|kept| kept.state == TicketState::Approved && kept.ends > now()).map(Taken));
        }
        let used = Ticket { state: TicketState::Used, ..ticket.clone() };
        let _told = Told([&self.changed]);
        Ok(self.store.replace(used).await.map_err(|e| unusable(&e))?.map(Taken))
    }

    /// The tickets a caller may see, its own and those it may approve, of one cluster or of all: those that are pending first, the latest first. `after` is
    /// where the page before ended.
    pub async fn list(&self, caller: &Caller, cluster: Option<&str>, limit: u32, after: Option<&str>) -> Result<Page, Refusal> {
        let of = Seen {
            requester: identity(caller),
            groups: caller.groups.clone(),
            cluster: cluster.map(str::to_owned),
            now: now(),
            limit,
            after: after.map(str::to_owned),
        };
        self.store.list(of).await.map_err(|e| unusable(&e))
    }

    /// One ticket a caller may see, of one cluster or of any.
    pub async fn get(&self, id: &str, caller: &Caller, cluster: Option<&str>) -> Result<Ticket, Refusal> {
        let is_of = |ticket: &Ticket| cluster.is_none_or(|cluster| ticket.operation.cluster == cluster);
        let ticket = self.store.get(id).await.map_err(|e| unusable(&e))?.filter(|t| is_of(t) && may_see(t, caller));
        ticket.ok_or_else(|| no_such(id))
    }

    /// Does with a ticket what somebody wants, who may, and says why where they do.
    pub async fn answer(
        &self,
        id: &str,
        caller: &Caller,
        cluster: Option<&str>,
        answer: Answer,
        comment: Option<&str>,
    ) -> Result<Ticket, Refusal> {
        for _ in 0..ATTEMPTS {
            let answered = self.answered(self.get(id, caller, cluster).await?, caller, answer, comment)?;
            // Whoever answers may hang up before they hear of it: those who wait look at the ticket all the same.
            let _told = Told([&self.answered, &self.changed]);
            if let Some(ticket) = self.store.replace(answered).await.map_err(|e| unusable(&e))? {
                return Ok(ticket);
            }
        }
        Err(Refusal::conflict(format!("the ticket {id} is answered by others at this moment; look at it again")))
    }

    /// A ticket as it is once somebody has answered it, who may.
    fn answered(&self, mut ticket: Ticket, caller: &Caller, answer: Answer, comment: Option<&str>) -> Result<Ticket, Refusal> {
        let now = now();
        let is_own = self.is_same_person(&ticket.username, &caller.username);
        match answer {
            Answer::Cancel if ticket.requester != identity(caller) => {
                return Err(Refusal::forbidden("who asked for it cancels it; to refuse it, deny it"));
            }
            Answer::Cancel => {}
            _ if is_own => {
                return Err(Refusal::forbidden(
                    "nobody approves or denies what they asked for themselves; cancel it if you want it no more",
                ));
            }
            _ if !may_answer(&ticket, caller) => {
                return Err(Refusal::forbidden("the approval must come from another group; the ticket names which"));
            }
            _ => {}
        }
        let state = if ticket.ends <= now { None } else { Some(ticket.state) };
        let is_in_time = match answer {
            Answer::Approve { .. } | Answer::Deny => state == Some(TicketState::Pending),
            Answer::Cancel => matches!(state, Some(TicketState::Pending | TicketState::Approved)),
            Answer::Reopen => state == Some(TicketState::Denied),
            Answer::Revoke => state == Some(TicketState::Approved),
        };
        if !is_in_time {
            let state = state.map_or("expired", TicketState::name);
            return Err(Refusal::conflict(format!("the ticket {} is {state} already; it cannot be {}", ticket.id, done(answer))));
        }
        let (by, username, comment) = (identity(caller), caller.username.clone(), comment.map(str::to_owned));
        match answer {
            Answer::Approve { reuse_seconds } => {
                if ticket.approvals.iter().any(|given| self.is_same_person(&given.username, &caller.username)) {
                    return Err(Refusal::conflict("you have approved this already; the ticket needs somebody else too"));
                }
                ticket.approvals.push(GivenApproval { by, username, groups: caller.groups.clone(), at: now, reuse_seconds, comment });
                if ticket.is_satisfied() {
                    ticket.state = TicketState::Approved;
                    // More than once only as far as everybody said so.
                    if let Some(seconds) = ticket.approvals.iter().map(|given| given.reuse_seconds).min().flatten() {
                        ticket.reusable = true;
                        ticket.ends = ticket.ends.min(now.saturating_add(seconds));
                    }
                }
            }
            Answer::Deny => {
                ticket.state = TicketState::Denied;
                ticket.refusal = Some(GivenRefusal { by, username, at: now, comment });
            }
            Answer::Reopen => {
                // A no of which it is not known whose it was, as older gateways kept it, is nobody's to take back.
                if ticket.refusal.as_ref().is_none_or(|given| given.by != by) {
                    return Err(Refusal::forbidden("a denial is taken back by who gave it"));
                }
                ticket.state = TicketState::Pending;
                ticket.refusal = None;
            }
            Answer::Revoke => {
                ticket.state = TicketState::Revoked;
                ticket.refusal = Some(GivenRefusal { by, username, at: now, comment });
            }
            Answer::Cancel => {
                ticket.state = TicketState::Cancelled;
                ticket.refusal = Some(GivenRefusal { by, username, at: now, comment });
            }
        }
        Ok(ticket)
    }
}

fn done(answer: Answer) -> &'static str {
    match answer {
        Answer::Approve { .. } => "approved",
        Answer::Deny => "denied",
        Answer::Reopen => "reopened",
        Answer::Revoke => "revoked",
        Answer::Cancel => "cancelled",
    }
}

/// Tells those who wait that a ticket may have changed, when it is dropped.
struct Told<'a, const N: usize>([&'a watch::Sender<u64>; N]);

impl<const N: usize> Drop for Told<'_, N> {
    fn drop(&mut self) {
        self.0.into_iter().for_each(tell);
    }
}

fn tell(who: &watch::Sender<u64>) {
    who.send_modify(|n| *n += 1);
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
    Ok(hex(&bytes))
}

#[cfg(test)]
mod tests;
