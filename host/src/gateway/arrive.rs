//! What is looked at in every request before anything else, whomever it is for, and who is calling.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, Request, header};

use crate::config::Limits;
use crate::identify::{Caller, Unverified};
use crate::metrics::Count;
use crate::record::{AuditLog, Event};
use crate::slots::{Slot, Slots};
use crate::status::Refusal;
use crate::words::{Step, Verdict};

/// What of a path is recorded before it is known who asks for it.
const LONGEST_SHOWN: usize = 512;

/// Whether a request can be looked at, and what of it is recorded before it is known who sent it.
pub(super) fn arrive<B>(request: &Request<B>, limits: &Limits, audit: &AuditLog, event: &mut Event) -> Result<(), Refusal> {
    // Whoever is not known yet writes no more than this into the log.
    let path = request.uri().path();
    let cut = if path.len() > LONGEST_SHOWN { path.char_indices().nth(LONGEST_SHOWN) } else { None };
    let shown = cut.map_or(path, |(end, _)| &path[..end]);
    event.set("method", request.method().as_str()).set("path", shown);
    audit.check()?;
    head_within(request.headers(), request.uri(), limits.request_head.0)?;
    one_length(request.headers())
}

/// It is known who is calling, or known that nobody knows: since `identifying` that was asked.
pub(super) fn identified(
    caller: Result<Arc<Caller>, Refusal>,
    audit: &AuditLog,
    headers: &HeaderMap,
    identifying: Instant,
    event: &mut Event,
) -> Result<Arc<Caller>, Refusal> {
    // Who is not known has nothing traced.
    if caller.is_ok() {
        event.trace(audit.tracer(), headers);
    }
    audit.step(event, Step::Identify, identifying);
    caller.inspect_err(|refusal| unknown(refusal, audit, headers, event))
}

/// It is not known who asked.
fn unknown(refusal: &Refusal, audit: &AuditLog, headers: &HeaderMap, event: &mut Event) {
    event.verdict(Verdict::Unauthenticated);
    if let Some(said) = Unverified::of(headers) {
        event.set("unverified", said);
    }
    // What cannot be known just now is nobody's failed login.
    if refusal.code.is_client_error() {
        audit.count_of_all(Count::FailedLogins);
    }
}

/// Counts a request of a caller, as long as there are not too many.
pub(super) fn take(slots: &Arc<Slots>, most: usize, name: &str, caller: &Caller) -> Result<Slot, Refusal> {
    slots.take(&[&caller.issuer, &caller.username], most).map_err(|_| {
        Refusal::too_many_requests(format!("you have {most} of these under way (limits.{name}); end one or wait, then try again"))
    })
}

/// Whether a request asks for another protocol on its connection.
pub(super) fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
        && headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

/// The connection stops reading at the limit only when more is to come; a head that came in one piece is measured here.
fn head_within(headers: &HeaderMap, uri: &http::Uri, limit: usize) -> Result<(), Refusal> {
    let line = uri.path_and_query().map_or(0, |p| p.as_str().len());
    let size = headers.iter().fold(line, |sum, (name, value)| sum + name.as_str().len() + value.len() + 4);
    if size > limit {
        return Err(Refusal::head_too_large(format!("the head of the request is over {limit} bytes long (limits.requestHead)")));
    }
    Ok(())
}

/// Two lengths are how requests are smuggled.
fn one_length(headers: &HeaderMap) -> Result<(), Refusal> {
    let lengths = headers.get_all(header::CONTENT_LENGTH).iter().count();
    if lengths > 1 || lengths == 1 && headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Refusal::bad_request("the request has more than one length (Content-Length, Transfer-Encoding); send one"));
    }
    if headers.get_all(header::TRANSFER_ENCODING).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(Refusal::bad_request("the request's Transfer-Encoding is another than chunked; send it plain"));
    }
    if headers.get_all(header::HOST).iter().count() > 1 {
        return Err(Refusal::bad_request("the request has more than one Host; send one"));
    }
    Ok(())
}
