//! The gateway's own API, which is not the clusters': it is never forwarded.

use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response};
use hyper::body::Incoming;

use super::Gateway;
use super::arrive::{self, take};
use super::clusters::Listed;
use super::route::Elsewhere;
use crate::api::{self, ApiRequest, ApprovalRequest, Asking, ClusterState, Identity, Policies, PolicyDirectory, Status};
use crate::approve::Answer;
use crate::body::{Body, read_request};
use crate::identify::{Caller, name};
use crate::listen::Peer;
use crate::record::Event;
use crate::respond::Permits;
use crate::status::Refusal;
use crate::words::Stage;

/// The longest body of a request to the gateway's own API, which takes a number.
const OWN_BODY: usize = 64 << 10;

/// A request to the gateway's own API.
pub(super) struct Own {
    asked: ApiRequest,
    caller: Arc<Caller>,
    /// The cluster it is about; none for all.
    cluster: Option<String>,
    held: Permits,
}

impl Own {
    /// Whether it waits for something before it is answered.
    pub(super) fn waits(&self) -> bool {
        matches!(self.asked, ApiRequest::Approval(ApprovalRequest::List { wait: Some(_), .. }))
    }
}

impl Gateway {
    /// Identifies who asks for something that is no operation of a cluster, and reads what it is.
    pub(super) async fn admit_own(
        &self,
        place: &Elsewhere,
        peer: &Peer,
        request: Request<Incoming>,
        event: &mut Event,
    ) -> Result<Own, Refusal> {
        let mut held = Permits::new(peer.connection.busy());
        let about = match place {
            Elsewhere::Own(about) => about.as_deref(),
            Elsewhere::Broken(listed) => Some(&**listed),
            Elsewhere::Nowhere | Elsewhere::Misdirected => None,
        };
        let cluster = about.and_then(|listed| listed.cluster().ok());
        let caller = match cluster {
            Some(cluster) => cluster.identify(request.headers(), &peer.presented, event).await?,
            None => {
                let identifying = Instant::now();
                let caller = self.identifier.identify(request.headers(), &peer.presented).await;
                let caller = caller.and_then(|caller| nobodys_account(&caller).map(|()| caller));
                arrive::identified(caller, &self.audit, request.headers(), identifying, event)?
            }
        };
        event.caller(&caller);
        if let Some(listed) = about {
            event.set("cluster", listed.name());
        }
        peer.connection.known();
        match place {
            Elsewhere::Own(_) => {}
            Elsewhere::Broken(listed) => return Err(cannot_be_asked(listed)),
            Elsewhere::Misdirected => {
                return Err(Refusal::misdirected(
                    "the host that TLS was opened for (SNI) and that of the request belong to different clusters; open another connection",
                ));
            }
            Elsewhere::Nowhere => {
                return Err(Refusal::not_found(
                    "no cluster of this gateway is reached by this host and path; ask whoever runs the gateway for the server address of the one you mean",
                ));
            }
        }
        let limits = &self.config.limits;
        held.count(take(&self.requests, limits.requests_per_caller, "requestsPerCaller", &caller)?);
        let (parts, body) = request.into_parts();
        let body = read_request(body, limits.request_body.0.min(OWN_BODY), limits.request_body_time.duration()).await?;
        let asked = ApiRequest::parse(&parts.method, &parts.uri, &body)?;
        // Of a gateway with one cluster everything is that one's.
        let cluster = about.filter(|listed| !listed.member().is_alone).map(|listed| listed.name().to_owned());
        Ok(Own { asked, caller, cluster, held })
    }

    /// Answers a request that waits for something, for as long as its client does: who has hung up waits no more, and gives back what they held.
    pub(super) async fn wait_own(&self, own: Own, event: &mut Event) -> Result<Response<Body>, Refusal> {
        let response = self.answer_own(&own, event).await?;
        let mut event = event.hand_over();
        event.status(response.status());
        self.audit.record(&event, Stage::Completed);
        Ok(response.map(|body| body.holding(own.held)))
    }

    /// Answers a request to the gateway's own API, in a task of its own: an answer that was begun is given and recorded though whoever gave it has hung up.
    pub(super) async fn serve_own(self: Arc<Self>, own: Own, mut event: Event) -> Response<Body> {
        let served = tokio::task::spawn_local(async move {
            let response = match self.answer_own(&own, &mut event).await {
                Ok(response) => {
                    event.status(response.status());
                    self.audit.record(&event, Stage::Completed);
                    response
                }
                Err(refusal) => {
                    self.audit.refused(&refusal, &mut event);
                    refusal.into_response()
                }
            };
            // It is under way until it is sent.
            response.map(|body| body.holding(own.held))
        });
        served.await.unwrap_or_else(|_| Refusal::internal("the gateway is being stopped").into_response())
    }

