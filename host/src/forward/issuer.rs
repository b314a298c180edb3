//! Which issuer is the cluster's own: only what it signed may name ServiceAccounts.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::{As, LARGEST_ANSWER, Question, Upstream};
use crate::status::Refusal;

/// Where an API server says which issuer its ServiceAccounts' tokens have (KEP-1393).
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// How long the API server has to say so.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is asked at most.
const AGAIN: Duration = Duration::from_secs(10);

/// The issuers of the cluster's ServiceAccounts.
pub(super) struct OwnIssuers {
    /// As the configuration has them; then nobody is asked.
    configured: Vec<String>,
    /// As the API server told.
    learned: std::sync::Mutex<Option<String>>,
    /// When it was asked last, and why it did not say.
    asked: Mutex<Option<(Instant, Option<Refusal>)>>,
}

impl OwnIssuers {
    pub(super) fn new(configured: &[String]) -> Self {
        Self { configured: configured.to_vec(), learned: std::sync::Mutex::default(), asked: Mutex::default() }
    }

    fn is_learned(&self, issuer: &str) -> bool {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).as_deref() == Some(issuer)
    }
}

impl Upstream {
    /// Whether an issuer is the cluster's own, where that is known without asking the API server; none where it is not.
    pub fn is_known_issuer(&self, issuer: &str) -> Option<bool> {
        let own = &self.issuers;
        match own.configured.is_empty() {
            true => own.is_learned(issuer).then_some(true),
            false => Some(own.configured.iter().any(|configured| configured == issuer)),
        }
    }

    /// Whether an issuer is the cluster's own. The API server is asked for it when somebody must know.
    pub async fn is_own_issuer(&self, issuer: &str) -> Result<bool, Refusal> {
        if let Some(is_own) = self.is_known_issuer(issuer) {
            return Ok(is_own);
        }
        let own = &self.issuers;
        let mut asked = own.asked.lock().await;
        let lately = asked.as_ref().filter(|(at, _)| at.elapsed() < AGAIN);
        if let Some((_, outcome)) = lately {
            return outcome.clone().map_or_else(|| Ok(own.is_learned(issuer)), Err);
        }
        let told = self.own_issuer().await;
        *asked = Some((Instant::now(), told.as_ref().err().cloned()));
        *own.learned.lock().unwrap_or_else(PoisonError::into_inner) = Some(told?);
        Ok(own.is_learned(issuer))
    }

    async fn own_issuer(&self) -> Result<String, Refusal> {
        let untold = |why: String| {
            Refusal::unavailable(format!(
                "the gateway does not know which issuer is the cluster's own, and lets no ServiceAccount in: {why}; let it read {DISCOVERY} (ClusterRole system:service-account-issuer-discovery), or name the issuer under cluster.serviceAccountIssuers"
            ))
        };
        let asked = self.read(&As::Gateway, Question::Get(DISCOVERY), LARGEST_ANSWER);
        let answer = tokio::time::timeout(PATIENCE, asked).await.map_err(|_| untold("the API server does not answer".into()))?;
        let (status, body) = answer.map_err(|refusal| untold(refusal.message))?;
        if !status.is_success() {
            return Err(untold(format!("the API server answered {status}")));
        }
        let document: serde_json::Value = serde_json::from_slice(&body).map_err(|_| untold("its answer is not JSON".into()))?;
        document["issuer"].as_str().map(str::to_owned).ok_or_else(|| untold("its answer names no issuer".into()))
    }
}
