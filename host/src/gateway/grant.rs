//! Whether callers may still do what their long exchanges were begun for. The API server authorises those once, when they begin; so it is asked again
//! and again, by a SelfSubjectAccessReview in the name they were begun in, which anybody who is authenticated may make (upstream's `system:basic-user`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Cluster;
use super::exchange::Exchange;
use crate::classify::{Operation, Shape};
use crate::forward::{As, LARGEST_ANSWER, Question, Upstream};
use crate::status::Refusal;
use crate::stream::end::{Ends, ends};

/// After how long an exchange is one that is asked about: most are over by then.
const SHORT: Duration = Duration::from_secs(1);
/// How often the API server is asked about a right.
const LOOK: Duration = Duration::from_secs(2);
/// The most rights that are asked about that often: of more, each is asked about less often, so that it stays at so many in so long.
const MOST: usize = 100;
/// After how long it is asked once more before it is believed: one that has just started may not know all its rules yet.
const AGAIN: Duration = Duration::from_secs(1);

/// The rights that open exchanges stand on. Each is asked about once, for all that stand on it.
#[derive(Default)]
pub struct Rights(Mutex<HashMap<String, watch::Receiver<bool>>>);

/// One of them.
#[derive(Clone)]
struct Right {
    upstream: Arc<Upstream>,
    who: As,
    /// What must be allowed.
    review: Bytes,
    /// What must stay allowed if it was.
    also: Option<Bytes>,
}

impl Cluster {
    /// Waits until the caller's credential has expired, or the API server says that they may begin the exchange no longer.
    pub(super) fn ends(&self, exchange: &Exchange) -> Ends {
        let (rights, right) = (Arc::clone(&self.rights), Right::of(&self.upstream, exchange));
        ends(exchange.caller.expires, self.gone.clone(), async move {
            tokio::time::sleep(SHORT).await;
            // Whoever asks may end before an answer, with its thread: then another does.
            while rights.follow(&right).wait_for(|withdrawn| *withdrawn).await.is_err() {}
        })
    }
}

impl Cluster {
    /// Refuses what the API server would refuse the caller.
    pub(super) async fn may(&self, exchange: &Exchange) -> Result<(), Refusal> {
        // What an API server wants beside it, it says itself.
        let right = Right::of(&self.upstream, exchange);
        match right.is_allowed(&right.review).await {
            Some(false) => Err(may_not(exchange)),
            _ => Ok(()),
        }
    }
}

/// What is said to who may not, in the words of the API server (`k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go`).
fn may_not(exchange: &Exchange) -> Refusal {
    let Exchange { operation, caller, .. } = exchange;
    let place = match &operation.target {
        Some(target) => {
            let within = target.namespace.as_ref().map(|namespace| format!(" in the namespace \"{namespace}\"")).unwrap_or_default();
            format!(
                "{} resource \"{}\" in API group \"{}\"{within}",
                operation.verb,
                operation.resource_path().unwrap_or_default(),
                target.api_group
            )
        }
        None => format!("{} path \"{}\"", operation.verb, operation.path),
    };
    Refusal::forbidden(format!("User \"{}\" cannot {place}, as whoever the gateway lets them be in the cluster", caller.username))
}

impl Rights {
    fn follow(self: &Arc<Self>, right: &Right) -> watch::Receiver<bool> {
        let key = right.key();
        let mut asked = self.asked();
        if let Some(known) = asked.get(&key).filter(|known| known.has_changed().is_ok()) {
            return known.clone();
        }
        let (tell, told) = watch::channel(false);
        asked.insert(key.clone(), told.clone());
        tokio::task::spawn_local(Arc::clone(self).ask(right.clone(), key, tell));
        told
    }

    /// Asks as long as anybody wants to know.
    async fn ask(self: Arc<Self>, mut right: Right, key: String, tell: watch::Sender<bool>) {
        if let Some(also) = &right.also
            && right.is_allowed(also).await != Some(true)
        {
            right.also = None;
        }
        loop {
            if right.is_denied().await {
                tokio::time::sleep(AGAIN).await;
                if right.is_denied().await {
                    self.asked().remove(&key);
                    tell.send_replace(true);
                    return;
                }
            }
            let rate = u32::try_from(self.asked().len().div_ceil(MOST)).unwrap_or(u32::MAX);
            tokio::time::sleep(LOOK.saturating_mul(rate)).await;
            let mut asked = self.asked();
            // One of them is kept for those to come.
            if tell.receiver_count() <= 1 {
                asked.remove(&key);
                return;
            }
        }
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<String, watch::Receiver<bool>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Right {
    fn of(upstream: &Arc<Upstream>, exchange: &Exchange) -> Self {
        let operation = &exchange.operation;
        // The API server has a stream's verb from the method: what comes by GET is `get` to it, also where something is executed. From 1.35 on it wants `create`
        // as well for what is upgraded to WebSocket (`AuthorizePodWebsocketUpgradeCreatePermission`).
        let (verb, also) = match (operation.shape, &operation.method) {
            (Shape::Stream, &Method::GET) => ("get", Some(review(operation, "create"))),
            (Shape::Stream, _) => ("create", None),
            _ => (operation.verb.as_str(), None),
        };
        Self { upstream: Arc::clone(upstream), who: exchange.who.clone(), review: review(operation, verb), also }
    }

    /// What is the same right has the same key.
    fn key(&self) -> String {
        let who = match &self.who {
            As::ServiceAccount(account) => json!(["ServiceAccount", account.namespace, account.name]),
            As::Impersonate(caller) => json!(["Impersonate", caller.username, caller.groups]),
            As::Gateway => json!(["Gateway"]),
        };
        format!("{who}{:?}{:?}", self.review, self.also)
    }

    async fn is_denied(&self) -> bool {
        let denied = async |review| self.is_allowed(review).await == Some(false);
        denied(&self.review).await || matches!(&self.also, Some(also) if denied(also).await)
    }

    /// None where it cannot be known: while the API server cannot be asked, it carries nothing either.
    async fn is_allowed(&self, review: &Bytes) -> Option<bool> {
        let (status, body) = match self.upstream.read(&self.who, Question::Access(review.clone()), LARGEST_ANSWER).await {
            Ok(answer) => answer,
            // The account is gone.
            Err(refusal) => return (refusal.code == StatusCode::FORBIDDEN).then_some(false),
        };
        match status.as_u16() {
            401 => Some(false),
            201 => serde_json::from_slice::<Value>(&body).ok()?["status"]["allowed"].as_bool(),
            _ => None,
        }
    }
}

/// A review of an operation, with all that authorisers are told of it (`k8s.io/apiserver/pkg/endpoints/filters/authorization.go`).
fn review(operation: &Operation, verb: &str) -> Bytes {
    let spec = match &operation.target {
        None => json!({"nonResourceAttributes": {"path": operation.path, "verb": verb}}),
        Some(target) => {
            let mut attributes = json!({
                "namespace": target.namespace, "verb": verb, "group": target.api_group, "version": target.api_version,
                "resource": target.resource, "subresource": target.subresource, "name": target.name});
            // Who may watch only what is selected may watch it (KEP-4601).
            for selector in ["fieldSelector", "labelSelector"] {
                if let Some(raw) = operation.first(selector).filter(|raw| !raw.is_empty() && operation.shape == Shape::Watch) {
                    attributes[selector] = json!({ "rawSelector": raw });
                }
            }
            json!({ "resourceAttributes": attributes })
        }
    };
    json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}).to_string().into()
}
