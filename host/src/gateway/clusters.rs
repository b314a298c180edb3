//! The clusters of a gateway, which are added, changed and taken out while it runs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use http::Request;
use serde_json::json;

use super::cluster::{Cluster, Shared};
use super::route::Routed;
use crate::config::{Member, within};
use crate::digest::sha256;
use crate::forward::Access;
use crate::metrics::Metrics;
use crate::record::Event;
use crate::status::Refusal;
use crate::words::Stage;

/// What is said of a cluster that is being set up.
const NOT_YET: &str = "it is being set up";

/// The clusters.
pub(super) struct Clusters {
    shared: Shared,
    now: ArcSwap<Table>,
    /// One change at a time; and what was counted of clusters, by their names: it goes on with whoever has the name.
    changing: Mutex<HashMap<String, Arc<Metrics>>>,
}

/// The clusters at one moment.
#[derive(Default)]
pub struct Table {
    listed: Vec<Arc<Listed>>,
    by_host: HashMap<String, usize>,
}

/// A cluster that the configuration has.
pub struct Listed {
    member: Member,
    /// What its kubeconfig was, by digest.
    credential: String,
    /// The cluster, or why it could not be set up.
    cluster: Result<Arc<Cluster>, String>,
}

impl Listed {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.member.cluster.name
    }

    /// How it is configured.
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// The cluster; why it could not be set up where that is so, and then nothing passes to it.
    pub fn cluster(&self) -> Result<&Arc<Cluster>, &str> {
        self.cluster.as_ref().map_err(String::as_str)
    }
}

impl Table {
    /// Clusters of which none can be asked.
    #[cfg(test)]
    pub(super) fn of(members: Vec<Member>) -> Self {
        let listed = |member| Arc::new(Listed { member, credential: String::new(), cluster: Err("it is none".into()) });
        Self::new(members.into_iter().map(listed).collect())
    }

    fn new(listed: Vec<Arc<Listed>>) -> Self {
        let hosts = listed.iter().enumerate();
        let by_host = hosts.flat_map(|(at, one)| one.member.hosts.iter().map(move |host| (host.clone(), at))).collect();
        Self { listed, by_host }
    }

    /// All of them, in the order the configuration has them.
    pub fn all(&self) -> &[Arc<Listed>] {
        &self.listed
    }

    /// Those that could be set up.
    pub fn ready(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.listed.iter().filter_map(|listed| listed.cluster().ok())
    }

    /// The only one of a gateway that has one.
    pub fn alone(&self) -> Option<&Arc<Listed>> {
        self.listed.first().filter(|listed| listed.member.is_alone)
    }

    pub(super) fn of_host(&self, host: &str) -> Option<&Arc<Listed>> {
        self.by_host.get(host).map(|at| &self.listed[*at])
    }

    /// The cluster that a path leads to, and the path within it. No prefix lies within another.
    pub(super) fn of_path<'a>(&self, path: &'a str) -> Option<(&Arc<Listed>, &'a str)> {
        self.listed.iter().find_map(|listed| Some((listed, within(path, listed.member.path_prefix.as_deref()?)?)))
    }
}

impl Clusters {
    /// Sets up all that the configuration has. A cluster that is the only one must be one, and is reached by `access`; of several, one that cannot be set up takes no
    /// other with it.
    pub(super) fn open(shared: Shared, access: Option<Access>) -> anyhow::Result<Self> {
        let members = shared.config.members();
        let this = Self { shared, now: ArcSwap::default(), changing: Mutex::default() };
        if let ([alone], Some(access)) = (members.as_slice(), access) {
            let cluster = Cluster::open(alone.clone(), access, None, &this.shared)?;
            let listed = Listed { member: alone.clone(), credential: String::new(), cluster: Ok(cluster) };
            this.now.store(Arc::new(Table::new(vec![Arc::new(listed)])));
        } else {
            this.take_over(members, false);
        }
        Ok(this)
    }

    /// Tells whom a request is for: see [`Table::route`].
    pub(super) fn route<B>(&self, server_name: Option<&str>, request: &mut Request<B>) -> Result<Routed, Refusal> {
        self.now.load().route(server_name, request)
    }

    pub(super) fn now(&self) -> Arc<Table> {
        self.now.load_full()
    }

