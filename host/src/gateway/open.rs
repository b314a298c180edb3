//! The gateway is put together from its configuration, and taken apart when it ends.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::StatusCode;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::Gateway;
use super::cluster::{Cluster, Shared, Watching, watched};
use super::clusters::Clusters;
use super::follow::{self, Again, Source};
use crate::api::Sources;
use crate::approve::{Approvals, SqliteTickets};
use crate::clock::now;
use crate::config::Config;
use crate::drain::Drain;
use crate::files;
use crate::forward::{Access, As, LARGEST_ANSWER, Question};
use crate::identify::{CertificateCa, Identifier};
use crate::listen::Ca;
use crate::metrics::Metrics;
use crate::policy::{Counters, Runtime, SqliteCounters};
use crate::record::session::Sessions;
use crate::record::session::index::SqliteIndex;
use crate::record::session::library::Library;
use crate::record::session::recent::RecentBodies;
use crate::record::session::seal::SigningKey;
use crate::record::session::shelf::Shelf;
use crate::record::session::spool::Uploader;
use crate::record::session::untold::untold;
use crate::record::{AuditLog, Event, Inbox, Opening, Strangers};
use crate::slots::Slots;
use crate::store::{DataDirectory, Database, Objects};
use crate::telemetry::{Telemetry, recent};
use crate::words::Stage;

/// How long recordings may go on to the object store once everything else has ended.
const LAST_SENDING: Duration = Duration::from_secs(10);

/// What a gateway holds for as long as it lives.
pub(super) struct Kept {
    /// Nobody else's directories.
    _directories: Vec<DataDirectory>,
    /// Follows the policies that all clusters share.
    _watching: Option<Watching>,
    /// Sends traces and the log.
    pub(super) telemetry: Option<Arc<Telemetry>>,
    /// Stops sending recordings on, and what sends them.
    sending: std::sync::Mutex<Option<(watch::Sender<bool>, JoinHandle<()>)>>,
}

impl Gateway {
    /// Opens all that the configuration names. One that was read from nowhere serves a cluster for one person, and lets in client certificates of its own CA.
    pub async fn open(config: Config, source: Option<&Source>) -> anyhow::Result<Arc<Self>> {
        let mut log = None;
        let opened = Self::put_together(config, source, &mut log).await;
        if let (Err(_), Some(log)) = (&opened, log) {
            // Of a gateway that does not start its log says that it stopped.
            log.close().await;
        }
        opened
    }

    /// Opens all; the log is given as soon as it is open.
    async fn put_together(config: Config, source: Option<&Source>, log: &mut Option<AuditLog>) -> anyhow::Result<Arc<Self>> {
        let data = config.data_directory.clone();
        let mut directories = vec![DataDirectory::open(&data)?];
        recent::begin(&data).context("the gateway's own log")?;
        if !config.sessions_directory().starts_with(&data) {
            directories.push(DataDirectory::open(&config.sessions_directory())?);
        }
        // Issuers without a CA of their own are checked against that of the cluster, where there is one.
        let access = config.cluster.as_ref().map(Access::load).transpose()?;
        let cluster_ca = access.as_ref().map(|access| access.ca.as_slice()).unwrap_or_default();
        let mut identifier = Identifier::new(&config.authentication, cluster_ca)?;
        if source.is_none() {
            identifier = identifier.with_client_ca(CertificateCa::from_pem(Ca::open(&data)?.pem().as_bytes())?)?;
        }
        let metrics = if config.operations.is_some() { Metrics::counting() } else { Arc::default() };
        let database = Database::open(&data.join("postern.db"))?;
        let approvals = Approvals::new(SqliteTickets::new(&database)?, &config.approvals);
        let (stop_sending, stopped_sending) = watch::channel(false);
        let uploader = match &config.sessions.object_store {
            Some(store) => Some(Uploader::new(config.sessions_directory(), Objects::open(store)?, store.largest_spool.0 as u64)),
            None => None,
        };
        let spool = uploader.as_ref().map(Uploader::spool);
        let largest = config.sessions.largest_recording.0 as u64;
        let inbox = Inbox::default();
        let sessions = Sessions::open(&config.sessions_directory(), &data, SqliteIndex::new(&database)?, largest, spool, &inbox)?;
        let sending = uploader.map(|uploader| (stop_sending, tokio::spawn(uploader.run(stopped_sending))));
        let telemetry = config.telemetry.as_ref().map(Telemetry::open).transpose()?.map(Arc::new);
        let tracer = telemetry.as_ref().map(|telemetry| telemetry.tracer()).unwrap_or_default();
        let key = SigningKey::open(&data)?;
        let mut started = Event::default();
        if let Some(source) = source {
            started.set("configuration", source.told());
        }
        started.set("keys", follow::keys(&config));
        let last_written = std::fs::metadata(config.audit_file()).and_then(|about| about.modified());
        let public = key.public().to_owned();
        let audit = AuditLog::open(
            &config.audit_file(),
            &config.audit,
            Opening { inbox, key, sessions: Some(sessions.clone()), metrics: Arc::clone(&metrics), tracer, started },
        )?;
        *log = Some(audit.clone());
        if let Ok(last_written) = last_written {
            let untold = untold(&config.sessions_directory(), &public, &config.audit_file(), last_written);
            untold.context("the audit log cannot be read")?.iter().for_each(|sealed| audit.recorded(sealed));
        }
        // A cluster with policies of its own may be added later.
        let runtime = match config.policies.directory.is_some() || config.clusters.is_some() {
            true => {
                let alone = config.cluster.as_ref().map(|cluster| cluster.name.as_str());
                let counters = Counters::open(SqliteCounters::new(&database)?, alone, now()).await?;
                Some(Runtime::start(config.policies.memory.0, counters)?)
            }
            false => None,
        };
        let (policies, watching) = match (&config.policies.directory, &runtime) {
            (Some(_), Some(runtime)) => {
                let (policies, watching) = watched(runtime, &config.policies, &data, &audit, None)?;
                (Some(policies), watching)
            }
            _ => (None, None),
        };
        tokio::spawn(Arc::clone(&identifier).keep_fresh());
        let (config, drain) = (Arc::new(config), Drain::default());
        let recent_bodies = Arc::new(RecentBodies::new(config.sessions.recent_bodies.0));
        let shared = Shared {
            metrics: Arc::clone(&metrics),
            config: Arc::clone(&config),
            identifier: Arc::clone(&identifier),
            approvals: Arc::clone(&approvals),
            audit: audit.clone(),
            drain: drain.clone(),
            sessions: sessions.clone(),
            recent_bodies: Arc::clone(&recent_bodies),
            counts: config.operations.is_some(),
            runtime,
            policies,
            token_key: Zeroizing::new(files::secret(&data.join("token.key"))?),
        };
        let clusters = Clusters::open(shared, access)?;
        // What a caller has under way in the only cluster and at the gateway itself is counted together.
        let alone = clusters.now().alone().and_then(|alone| Some(Arc::clone(&alone.cluster().ok()?.requests)));
        let requests = alone.unwrap_or_else(|| Slots::new(usize::MAX));
        let objects = config.sessions.object_store.as_ref().map(Objects::open).transpose()?;
        let library = Library::new(SqliteIndex::new(&database)?, Shelf::new(config.sessions_directory(), objects)?);
        let session_key = std::fs::read_to_string(data.join("session.pub")).context("session.pub")?;
        let sources = Sources::new(approvals, library, recent_bodies, session_key, config.auditors.clone());
        let kept = Kept { _directories: directories, _watching: watching, telemetry, sending: std::sync::Mutex::new(sending) };
        Ok(Arc::new(Self {
            config,
            identifier,
            sources,
            audit,
            metrics,
            strangers: Strangers::default(),
            drain,
            sessions,
            requests,
            clusters,
            kept,
        }))
    }

