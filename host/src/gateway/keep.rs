//! Bodies of calls, kept for the caller's session where a rule says so: after masking, and up to a size.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::Cluster;
use super::exchange::Exchange;
use crate::body::{Body, BoxError};
use crate::classify::{Operation, Shape, Target};
use crate::config::{BodyRule, KeepBodies};
use crate::decide::{Terms, may_hide};
use crate::identify::Caller;
use crate::mask::{MaskCounts, Plan};
use crate::policy::holds_credentials;
use crate::record::session::Sessions;
use crate::record::session::format::Kind;
use crate::record::session::recent::RecentBody;
use crate::status::Refusal;

impl Cluster {
    /// What the rules keep of an operation's bodies.
    fn keeps(&self, operation: &Operation) -> KeepBodies {
        self.config.sessions.bodies.iter().find(|rule| matches(rule, operation)).map_or(KeepBodies::Metadata, |rule| rule.keep)
    }

    /// Whether the body of a request is recorded.
    pub(super) fn records_request(&self, operation: &Operation) -> bool {
        matches!(self.keeps(operation), KeepBodies::Request | KeepBodies::RequestAndResponse)
    }

    /// Keeps the body of a request, as it was sent to the gateway: what a mask hides is hidden in it too.
    pub(super) fn keep_request(&self, exchange: &Exchange, terms: &Terms) -> Result<(), Refusal> {
        if exchange.body.is_empty() {
            return Ok(());
        }
        match self.keeps(&exchange.operation) {
            KeepBodies::Metadata => Ok(()),
            KeepBodies::Recent => {
                self.remember(exchange, terms);
                Ok(())
            }
            KeepBodies::Request | KeepBodies::RequestAndResponse => self.keep_in_session(exchange, terms),
        }
    }

    fn keep_in_session(&self, exchange: &Exchange, terms: &Terms) -> Result<(), Refusal> {
        // What policies say of each object is said of objects that come back: of this one they were not asked.
        // What is not for the API server itself it does not read.
        let body = match exchange.operation.shape {
            Shape::Proxy => exchange.body.read().ok(),
            _ => exchange.body.read_if_known()?,
        };
        let text = match body {
            Some(value) if !may_hide(&terms.on_object) => masked(value, terms.masks.as_deref(), &exchange.resource()),
            _ => None,
        };
        let mut kept = BodyCapture::new(self.sessions.clone(), exchange, Kind::Request, self.config.sessions.largest_body.0);
        match text {
            Some(text) => kept.add(&text),
            None => kept.omitted = Some("it cannot be read, or masks cannot be applied to it"),
        }
        Ok(())
    }

    /// Keeps the body in memory, where somebody has read it: nothing is read for it, and nothing refused. What is a credential by its kind is left out, whatever a rule says, and what is
    /// for a server behind the API server.
    fn remember(&self, exchange: &Exchange, terms: &Terms) {
        let largest = self.config.sessions.largest_body.0;
        let is_credential = |target: &Target| holds_credentials(&target.resource, target.subresource.as_deref());
        let is_of_credentials = exchange.operation.target.as_ref().is_none_or(is_credential);
        if is_of_credentials
            || exchange.operation.shape != Shape::Answer
            || exchange.body.bytes().len() > largest
            || may_hide(&terms.on_object)
        {
            return;
        }
        let value = exchange.body.was_read().filter(|value| value["kind"] != "Secret");
        let text = value.and_then(|value| masked(value, terms.masks.as_deref(), &exchange.resource())).filter(|text| text.len() <= largest);
        if let Some(body) = text.and_then(|text| String::from_utf8(text).ok()) {
            let caller = &exchange.caller;
            let owner = format!("{}\n{}\n{}", self.name, caller.issuer, caller.username).into();
            let (session, id) = (caller.credential.clone(), exchange.id.clone());
            self.recent_bodies.keep(RecentBody { owner, session, id, body: body.into() });
        }
    }

    /// An answer whose body is kept as it passes.
    pub(super) fn keep_response(&self, exchange: &Exchange) -> Option<BodyCapture> {
        (self.keeps(&exchange.operation) == KeepBodies::RequestAndResponse)
            .then(|| BodyCapture::new(self.sessions.clone(), exchange, Kind::Response, self.config.sessions.largest_body.0))
    }
}

fn matches(rule: &BodyRule, operation: &Operation) -> bool {
    let any = |list: &[String], is: &dyn Fn(&str) -> bool| list.is_empty() || list.iter().any(|wanted| wanted == "*" || is(wanted));
    let namespace = operation.target.as_ref().and_then(|t| t.namespace.as_deref());
    any(&rule.verbs, &|verb| verb == operation.verb)
        && any(&rule.resources, &|resource| operation.resource_path().as_deref() == Some(resource))
        && any(&rule.namespaces, &|wanted| namespace == Some(wanted))
}

/// A body as its caller would be shown it; none where masks are for objects and it is none. A patch lacks fields that conditions are on: they are taken to hold.
pub(super) fn masked(value: &serde_json::Value, masks: Option<&Plan>, resource: &str) -> Option<Vec<u8>> {
    let text = value.to_string().into_bytes();
    let Some(masks) = masks.filter(|masks| masks.reads_objects()) else { return Some(text) };
    if !value.is_object() {
        return None;
    }
    let mut out = Vec::with_capacity(text.len());
    masks.apply(&text, resource, true, &mut out, &mut MaskCounts::new()).ok()?;
    Some(out)
}

/// A body that is kept. What there is of it is recorded when it is dropped.
pub(super) struct BodyCapture {
    sessions: Sessions,
    who: Arc<Caller>,
    id: String,
    kind: Kind,
    body: Vec<u8>,
    left: usize,
    cut: bool,
    omitted: Option<&'static str>,
}

impl BodyCapture {
    fn new(sessions: Sessions, exchange: &Exchange, kind: Kind, largest: usize) -> Self {
        let (who, id) = (Arc::clone(&exchange.caller), exchange.id.clone());
        Self { sessions, who, id, kind, body: Vec::new(), left: largest, cut: false, omitted: None }
    }

    fn add(&mut self, bytes: &[u8]) {
        let size = bytes.len().min(self.left);
        self.cut |= size < bytes.len();
        self.left -= size;
        self.body.extend_from_slice(&bytes[..size]);
    }

    /// Keeps what passes.
    pub(super) fn of(self, body: Body) -> Body {
        Body::stream(Passing { body, kept: self })
    }
}

impl Drop for BodyCapture {
    fn drop(&mut self) {
        if self.body.is_empty() && self.omitted.is_none() {
            return;
        }
        let mut about = serde_json::json!({"id": self.id});
        if self.cut {
            about["cut"] = true.into();
        }
        if let Some(why) = self.omitted {
            about["omitted"] = why.into();
        }
        self.sessions.body(&self.who, self.kind, &about, &std::mem::take(&mut self.body));
    }
}

struct Passing {
    body: Body,
    kept: BodyCapture,
}

impl http_body::Body for Passing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.kept.add(data);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
