//! The life of a request: each stage in its order. What one stage learns travels on in an [`Exchange`].

mod admit;
mod answer;
mod approval;
mod before;
mod grant;
mod keep;
mod known;
mod look_around;
mod opens;
mod restore;
mod review;
mod seal;
mod stream;
mod terminal;

use std::cell::{Cell, OnceCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls_pki_types::CertificateDer;

use crate::approve::{Approvals, State};
use crate::body::{Body, linger};
use crate::classify::{Operation, Shape, Target};
use crate::clock;
use crate::config::{Config, KeepBodies};
use crate::decide::{self, Decider, Ruling, Terms};
use crate::drain::Drain;
use crate::forward::{As, Outgoing, Upstream, Way};
use crate::identify::{Caller, Identifier, Presented};
use crate::json::RequestBody;
use crate::listen::{Handler, Peer, neighbourhood};
use crate::mask::{Plans, Scope};
use crate::metrics::Metrics;
use crate::policy::bindings::postern::policy::types;
use crate::policy::{Directory, PolicySet};
use crate::record::session::Sessions;
use crate::record::{AuditLog, Event, Strangers};
use crate::respond::Held;
use crate::slots::Slots;
use crate::status::Refusal;
use crate::stream::messages::Opening;
use crate::stream::waiting::Handshake;
use crate::words::{Stage, Step, Verdict};
use admit::{Admitted, wants_upgrade};
pub use grant::Rights;
pub use known::KnownValues;
use restore::Restored;
use review::is_review;
use seal::Sealed;

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
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Failed logins, by address.
    pub strangers: Arc<Strangers>,
    /// The masks in use, compiled.
    pub plans: Arc<Plans>,
    /// Upgraded connections: the end of the gateway waits for those too.
    pub drain: Drain,
    /// Recordings; none when nothing is recorded.
    pub sessions: Option<Sessions>,
    /// Streams that are open, by caller.
    pub open_streams: Arc<Slots>,
    /// Requests under way, by caller.
    pub requests: Arc<Slots>,
    /// Watches and followed logs that are open, by caller.
    pub watches: Arc<Slots>,
    /// What pods know of Secrets.
    pub known: KnownValues,
    /// What open exchanges stand on.
    pub rights: Arc<Rights>,
}

/// One request on its way through the stages.
struct Exchange {
    id: String,
    received_at: u64,
    caller: Arc<Caller>,
    operation: Operation,
    who: As,
    headers: HeaderMap,
    body: Arc<RequestBody>,
    /// A body that goes on to a proxied server as it comes, unless somebody reads it.
    upload: Unread,
    /// What it holds until its answer is sent.
    held: Held,
    /// A watch or a log that is told over WebSocket.
    opening: Option<Opening>,
    /// What the body was, where placeholders in it were put right.
    restored: Option<Restored>,
    described: OnceCell<Arc<types::Operation>>,
}

impl Exchange {
    /// The API server takes this for its own audit event, so that the two logs can be laid beside each other.
    fn audit_id(&self) -> HeaderValue {
        HeaderValue::from_str(&self.id).unwrap_or(HeaderValue::from_static("postern"))
    }

    /// The resource with its group, as masks know it; empty where there is none.
    fn resource(&self) -> String {
        self.operation.target.as_ref().map(Target::full_resource).unwrap_or_default()
    }

    /// Where tokens in text that flows are compared: in what comes from one pod.
    fn scope(&self) -> Scope {
        let target = self.operation.target.as_ref();
        let namespace = target.and_then(|t| t.namespace.as_deref()).unwrap_or_default();
        Scope::of(&self.resource(), namespace, target.and_then(|t| t.name.as_deref()).unwrap_or_default())
    }

    /// What is sent for it, in a way.
    fn outgoing<'a>(&'a self, path_and_query: &'a str, headers: HeaderMap, way: Way) -> Outgoing<'a> {
        Outgoing { who: &self.who, method: &self.operation.method, path_and_query, headers, way }
    }

    /// Its body, as it is sent. What a server behind the API server reads is none of its.
    fn body_to_send(&self) -> Bytes {
        if self.operation.shape == Shape::Proxy { self.body.bytes().clone() } else { self.body.to_send() }
    }

    /// The headers of what is read for this operation, in JSON, as the caller.
    fn headers_to_read(&self) -> HeaderMap {
        HeaderMap::from_iter([
            (header::ACCEPT, HeaderValue::from_static("application/json")),
            (header::ACCEPT_ENCODING, HeaderValue::from_static("identity")),
            (AUDIT_ID, self.audit_id()),
        ])
    }
}

