//! What becomes of an operation: it is decided, waits where it needs an approval, is sealed, and sent.

use std::sync::Arc;
use std::time::Instant;

use http::{Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::Cluster;
use super::exchange::{Exchange, is_unread};
use super::review::is_review;
use super::seal::Sealed;
use crate::approve::TicketState;
use crate::body::Body;
use crate::body::RequestBody;
use crate::decide::{Decider, Ruling};
use crate::policy::{Basis, KnownPath, PolicySet};
use crate::record::Event;
use crate::status::Refusal;
use crate::stream::messages::Opening;
use crate::wire::waiting::Handshake;
use crate::words::{Stage, Step, Verdict};

/// Says what was decided, and by which policies.
fn note(event: &mut Event, ruling: &Ruling) {
    event.verdict(ruling.verdict());
    let answers = &ruling.terms().answers;
    for answer in answers {
        event.asked(&answer.policy, answer.verdict, answer.began, answer.took);
    }
    if !answers.is_empty() {
        event.set("policies", answers);
    }
}

impl Cluster {
    /// Decide, approve, and send. What needs an approval waits here, or on the caller's terminal.
    pub(super) async fn carry_out(
        self: &Arc<Self>,
        mut exchange: Box<Exchange>,
        mut upgrade: Option<OnUpgrade>,
        event: &mut Event,
    ) -> Result<Response<Body>, Refusal> {
        if self.reads_upload(&exchange) {
            self.take_in(&mut exchange).await?;
        }
        let ruling = self.decide(&exchange, event).await.inspect_err(|_| {
            event.verdict(Verdict::Failed);
        })?;
        let passed = match ruling {
            Ruling::Refuse(refused) => return Err(refused.refusal),
            Ruling::Pass(passed) => passed,
            Ruling::Hold(mut held) => {
                // They are asked anew at the release; until then their instances are somebody else's.
                held.terms_mut().stream_instances.clear();
                // What is approved is these bytes.
                self.take_in(&mut exchange).await?;
                let (ticket, is_new) = Box::pin(self.ask(&exchange, &held, event)).await?;
                if ticket.state == TicketState::Pending
                    && exchange.operation.command.is_some()
                    && let Some(handshake) = Handshake::offered(&exchange.operation.method, &exchange.headers)
                    && let Some(upgrade) = upgrade.take()
                {
                    let slot = self.slot(&exchange.caller)?;
                    return Ok(self.hold_on_terminal(exchange, ticket, handshake, upgrade, slot, event.hand_over()));
                }
                Box::pin(self.wait_and_release(&exchange, ticket, is_new, event)).await?
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

    /// Whether somebody reads what is sent to a proxied server: a policy that may, or a rule that keeps bodies.
    fn reads_upload(&self, exchange: &Exchange) -> bool {
        is_unread(&exchange.upload) && (self.records_request(&exchange.operation) || self.in_force().read_bodies_of(&exchange.operation))
    }

    /// The policies in force.
    pub(super) fn in_force(&self) -> Arc<PolicySet> {
        self.policies.as_ref().map_or_else(|| Arc::new(PolicySet::default()), |p| p.current())
    }

    /// What decides by these policies.
    pub(super) fn decider<'a>(&'a self, policies: &'a PolicySet) -> Decider<'a> {
        let runtime = self.policies.as_ref().map(|p| p.runtime());
        Decider { policies, runtime, unmatched: self.member.policies.unmatched, plans: &self.plans }
    }

    /// Decides, and notes how.
    pub(super) async fn decide(&self, exchange: &Exchange, event: &mut Event) -> Result<Ruling, Refusal> {
        let deciding = Instant::now();
        let ruling = self.ruling(exchange).await;
        self.audit.step(event, Step::Decide, deciding);
        ruling.inspect(|ruling| {
            self.tell_of_paths(ruling);
            note(event, ruling);
        })
    }

    /// Records what the verdicts are based on that were remembered, once a day for each path: the events of operations name it by its digest, and come behind.
    fn tell_of_paths(&self, ruling: &Ruling) {
        for answer in &ruling.terms().answers {
            let Basis::Path(KnownPath { id, untold: Some(untold) }) = &answer.basis else { continue };
            let mut event = Event::default();
            event.set("cluster", self.name.as_ref()).set("policy", &answer.policy).set("digest", &answer.digest);
            event.set("basis", &**id).set("questions", untold.asked());
            self.audit.record(&event, Stage::Basis);
            untold.tell_no_more();
        }
    }

    async fn ruling(&self, exchange: &Exchange) -> Result<Ruling, Refusal> {
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
        Ok(decider.decide(&|| exchange.subject(), &exchange.operation, body, &around))
    }
}
