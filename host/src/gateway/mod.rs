//! The life of a request: each stage in its order. What one stage learns travels on in an `Exchange`.
//!
//! [`Gateway`] is the front door: it tells which of its clusters a request is for. A [`Cluster`] is everything that an operation meets from there on, and what
//! belongs to one is in no other: its connections, rights, places, known values, masks and policies.

mod admit;
mod answer;
mod approval;
mod arrive;
mod before;
mod cluster;
mod clusters;
mod exchange;
mod follow;
mod grant;
mod keep;
mod known;
mod life;
mod look_around;
mod open;
mod opens;
mod own;
mod restore;
mod review;
mod route;
mod seal;
mod stream;
mod terminal;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::{Request, Response};
use hyper::body::Incoming;
use rustls_pki_types::CertificateDer;

use crate::api::Sources;
use crate::approve::Approvals;
use crate::body::{Body, linger};
use crate::clock;
use crate::config::Config;
use crate::drain::Drain;
use crate::identify::{Identifier, Presented};
use crate::listen::{Handler, Peer, neighbourhood};
use crate::metrics::Metrics;
use crate::policy::Directory;
use crate::record::session::Sessions;
use crate::record::{AuditLog, Event, Strangers};
use crate::slots::Slots;
use crate::telemetry::Spans;
use crate::words::{Ending, Stage};
use arrive::{arrive, wants_upgrade};
pub use cluster::Cluster;
use clusters::Clusters;
pub use clusters::{Listed, Table};
use exchange::Unread;
pub use follow::{Again, Source};
use route::Routed;

/// The gateway: who it knows, what it records to, and the clusters behind it.
pub struct Gateway {
    config: Arc<Config>,
    identifier: Arc<Identifier>,
    /// What its own API answers from.
    sources: Sources,
    audit: AuditLog,
    /// What is counted of requests that are for no cluster.
    metrics: Arc<Metrics>,
    /// Failed logins, by address.
    strangers: Strangers,
    /// Upgraded connections: the end of the gateway waits for those too.
    drain: Drain,
    sessions: Sessions,
    /// Requests to the gateway's own API, by caller.
    requests: Arc<Slots>,
    clusters: Clusters,
    /// What it lets go of when it ends.
    kept: open::Kept,
}

impl Gateway {
    /// The configuration it was started with. Of several clusters it is [`Gateway::clusters`] that tells how they are now.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Who is let in.
    pub fn identifier(&self) -> &Identifier {
        &self.identifier
    }

    /// Who waits for an approval.
    pub fn approvals(&self) -> &Approvals {
        &self.sources.approvals
    }

    /// The audit log.
    pub fn audit(&self) -> &AuditLog {
        &self.audit
    }

    /// What is counted of requests that are for no cluster; of a gateway with one cluster, of all.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// What is open beyond its request.
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// The recordings.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// What became of the spans of traces, where they are sent to a collector.
    pub fn spans(&self) -> Option<&Spans> {
        Some(self.kept.telemetry.as_ref()?.spans())
    }

    /// The directories of policies: the one that clusters share, and those of clusters with policies of their own, by their names.
    pub fn directories(&self) -> Vec<(Option<String>, Arc<Directory>)> {
        let shared = self.clusters.shared().policies.iter().map(|shared| (None, Arc::clone(shared)));
        let table = self.clusters();
        let own = table.ready().filter(|cluster| cluster.member().has_own_policies);
        let own = own.filter_map(|cluster| Some((Some(cluster.name().to_owned()), Arc::clone(cluster.policies()?))));
        shared.chain(own).collect()
    }

    /// The clusters, as they are at this moment.
    pub fn clusters(&self) -> Arc<Table> {
        self.clusters.now()
    }
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
            self.event.set("ended", Ending::ClientGone);
            self.audit.record(&self.event, Stage::Refused);
        }
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
        let mut event = Event::new(&id, &peer.address.to_string(), began);
        let arrived = arrive(&request, &self.config.limits, &self.audit, &mut event);
        let routed = arrived.and_then(|()| self.clusters.route(peer.server_name.as_deref(), &mut request));
        let audit = match &routed {
            Ok(Routed::Cluster(cluster, _)) => cluster.audit(),
            _ => &self.audit,
        };
        let address = neighbourhood(peer.address.ip());
        let mut unanswered = Unanswered { audit, strangers: &self.strangers, address, event };
        let event = &mut unanswered.event;
        let mut unread = Unread::default();
        let result = match &routed {
            Ok(Routed::Cluster(cluster, by_path)) => {
                let upgrade = wants_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
                match cluster.admit(&peer, request, received_at, id, event).await {
                    Ok(exchange) => {
                        unread = Rc::clone(&exchange.upload);
                        cluster.carry_out(exchange, upgrade, event).await.map(|response| cluster.outward(response, *by_path))
                    }
                    Err(refusal) => Err(refusal),
                }
            }
            Ok(Routed::Elsewhere(place)) => match Box::pin(self.admit_own(place, &peer, request, event)).await {
                Ok(own) if own.waits() => Box::pin(self.wait_own(own, event)).await,
                Ok(own) => {
                    let event = event.hand_over();
                    return Box::pin(Arc::clone(&self).serve_own(own, event)).await;
                }
                Err(refusal) => Err(refusal),
            },
            Err(refusal) => Err(refusal.clone()),
        };
        let refusal = match result {
            Ok(response) => return response,
            Err(refusal) => refusal,
        };
        // Whoever was handed it has recorded how it ended.
        let is_recorded = event.is_handed_over();
        let mut event = event.hand_over();
        if !is_recorded && (event.is_of_somebody() || self.strangers.count(address)) {
            audit.refused(&refusal, &mut event);
        }
        drop(event);
        // It is in the log by now: whoever hangs up meanwhile was refused all the same.
        if let Some(body) = unread.take() {
            Box::pin(linger(body)).await;
        }
        refusal.into_response()
    }
}