/// A body that nobody has read yet. Whoever refuses its request takes it in for a while, so that the client gets to the answer.
type Unread = Rc<Cell<Option<Incoming>>>;

/// Whether there is one.
fn is_unread(body: &Unread) -> bool {
    let unread = body.take();
    let is_there = unread.is_some();
    body.set(unread);
    is_there
}

/// A request that was not answered yet. Its client may go away before it is, and then nobody goes on with it: that is how it ended.
struct Unanswered<'a> {
    audit: &'a AuditLog,
    strangers: &'a Strangers,
    /// Where it came from.
    address: IpAddr,
    event: Event,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if !self.event.is_handed_over() && (self.event.is_of_somebody() || self.strangers.count(self.address)) {
            self.event.set("ended", "client-gone");
            self.audit.record(&self.event, Stage::Refused);
        }
    }
}

/// kube-apiserver's own header (`k8s.io/apiserver/pkg/apis/audit`, HeaderAuditID).
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Says what was decided, and by which policies.
fn note(event: &mut Event, ruling: &Ruling) {
    event.verdict(ruling.verdict());
    let answers = &ruling.terms().answers;
    if !answers.is_empty() {
        event.set("policies", answers);
    }
}

static COUNTER: AtomicU64 = AtomicU64::new(0);

impl Handler for Gateway {
    fn presented(&self, chain: &[CertificateDer<'_>]) -> Presented {
        self.identifier.verify_certificate(chain)
    }

    /// Answers one request. Every way out of here has written an audit event.
    async fn handle(self: Arc<Self>, peer: Peer, mut request: Request<Incoming>) -> Response<Body> {
        let began = Instant::now();
        let received_at = clock::since_1970().as_millis() as u64;
        let id = format!("{received_at:x}-{:x}", COUNTER.fetch_add(1, Ordering::Relaxed));
        let mut unanswered = Unanswered {
            audit: &self.audit,
            strangers: &self.strangers,
            address: neighbourhood(peer.address.ip()),
            event: Event::new(&id, &peer.address.to_string(), began),
        };
        let event = &mut unanswered.event;
        let upgrade = wants_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
        let mut unread = Unread::default();
        let result = match self.admit(&peer, request, received_at, id, event).await {
            Ok(Admitted::Own(own)) => {
                let event = event.hand_over();
                return Box::pin(Arc::clone(&self).serve_own(own, event)).await;
            }
            Ok(Admitted::Operation(exchange)) => {
                unread = Rc::clone(&exchange.upload);
                self.carry_out(exchange, upgrade, event).await
            }
            Err(refusal) => Err(refusal),
        };
        let refusal = match result {
            Ok(response) => return response,
            Err(refusal) => refusal,
        };
        // Whoever was handed it has recorded how it ended.
        let is_recorded = event.is_handed_over();
        let mut event = event.hand_over();
        if !is_recorded && (event.is_of_somebody() || self.strangers.count(neighbourhood(peer.address.ip()))) {
            self.refused(&refusal, &mut event);
        }
        // It is in the log by now: whoever hangs up meanwhile was refused all the same.
        if let Some(body) = unread.take() {
            Box::pin(linger(body)).await;
        }
        refusal.into_response()
    }
}

impl Gateway {
    /// Decide, approve, and send. What needs an approval waits here, or on the caller's terminal.
    async fn carry_out(
        self: &Arc<Self>,
        mut exchange: Box<Exchange>,
        mut upgrade: Option<OnUpgrade>,
        event: &mut Event,
    ) -> Result<Response<Body>, Refusal> {
        if self.reads_upload(&exchange) {
            self.take_in(&mut exchange).await?;
        }
        let deciding = Instant::now();
        let ruling = self.decide(&exchange).await;
        self.metrics.step(Step::Decide, deciding);
        let ruling = ruling.inspect_err(|_| {
            event.verdict(Verdict::Failed);
        })?;
        note(event, &ruling);
        let passed = match ruling {
            Ruling::Refuse(refused) => return Err(refused.refusal),
            Ruling::Pass(passed) => passed,
            Ruling::Hold(mut held) => {
                // They are asked anew at the release; until then their instances are somebody else's.
                held.terms_mut().live.clear();
                // What is approved is these bytes.
                self.take_in(&mut exchange).await?;
                let ticket = Box::pin(self.ask(&exchange, &held, event)).await?;
                if ticket.state == State::Pending
                    && exchange.operation.command.is_some()
                    && let Some(handshake) = Handshake::offered(&exchange.operation.method, &exchange.headers)
                    && let Some(upgrade) = upgrade.take()
                {
                    let slot = self.slot(&exchange.caller)?;
                    return Ok(self.hold_on_terminal(exchange, ticket, handshake, upgrade, slot, event.hand_over()));
                }
                Box::pin(self.wait_and_release(&exchange, ticket, event)).await?
            }
        };
        let sealed = self.seal(exchange, passed, None, event).await?;
        self.send(sealed, upgrade).await
    }

