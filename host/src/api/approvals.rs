//! Approvals.

use std::time::Duration;

use http::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Asking, Sources, json};
use crate::approve::{Answer, Approvals, Page, Ticket};
use crate::body::Body;
use crate::clock::now;
use crate::digest::sha256;
use crate::drain::Drain;
use crate::slots::Full;
use crate::status::Refusal;
use crate::written::in_a_line;

/// A request about the tickets of approvals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApprovalRequest {
    /// A page of the tickets that the caller may see.
    List {
        /// The most that are answered.
        limit: usize,
        /// Where the page before ended, in its own words.
        after: Option<String>,
        /// What is waited for.
        wait: Option<Wait>,
    },
    /// The ticket with this id.
    Get(String),
    /// What somebody does with a ticket.
    Answer {
        /// The ticket's id.
        id: String,
        /// What is done with it.
        answer: Answer,
        /// What is said to it.
        comment: Option<String>,
    },
}

/// A page is answered once it is another than the one that is known, or after some seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// `revision` of the page that is known.
    pub revision: String,
    /// The most seconds.
    pub seconds: u64,
}

/// The longest that a page is waited for, in seconds, and how many one caller waits for at a time, and all together.
const LONGEST_WAIT: u64 = 300;
const WAITS_PER_CALLER: usize = 8;
pub(super) const WAITS: usize = 200;
/// What changes in this time is looked at together: whoever waits looks for themselves, and others bring it about.
const TOGETHER: Duration = Duration::from_secs(1);
/// The longest comment, in characters.
const LONGEST_COMMENT: usize = 500;

/// The body of an approval.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct ApproveRequest {
    /// Seconds for which the ticket may be used again and again; once when absent.
    reuse_seconds: Option<u64>,
    /// What is said with it, a line of at most 500 characters: of a denial or a revocation the requester is told.
    comment: Option<String>,
}

/// The body of any other answer.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct CommentRequest {
    /// What is said with it, a line of at most 500 characters: of a denial or a revocation the requester is told.
    comment: Option<String>,
}

/// A page of tickets.
#[derive(Serialize, JsonSchema)]
pub(super) struct Tickets {
    /// The tickets.
    items: Vec<Ticket>,
    /// What the next page is asked for with, when there are more.
    #[serde(rename = "continue")]
    go_on: Option<String>,
    /// What is on the page, for `revision`: another where a ticket came, went, or had something done with it.
    revision: String,
}

/// What a list waits for, by the parameters of its request; nothing where no seconds are given.
pub(super) fn wait(revision: Option<String>, seconds: Option<u64>) -> Result<Option<Wait>, Refusal> {
    match (revision, seconds) {
        (None, None) => Ok(None),
        (Some(revision), Some(seconds)) if seconds <= LONGEST_WAIT => Ok(Some(Wait { revision, seconds })),
        (Some(_), Some(_)) => Err(Refusal::bad_request(format!("waitSeconds: at most {LONGEST_WAIT} are waited"))),
        _ => Err(Refusal::bad_request(
            "waitSeconds and revision go together: a page is waited for that is another than the one with that revision",
        )),
    }
}

/// An approval, by the body of its request.
pub(super) fn approval(id: String, body: &[u8]) -> Result<ApprovalRequest, Refusal> {
    let ApproveRequest { reuse_seconds, comment } = read(body, "{\"reuseSeconds\": N, \"comment\": TEXT}")?;
    Ok(ApprovalRequest::Answer { id, answer: Answer::Approve { reuse_seconds }, comment: checked(comment)? })
}

/// Any other answer, by the body of its request.
pub(super) fn other(id: String, answer: Answer, body: &[u8]) -> Result<ApprovalRequest, Refusal> {
    let CommentRequest { comment } = read(body, "{\"comment\": TEXT}")?;
    Ok(ApprovalRequest::Answer { id, answer, comment: checked(comment)? })
}

fn read<T: Default + for<'a> Deserialize<'a>>(body: &[u8], form: &str) -> Result<T, Refusal> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| Refusal::bad_request(format!("the body is not {form}: {error}")))
}

/// A comment, if it is one: it is shown in a terminal, a log and an answer.
fn checked(comment: Option<String>) -> Result<Option<String>, Refusal> {
    match comment {
        Some(text) if text.chars().count() > LONGEST_COMMENT || in_a_line(&text) != text => {
            Err(Refusal::bad_request(format!("comment: a line of at most {LONGEST_COMMENT} characters is taken")))
        }
        comment => Ok(comment.filter(|text| !text.trim().is_empty())),
    }
}

/// A page.
async fn page(approvals: &Approvals, asking: Asking<'_>, limit: usize, after: Option<&str>) -> Result<Tickets, Refusal> {
    let Page { items, go_on } = approvals.list(asking.caller, asking.cluster, u32::try_from(limit).unwrap_or(u32::MAX), after).await?;
    let revision = revision(&items);
    Ok(Tickets { items, go_on, revision })
}

/// What is done with a ticket changes one of these.
fn revision(tickets: &[Ticket]) -> String {
    let of =
        |ticket: &Ticket| format!("{} {} {} {} {}\n", ticket.id, ticket.version, ticket.state.name(), ticket.approvals.len(), ticket.ends);
    sha256(tickets.iter().map(of).collect::<String>().as_bytes())
}

/// Answers a request about tickets; one that the caller may not see is not found.
pub async fn answer(sources: &Sources, asking: Asking<'_>, asked: &ApprovalRequest, drain: &Drain) -> Result<Response<Body>, Refusal> {
    let Asking { caller, cluster } = asking;
    let approvals: &Approvals = &sources.approvals;
    match asked {
        ApprovalRequest::List { limit, after, wait: None } => json(&page(approvals, asking, *limit, after.as_deref()).await?),
        ApprovalRequest::List { limit, after, wait: Some(wait) } => {
            let waiting = sources.waits.take(&[cluster.unwrap_or_default(), &caller.issuer, &caller.username], WAITS_PER_CALLER);
            let _waiting = waiting.map_err(|full| {
                Refusal::too_many_requests(match full {
                    Full::Owner => format!("{WAITS_PER_CALLER} other requests of yours wait already"),
                    Full::All => format!("{WAITS} requests wait already; ask without waitSeconds"),
                })
            })?;
            let mut changes = approvals.changes();
            // Not beyond the credential.
            let seconds = wait.seconds.min(caller.expires.saturating_sub(now()));
            let deadline = tokio::time::Instant::now() + Duration::from_secs(seconds);
            loop {
                changes.borrow_and_update();
                {
                    // A page may be large: it is not held while nothing happens.
                    let page = page(approvals, asking, *limit, after.as_deref()).await?;
                    if page.revision != wait.revision || drain.has_begun() || tokio::time::Instant::now() >= deadline {
                        return json(&page);
                    }
                }
                let changed = async {
                    let _ = changes.changed().await;
                    tokio::time::sleep(TOGETHER).await;
                };
                tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(deadline) => {}
                    () = drain.beginning().cancelled_owned() => {}
                }
                if caller.expires <= now() {
                    return Err(Refusal::unauthorized("the credential ended while you waited; ask again with a new one"));
                }
            }
        }
        ApprovalRequest::Get(id) => json(&approvals.get(id, caller, cluster).await?),
        ApprovalRequest::Answer { id, answer, comment } => json(&approvals.answer(id, caller, cluster, *answer, comment.as_deref()).await?),
    }
}
