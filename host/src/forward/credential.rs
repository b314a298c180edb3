//! As whom a caller reaches the cluster.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::json;
use tokio::sync::Mutex;

use super::{LARGEST_ANSWER, Upstream, gone};
use crate::body::collect;
use crate::config::{AccessAs, AccessRule, ServiceAccountRef};
use crate::identify::{Caller, name};
use crate::metrics::Count;
use crate::status::Refusal;

/// As whom a request goes to the API server.
#[derive(Clone, Debug)]
pub enum As {
    /// A ServiceAccount.
    ServiceAccount(ServiceAccountRef),
    /// The caller's own name, by impersonation.
    Impersonate(Arc<Caller>),
    /// The gateway itself.
    Gateway,
}

/// The first access rule for a caller, or 403.
pub fn access_for(rules: &[AccessRule], caller: &Arc<Caller>) -> Result<As, Refusal> {
    let applies = |rule: &&AccessRule| {
        rule.users.is_empty() && rule.groups.is_empty()
            || rule.users.contains(&caller.username)
            || rule.groups.iter().any(|g| caller.groups.contains(g))
    };
    match rules.iter().find(applies).map(|rule| &rule.identity) {
        Some(AccessAs::ServiceAccount(account)) => Ok(As::ServiceAccount(account.clone())),
        Some(AccessAs::Impersonate(_)) => Ok(As::Impersonate(Arc::clone(caller))),
        Some(AccessAs::Gateway(_)) => Ok(As::Gateway),
        None => Err(Refusal::forbidden(format!("no access rule of the gateway is for {}; add one under access", caller.username))),
    }
}

/// The tokens of ServiceAccounts, by account.
#[derive(Default)]
pub(super) struct ServiceAccountTokens(std::sync::Mutex<HashMap<ServiceAccountRef, Arc<Mutex<Known>>>>);

/// What is known of an account's token.
#[derive(Default)]
struct Known {
    token: Option<Token>,
    /// Why there was none when it was asked for last: who waited meanwhile is told the same, and does not ask anew.
    failed: Option<(Instant, Refusal)>,
}

/// How long a failure is told to others.
const FAILURE_HOLDS: Duration = Duration::from_secs(1);
/// How long a token may take, connecting included.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    renew: Instant,
    ends: Instant,
}

impl ServiceAccountTokens {
    /// The Authorization header of an account. Asked for once, renewed when four fifths of its life have passed.
    pub(super) async fn token(&self, upstream: &Upstream, account: &ServiceAccountRef) -> Result<HeaderValue, Refusal> {
        let slot = self.slot(account);
        let mut known = slot.lock().await;
        let now = Instant::now();
        if let Some(token) = known.token.as_ref().filter(|t| t.renew > now) {
            return Ok(token.header.clone());
        }
        if let Some((_, refusal)) = known.failed.as_ref().filter(|(at, _)| at.elapsed() < FAILURE_HOLDS) {
            return Err(refusal.clone());
        }
        let asked = tokio::time::timeout(PATIENCE, Box::pin(request(upstream, account))).await;
        match asked.unwrap_or_else(|_| Err(no_token(account, "the API server did not answer in time"))) {
            Ok(new) => {
                known.failed = None;
                Ok(known.token.insert(new).header.clone())
            }
            // The old one is good for a while yet.
            Err(refusal) => match known.token.as_mut().filter(|t| t.ends > now + Duration::from_secs(5)) {
                Some(old) => {
                    tracing::warn!(account = %account.name, namespace = %account.namespace, why = %refusal.message, "the token could not be renewed");
                    old.renew = now + Duration::from_secs(10);
                    Ok(old.header.clone())
                }
                None => {
                    known.failed = Some((Instant::now(), refusal.clone()));
                    Err(refusal)
                }
            },
        }
    }

    /// Forgets a token that the API server does not take: that of an account that was made anew, or of one that is gone.
    pub(super) async fn discard(&self, account: &ServiceAccountRef, header: &HeaderValue) {
        let slot = self.slot(account);
        let mut known = slot.lock().await;
        if known.token.as_ref().is_some_and(|token| token.header == header) {
            known.token = None;
        }
    }

    fn slot(&self, account: &ServiceAccountRef) -> Arc<Mutex<Known>> {
        let mut slots = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match slots.get(account) {
            Some(slot) => Arc::clone(slot),
            None => Arc::clone(slots.entry(account.clone()).or_default()),
        }
    }
}

fn no_token(account: &ServiceAccountRef, why: &str) -> Refusal {
    Refusal::unavailable(format!("the gateway got no token for the ServiceAccount {}/{}: {why}", account.namespace, account.name))
}