    /// Follows the configuration that the gateway was opened with: clusters are added, changed and taken out as it says, and what else it says is told of. `changed` hears of
    /// every other that has several.
    pub fn follow(self: &Arc<Self>, source: Source, changed: impl Fn(&Config) + Send + 'static) -> anyhow::Result<Again> {
        follow::follow(self, source, changed)
    }

    /// Tells of failed logins that were no events of their own, for as long as this runs.
    pub async fn tell_of_strangers(&self) {
        self.audit.tell_of(&self.strangers).await;
    }

    /// Says, and records, which API servers cannot be reached when the gateway starts: nothing passes to them until they can.
    pub fn tell_of_upstreams(self: &Arc<Self>) -> anyhow::Result<()> {
        let this = Arc::clone(self);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Connections stay on the thread that opened them.
        std::thread::Builder::new().name("upstream".into()).spawn(move || {
            let local = tokio::task::LocalSet::new();
            for cluster in this.clusters().ready() {
                local.spawn_local(look_at(Arc::clone(cluster)));
            }
            runtime.block_on(local);
        })?;
        Ok(())
    }

    /// Ends: all that was recorded and counted is written down. Nothing may be asked of it any more.
    pub async fn close(&self) {
        self.audit.tell(&self.strangers, true);
        // Recordings are sealed with the last calls in them, and what is sealed is in the log.
        self.audit.settle().await;
        self.sessions.close().await;
        self.audit.close().await;
        let sending = self.kept.sending.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some((stop, sending)) = sending {
            let _ = stop.send(true);
            // What is not sent by then waits on the disk for the next start.
            let _ = tokio::time::timeout(LAST_SENDING, sending).await;
        }
        let shared = self.clusters.shared();
        if let Some(runtime) = shared.runtime.clone() {
            let counted = tokio::task::spawn_blocking(move || runtime.counters.write(now()));
            if let Err(error) = counted.await.map_err(Into::into).flatten() {
                tracing::error!(error = format!("{error:#}"), "what policies counted last could not be written down");
            }
        }
        if let Some(policies) = &shared.policies {
            policies.retire();
        }
        self.clusters().ready().for_each(|cluster| cluster.retire());
        if let Some(telemetry) = self.kept.telemetry.clone() {
            // What ended last is sent, as long as that takes no more than some seconds.
            let _ = tokio::task::spawn_blocking(move || telemetry.close()).await;
        }
        let _ = tokio::task::spawn_blocking(recent::flush).await;
    }
}

async fn look_at(cluster: Arc<Cluster>) {
    let asked = cluster.upstream().read(&As::Gateway, Question::Get("/version"), LARGEST_ANSWER).await;
    let why = match asked {
        Ok((status, _)) if status != StatusCode::UNAUTHORIZED => return,
        Ok(_) => "it does not take the gateway's credential (401)".to_owned(),
        Err(refusal) => refusal.message,
    };
    tracing::error!(cluster = cluster.name(), %why, "the API server cannot be asked: nothing passes until it can");
    let mut event = Event::default();
    event.set("cluster", cluster.name()).set("apiServer", why);
    cluster.audit().record(&event, Stage::Unreachable);
}
