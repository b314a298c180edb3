//! Refusals: every error a caller meets is a `metav1.Status`.

use http::StatusCode;
use serde_json::json;

/// Why a request does not pass, as the caller is told.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub code: StatusCode,
    /// `metav1.StatusReason`.
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub message: String,
    /// Seconds after which the client may ask again.
    pub retry_after: Option<u32>,
    /// The ticket that is waited for.
    pub ticket: Option<String>,
}

impl Refusal {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), retry_after: None, ticket: None }
    }

    /// 400: the request means nothing, or different things to different readers.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// 401: the caller is not known.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
    }

    /// 403: the caller is known and may not.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// 404: no such thing in the gateway's own API.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// 405.
    pub fn method_not_allowed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// 421: the connection is for another host than the request.
    pub fn misdirected(message: impl Into<String>) -> Self {
        Self::new(StatusCode::MISDIRECTED_REQUEST, "BadRequest", message)
    }

    /// 408: the client was too slow.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "Timeout", message)
    }

    /// 409.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "Conflict", message)
    }

    /// 410: a watch cannot go on from where it began; clients list and watch anew (`apierrors.NewResourceExpired`).
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// 413: the body is over the limit.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    /// 415: the body is in an encoding that is not decoded.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    /// 422: the object cannot be stored like this.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    }

    /// 431: the head of the request is over the limit. `metav1` has no reason of its own for it.
    pub fn head_too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "BadRequest", message)
    }

    /// 429 that a client repeats after a second.
    pub fn too_many_requests(message: impl Into<String>) -> Self {
        Self { retry_after: Some(1), ..Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message) }
    }

    /// 500: something on this side failed, and nothing passed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// 502: the API server answered what cannot be used.
    pub fn bad_gateway(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "InternalError", message)
    }

    /// 503: something is not there just now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { retry_after: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message) }
    }

    /// 504: the API server did not answer in time.
    pub fn gateway_timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
    }

    /// Names the ticket the request waits for.
    pub fn with_ticket(mut self, ticket: &str) -> Self {
        self.ticket = Some(ticket.to_owned());
        self
    }

    /// The same, which no client repeats by itself.
    pub fn once(self) -> Self {
        Self { retry_after: None, ..self }
    }

    /// The `metav1.Status` as JSON.
    pub fn to_json(&self) -> String {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code.as_u16(),
        });
        if let Some(seconds) = self.retry_after {
            status["details"] = json!({ "retryAfterSeconds": seconds });
        }
        if let Some(ticket) = &self.ticket {
            status["details"]["causes"] = json!([{ "reason": "ApprovalRequired", "message": ticket }]);
        }
        let mut text = status.to_string();
        text.push('\n');
        text
    }

    /// The last event of a watch in JSON, which says why it ends.
    pub fn to_event(&self) -> String {
        format!("{{\"type\":\"ERROR\",\"object\":{}}}\n", self.to_json().trim_end())
    }
}

/// A command's exit code, as its last Status tells it (`k8s.io/client-go/tools/remotecommand/v4.go`).
pub fn exit_code(status: &serde_json::Value) -> Option<i64> {
    if status["status"] == "Success" {
        return Some(0);
    }
    let causes = status.pointer("/details/causes")?.as_array()?;
    causes.iter().find(|cause| cause["reason"] == "ExitCode")?["message"].as_str()?.parse().ok()
}
