//! Approvals.

use http::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Asking, json};
use crate::approve::{Answer, Approvals, Ticket};
use crate::body::Body;
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

/// Answers a request about tickets; one that the caller may not see is not found.
pub async fn answer(
    approvals: &Approvals,
    Asking { caller, cluster }: Asking<'_>,
    asked: &ApprovalRequest,
) -> Result<Response<Body>, Refusal> {
    match asked {
        ApprovalRequest::List { limit, after } => {
            let page = approvals.list(caller, cluster, u32::try_from(*limit).unwrap_or(u32::MAX), after.as_deref()).await?;
            json(&Tickets { items: page.items, go_on: page.go_on })
        }
        ApprovalRequest::Get(id) => json(&approvals.get(id, caller, cluster).await?),
        ApprovalRequest::Answer { id, answer, comment } => json(&approvals.answer(id, caller, cluster, *answer, comment.as_deref()).await?),
    }
}
