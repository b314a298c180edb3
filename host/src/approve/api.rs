//! The gateway's own API, under `/postern/v1/`. It is never forwarded.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, header};
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

/// Answers a request: the answer, and what the audit log calls it.
pub fn serve(approvals: &Approvals, caller: &Caller, method: &Method, path: &str, body: &[u8]) -> Result<Response<Body>, Refusal> {
    let rest = path.strip_prefix("/postern/v1/approvals").ok_or_else(|| Refusal::not_found("the gateway serves /postern/v1/approvals"))?;
    let parts: Vec<&str> = rest.split('/').filter(|p| !p.is_empty()).collect();
    let answer = || -> Result<Answer, Refusal> {
        if body.is_empty() {
            return Ok(Answer::default());
        }
        serde_json::from_slice(body).map_err(|e| Refusal::bad_request(format!("the body is not {{\"reuseSeconds\": N}}: {e}")))
    };
    let value = match (method, parts.as_slice()) {
        (&Method::GET, []) => serde_json::json!({"items": approvals.list(caller)?}),
        (&Method::GET, [id]) => serde_json::json!(approvals.get(id, caller)?),
        (&Method::POST, [id, "approve"]) => serde_json::json!(approvals.answer(id, caller, true, answer()?.reuse_seconds)?),
        (&Method::POST, [id, "deny"]) => serde_json::json!(approvals.answer(id, caller, false, None)?),
        _ => return Err(Refusal::method_not_allowed("GET approvals, GET approvals/ID, POST approvals/ID/approve or approvals/ID/deny")),
    };
    let mut response = Response::new(Body::full(Bytes::from(value.to_string() + "\n")));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
