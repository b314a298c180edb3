//! Respond: what the API server answers goes back to the caller, masked where the decision says so, each piece as it comes.

mod accept;
mod answer;
mod completion;
mod items;
mod list;
mod objects;
mod partial;
mod watch;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use answer::{AnswerBody, Form};

pub use accept::{Negotiated, include_objects, rewrite, without_limit};
pub use completion::{Completion, Permits};
pub use items::Items;
pub use objects::{Stop, Treatment};
pub use watch::Before;

use crate::body::{Body, collect};
use crate::classify::Shape;
use crate::mask::{Hidden, MaskCounts, Plan, Scope, Unreadable};
use crate::status::Refusal;
use crate::stream::end::Ends;
use crate::stream::filter::Filter;
use crate::words::Ending;

/// What of a list is looked at before its head is sent.
const PREVIEW: usize = 64 << 10;
/// What of a list is looked at first where policies look at each object: one of them may end the answer, and what is sent by then cannot be taken back.
const PREVIEW_OF_OBJECTS: usize = 8 << 20;

/// What is told of the names of policies in a warning.
const LONGEST_NAMES: usize = 500;

/// What is done with the body.
pub enum Work {
    /// It passes as it is.
    Pass,
    /// Objects are masked.
    Items(Box<Items>),
    /// Text is looked at and masked.
    Text(Box<Filter>),
}

/// How a watch learns what an object was when it began: its JSON, or none where there was no such object.
pub type Look = Option<Arc<dyn Fn(Before) -> Looking>>;
/// It is on its way.
pub type Looking = Pin<Box<dyn Future<Output = Result<Option<Bytes>, Lost>>>>;

/// Why it cannot be learnt.
#[derive(Debug)]
pub enum Lost {
    /// It is too long ago. The client must read everything anew, as it must when a watch cannot begin there.
    Expired,
    /// Another reason; the watch breaks off.
    Unknown(String),
}

/// What the answer to a write may repeat of the object it was for.
pub enum QuotedValues {
    /// Nothing that is hidden.
    Nothing,
    /// These values.
    Values(Hidden),
    /// What is hidden in it is not known: nothing of what is said goes on.
    Unknown,
}

/// What is hidden in an answer.
pub struct Masking<'a> {
    /// By which policies, as far as the caller is warned of them.
    pub by: &'a [String],
    /// How; none where nothing is.
    pub plan: Option<&'a Plan>,
    /// What else may show it.
    pub repeats: QuotedValues,
}

impl Masking<'_> {
    /// Nothing is.
    pub fn none() -> Self {
        Self { by: &[], plan: None, repeats: QuotedValues::Nothing }
    }
}

