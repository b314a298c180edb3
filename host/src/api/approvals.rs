//! Approvals.

use http::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Asking, json};
use crate::approve::{Approvals, Ticket};
use crate::body::Body;
use crate::status::Refusal;

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
    /// An approver's answer to a ticket.
    Answer {
        /// The ticket's id.
        id: String,
        /// Whether it is approved, or denied.
        approve: bool,
        /// For how long it may be used again and again; none for once.
        reuse_seconds: Option<u64>,
    },
}

/// The body of an approval.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct AnswerRequest {
    /// Seconds for which the ticket may be used again and again; once when absent.
    reuse_seconds: Option<u64>,
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

/// For how long a ticket may be used again and again, by the body of an approval; none for once.
pub(super) fn reuse(body: &[u8]) -> Result<Option<u64>, Refusal> {
    if body.is_empty() {
        return Ok(None);
    }
    let answer: AnswerRequest =
        serde_json::from_slice(body).map_err(|e| Refusal::bad_request(format!("the body is not {{\"reuseSeconds\": N}}: {e}")))?;
    Ok(answer.reuse_seconds)
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
        ApprovalRequest::Answer { id, approve, reuse_seconds } => {
            json(&approvals.answer(id, caller, cluster, *approve, *reuse_seconds).await?)
        }
    }
}
