//! The first stages of an operation: who is calling, and what is asked.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, header};
use hyper::body::Incoming;

use super::Cluster;
use super::arrive::{self, take, wants_upgrade};
use super::exchange::Exchange;
use crate::body::RequestBody;
use crate::body::read_request;
use crate::classify::{Operation, Shape};
use crate::forward;
use crate::identify::{self, Caller, Presented, name};
use crate::listen::Peer;
use crate::record::Event;
use crate::respond::Permits;
use crate::slots::Slot;
use crate::status::Refusal;
use crate::stream::messages::Opening;
use crate::words::Step;

/// Bodies for proxied servers that are not worth a connection of their own.
const SHORT: u64 = 64 << 10;

impl Cluster {
    /// Identify and classify, and read the body.
    pub(super) async fn admit(
        &self,
        peer: &Peer,
        request: Request<Incoming>,
        received_at: u64,
        id: String,
        event: &mut Event,
    ) -> Result<Box<Exchange>, Refusal> {
        let mut held = Permits::new(peer.connection.busy());
        let caller = self.identify(request.headers(), &peer.presented, event).await?;
        event.caller(&caller);
        peer.connection.known();
        let (parts, body) = request.into_parts();
        let mut headers = parts.headers;
        let upgrade = wants_upgrade(&headers).then(|| headers.get(header::UPGRADE).cloned()).flatten();
        let of_handshake = if upgrade.is_some() { headers.clone() } else { HeaderMap::new() };
        identify::strip(&mut headers)?;
        let classifying = Instant::now();
        let operation = Operation::classify(&parts.method, &parts.uri)?.of(&self.name);
        self.audit.step(event, Step::Classify, classifying);
        event.operation(&operation);
        held.count(self.count(&caller, &operation)?);
        if operation.is_node_proxy() && !self.member.nodes_proxy.contains(&caller.username, &caller.groups) {
            return Err(Refusal::forbidden("nodes/proxy reaches every container of a node and is closed; name who may under nodesProxy"));
        }
        let who = forward::access_for(&self.member.access, &caller)?;
        if operation.shape == Shape::Proxy {
            one_path(&headers)?;
            if let Some(other) = upgrade.as_ref().filter(|value| !is_read_upgrade(value)) {
                let shown: String = other.to_str().unwrap_or("?").chars().filter(|c| !c.is_control()).take(40).collect();
                return Err(Refusal::bad_request(format!("a proxied connection is upgraded to websocket or SPDY/3.1, and not to {shown}")));
            }
        }
        if let Some(value) = upgrade.filter(|_| matches!(operation.shape, Shape::Stream | Shape::Proxy)) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, value);
        } else {
            // A watch or a log over WebSocket is told by the gateway: the API server is asked for the same without.
            for name in ["sec-websocket-protocol", "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions"] {
                headers.remove(name);
            }
        }
        let opening = self.opening(&operation, of_handshake, &mut headers)?;
        if operation.shape != Shape::Proxy {
            // A cookie is for something behind a proxy; the API server itself knows none.
            headers.remove(header::COOKIE);
        }
        content_type(&headers)?;
        let is_empty = http_body::Body::is_end_stream(&body);
        let streams = operation.shape == Shape::Proxy && !headers.contains_key(header::UPGRADE) && !is_short(&body);
        let mut exchange = Exchange {
            id,
            received_at,
            caller,
            operation,
            who,
            headers,
            body: Arc::new(RequestBody::new(Bytes::new(), "")),
            upload: Rc::new(Cell::new(Some(body).filter(|_| !is_empty))),
            held,
            restored: None,
            opening,
            subject: OnceCell::new(),
        };
        if !streams {
            self.take_in(&mut exchange).await?;
        }
        Ok(Box::new(exchange))
    }

    /// Reads the body of a request whole.
    pub(super) async fn take_in(&self, exchange: &mut Exchange) -> Result<(), Refusal> {
        let Some(upload) = exchange.upload.take() else { return Ok(()) };
        let limits = &self.config.limits;
        let body = read_request(upload, limits.request_body.0, limits.request_body_time.duration()).await?;
        let mut read = RequestBody::new(body, content_type(&exchange.headers)?);
        if let Some(coding) = exchange.headers.get(header::CONTENT_ENCODING).filter(|coding| *coding != "identity") {
            read = read.packed(coding.to_str().unwrap_or("?"));
        }
        // kube-apiserver reads no such body either, whoever is asked; what is behind a proxy may.
        if exchange.operation.shape != Shape::Proxy
            && let Some(refusal) = read.is_packed()
        {
            return Err(refusal);
        }
        exchange.operation.take_delete_options(&read)?;
        exchange.body = Arc::new(read);
        Ok(())
    }
}

