//! One cluster behind the gateway: what is its own, and a handle of what it shares.

use std::sync::Arc;

use anyhow::Context;
use http::{HeaderValue, Response, header};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::grant::Rights;
use super::known::KnownValues;
use crate::approve::Approvals;
use crate::body::Body;
use crate::config::{Config, Member};
use crate::drain::Drain;
use crate::forward::{Access, Upstream};
use crate::identify::{Identifier, Within};
use crate::mask::{Plans, TokenKey};
use crate::metrics::Metrics;
use crate::policy::report::Report;
use crate::policy::{Cache, Directory, Runtime};
use crate::record::AuditLog;
use crate::record::session::Sessions;
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
    pub(super) plans: Arc<Plans>,
    pub(super) drain: Drain,
    pub(super) sessions: Option<Sessions>,
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
    _watching: Option<Watching>,
}

/// What every cluster of a gateway is made with.
pub(super) struct Shared {
    pub(super) config: Arc<Config>,
    pub(super) identifier: Arc<Identifier>,
    pub(super) approvals: Arc<Approvals>,
    pub(super) audit: AuditLog,
    pub(super) drain: Drain,
    pub(super) sessions: Sessions,
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
    pub(super) fn open(member: Member, access: Access, shared: &Shared) -> anyhow::Result<Arc<Self>> {
        let name: Arc<str> = member.cluster.name.as_str().into();
        let Shared { config, identifier, approvals, audit, drain, sessions, token_key, .. } = shared;
        let metrics = if shared.counts { Metrics::counting() } else { Arc::default() };
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
            plans: Arc::new(Plans::new(token_key)),
            drain: drain.clone(),
            sessions: Some(sessions.clone()),
            open_streams: Slots::new(usize::MAX),
            requests: Slots::new(usize::MAX),
            watches: Slots::new(usize::MAX),
            known: KnownValues::default(),
            rights: Arc::default(),
            gone: CancellationToken::new(),
            _watching: watching,
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
    }

    /// Takes back what was told of policies of its own: there is no such cluster any more.
    pub(super) fn retire(&self) {
        if self.member.has_own_policies
            && let Some(policies) = &self.policies
        {
            policies.retire();
        }
    }

    /// An answer as callers see it: where the API server leads elsewhere on itself, that is where the cluster is here.
    pub(super) fn outward(&self, mut response: Response<Body>) -> Response<Body> {
        if let (Some(prefix), Some(location)) = (&self.member.path_prefix, response.headers().get(header::LOCATION))
            && let Some(path) = location.to_str().ok().filter(|path| path.starts_with('/') && !path.starts_with("//"))
            && let Ok(location) = HeaderValue::from_str(&format!("{prefix}{path}"))
        {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

/// Follows a directory for as long as it lives.
type Watching = Box<dyn Send + Sync>;

/// The policies of a cluster, and what follows them where they are its own.
fn policies(member: &Member, shared: &Shared, audit: &AuditLog) -> anyhow::Result<(Option<Arc<Directory>>, Option<Watching>)> {
    if !member.has_own_policies {
        return Ok((shared.policies.clone(), None));
    }
    let runtime = shared.runtime.as_ref().context("policies cannot be run")?;
    let data = shared.config.cluster_directory(&member.cluster.name);
    std::fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
    let policies = Directory::open(Arc::clone(runtime), Cache::open(&data)?, &member.policies, &data, Some(Report::file(&data)))?;
    let (audit, name) = (audit.clone(), member.cluster.name.clone());
    policies.warn_of_missing();
    audit.policies(&policies.current(), Some(&name));
    let watching = policies.watch(move |set| audit.policies(set, Some(&name)))?;
    Ok((Some(policies), watching.map(|watching| Box::new(watching) as Watching)))
}
