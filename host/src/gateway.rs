//! The life of a request: each stage in its order. What one stage learns travels on in an [`Exchange`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde_json::json;

use crate::approve::{self, Approvals, State};
use crate::body::{Body, read_request};
use crate::classify::{Operation, Shape};
use crate::config::Config;
use crate::decide::{self, Decider, Decision, RequestBody};
use crate::forward::{self, As, Upstream};
use crate::identify::{self, Caller, Identifier, Presented};
use crate::mask::{TokenKey, placeholder};
use crate::policy::bindings::postern::policy::types::Surrounding;
use crate::policy::{Directory, PolicySet, Surroundings};
use crate::record::{AuditLog, Event};
use crate::respond::{self, Asked, Completion, Items, Lines, Treatment, Work};
use crate::status::Refusal;

/// All that requests are handled with.
pub struct Gateway {
    /// The configuration.
    pub config: Config,
    /// Tells who is calling.
    pub identifier: Arc<Identifier>,
    /// The API server.
    pub upstream: Arc<Upstream>,
    /// The policies; none when no directory is configured.
    pub policies: Option<Arc<Directory>>,
    /// Tickets.
    pub approvals: Arc<Approvals>,
    /// The audit log.
    pub audit: AuditLog,
    /// The key tokens are made with.
    pub token_key: TokenKey,
}

/// What is known of the connection a request came on.
#[derive(Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// What its certificate says.
    pub presented: Presented,
}

/// One request on its way through the stages.
struct Exchange {
    id: String,
    began: Instant,
    received_at: u64,
    event: Event,
    caller: Arc<Caller>,
    operation: Operation,
    who: As,
    headers: HeaderMap,
    body: Bytes,
}

static COUNTER: AtomicU64 = AtomicU64::new(0);

impl Gateway {
    /// Answers one request. Every way out of here has written an audit event.
    pub async fn handle(self: Arc<Self>, peer: Peer, mut request: Request<Incoming>) -> Response<Body> {
        let began = Instant::now();
        let received_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        let id = format!("{received_at:x}-{:x}", COUNTER.fetch_add(1, Ordering::Relaxed));
        let mut event = Event::new(&id, &peer.address.to_string());
        let upgrade = wants_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
        let result = match self.admit(&peer, request, began, received_at, id, &mut event).await {
            Ok(Admitted::Own(response)) => {
                event.set("status", json!(response.status().as_u16()));
                self.audit.record(event.at_stage("completed"));
                return response;
            }
            Ok(Admitted::Operation(exchange)) => self.carry_out(*exchange, upgrade, &mut event).await,
            Err(refusal) => Err(refusal),
        };
        result.unwrap_or_else(|refusal| {
            event.set("status", json!(refusal.code.as_u16())).set("refusal", json!(refusal.message));
            self.audit.record(event.at_stage("refused"));
            refusal.into_response()
        })
    }