async fn request(upstream: &Upstream, account: &ServiceAccountRef) -> Result<Token, Refusal> {
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/{}/token", account.namespace, account.name);
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": account.audiences, "expirationSeconds": account.expiration.0}});
    let asked = Instant::now();
    upstream.metrics.add(Count::Tokens, 1);
    let json = HeaderValue::from_static("application/json");
    let headers = HeaderMap::from_iter([(header::ACCEPT, json.clone()), (header::CONTENT_TYPE, json)]);
    let answer = Box::pin(upstream.plain(&As::Gateway, &Method::POST, &path, headers, body.to_string().into(), true)).await?;
    let status = answer.status();
    let body = collect(answer.into_body(), LARGEST_ANSWER).await.map_err(|e| gone(&e))?.unwrap_or_default();
    let failed = |why: &str| no_token(account, why);
    if status.as_u16() == 404 {
        return Err(Refusal::forbidden(format!(
            "the ServiceAccount {}/{}, as which you reach the cluster, does not exist; make it, or name another under access",
            account.namespace, account.name
        )));
    }
    if !status.is_success() {
        return Err(failed(&format!("the API server answered {status} to its TokenRequest; let the gateway create serviceaccounts/token")));
    }
    let answer: serde_json::Value = serde_json::from_slice(&body).map_err(|_| failed("the answer is not JSON"))?;
    let token = answer["status"]["token"].as_str().ok_or_else(|| failed("the answer has no token"))?;
    // The API server may give a shorter life than asked for, and says so in the token's claims only by a clock that is not ours:
    // the shorter of what was asked for and what it says counts.
    let life = Duration::from_secs(account.expiration.0.min(answer["spec"]["expirationSeconds"].as_u64().unwrap_or(600)));
    Ok(Token { header: bearer(token)?, renew: asked + life * 4 / 5, ends: asked + life })
}

/// An Authorization header that is never shown.
pub(super) fn bearer(token: &str) -> Result<HeaderValue, Refusal> {
    let mut value =
        HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| Refusal::internal("a credential of the gateway is not valid"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Names the caller in impersonation headers. Names of the cluster's own are not for others to claim, and a request without a name would run as the gateway
/// itself: what a header cannot carry as it is does not go.
pub(super) fn impersonate(caller: &Caller, headers: &mut HeaderMap) -> Result<(), Refusal> {
    let value = |what: &str, text: &str| {
        name::canonical(text)
            .ok()
            .and_then(|()| HeaderValue::from_bytes(text.as_bytes()).ok())
            .ok_or_else(|| Refusal::forbidden(format!("the caller's {what} cannot be written in a header, and nothing goes without it")))
    };
    let username = &caller.username;
    if username.starts_with("system:") && name::service_account(username).is_none() {
        return Err(Refusal::forbidden(format!("{username} is a name of the cluster's own, and is not impersonated")));
    }
    headers.insert(HeaderName::from_static("impersonate-user"), value("name", username)?);
    for group in caller.groups.iter().filter(|g| *g != name::AUTHENTICATED) {
        if group.starts_with("system:") && !name::own_group(username, group) {
            return Err(Refusal::forbidden(format!("{group} is a group of the cluster's own, and is not impersonated")));
        }
        headers.append(HeaderName::from_static("impersonate-group"), value("group", group)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(username: &str, groups: &[&str]) -> Arc<Caller> {
        let groups = groups.iter().map(|g| (*g).into()).collect();
        Arc::new(Caller {
            username: username.into(),
            groups,
            issuer: "i".into(),
            claims: vec![],
            expires: 0,
            credential: String::new(),
            cluster: Arc::default(),
        })
    }

    #[test]
    fn without_a_rule_nobody_gets_in() {
        assert_eq!(access_for(&[], &caller("ann", &[])).unwrap_err().code, 403);
        let rules: Vec<AccessRule> = serde_saphyr::from_str("- {groups: [dev], as: {impersonate: {}}}\n").unwrap();
        assert!(matches!(access_for(&rules, &caller("ann", &["dev"])), Ok(As::Impersonate(_))));
        assert!(access_for(&rules, &caller("bob", &["ops"])).is_err());
    }

    #[test]
    fn names_of_the_cluster_are_not_impersonated() {
        for (name, groups) in [("system:admin", vec![]), ("ann", vec!["system:masters"]), ("ann", vec!["system:nodes"])] {
            assert!(impersonate(&caller(name, &groups), &mut HeaderMap::new()).is_err(), "{name} {groups:?}");
        }
        let mut headers = HeaderMap::new();
        impersonate(&caller("system:serviceaccount:n:ci", &["system:serviceaccounts", "system:authenticated"]), &mut headers).unwrap();
        assert_eq!(headers.get_all("impersonate-group").iter().count(), 1);
        for (name, groups) in [
            ("", vec![]),
            (" ", vec![]),
            ("\t", vec![]),
            ("ann\nx", vec![]),
            ("ann ", vec![]),
            ("ann", vec![" system:masters"]),
            ("ann", vec![""]),
            ("ann", vec!["system:serviceaccounts"]),
            ("system:serviceaccountx", vec![]),
            ("system:serviceaccount:n:ci", vec!["system:serviceaccounts:other"]),
        ] {
            let mut headers = HeaderMap::new();
            assert!(impersonate(&caller(name, &groups), &mut headers).is_err(), "{name:?} {groups:?}");
        }
    }

    #[test]
    fn a_credential_does_not_show() {
        assert!(!format!("{:?}", bearer("hunter2").unwrap()).contains("hunter2"));
    }
}
