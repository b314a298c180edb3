//! The first stages: who is calling, and what is asked.

use std::cell::OnceCell;
use std::time::Instant;

use http::{HeaderMap, HeaderValue, Request, Response, header};
use hyper::body::Incoming;

use super::{Exchange, Gateway, Peer};
use crate::approve;
use crate::body::{Body, read_request};
use crate::classify::{Operation, Shape};
use crate::forward;
use crate::identify;
use crate::record::Event;
use crate::status::Refusal;

/// What a request turned out to be.
pub(super) enum Admitted {
    /// A request to the gateway's own API, answered.
    Own(Response<Body>),
    /// An operation for the cluster.
    Operation(Box<Exchange>),
}

impl Gateway {
    /// Identify and classify, and read the body.
    pub(super) async fn admit(
        &self,
        peer: &Peer,
        request: Request<Incoming>,
        began: Instant,
        received_at: u64,
        id: String,
        event: &mut Event,
    ) -> Result<Admitted, Refusal> {
        event.set("method", request.method().as_str()).set("path", request.uri().path());
        self.audit.check()?;
        head_within(request.headers(), request.uri(), self.config.limits.request_head.0)?;
        one_length(request.headers())?;
        let caller = self.identifier.identify(request.headers(), &peer.presented).await.inspect_err(|_| {
            event.set("verdict", "unauthenticated");
        })?;
        event.caller(&caller);
        let (parts, body) = request.into_parts();
        let mut headers = parts.headers;
        let upgrade = wants_upgrade(&headers).then(|| headers.get(header::UPGRADE).cloned()).flatten();
        identify::strip(&mut headers)?;
        let limits = &self.config.limits;
        if parts.uri.path().starts_with(approve::api::PREFIX) || parts.uri.path() == "/postern" {
            let body = read_request(body, limits.request_body.0, limits.request_body_time.duration()).await?;
            let response = approve::api::serve(&self.approvals, &caller, &parts.method, parts.uri.path(), &body)?;
            return Ok(Admitted::Own(response));
        }
        let operation = Operation::classify(&parts.method, &parts.uri)?;
        event.operation(&operation, &self.config.cluster.name);
        if operation.is_node_proxy() && !self.config.nodes_proxy.contains(&caller.username, &caller.groups) {
            return Err(Refusal::forbidden("nodes/proxy reaches every container of a node and is closed; name who may under nodesProxy"));
        }
        let who = forward::access_for(&self.config.access, &caller)?;
        if let Some(value) = upgrade.filter(|_| matches!(operation.shape, Shape::Stream | Shape::Proxy)) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, value);
        } else {
            // A watch or a log over WebSocket would pass beside the masks.
            for name in ["sec-websocket-protocol", "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions"] {
                headers.remove(name);
            }
        }
        if operation.shape != Shape::Proxy {
            // A cookie is for something behind a proxy; the API server itself knows none.
            headers.remove(header::COOKIE);
        }
        let body = read_request(body, limits.request_body.0, limits.request_body_time.duration()).await?;
        if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|e| !body.is_empty() && *e != "identity") {
            let shown = encoding.to_str().unwrap_or("?");
            return Err(Refusal::unsupported_media_type(format!(
                "a request body with Content-Encoding {shown} is not read; send it plain"
            )));
        }
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let operation = operation.with_delete_options(&body, content_type);
        Ok(Admitted::Operation(Box::new(Exchange {
            id,
            began,
            received_at,
            caller,
            operation,
            who,
            headers,
            body,
            described: OnceCell::new(),
        })))
    }
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
    Ok(())
}
