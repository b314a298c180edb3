//! The gateway's own API, under `/postern/v1/`. It is never forwarded.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, Uri, header};
use serde::Deserialize;

use super::Approvals;
use crate::body::Body;
use crate::identify::Caller;
use crate::status::Refusal;

/// The paths served here.
pub const PREFIX: &str = "/postern/";

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Answer {
    /// Seconds for which the ticket may be used again and again; once when absent.
    reuse_seconds: Option<u64>,
}

/// What is asked of it.
pub enum Asked {
    /// The tickets a caller may see: so many, from where a page ended.
    List(u32, Option<String>),
    /// One of them.
    Get(String),
    /// It is approved, for so many seconds or once, or denied.
    Answer(String, bool, Option<u64>),
}

/// The most tickets of a page.
const PAGE: u32 = 500;

impl Asked {
    /// Reads a request.
    pub fn parse(method: &Method, uri: &Uri, body: &[u8]) -> Result<Self, Refusal> {
        let rest = uri
            .path()
            .strip_prefix("/postern/v1/approvals")
            .ok_or_else(|| Refusal::not_found("the gateway serves /postern/v1/approvals"))?;
        let parts: Vec<&str> = rest.split('/').filter(|p| !p.is_empty()).collect();
        let answer = || -> Result<Answer, Refusal> {
            if body.is_empty() {
                return Ok(Answer::default());
            }
            serde_json::from_slice(body).map_err(|e| Refusal::bad_request(format!("the body is not {{\"reuseSeconds\": N}}: {e}")))
        };
        let asked = |key: &str| {
            let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(name, _)| *name == key).map(|(_, value)| value.to_owned()).next()
        };
        match (method, parts.as_slice()) {
            (&Method::GET, []) => {
                let limit = asked("limit").and_then(|limit| limit.parse().ok()).filter(|limit| *limit > 0).unwrap_or(PAGE);
                Ok(Self::List(limit.min(PAGE), asked("continue")))
            }
            (&Method::GET, [id]) => Ok(Self::Get((*id).into())),
            (&Method::POST, [id, "approve"]) => Ok(Self::Answer((*id).into(), true, answer()?.reuse_seconds)),
            (&Method::POST, [id, "deny"]) => Ok(Self::Answer((*id).into(), false, None)),
            _ => Err(Refusal::method_not_allowed("GET approvals, GET approvals/ID, POST approvals/ID/approve or approvals/ID/deny")),
        }
    }
}

/// Answers a request about the tickets of one cluster, or of all.
pub async fn serve(approvals: &Approvals, caller: &Caller, cluster: Option<&str>, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let value = match asked {
        Asked::List(limit, after) => {
            let page = approvals.list(caller, cluster, *limit, after.as_deref()).await?;
            serde_json::json!({"items": page.items, "continue": page.go_on})
        }
        Asked::Get(id) => serde_json::json!(approvals.get(id, caller, cluster).await?),
        Asked::Answer(id, approve, reuse) => serde_json::json!(approvals.answer(id, caller, cluster, *approve, *reuse).await?),
    };
    let mut response = Response::new(Body::full(Bytes::from(value.to_string() + "\n")));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