    /// Goes over to these clusters. Those that are as they were stay as they are, with all that is open there; what is open in others ends before anything else is
    /// done. Where `shared_differ` the policies that clusters share are to be others than those that are loaded, and what would have them is not served by these.
    pub(super) fn take_over(&self, members: Vec<Member>, shared_differ: bool) {
        let mut counted = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.now();
        let known = |member: &Member| before.listed.iter().find(|listed| listed.member == *member).cloned();
        let not_yet =
            |member: &Member| Arc::new(Listed { member: member.clone(), credential: String::new(), cluster: Err(NOT_YET.into()) });
        let staying: Vec<_> = members.iter().map(|member| known(member).unwrap_or_else(|| not_yet(member))).collect();
        let is_same = |listed: &[Arc<Listed>]| {
            before.listed.len() == listed.len() && before.listed.iter().zip(listed).all(|(one, other)| Arc::ptr_eq(one, other))
        };
        if !is_same(&staying) {
            self.swap_in(&before, staying);
        }
        let now = self.now();
        let opened: Vec<_> = members.into_iter().map(|member| self.listed(member, &before, shared_differ, &mut counted)).collect();
        if is_same(&opened) {
            return;
        }
        self.swap_in(&now, opened);
        let now = self.now();
        counted.retain(|name, _| now.listed.iter().any(|listed| listed.name() == name));
        self.tell(&now);
    }

    /// Puts clusters in the place of others; what is open in those that are not among them ends.
    fn swap_in(&self, before: &Table, listed: Vec<Arc<Listed>>) {
        self.now.store(Arc::new(Table::new(listed)));
        let now = self.now();
        let stays = |cluster: &Arc<Cluster>| now.ready().any(|other| Arc::ptr_eq(cluster, other));
        for cluster in before.ready().filter(|cluster| !stays(cluster)) {
            tracing::info!(cluster = cluster.name(), "the cluster was changed or taken out: what was open there ends");
            cluster.end();
            let has_others = |listed: &Arc<Listed>| listed.name() == cluster.name() && listed.member.has_own_policies;
            if !now.listed.iter().any(has_others) {
                cluster.retire();
            }
        }
    }

    fn listed(&self, member: Member, before: &Table, shared_differ: bool, counted: &mut HashMap<String, Arc<Metrics>>) -> Arc<Listed> {
        let same = before.listed.iter().find(|listed| listed.member == member);
        let credential = credential(&member);
        if let Some(same) = same.filter(|same| same.cluster.is_ok() && same.credential == credential) {
            return Arc::clone(same);
        }
        let name = member.cluster.name.clone();
        let opened = match shared_differ && !member.has_own_policies {
            true => Err(anyhow::anyhow!(
                "it would have the policies that clusters share, and those were changed: they take effect at the next start"
            )),
            false => Access::load(&member.cluster)
                .and_then(|access| Cluster::open(member.clone(), access, counted.get(&name).cloned(), &self.shared)),
        };
        match opened {
            Ok(cluster) => {
                counted.insert(name, Arc::clone(cluster.metrics()));
                Arc::new(Listed { member, credential, cluster: Ok(cluster) })
            }
            Err(error) => {
                let why = format!("{error:#}");
                // Half a kubeconfig, while it is written: the one before goes on, and it is tried again.
                if let Some(good) = same.filter(|same| same.cluster.is_ok()) {
                    tracing::warn!(cluster = %name, %why, "the cluster cannot be set up with its new kubeconfig; the one before goes on");
                    return Arc::clone(good);
                }
                if let Some(told) = same.filter(|same| same.cluster.as_ref().err() == Some(&why)) {
                    return Arc::clone(told);
                }
                tracing::error!(cluster = %name, %why, "the cluster cannot be set up: nothing passes to it until it can");
                Arc::new(Listed { member, credential, cluster: Err(why) })
            }
        }
    }

    /// Records which clusters there are.
    fn tell(&self, now: &Table) {
        let all: Vec<_> = now
            .listed
            .iter()
            .map(|listed| match listed.cluster() {
                Ok(cluster) => json!({"name": listed.name(), "apiServer": cluster.upstream().address()}),
                Err(why) => json!({"name": listed.name(), "notSetUp": why}),
            })
            .collect();
        let mut event = Event::default();
        event.set("clusters", all);
        self.shared.audit.record(&event, Stage::Clusters);
    }

    /// What the clusters' kubeconfigs are at this moment, and whether one of them is another than what is in force, or its cluster could not be set up.
    pub(super) fn credentials(&self) -> (Vec<String>, bool) {
        let table = self.now();
        let now: Vec<String> = table.listed.iter().map(|listed| credential(&listed.member)).collect();
        let lacks = |(listed, now): (&Arc<Listed>, &String)| listed.cluster.is_err() || listed.credential != *now;
        let is_lacking = table.listed.iter().zip(&now).any(lacks);
        (now, is_lacking)
    }

    /// Tries again what could not be set up, and takes up kubeconfigs that were renewed.
    pub(super) fn try_again(&self, shared_differ: bool) {
        self.take_over(self.now().listed.iter().map(|listed| listed.member.clone()).collect(), shared_differ);
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// What a cluster's kubeconfig is at this moment.
fn credential(member: &Member) -> String {
    member.cluster.kubeconfig.as_ref().and_then(|file| std::fs::read(file).ok()).map(|text| sha256(&text)).unwrap_or_default()
}