    async fn answer_own(&self, Own { asked, caller, cluster, .. }: &Own, event: &mut Event) -> Result<Response<Body>, Refusal> {
        let asking = Asking { caller, cluster: cluster.as_deref() };
        let sources = &self.sources;
        match asked {
            ApiRequest::Approval(approval) => {
                if let ApprovalRequest::Answer { id, answer, comment } = approval {
                    // Who lets what pass is on the disk before it passes.
                    event.set("answers", id).set("answer", answer.name());
                    if let Answer::Approve { reuse_seconds: Some(seconds) } = answer {
                        event.set("reuseSeconds", seconds);
                    }
                    if let Some(comment) = comment {
                        event.set("comment", comment);
                    }
                    self.audit.record_durably(event, Stage::Decided).await?;
                }
                api::approvals::answer(sources, asking, approval, &self.drain).await
            }
            ApiRequest::Session(session) => {
                if let Some(asked) = session.audited_query() {
                    // Who looks at what others did is in the log before they see it.
                    event.set("asked", asked);
                    self.audit.record_durably(event, Stage::Decided).await?;
                }
                api::sessions::answer(sources, asking, session, &self.drain).await
            }
            ApiRequest::Document => api::json(&api::document()),
            ApiRequest::Identity => api::json(&Identity::of(caller, asking.cluster, sources.is_auditor(caller))),
            ApiRequest::Policies => {
                sources.only_auditors(caller)?;
                api::json(&self.policies_of(asking.cluster))
            }
            ApiRequest::Status => {
                sources.only_auditors(caller)?;
                api::json(&self.status(asking.cluster))
            }
        }
    }

    /// What is in force in one cluster, or in all.
    fn policies_of(&self, cluster: Option<&str>) -> Policies {
        let table = self.clusters();
        let has_own = |name: &str| table.ready().any(|ready| ready.name() == name && ready.member().has_own_policies);
        let is_of = |owner: &Option<String>| match (cluster, owner) {
            (None, _) => true,
            (Some(cluster), Some(owner)) => cluster == owner,
            (Some(cluster), None) => !has_own(cluster),
        };
        let directories = self.directories().into_iter().filter(|(owner, _)| is_of(owner));
        let told = directories.map(|(cluster, directory)| PolicyDirectory { cluster, report: directory.report() });
        Policies { directories: told.collect() }
    }

    fn status(&self, cluster: Option<&str>) -> Status {
        let table = self.clusters();
        let of = |listed: &Arc<Listed>| {
            let cluster = listed.cluster();
            let [requests, watches, streams] = cluster.map(|cluster| cluster.open_now()).unwrap_or_default();
            ClusterState {
                name: listed.name().to_owned(),
                api_server: cluster.ok().map(|cluster| cluster.upstream().address().to_owned()),
                not_set_up: cluster.err().map(str::to_owned),
                hosts: listed.member().hosts.clone(),
                path_prefix: listed.member().path_prefix.clone(),
                requests,
                watches,
                streams,
            }
        };
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            draining: self.drain.has_begun(),
            audit_writable: self.audit.check().is_ok(),
            // What is of all clusters is nothing to who asks about one.
            approvals_waiting: cluster.is_none().then(|| self.sources.approvals.waiting()),
            issuers_without_keys: cluster.is_none().then(|| self.identifier.without_keys()),
            clusters: table.all().iter().filter(|listed| cluster.is_none_or(|cluster| cluster == listed.name())).map(of).collect(),
        }
    }
}

/// The name of a ServiceAccount means something in its own cluster only: where a request is for none, nobody has it.
fn nobodys_account(caller: &Caller) -> Result<(), Refusal> {
    match name::of_service_account(&caller.username) || caller.groups.iter().any(|group| name::of_service_account(group)) {
        true => Err(Refusal::unauthorized(
            "a ServiceAccount is known in its own cluster only; use the server address of that cluster (its host, or its path before /postern)",
        )),
        false => Ok(()),
    }
}

fn cannot_be_asked(listed: &Listed) -> Refusal {
    Refusal::unavailable(format!("the gateway cannot set up the cluster {}; whoever runs it finds the reason in its log", listed.name()))
}