    /// Identify and classify, and read the body.
    async fn admit(
        &self,
        peer: &Peer,
        request: Request<Incoming>,
        began: Instant,
        received_at: u64,
        id: String,
        event: &mut Event,
    ) -> Result<Admitted, Refusal> {
        event.set("method", json!(request.method().as_str())).set("path", json!(request.uri().path()));
        self.audit.check()?;
        one_length(request.headers())?;
        let caller = self.identifier.identify(request.headers(), &peer.presented).await.inspect_err(|_| {
            event.set("verdict", json!("unauthenticated"));
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
        let body = read_request(body, limits.request_body.0, limits.request_body_time.duration()).await?;
        if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|e| !body.is_empty() && *e != "identity") {
            let shown = encoding.to_str().unwrap_or("?");
            return Err(Refusal::unsupported_media_type(format!(
                "a request body with Content-Encoding {shown} is not read; send it plain"
            )));
        }
        if operation.is_mutating() && placeholder::appears_in(&body) {
            return Err(Refusal::invalid(
                "the body carries postern-masked, which stands for a value hidden from you; leave that field out, or patch only the fields you mean",
            ));
        }
        let operation = operation.with_delete_options(&body);
        Ok(Admitted::Operation(Box::new(Exchange { id, began, received_at, event: event.clone(), caller, operation, who, headers, body })))
    }

    /// Decide, approve, forward, respond.
    async fn carry_out(
        &self,
        mut exchange: Exchange,
        upgrade: Option<hyper::upgrade::OnUpgrade>,
        event: &mut Event,
    ) -> Result<Response<Body>, Refusal> {
        let mut decision = self.decide(&exchange).await.inspect_err(|_| {
            event.set("verdict", json!("failed"));
        })?;
        event.decision(&decision);
        if let Some(refusal) = decision.refusal.take() {
            return Err(refusal);
        }
        if !decision.approvals.is_empty() {
            decision = self.approve(&exchange, decision, event).await?;
        }
        self.check_masks(&exchange, &decision)?;
        exchange.event = event.clone();
        if exchange.operation.is_mutating() {
            self.audit.record_durably(exchange.event.at_stage("decided")).await?;
        }
        let result = if exchange.headers.contains_key(header::UPGRADE) {
            self.stream(&exchange, upgrade).await
        } else {
            self.answer(&mut exchange, decision).await
        };
        // From here the operation was sent: its completion is recorded by whoever carries the answer.
        result
    }

    async fn decide(&self, exchange: &Exchange) -> Result<Decision, Refusal> {
        let set = self.policies.as_ref().map_or_else(|| Arc::new(PolicySet::default()), |p| p.current());
        let runtime = self.policies.as_ref().map(|p| p.runtime());
        let decider = Decider { policies: &set, runtime, unmatched: self.config.policies.unmatched, token_key: &self.token_key };
        let around = self.look_around(&exchange.operation, &decider.needs(&exchange.operation)).await?;
        let described =
            decide::describe(&exchange.operation, &exchange.caller, &exchange.id, &self.config.cluster.name, exchange.received_at);
        let content_type = exchange.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let body = (!exchange.body.is_empty()).then(|| Arc::new(RequestBody::new(exchange.body.clone(), content_type)));
        Ok(decider.decide(&described, &exchange.operation, body.as_ref(), &around))
    }

    /// Fetches the objects beside an operation that its policies declared.
    async fn look_around(&self, operation: &Operation, needs: &[Surrounding]) -> Result<Surroundings, Refusal> {
        let mut around = Surroundings::default();
        let Some(target) = operation.target.as_ref().filter(|_| !needs.is_empty()) else { return Ok(around) };
        let encode = |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let namespaced = target.namespace.as_deref().map(|n| format!("/namespaces/{}", encode(n))).unwrap_or_default();
        for need in needs {
            match need {
                Surrounding::Namespace => {
                    if let Some(namespace) = &target.namespace {
                        around.namespace = self.upstream.get_own(&format!("/api/v1/namespaces/{}", encode(namespace))).await?.map(Arc::new);
                    }
                }
                Surrounding::Stored => {
                    let is_change = matches!(operation.verb.as_str(), "update" | "patch" | "delete");
                    if let Some(name) = target.name.as_deref().filter(|_| is_change) {
                        let prefix =
                            if target.api_group.is_empty() { "/api".into() } else { format!("/apis/{}", encode(&target.api_group)) };
                        let within = if target.resource == "namespaces" { "" } else { &namespaced };
                        let path =
                            format!("{prefix}/{}{within}/{}/{}", encode(&target.api_version), encode(&target.resource), encode(name));
                        around.stored = self.upstream.get_own(&path).await?.map(Arc::new);
                    }
                }
                Surrounding::Pod => {
                    if let Some(name) = target.name.as_deref().filter(|_| target.resource == "pods") {
                        around.pod = self.upstream.get_own(&format!("/api/v1{namespaced}/pods/{}", encode(name))).await?.map(Arc::new);
                    }
                }
            }
        }
        Ok(around)
    }

    /// Holds an operation until its ticket is answered, then decides again.
    async fn approve(&self, exchange: &Exchange, decision: Decision, event: &mut Event) -> Result<Decision, Refusal> {
        let ticket = self.approvals.ticket(&exchange.caller, &exchange.operation, &exchange.body, &decision.approvals)?;
        event.set("ticket", json!(ticket.id));
        if ticket.state == State::Pending {
            self.audit.record(event.at_stage("held"));
        }
        let ticket = self.approvals.wait(&ticket.id, self.config.approvals.hold.duration()).await?;
        let groups: Vec<&str> = ticket.requirements.iter().flat_map(|r| &r.approvers).map(String::as_str).collect();
        match ticket.state {
            State::Pending => {
                return Err(Refusal::too_many_requests(format!(
                    "waiting for approval {} by {}: {}; run the same command again when it is approved",
                    ticket.id,
                    groups.join(", "),
                    ticket.requirements.first().map(|r| r.reason.as_str()).unwrap_or_default(),
                ))
                .with_ticket(&ticket.id));
            }
            State::Denied => return Err(Refusal::forbidden(format!("approval {} was denied", ticket.id))),
            State::Used => {
                return Err(Refusal::forbidden(format!("approval {} was used already; run the command again to ask anew", ticket.id)));
            }
            State::Approved => {}
        }
        // What was approved is decided again: by now the policies or the objects may differ.
        let mut again = self.decide(exchange).await?;
        event.decision(&again);
        if let Some(refusal) = again.refusal.take() {
            return Err(refusal);
        }
        if !again.approvals.is_empty() && again.approvals != ticket.requirements {
            return Err(Refusal::forbidden(format!(
                "approval {} no longer covers this operation: the policies ask for another one now",
                ticket.id
            )));
        }
        if !self.approvals.take(&ticket)? {
            return Err(Refusal::forbidden(format!("approval {} was used already; run the command again to ask anew", ticket.id)));
        }
        event.set("approvedBy", json!(ticket.approvals.iter().map(|a| &a.username).collect::<Vec<_>>()));
        again.approvals.clear();
        Ok(again)
    }

    fn check_masks(&self, exchange: &Exchange, decision: &Decision) -> Result<(), Refusal> {
        let Some(masks) = &decision.masks else { return Ok(()) };
        let by = decision.masked_by.join(", ");
        match exchange.operation.shape {
            Shape::Proxy => return Err(Refusal::forbidden(format!("policy {by} masks this, and what comes by proxy cannot be masked"))),
            Shape::Stream if masks.reads_text() => {
                return Err(Refusal::forbidden(format!(
                    "policy {by} masks text in this stream, which this version of the gateway cannot do; use kubectl logs"
                )));
            }
            _ => {}
        }
        if matches!(exchange.operation.method, Method::PUT | Method::PATCH)
            && let Ok(body) = serde_json::from_slice(&exchange.body)
            && let Some(why) = masks.spoils(&body, exchange.operation.method == Method::PUT)
        {
            return Err(Refusal::invalid(why));
        }
        Ok(())
    }

    async fn answer(&self, exchange: &mut Exchange, decision: Decision) -> Result<Response<Body>, Refusal> {
        let operation = &exchange.operation;
        let mut headers = std::mem::take(&mut exchange.headers);
        let mut path = operation.path_and_query.clone();
        let mut asked = Asked::default();
        let reads_objects =
            decision.reads_objects() && matches!(operation.shape, Shape::Answer | Shape::Watch) && operation.target.is_some();
        if reads_objects {
            asked = respond::rewrite(&mut headers);
            path = respond::include_objects(&path, &mut asked);
        } else if operation.shape == Shape::Log && decision.masks.as_ref().is_some_and(|m| m.reads_text()) {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let completion = Completion::new(self.audit.clone(), exchange.event.clone(), exchange.began);
        let wait = operation.shape != Shape::Proxy;
        let upstream = self.upstream.send(&exchange.who, &operation.method, &path, headers, std::mem::take(&mut exchange.body), wait).await;
        let upstream = match upstream {
            Ok(upstream) => upstream,
            Err(refusal) => return Ok(completion.failed(refusal)),
        };
        let largest = self.config.limits.object.0;
        let work = match (&decision.masks, operation.shape) {
            _ if operation.method == Method::HEAD => Work::Pass,
            (masks, Shape::Answer | Shape::Watch) if reads_objects => {
                let treatment = Treatment {
                    masks: masks.clone(),
                    on_object: decision.on_object.clone(),
                    runtime: self.policies.as_ref().map(|p| Arc::clone(p.runtime())),
                    operation: decide::describe(operation, &exchange.caller, &exchange.id, &self.config.cluster.name, exchange.received_at),
                    token_key: self.token_key.clone(),
                    resource: operation.target.as_ref().map(|t| t.resource.clone()).unwrap_or_default(),
                    asked,
                };
                Work::Items(Box::new(Items::new(treatment, &operation.verb, operation.shape, largest)))
            }
            (Some(masks), Shape::Log) if masks.reads_text() => Work::Lines(Lines::new(Arc::clone(masks), largest)),
            _ => Work::Pass,
        };
        let (masks, shape) = (decision.masks.as_deref(), operation.shape);
        // A refusal here has been recorded by the completion that was dropped with it.
        Ok(respond::respond(upstream, work, &decision.masked_by, masks, exchange.caller.expires, shape, completion)
            .await
            .unwrap_or_else(Refusal::into_response))
    }

    /// An upgraded connection: exec, attach, port-forward, or whatever a proxied server speaks.
    async fn stream(&self, exchange: &Exchange, upgrade: Option<hyper::upgrade::OnUpgrade>) -> Result<Response<Body>, Refusal> {
        let operation = &exchange.operation;
        let mut completion = Completion::new(self.audit.clone(), exchange.event.clone(), exchange.began);
        let sent = self
            .upstream
            .send_upgrade(&exchange.who, &operation.method, &operation.path_and_query, exchange.headers.clone(), exchange.body.clone())
            .await;
        let mut upstream = match sent {
            Ok(upstream) => upstream,
            Err(refusal) => return Ok(completion.failed(refusal)),
        };
        let (StatusCode::SWITCHING_PROTOCOLS, Some(upgrade)) = (upstream.status(), upgrade) else {
            return Ok(respond::respond(upstream, Work::Pass, &[], None, exchange.caller.expires, operation.shape, completion)
                .await
                .unwrap_or_else(Refusal::into_response));
        };
        let server = hyper::upgrade::on(&mut upstream);
        let mut response = Response::new(Body::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        for (name, value) in upstream.headers() {
            if *name == header::CONNECTION
                || *name == header::UPGRADE
                || name.as_str().starts_with("sec-websocket-")
                || name.as_str() == "x-stream-protocol-version"
            {
                response.headers_mut().append(HeaderName::clone(name), value.clone());
            }
        }
        let expires = exchange.caller.expires;
        tokio::task::spawn_local(async move {
            let carried = forward::tunnel(upgrade, server, expires).await;
            completion.streamed(carried);
        });
        Ok(response)
    }
}

enum Admitted {
    /// A request to the gateway's own API, answered.
    Own(Response<Body>),
    /// An operation for the cluster.
    Operation(Box<Exchange>),
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
        && headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

/// Two lengths are how requests are smuggled.
fn one_length(headers: &HeaderMap) -> Result<(), Refusal> {
    let lengths = headers.get_all(header::CONTENT_LENGTH).iter().count();
    if lengths > 1 || lengths == 1 && headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Refusal::bad_request("the request has more than one length (Content-Length, Transfer-Encoding); send one"));
    }
    Ok(())
}