/// Whether a body is known to be short: it is read at once, and may be sent again where a connection broke.
fn is_short(body: &Incoming) -> bool {
    http_body::Body::size_hint(body).upper().is_some_and(|size| size <= SHORT)
}

impl Cluster {
    /// A watch or a log that is to be told over WebSocket.
    fn opening(&self, operation: &Operation, mut of_handshake: HeaderMap, headers: &mut HeaderMap) -> Result<Option<Opening>, Refusal> {
        if of_handshake.is_empty() {
            return Ok(None);
        }
        // What carried the caller's token is no protocol.
        identify::strip_token(&mut of_handshake);
        let opening = Opening::of(&operation.method, &of_handshake, operation.shape)?;
        if opening.is_some() && operation.shape == Shape::Watch {
            // An event is a text message: in protobuf it would be none.
            headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        }
        Ok(opening)
    }

    /// Counts what a caller has under way: what goes on for long apart from what is answered.
    fn count(&self, caller: &Caller, operation: &Operation) -> Result<Slot, Refusal> {
        let limits = &self.config.limits;
        let (slots, most, name) = match operation.shape {
            Shape::Watch => (&self.watches, limits.watches_per_caller, "watchesPerCaller"),
            Shape::Log if operation.is_followed() => (&self.watches, limits.watches_per_caller, "watchesPerCaller"),
            _ => (&self.requests, limits.requests_per_caller, "requestsPerCaller"),
        };
        take(slots, most, name, caller)
    }

    /// Tells who is calling, and that they may be called so.
    pub(super) async fn identify(&self, headers: &HeaderMap, presented: &Presented, event: &mut Event) -> Result<Arc<Caller>, Refusal> {
        let identifying = Instant::now();
        let caller = match self.identifier.identify(headers, presented).await {
            Ok(caller) => self.own_names(&caller).await.map(|()| caller),
            unknown => unknown,
        };
        let caller = arrive::identified(caller, &self.audit, headers, identifying, event)?;
        Ok(self.callers.as_ref().map_or_else(|| Arc::clone(&caller), |callers| callers.caller(&caller)))
    }

    /// Names of ServiceAccounts are for the cluster's own issuer to give.
    async fn own_names(&self, caller: &Caller) -> Result<(), Refusal> {
        let Caller { username, groups, issuer, .. } = caller;
        if !name::of_service_account(username) && !groups.iter().any(|group| name::of_service_account(group)) {
            return Ok(());
        }
        let is_own = match self.upstream.is_known_issuer(issuer) {
            Some(is_own) => is_own,
            // What an API server says of itself two may say: of several clusters only the configuration tells whose issuer is whose.
            None if !self.member.is_alone => false,
            None => Box::pin(self.upstream.is_own_issuer(issuer)).await?,
        };
        name::check_service_account(username, groups, is_own)
    }
}

/// Whether a connection goes on in a protocol of which the first request is the only one. Over HTTP/2 others would follow that nobody decided about.
fn is_read_upgrade(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"websocket") || value.as_bytes().eq_ignore_ascii_case(b"spdy/3.1")
}

/// Headers by which servers behind proxies take another path or method for the one that was asked for: what was decided about would not be what happens.
fn one_path(headers: &HeaderMap) -> Result<(), Refusal> {
    const OVERRIDES: [&str; 8] = [
        "x-original-url",
        "x-rewrite-url",
        "x-original-uri",
        "x-original-method",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "http2-settings",
    ];
    match OVERRIDES.into_iter().find(|name| headers.contains_key(*name)) {
        Some(name) => Err(Refusal::bad_request(format!(
            "the header {name} asks a proxied server for something else than the request does; leave it out"
        ))),
        None => Ok(()),
    }
}

/// What the body is, in one way only: of two, two readers may take different ones.
fn content_type(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    match (values.next().map(HeaderValue::to_str), values.next()) {
        (None, _) => Ok(""),
        (Some(Ok(one)), None) => Ok(one),
        _ => Err(Refusal::bad_request("the request has several Content-Types, or one that is no text; send one")),
    }
}