    /// Sends what is sealed. How it ends is recorded by whoever carries the answer.
    async fn send(&self, mut sealed: Sealed, upgrade: Option<OnUpgrade>) -> Result<Response<Body>, Refusal> {
        match sealed.opens.take() {
            Some(opens) => Box::pin(self.stream(sealed, opens, upgrade)).await,
            None if is_review(&sealed.exchange.operation) && !sealed.passed.reads_objects() => Box::pin(self.review(sealed)).await,
            None => {
                let opening = sealed.exchange.opening.take();
                let response = self.answer(sealed).await?;
                Ok(match (opening, upgrade) {
                    (Some(opening), Some(upgrade)) if response.status() == StatusCode::OK => self.tell(opening, upgrade, response),
                    _ => response,
                })
            }
        }
    }

    /// An answer that is told over WebSocket: its connection is upgraded here, and not at the API server.
    fn tell(&self, opening: Opening, upgrade: OnUpgrade, answer: Response<Body>) -> Response<Body> {
        let (mut response, open, leaving) = (opening.response(), self.drain.hold(), self.drain.leaving());
        for warning in answer.headers().get_all(header::WARNING) {
            response.headers_mut().append(header::WARNING, warning.clone());
        }
        tokio::task::spawn_local(async move {
            let _open = open;
            let Ok(upgraded) = upgrade.await else { return };
            tokio::select! {
                () = opening.tell(TokioIo::new(upgraded), answer.into_body()) => {}
                () = leaving.cancelled() => {}
            }
        });
        response
    }

    /// Records that an operation was refused.
    fn refused(&self, refusal: &Refusal, event: &mut Event) {
        event.status(refusal.code).set("refusal", &refusal.message);
        self.audit.record(event, Stage::Refused);
    }

    /// Whether somebody reads what is sent to a proxied server: a policy that may, or a rule that keeps bodies.
    fn reads_upload(&self, exchange: &Exchange) -> bool {
        is_unread(&exchange.upload)
            && (self.keeps(&exchange.operation) != KeepBodies::Metadata || self.in_force().read_bodies_of(&exchange.operation))
    }

    /// The policies in force.
    fn in_force(&self) -> Arc<PolicySet> {
        self.policies.as_ref().map_or_else(|| Arc::new(PolicySet::default()), |p| p.current())
    }

    /// What decides by these policies.
    fn decider<'a>(&'a self, policies: &'a PolicySet) -> Decider<'a> {
        let runtime = self.policies.as_ref().map(|p| p.runtime());
        Decider { policies, runtime, unmatched: self.config.policies.unmatched, plans: &self.plans }
    }

    async fn decide(&self, exchange: &Exchange) -> Result<Ruling, Refusal> {
        let set = self.in_force();
        let decider = self.decider(&set);
        if is_unread(&exchange.upload) && set.read_bodies_of(&exchange.operation) {
            return Err(Refusal::unavailable("the policies changed just now, and read what you send; try again"));
        }
        let needs = decider.needs(&exchange.operation);
        if !needs.is_empty() {
            // What stands beside an operation is read with the gateway's own rights: who may not do it would be told by the answer what exists.
            Box::pin(self.may(exchange)).await?;
        }
        let around = self.look_around(&exchange.operation, &needs).await?;
        let passing = is_unread(&exchange.upload).then(|| Arc::new(RequestBody::passing()));
        let body = passing.as_ref().or(Some(&exchange.body).filter(|body| !body.is_empty()));
        Ok(decider.decide(&|| self.describe(exchange), &exchange.operation, body, &around))
    }

    /// The operation as policies are told it, put together for the first that is asked.
    fn describe(&self, exchange: &Exchange) -> Arc<types::Operation> {
        Arc::clone(exchange.described.get_or_init(|| self.describe_as(exchange, &exchange.operation)))
    }

    /// The same of another operation, which the same caller asks about.
    fn describe_as(&self, exchange: &Exchange, operation: &Operation) -> Arc<types::Operation> {
        let Exchange { caller, id, received_at, .. } = exchange;
        Arc::new(decide::describe(operation, caller, id, &self.config.cluster.name, *received_at))
    }

    /// The same for what comes after the decision.
    fn describe_answer(&self, exchange: &Exchange, terms: &Terms) -> Arc<types::Operation> {
        let mut described = self.describe(exchange);
        if terms.approved {
            Arc::make_mut(&mut described).approved = true;
        }
        described
    }
}
