//! The clusters of a gateway, which are added, changed and taken out while it runs.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serde_json::json;

use super::cluster::{Cluster, Shared};
use crate::config::{Config, Member, within};
use crate::digest::sha256;
use crate::forward::Access;
use crate::record::Event;
use crate::words::Stage;

/// How often the configuration is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is tried to set up a cluster that could not be.
const AGAIN: Duration = Duration::from_secs(10);

/// The clusters.
pub(super) struct Clusters {
    shared: Shared,
    now: ArcSwap<Table>,
    /// One change at a time.
    changing: Mutex<()>,
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
    /// Itself, or why it could not be set up.
    cluster: Result<Arc<Cluster>, String>,
}

impl Listed {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.member.cluster.name
    }

    /// Itself; why it could not be set up where that is so, and then nothing passes to it.
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
    /// Sets up all that the configuration has. A cluster that is the only one must be one; of several, one that cannot be set up takes no other with it.
    pub(super) fn open(shared: Shared) -> anyhow::Result<Self> {
        let members = shared.config.members();
        let this = Self { shared, now: ArcSwap::default(), changing: Mutex::default() };
        if let [alone] = members.as_slice()
            && alone.is_alone
        {
            let cluster = Cluster::open(alone.clone(), Access::load(&alone.cluster)?, &this.shared)?;
            let listed = Listed { member: alone.clone(), credential: String::new(), cluster: Ok(cluster) };
            this.now.store(Arc::new(Table::new(vec![Arc::new(listed)])));
        } else {
            this.take_over(members);
        }
        Ok(this)
    }

    pub(super) fn now(&self) -> Arc<Table> {
        self.now.load_full()
    }

    /// Goes over to these clusters. Those that are as they were stay as they are, with all that is open there; what is open in others ends.
    pub(super) fn take_over(&self, members: Vec<Member>) {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.now();
        let listed: Vec<_> = members.into_iter().map(|member| self.listed(member, &before)).collect();
        let is_same = before.listed.len() == listed.len() && before.listed.iter().zip(&listed).all(|(one, other)| Arc::ptr_eq(one, other));
        if is_same {
            return;
        }
        self.now.store(Arc::new(Table::new(listed)));
        let now = self.now();
        let stays = |cluster: &Arc<Cluster>| now.ready().any(|other| Arc::ptr_eq(cluster, other));
        for cluster in before.ready().filter(|cluster| !stays(cluster)) {
            tracing::info!(cluster = cluster.name(), "the cluster was changed or taken out: what was open there ends");
            cluster.end();
            if !now.listed.iter().any(|listed| listed.name() == cluster.name()) {
                cluster.retire();
            }
        }
        self.tell(&now);
    }

    fn listed(&self, member: Member, before: &Table) -> Arc<Listed> {
        let same = before.listed.iter().find(|listed| listed.member == member);
        let credential = credential(&member);
        if let Some(same) = same.filter(|same| same.cluster.is_ok() && same.credential == credential) {
            return Arc::clone(same);
        }
        let opened = Access::load(&member.cluster).and_then(|access| Cluster::open(member.clone(), access, &self.shared));
        match opened {
            Ok(cluster) => Arc::new(Listed { member, credential, cluster: Ok(cluster) }),
            Err(error) => {
                let why = format!("{error:#}");
                let name = &member.cluster.name;
                // Half a kubeconfig, while it is written: the one before goes on.
                if let Some(good) = same.filter(|same| same.cluster.is_ok()) {
                    tracing::warn!(cluster = %name, %why, "the cluster's new kubeconfig cannot be used; the one before goes on");
                    return Arc::new(Listed { member, credential, cluster: good.cluster.clone() });
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

    /// Follows a configuration for as long as somebody holds this; each time it has changed its clusters are gone over to. `changed` hears of it.
    pub(super) fn follow(owner: &Arc<super::Gateway>, file: PathBuf, changed: impl Fn(&Config) + Send + 'static) -> anyhow::Result<()> {
        let weak = Arc::downgrade(owner);
        std::thread::Builder::new().name("clusters".into()).spawn(move || {
            let (mut seen, mut tried) = (std::fs::read(&file).ok(), Instant::now());
            while let Some(gateway) = weak.upgrade() {
                let this = &gateway.clusters;
                let (text, table) = (std::fs::read(&file).ok(), this.now());
                let is_other = text != seen;
                let renewed = table.listed.iter().any(|listed| credential(&listed.member) != listed.credential);
                let again = tried.elapsed() >= AGAIN && table.listed.iter().any(|listed| listed.cluster.is_err());
                if is_other {
                    match Config::load(&file) {
                        Ok(config) => {
                            warn_of_rest(&this.shared.config, &config);
                            this.take_over(config.members());
                            changed(&config);
                        }
                        Err(error) => tracing::error!(
                            error = format!("{error:#}"),
                            "the configuration was changed and cannot be read; the clusters stay as they are"
                        ),
                    }
                    seen = text;
                } else if renewed || again {
                    this.take_over(table.listed.iter().map(|listed| listed.member.clone()).collect());
                }
                if is_other || again {
                    tried = Instant::now();
                }
                drop((table, gateway));
                std::thread::sleep(LOOK);
            }
        })?;
        Ok(())
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// What a cluster's kubeconfig is at this moment.
fn credential(member: &Member) -> String {
    member.cluster.kubeconfig.as_ref().and_then(|file| std::fs::read(file).ok()).map(|text| sha256(&text)).unwrap_or_default()
}

/// Says so where something else was changed: it takes effect at the next start.
fn warn_of_rest(one: &Config, other: &Config) {
    let rest = |config: &Config| format!("{:?}", Config { clusters: Some(Vec::new()), ..config.clone() });
    if rest(one) != rest(other) {
        tracing::warn!("the configuration was changed beyond its clusters; the rest takes effect at the next start");
    }
}
