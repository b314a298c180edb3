//! One cluster behind the gateway: what is its own, and a handle of what it shares.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};
use http::{HeaderValue, Response, header};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::grant::Rights;
use super::known::KnownValues;
use crate::approve::Approvals;
use crate::body::Body;
use crate::config::{Config, Member, Policies};
use crate::drain::Drain;
use crate::forward::{Access, Upstream};
use crate::identify::{Identifier, Within};
use crate::mask::{PlanCache, TokenKey};
use crate::metrics::Metrics;
use crate::policy::change::{self, Told};
use crate::policy::report::PolicyReport;
use crate::policy::{Cache, Directory, PolicySet, Runtime};
use crate::record::AuditLog;
use crate::record::session::Sessions;
use crate::record::session::recent::RecentBodies;
use crate::slots::Slots;

/// A cluster. What belongs to it, no other cluster of the gateway has: connections, credentials, rights, places, what pods know, the key of its tokens. What it
/// shares with others (the log, recordings, tickets, budgets) has its name in every key.
pub struct Cluster {
    pub(super) name: Arc<str>,
    pub(super) member: Member,
    pub(super) config: Arc<Config>,
    pub(super) identifier: Arc<Identifier>,
    /// Its callers, where the gateway has several clusters.
    pub(super) callers: Option<Within>,
    pub(super) upstream: Arc<Upstream>,
    /// The policies; none when no directory is configured.
    pub(super) policies: Option<Arc<Directory>>,
    pub(super) approvals: Arc<Approvals>,
    pub(super) audit: AuditLog,
    pub(super) metrics: Arc<Metrics>,
    /// The masks in use, compiled.
    pub(super) plans: Arc<PlanCache>,
    pub(super) drain: Drain,
    pub(super) sessions: Sessions,
    /// The latest bodies, where they are to be kept.
    pub(super) recent_bodies: Arc<RecentBodies>,
    /// Streams that are open, by caller.
    pub(super) open_streams: Arc<Slots>,
    /// Requests under way, by caller.
    pub(super) requests: Arc<Slots>,
    /// Watches and followed logs that are open, by caller.
    pub(super) watches: Arc<Slots>,
    /// What pods know of Secrets.
    pub(super) known: KnownValues,
    /// What open exchanges stand on.
    pub(super) rights: Arc<Rights>,
    /// Cancelled once the cluster is not the gateway's any more, or has become another value.
    pub(super) gone: CancellationToken,
    /// Follows a directory of policies of its own.
    watching: Mutex<Option<Watching>>,
}

/// What every cluster of a gateway is made with.
pub(super) struct Shared {
    pub(super) config: Arc<Config>,
    pub(super) identifier: Arc<Identifier>,
    pub(super) approvals: Arc<Approvals>,
    pub(super) audit: AuditLog,
    /// What is counted of the gateway; in one with a single cluster, of that.
    pub(super) metrics: Arc<Metrics>,
    pub(super) drain: Drain,
    pub(super) sessions: Sessions,
    /// The latest bodies, where they are to be kept.
    pub(super) recent_bodies: Arc<RecentBodies>,
    /// Whether anybody asks for metrics.
    pub(super) counts: bool,
    /// What policies run in; none where there are none.
    pub(super) runtime: Option<Arc<Runtime>>,
    /// The policies of all clusters that have none of their own.
    pub(super) policies: Option<Arc<Directory>>,
    /// The key that tokens of masks are made with.
    pub(super) token_key: Zeroizing<[u8; 32]>,
}

