//! Whether the gateway lives, is ready, and is well: each check by its name, in the form that kube-apiserver has (`k8s.io/apiserver/pkg/server/healthz`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::forward::{As, LARGEST_ANSWER, Question};
use crate::gateway::Gateway;

/// How long it is believed what the API server answered last: probes are no load on it.
const BELIEVED: Duration = Duration::from_secs(5);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// A check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// Something answers.
    Ping,
    /// The gateway is not about to end.
    Draining,
    /// The audit log can be written: while it cannot, nothing passes.
    AuditLog,
    /// Every required policy is there: while one is not, nothing passes.
    Policies,
    /// Every policy in the directory is in force, as it is there.
    PolicyFiles,
    /// There is a way to say who one is: the keys of an issuer were fetched, or certificates are let in.
    Identities,
    /// The keys of every issuer were fetched.
    IssuerKeys,
    /// The API server answers, and takes the gateway's credential.
    ApiServer,
}

impl Check {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Ping, "ping"),
        (Self::Draining, "draining"),
        (Self::AuditLog, "audit-log"),
        (Self::Policies, "policies"),
        (Self::PolicyFiles, "policy-files"),
        (Self::Identities, "identities"),
        (Self::IssuerKeys, "issuer-keys"),
        (Self::ApiServer, "api-server"),
    ];

    /// Whether it says something about an endpoint. A process is not ended for what a new one would meet as well, and a replica takes requests while the API
    /// server is away: it answers them with a clear 503, and another replica would do no better.
    fn is_of(self, endpoint: &str) -> bool {
        match endpoint {
            "livez" => self == Self::Ping,
            "readyz" => !matches!(self, Self::PolicyFiles | Self::IssuerKeys | Self::ApiServer),
            _ => true,
        }
    }
}

/// What the API server answered, and when.
type Known = (Instant, Result<(), String>);

/// The checks of a gateway.
pub(super) struct Checks {
    gateway: Arc<Gateway>,
    /// What the API server answered last, and when.
    api_server: Arc<Mutex<Option<Known>>>,
}

impl Checks {
    pub(super) fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway, api_server: Arc::default() }
    }

    /// Whether all is well at a path, and the text of the answer; none where there is no such path.
    pub(super) async fn answer(&self, path: &str, query: &str) -> Option<(bool, String)> {
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let endpoint = parts.next().filter(|endpoint| matches!(*endpoint, "livez" | "readyz" | "healthz"))?;
        let one = parts.next().filter(|name| !name.is_empty());
        let pairs = || query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let excluded: Vec<&str> = pairs().filter(|(key, _)| *key == "exclude").map(|(_, name)| name).collect();
        let of_endpoint = Check::ALL.iter().filter(|(check, name)| check.is_of(endpoint) && one.is_none_or(|one| one == *name));
        let (mut is_well, mut text, mut any) = (true, String::new(), false);
        for (check, name) in of_endpoint {
            any = true;
            if excluded.contains(name) {
                text += &format!("[+]{name} excluded: ok\n");
                continue;
            }
            match self.check(*check).await {
                Ok(()) => text += &format!("[+]{name} ok\n"),
                Err(why) => {
                    is_well = false;
                    text += &format!("[-]{name} failed: {why}\n");
                }
            }
        }
        if !any {
            return None;
        }
        let is_verbose = pairs().any(|(key, _)| key == "verbose");
        let verdict = if is_well { "passed" } else { "failed" };
        Some(match is_well && !is_verbose {
            true => (true, "ok".into()),
            false => (is_well, format!("{text}{endpoint} check {verdict}\n")),
        })
    }

    async fn check(&self, check: Check) -> Result<(), String> {
        let gateway = &self.gateway;
        let policies = || gateway.policies.as_ref().map(|policies| policies.current());
        match check {
            Check::Ping => Ok(()),
            Check::Draining => match gateway.drain.has_begun() {
                true => Err("the gateway is being stopped".into()),
                false => Ok(()),
            },
            Check::AuditLog => gateway.audit.check().map_err(|refusal| refusal.message),
            Check::Policies => match policies().map(|set| set.missing.clone()).unwrap_or_default() {
                missing if missing.is_empty() => Ok(()),
                missing => Err(format!("required and not in force: {}", missing.join(", "))),
            },
            Check::PolicyFiles => {
                match policies().map(|set| set.broken.iter().map(|b| b.name.clone()).collect::<Vec<_>>()).unwrap_or_default() {
                    broken if broken.is_empty() => Ok(()),
                    broken => Err(format!("not loaded as they are in the directory: {} (postern policy list says why)", broken.join(", "))),
                }
            }
            Check::Identities => match gateway.identifier.wants_certificates() || !gateway.identifier.ages_of_keys().is_empty() {
                true => Ok(()),
                false => Err("no issuer's keys were fetched yet, and no certificates are let in".into()),
            },
            Check::IssuerKeys => match gateway.identifier.without_keys() {
                without if without.is_empty() => Ok(()),
                without => Err(format!("no keys were fetched yet from {}", without.join(", "))),
            },
            Check::ApiServer => self.api_server().await,
        }
    }

    /// Asked in a task of its own: who hangs up and asks again meets the answer that is on its way.
    async fn api_server(&self) -> Result<(), String> {
        let (gateway, last) = (Arc::clone(&self.gateway), Arc::clone(&self.api_server));
        let asked = tokio::task::spawn_local(async move {
            let mut last = last.lock().await;
            if let Some((at, known)) = &*last
                && at.elapsed() < BELIEVED
            {
                return known.clone();
            }
            let now = ask(&gateway).await;
            *last = Some((Instant::now(), now.clone()));
            now
        });
        asked.await.unwrap_or_else(|_| Err("it was not asked to the end".into()))
    }
}

async fn ask(gateway: &Gateway) -> Result<(), String> {
    let asked = gateway.upstream.read(&As::Gateway, Question::Get("/version"), LARGEST_ANSWER);
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok((status, _))) if status.is_success() => Ok(()),
        Ok(Ok((status, _))) => Err(format!("it answered {status} to the gateway")),
        Ok(Err(refusal)) => Err(refusal.message),
        Err(_) => Err(format!("it did not answer within {} seconds", PATIENCE.as_secs())),
    }
}