/// The caller's answer. `ends` is ready when one that goes on for long must not.
pub async fn respond(
    upstream: Response<Incoming>,
    work: Work,
    masking: Masking<'_>,
    ends: Option<Ends>,
    shape: Shape,
    completion: Completion,
) -> Result<Response<Body>, Refusal> {
    let mut completion = completion;
    let Masking { by: masked_by, plan: masks, repeats } = masking;
    let repeats = &repeats;
    completion.event.status(upstream.status());
    let (mut parts, body) = upstream.into_parts();
    strip(&mut parts.headers);
    if masks.is_some() || !matches!(repeats, QuotedValues::Nothing) {
        conceal_warnings(&mut parts.headers, masks, repeats);
    }
    completion.place = parts.extensions.remove();
    let has_objects = parts.status.is_success() && readable(&parts.headers, true).is_ok();
    let work = match work {
        // Who only observes goes without what is no object or cannot be read.
        Work::Items(items) if !has_objects && !items.changes() => Work::Pass,
        work => work,
    };
    let reads = !matches!(work, Work::Pass);
    if reads && !parts.status.is_success() {
        return error_answer(parts, body, masks, repeats, completion).await;
    }
    if reads {
        readable(&parts.headers, matches!(work, Work::Items(_))).inspect_err(|_| completion.ended = Some(Ending::Refused))?;
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    if let Work::Items(items) = work {
        return match shape {
            // Its head must not wait for the first event.
            Shape::Watch => {
                warn(&mut parts.headers, masked_by, "may be");
                let answer = AnswerBody::new(body, Work::Items(items), Vec::new(), completion).until(ends, Form::of(shape, &parts.headers));
                Ok(Response::from_parts(parts, Body::stream(answer)))
            }
            // A single object is looked at whole before anything is sent, so that what is hidden is 403 and not half an answer.
            _ if !items.streams() => whole(parts, body, *items, masked_by, completion).await,
            _ => list(parts, body, items, masked_by, completion).await,
        };
    }
    if reads {
        warn(&mut parts.headers, masked_by, "may be");
    }
    let answer = AnswerBody::new(body, work, Vec::new(), completion).until(ends, Form::of(shape, &parts.headers));
    Ok(Response::from_parts(parts, Body::stream(answer)))
}

/// An answer of the API server's with another object in its place, all of it there.
pub fn told(mut parts: Parts, object: String, mut completion: Completion) -> Response<Body> {
    strip(&mut parts.headers);
    parts.headers.remove(header::CONTENT_LENGTH);
    completion.answered(parts.status, object.len());
    Response::from_parts(parts, Body::full(object).holding(completion.held()))
}

/// Tells the user, who sees it in kubectl, that what is shown is not all there is.
fn warn(headers: &mut HeaderMap, masked_by: &[String], how_sure: &str) {
    let policies = match masked_by {
        [] => return,
        [policy] => format!("policy {policy}"),
        // One for all of them: clients and proxies take so many headers and no more, and those of the API server come first.
        several => format!("policies {}", several.join(", ").chars().take(LONGEST_NAMES).collect::<String>()),
    };
    if let Ok(value) = HeaderValue::from_str(&format!("299 - \"values in this answer {how_sure} hidden by {policies}\"")) {
        headers.append(header::WARNING, value);
    }
}

async fn whole(
    mut parts: Parts,
    body: Incoming,
    mut items: Items,
    masked_by: &[String],
    mut completion: Completion,
) -> Result<Response<Body>, Refusal> {
    let limit = items.largest();
    let bytes = collect(body, limit).await.map_err(|e| completion.broke_off(&e))?;
    let bytes = bytes.ok_or_else(|| completion.stopped(&Unreadable::TooLarge.into()))?;
    let mut out = Vec::with_capacity(bytes.len() + 256);
    let done = items.push(&bytes, &mut out).and_then(|()| items.finish(&mut out));
    completion.worked(&items);
    done.map_err(|stop| completion.stopped(&stop))?;
    completion.bytes = out.len() as u64;
    completion.ended = Some(Ending::Ok);
    if !items.report().is_empty() {
        warn(&mut parts.headers, masked_by, "are");
    }
    Ok(Response::from_parts(parts, Body::full(out).holding(completion.held())))
}

/// A list goes out as it comes. Its beginning is looked at before its head is sent: a short list is known by then, and so are most reasons
/// to send none at all.
async fn list(
    mut parts: Parts,
    mut body: Incoming,
    mut items: Box<Items>,
    masked_by: &[String],
    mut completion: Completion,
) -> Result<Response<Body>, Refusal> {
    let (mut out, mut ended) = (Vec::new(), false);
    let may_end = items.may_hide();
    let more = |out: &[u8], items: &Items| match may_end {
        true => out.len() < PREVIEW_OF_OBJECTS,
        false => out.len() < PREVIEW && items.report().is_empty(),
    };
    while !ended && more(&out, &items) {
        let step = match body.frame().await {
            Some(Ok(frame)) => frame.into_data().map_or(Ok(()), |data| items.push(&data, &mut out)),
            Some(Err(error)) => return Err(completion.broke_off(&error)),
            None => {
                ended = true;
                items.finish(&mut out)
            }
        };
        if let Err(stop) = step {
            completion.worked(&items);
            return Err(completion.stopped(&stop));
        }
    }
    match (items.report().is_empty(), ended) {
        (false, _) => warn(&mut parts.headers, masked_by, "are"),
        (true, false) => warn(&mut parts.headers, masked_by, "may be"),
        (true, true) => {}
    }
    if ended {
        completion.worked(&items);
        completion.bytes = out.len() as u64;
        completion.ended = Some(Ending::Ok);
        return Ok(Response::from_parts(parts, Body::full(out).holding(completion.held())));
    }
    let answer = AnswerBody::new(body, Work::Items(items), out, completion);
    Ok(Response::from_parts(parts, Body::stream(answer)))
}

/// An error's Status: its message may repeat a value that a mask hides.
async fn error_answer(
    mut parts: Parts,
    body: Incoming,
    masks: Option<&Plan>,
    repeats: &QuotedValues,
    mut completion: Completion,
) -> Result<Response<Body>, Refusal> {
    let bytes = collect(body, 4 << 20).await.ok().flatten().unwrap_or_default();
    let must_hide = masks.is_some() || !matches!(repeats, QuotedValues::Nothing);
    let scrubbed = match serde_json::from_slice::<Value>(&bytes) {
        Ok(mut status) if must_hide => {
            if let Some(plan) = masks {
                plan.hide_in_status(&mut status);
            }
            conceal(&mut status, repeats);
            Bytes::from(status.to_string())
        }
        Err(_) if must_hide && (parts.status != StatusCode::NOT_FOUND || bytes.len() > 64) => {
            Bytes::from_static(b"the error's text is hidden by a policy\n")
        }
        _ => bytes,
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    completion.bytes = scrubbed.len() as u64;
    completion.ended = Some(Ending::Ok);
    Ok(Response::from_parts(parts, Body::full(scrubbed).holding(completion.held())))
}

/// What is said of an error, without what is hidden in the object it is about.
fn conceal(status: &mut Value, repeats: &QuotedValues) {
    for said in ["message", "details"] {
        let Some(said) = status.get_mut(said) else { continue };
        match (repeats, said) {
            (QuotedValues::Nothing, _) => {}
            (QuotedValues::Values(hidden), said) => hidden.hide_in(said),
            (QuotedValues::Unknown, Value::String(message)) => {
                *message = "what is wrong is hidden by a policy, for it may repeat what is hidden from you".into()
            }
            (QuotedValues::Unknown, details) => details.as_object_mut().into_iter().for_each(|details| drop(details.remove("causes"))),
        }
    }
}

/// Hides the same in the API server's warnings (RFC 9111, section 5.5, in its first edition).
fn conceal_warnings(headers: &mut HeaderMap, masks: Option<&Plan>, repeats: &QuotedValues) {
    let said: Vec<String> =
        headers.get_all(header::WARNING).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
    headers.remove(header::WARNING);
    for text in said {
        let text = match repeats {
            QuotedValues::Nothing => text,
            QuotedValues::Values(hidden) => hidden.hide(&text),
            QuotedValues::Unknown => "299 - \"a warning is hidden by a policy, for it may repeat what is hidden from you\"".to_owned(),
        };
        let text = masks.and_then(|masks| masks.hide_text(&text, &Scope::default(), &mut MaskCounts::new())).unwrap_or(text);
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.append(header::WARNING, value);
        }
    }
}

/// A body that must be read and cannot be is an error, never passed unread.
fn readable(headers: &HeaderMap, as_objects: bool) -> Result<(), Refusal> {
    let encoding = headers.get(header::CONTENT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or("identity");
    if encoding != "identity" {
        return Err(Refusal::bad_gateway(format!(
            "the answer must be masked, and the API server sent it as {encoding} though asked not to"
        )));
    }
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    if as_objects && media_type != "application/json" {
        return Err(Refusal::bad_gateway(format!("the answer must be masked, and {media_type:?} cannot be read")));
    }
    Ok(())
}

fn strip(headers: &mut HeaderMap) {
    for name in
        [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE, header::TRAILER, HeaderName::from_static("keep-alive")]
    {
        headers.remove(name);
    }
}
