//! Approvals.

use http::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Asking, json};
use crate::approve::{Approvals, Ticket};
use crate::body::Body;
use crate::status::Refusal;

/// What is asked of tickets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Those a caller may see: so many, from where a page ended.
    List(usize, Option<String>),
    /// One of them.
    Get(String),
    /// It is approved, for so many seconds or once, or denied.
    Answer(String, bool, Option<u64>),
}

/// An approval.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Answer {
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
    let answer: Answer =
        serde_json::from_slice(body).map_err(|e| Refusal::bad_request(format!("the body is not {{\"reuseSeconds\": N}}: {e}")))?;
    Ok(answer.reuse_seconds)
}

/// Answers.
pub async fn answer(approvals: &Approvals, Asking { caller, cluster }: Asking<'_>, asked: &Asked) -> Result<Response<Body>, Refusal> {
    match asked {
        Asked::List(limit, after) => {
            let page = approvals.list(caller, cluster, u32::try_from(*limit).unwrap_or(u32::MAX), after.as_deref()).await?;
            json(&Tickets { items: page.items, go_on: page.go_on })
        }
        Asked::Get(id) => json(&approvals.get(id, caller, cluster).await?),
        Asked::Answer(id, approve, reuse) => json(&approvals.answer(id, caller, cluster, *approve, *reuse).await?),
    }
}
