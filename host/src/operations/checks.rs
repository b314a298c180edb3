//! Whether the gateway lives, is ready, and is well: each check by its name, in the form that kube-apiserver has (`k8s.io/apiserver/pkg/server/healthz`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::forward::{As, LARGEST_ANSWER, Question, Upstream};
use crate::gateway::Gateway;
use crate::policy::{Directory, PolicySet};

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
    /// Every cluster of the configuration could be set up.
    Clusters,
    /// Every API server answers, and takes the gateway's credential.
    ApiServer,
}

impl Check {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Ping, "ping"),
        (Self::Draining, "draining"),
        (Self::AuditLog, "audit-log"),
        (Self::Policies, "policies"),
        (Self::PolicyFiles, "policy-files"),
        (Self::Identities, "identities"),
        (Self::IssuerKeys, "issuer-keys"),
        (Self::Clusters, "clusters"),
        (Self::ApiServer, "api-server"),
    ];

    /// Whether it says something about an endpoint. A process is not ended for what a new one would meet as well, and a replica takes requests while the API
    /// server is away: it answers them with a clear 503, and another replica would do no better.
    fn is_of(self, endpoint: &str) -> bool {
        match endpoint {
            "livez" => self == Self::Ping,
            "readyz" => !matches!(self, Self::PolicyFiles | Self::IssuerKeys | Self::Clusters | Self::ApiServer),
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
        match check {
            Check::Ping => Ok(()),
            Check::Draining => match gateway.drain().has_begun() {
                true => Err("the gateway is being stopped".into()),
                false => Ok(()),
            },
            Check::AuditLog => gateway.audit().check().map_err(|refusal| refusal.message),
            // What one of several clusters requires for itself takes the others out of no balancer.
            Check::Policies => told(
                "required and not in force",
                "",
                self.policies(|owner, set| if owner.is_none() { set.missing.clone() } else { Vec::new() }),
            ),
            Check::PolicyFiles => {
                let broken = |owner: &Option<String>, set: &PolicySet| {
                    let missing = set.missing.iter().filter(|_| owner.is_some()).cloned();
                    set.broken.iter().map(|broken| broken.name.clone()).chain(missing).collect()
                };
                told("not loaded as they are in the directory", " (postern policy list says why)", self.policies(broken))
            }
            Check::Identities => match gateway.identifier().wants_certificates() || !gateway.identifier().ages_of_keys().is_empty() {
                true => Ok(()),
                false => Err("no issuer's keys were fetched yet, and no certificates are let in".into()),
            },
            Check::IssuerKeys => told("no keys were fetched yet from", "", gateway.identifier().without_keys()),
            Check::Clusters => {
                let table = gateway.clusters();
                let broken = table.all().iter().filter(|listed| listed.cluster().is_err()).map(|listed| listed.name().to_owned());
                told("cannot be set up", " (the log says why)", broken.collect())
            }
            Check::ApiServer => self.api_servers().await,
        }
    }

    /// The names of policies, of every directory; those of one cluster alone after its name.
    fn policies(&self, of: impl Fn(&Option<String>, &PolicySet) -> Vec<String>) -> Vec<String> {
        let directories = self.gateway.directories();
        let names = |(cluster, directory): &(Option<String>, Arc<Directory>)| -> Vec<String> {
            let within = |name: String| cluster.as_ref().map_or_else(|| name.clone(), |cluster| format!("{cluster}/{name}"));
            of(cluster, &directory.current()).into_iter().map(within).collect()
        };
        directories.iter().flat_map(names).collect()
    }

    /// Asked in a task of its own: who hangs up and asks again meets the answer that is on its way.
    async fn api_servers(&self) -> Result<(), String> {
        let (gateway, last) = (Arc::clone(&self.gateway), Arc::clone(&self.api_server));
        let asked = tokio::task::spawn_local(async move {
            let mut last = last.lock().await;
            if let Some((at, known)) = &*last
                && at.elapsed() < BELIEVED
            {
                return known.clone();
            }
            let now = ask_all(&gateway).await;
            *last = Some((Instant::now(), now.clone()));
            now
        });
        asked.await.unwrap_or_else(|_| Err("it was not asked to the end".into()))
    }
}

/// Asks all of them at a time: one that does not answer holds up no other.
async fn ask_all(gateway: &Gateway) -> Result<(), String> {
    let table = gateway.clusters();
    let asked = table.ready().map(|cluster| {
        let cluster = Arc::clone(cluster);
        (cluster.name().to_owned(), tokio::task::spawn_local(async move { ask(cluster.upstream()).await }))
    });
    let (mut failed, is_alone) = (Vec::new(), table.alone().is_some());
    for (name, asked) in asked.collect::<Vec<_>>() {
        if let Err(why) = asked.await.unwrap_or_else(|_| Err("it was not asked to the end".into())) {
            failed.push(if is_alone { why } else { format!("{name}: {why}") });
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

/// What is wrong with those that are named; nothing where none is.
fn told(what: &str, more: &str, names: Vec<String>) -> Result<(), String> {
    if names.is_empty() { Ok(()) } else { Err(format!("{what}: {}{more}", names.join(", "))) }
}

async fn ask(upstream: &Upstream) -> Result<(), String> {
    let asked = upstream.read(&As::Gateway, Question::Get("/version"), LARGEST_ANSWER);
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok((status, _))) if status.is_success() => Ok(()),
        Ok(Ok((status, _))) => Err(format!("it answered {status} to the gateway")),
        Ok(Err(refusal)) => Err(refusal.message),
        Err(_) => Err(format!("it did not answer within {} seconds", PATIENCE.as_secs())),
    }
}