impl Cluster {
    /// Sets a cluster up. It is not asked anything: one that cannot be reached is one all the same.
    /// `counted` is what was counted of a cluster of this name before.
    pub(super) fn open(member: Member, access: Access, counted: Option<Arc<Metrics>>, shared: &Shared) -> anyhow::Result<Arc<Self>> {
        let name: Arc<str> = member.cluster.name.as_str().into();
        let Shared { config, identifier, approvals, audit, drain, sessions, recent_bodies, token_key, .. } = shared;
        let metrics = match counted {
            _ if member.is_alone => Arc::clone(&shared.metrics),
            Some(counted) => counted,
            None if shared.counts => Metrics::counting(),
            None => Arc::default(),
        };
        let upstream = Upstream::new(access, &member.cluster.service_account_issuers, &config.limits, Arc::clone(&metrics))?;
        let audit = audit.counting_in(&metrics);
        let token_key =
            if member.is_alone { TokenKey::new(token_key.as_slice()) } else { TokenKey::of_cluster(token_key.as_slice(), &name) };
        let (policies, watching) = policies(&member, shared, &audit)?;
        Ok(Arc::new(Self {
            callers: (!member.is_alone).then(|| Within::new(&name)),
            name,
            member,
            config: Arc::clone(config),
            identifier: Arc::clone(identifier),
            upstream,
            policies,
            approvals: Arc::clone(approvals),
            audit,
            metrics,
            plans: Arc::new(PlanCache::new(token_key)),
            drain: drain.clone(),
            sessions: sessions.clone(),
            recent_bodies: Arc::clone(recent_bodies),
            open_streams: Slots::new(usize::MAX),
            requests: Slots::new(usize::MAX),
            watches: Slots::new(usize::MAX),
            known: KnownValues::default(),
            rights: Arc::default(),
            gone: CancellationToken::new(),
            watching: Mutex::new(watching),
        }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is configured.
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// Its API server.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Its policies; none when no directory is configured.
    pub fn policies(&self) -> Option<&Arc<Directory>> {
        self.policies.as_ref()
    }

    /// What is counted of its requests.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Requests, watches and streams that are under way.
    pub fn open_now(&self) -> [usize; 3] {
        [&self.requests, &self.watches, &self.open_streams].map(|slots| slots.count())
    }

    pub(super) fn audit(&self) -> &AuditLog {
        &self.audit
    }

    /// It is this gateway's no more, or has become another value: what is open there ends.
    pub(super) fn end(&self) {
        self.gone.cancel();
        self.upstream.end();
        *self.watching.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Takes back what was told of policies of its own: there is no such cluster any more.
    pub(super) fn retire(&self) {
        if self.member.has_own_policies
            && let Some(policies) = &self.policies
        {
            policies.retire();
        }
    }

    /// An answer as callers see it. Where the API server leads elsewhere on itself, that is where the cluster is here; and what a server behind it has a client
    /// keep is for that cluster alone. `by_path` says whether its path led here.
    pub(super) fn outward(&self, mut response: Response<Body>, by_path: bool) -> Response<Body> {
        let before = self.upstream.prefix();
        let prefix = self.member.path_prefix.as_deref().filter(|_| by_path).unwrap_or_default();
        if before.is_empty() && prefix.is_empty() {
            return response;
        }
        let headers = response.headers_mut();
        if let Some(location) = headers.get(header::LOCATION).and_then(|location| location.to_str().ok())
            && let Some(path) = location.strip_prefix(before).filter(|path| path.starts_with('/') && !path.starts_with("//"))
            && let Ok(location) = HeaderValue::from_str(&format!("{prefix}{path}"))
        {
            headers.insert(header::LOCATION, location);
        }
        if !prefix.is_empty() && headers.contains_key(header::SET_COOKIE) {
            let cookies: Vec<HeaderValue> =
                headers.get_all(header::SET_COOKIE).iter().filter_map(|cookie| cookie_within(cookie, prefix)).collect();
            headers.remove(header::SET_COOKIE);
            for cookie in cookies {
                headers.append(header::SET_COOKIE, cookie);
            }
        }
        response
    }
}

/// A cookie that a client sends back behind a prefix only: all clusters that are told by their paths are one host to it. One that cannot be read is left out.
fn cookie_within(cookie: &HeaderValue, prefix: &str) -> Option<HeaderValue> {
    let text = cookie.to_str().ok()?;
    let mut parts = text.split(';').map(str::trim);
    let mut kept = vec![parts.next()?.to_owned()];
    let mut path = String::from("/");
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "path" if value.trim().starts_with('/') => path = value.trim().to_owned(),
            // Another host than this is none of its.
            "path" | "domain" => {}
            _ => kept.push(part.to_owned()),
        }
    }
    kept.push(format!("Path={prefix}{path}"));
    HeaderValue::from_str(&kept.join("; ")).ok()
}

/// Follows a directory for as long as it lives.
pub(super) type Watching = Box<dyn Send + Sync>;

/// The policies of a cluster, and what follows them where they are its own.
fn policies(member: &Member, shared: &Shared, audit: &AuditLog) -> anyhow::Result<(Option<Arc<Directory>>, Option<Watching>)> {
    if !member.has_own_policies {
        // What is not there guards nothing.
        ensure!(member.policies.directory.is_none() || shared.policies.is_some(), "the policies that clusters share are not loaded");
        return Ok((shared.policies.clone(), None));
    }
    let runtime = shared.runtime.as_ref().context("policies cannot be run")?;
    let data = shared.config.cluster_directory(&member.cluster.name);
    std::fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
    let (policies, watching) = watched(runtime, &member.policies, &data, audit, Some(&member.cluster.name))?;
    Ok((Some(policies), watching))
}

/// Loads a directory of policies, those of one cluster or of all, and follows it; what is in force is recorded now and whenever it has changed. `data` is where
/// compiled modules and the report of it are kept.
pub(super) fn watched(
    runtime: &Arc<Runtime>,
    config: &Policies,
    data: &Path,
    audit: &AuditLog,
    cluster: Option<&str>,
) -> anyhow::Result<(Arc<Directory>, Option<Watching>)> {
    let policies = Directory::open(Arc::clone(runtime), Cache::open(data)?, config, data, Some(PolicyReport::file(data)))?;
    let tell = {
        let (audit, cluster, told) = (audit.clone(), cluster.map(str::to_owned), Told::of(data));
        move |set: &PolicySet| {
            let now = change::in_force(set);
            let before = told.last().unwrap_or_else(|error| {
                tracing::error!(error = format!("{error:#}"), "what was in force before cannot be told");
                None
            });
            let changed = before.map(|before| change::changes(&before, &now));
            audit.policies(set, &now, changed.as_deref(), cluster.as_deref());
            if let Err(error) = told.tell(&now) {
                tracing::error!(
                    error = format!("{error:#}"),
                    "what is in force cannot be kept: the next gateway will not tell what has changed meanwhile"
                );
            }
            changed.unwrap_or_default()
        }
    };
    for change in tell(&policies.current()) {
        let (policy, what) = (&change.name, change.what());
        match change.after {
            Some(_) => tracing::info!(%policy, what, "the policy was changed while no gateway ran"),
            None => match policies.current().broken.iter().find(|broken| broken.name == *policy) {
                Some(broken) => {
                    tracing::error!(%policy, error = %broken.error, "the policy was in force when a gateway ran last, and does not load")
                }
                None => tracing::warn!(%policy, "the policy was in force when a gateway ran last, and is not there any more"),
            },
        }
    }
    let watching = policies.watch(move |set| drop(tell(set)))?;
    policies.warn_of_missing();
    Ok((policies, watching.map(|watching| Box::new(watching) as Watching)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_of_one_cluster_is_sent_to_no_other() {
        for (cookie, kept) in [
            ("a=b", "a=b; Path=/clusters/one/"),
            ("a=b; Path=/; HttpOnly; Secure", "a=b; HttpOnly; Secure; Path=/clusters/one/"),
            ("a=b;path=/x/y;DOMAIN=.example", "a=b; Path=/clusters/one/x/y"),
            ("a=b; Path=x; Path=/z; SameSite=Lax", "a=b; SameSite=Lax; Path=/clusters/one/z"),
        ] {
            assert_eq!(cookie_within(&HeaderValue::from_static(cookie), "/clusters/one").unwrap(), kept, "{cookie}");
        }
        assert!(cookie_within(&HeaderValue::from_bytes(b"a=\xff").unwrap(), "/clusters/one").is_none());
    }
}
