//! `postern serve`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine;
use clap::Args;
use http::StatusCode;
use serde_json::json;
use tokio::sync::watch;

use crate::approve::{Approvals, SqliteTickets};
use crate::cli::terminal::say;
use crate::clock::now;
use crate::config::Config;
use crate::drain::Drain;
use crate::files;
use crate::forward::{Access, As, LARGEST_ANSWER, Question, Upstream};
use crate::gateway::{Gateway, KnownValues};
use crate::identify::{CertificateCa, Identifier};
use crate::listen::{Ca, Certificates, Listener, Serving};
use crate::mask::{Plans, TokenKey};
use crate::metrics::Metrics;
use crate::operations::Operations;
use crate::policy::report::Report;
use crate::policy::{Cache, Counters, Directory, PolicySet, Runtime, SqliteCounters};
use crate::record::session::Sessions;
use crate::record::session::index::SqliteIndex;
use crate::record::session::spool::Uploader;
use crate::record::{AuditLog, Event, Strangers};
use crate::slots::Slots;
use crate::store::{DataDirectory, Database, Objects};
use crate::words::Stage;

/// How long recordings may go on to the object store once everything else has ended.
const LAST_SENDING: Duration = Duration::from_secs(10);

/// Serves until SIGTERM.
#[derive(Args)]
pub struct Serve {
    /// The configuration.
    #[arg(long, conflicts_with = "kubeconfig")]
    config: Option<PathBuf>,
    /// Serves the cluster of a kubeconfig for yourself, without a configuration.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Where the gateway keeps its data, without a configuration.
    #[arg(long, requires = "kubeconfig")]
    data_directory: Option<PathBuf>,
    /// Policies, without a configuration.
    #[arg(long, requires = "kubeconfig")]
    policies: Option<PathBuf>,
    /// Address and port, without a configuration.
    #[arg(long, requires = "kubeconfig", default_value = "127.0.0.1:8443")]
    listen: String,
    /// Writes the address served to a file once it is bound.
    #[arg(long)]
    address_file: Option<PathBuf>,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<()> {
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .map_err(|_| anyhow::anyhow!("another TLS provider is installed"))?;
        let (config, personal) = match (&self.config, &self.kubeconfig) {
            (Some(file), None) => (Config::load(file)?, false),
            (None, Some(kubeconfig)) => (self.personal(kubeconfig)?, true),
            _ => bail!("give --config FILE, or --kubeconfig FILE to serve a cluster for yourself"),
        };
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(serve(
            config,
            personal,
            self.address_file,
        ))
    }

    fn personal(&self, kubeconfig: &Path) -> anyhow::Result<Config> {
        let data = match &self.data_directory {
            Some(directory) => directory.clone(),
            None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set; give --data-directory")?).join(".local/share/postern"),
        };
        let quoted = |path: &Path| serde_json::to_string(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
        let policies = match &self.policies {
            Some(directory) => format!("policies: {{directory: {}}}\n", quoted(directory)?),
            None => String::new(),
        };
        Config::parse(&format!(
            "listen: {{address: {}}}\ncluster: {{kubeconfig: {}}}\naccess: [{{as: {{gateway: {{}}}}}}]\ndataDirectory: {}\n{policies}",
            serde_json::to_string(&self.listen)?,
            quoted(kubeconfig)?,
            quoted(&data)?
        ))
    }
}

async fn serve(config: Config, personal: bool, address_file: Option<PathBuf>) -> anyhow::Result<()> {
    let data = config.data_directory.clone();
    let _data = DataDirectory::open(&data)?;
    let _recordings = match config.sessions_directory() {
        within if within.starts_with(&data) => None,
        elsewhere => Some(DataDirectory::open(&elsewhere)?),
    };
    let ca = Ca::open(&data)?;
    let metrics = if config.operations.is_some() { Metrics::counting() } else { Arc::default() };
    let access = Access::load(&config.cluster)?;
    let upstream = Upstream::new(access, &config.cluster.service_account_issuers, &config.limits, Arc::clone(&metrics))?;
    let mut identifier = Identifier::new(&config.authentication, upstream.ca())?;
    if personal {
        identifier = identifier.with_client_ca(CertificateCa::from_pem(ca.pem().as_bytes())?)?;
    }
    let database = Database::open(&data.join("postern.db"))?;
    let approvals = Approvals::new(SqliteTickets::new(&database)?, &config.cluster.name, &config.approvals);
    let largest = config.sessions.largest_recording.0 as u64;
    let (stop_sending, stopped_sending) = watch::channel(false);
    let uploader = match &config.sessions.object_store {
        Some(store) => Some(Uploader::new(config.sessions_directory(), Objects::open(store)?, store.largest_spool.0 as u64)),
        None => None,
    };
    let spool = uploader.as_ref().map(Uploader::spool);
    let sessions = Sessions::open(&config.sessions_directory(), &data, SqliteIndex::new(&database)?, largest, spool)?;
    let sending = uploader.map(|uploader| tokio::spawn(uploader.run(stopped_sending)));
    let audit = AuditLog::open(&config.audit_file(), config.audit.rotation(), Some(sessions.clone()), Arc::clone(&metrics))?;
    let policies = match &config.policies.directory {
        Some(_) => {
            let counters = Counters::open(SqliteCounters::new(&database)?, now()).await?;
            let runtime = Runtime::start(config.policies.memory.0, counters)?;
            Some(Directory::open(runtime, Cache::open(&data)?, &config.policies, &data, Some(Report::file(&data)))?)
        }
        None => None,
    };
    let _watching = match &policies {
        Some(policies) => {
            policies.warn_of_missing();
            tell_policies(&audit, &policies.current());
            let audit = audit.clone();
            policies.watch(move |set| tell_policies(&audit, set))?
        }
        None => None,
    };
    let certificates = Certificates::load(&config.listen, &ca)?;
    let listener = Listener::bind(&config.listen.address, certificates).await?;
    let address = listener.address()?;
    let operations = match &config.operations {
        Some(operations) => Some(Operations::bind(&operations.address).await?),
        None => None,
    };
    tokio::spawn(Arc::clone(&identifier).keep_fresh());
    let plans = Arc::new(Plans::new(TokenKey::new(&files::secret(&data.join("token.key"))?)));
    let strangers = Arc::new(Strangers::default());
    let (drain, serving) = (Drain::default(), serving(&config));
    let gateway = Arc::new(Gateway {
        config,
        identifier,
        upstream,
        policies: policies.clone(),
        approvals,
        audit,
        metrics,
        strangers: Arc::clone(&strangers),
        plans,
        drain: drain.clone(),
        sessions: Some(sessions.clone()),
        open_streams: Slots::new(usize::MAX),
        requests: Slots::new(usize::MAX),
        watches: Slots::new(usize::MAX),
        rights: Arc::default(),
        known: KnownValues::default(),
    });

    if let Some(file) = address_file {
        files::write(&file, address.to_string().as_bytes())?;
    }
    say!("postern serves https://{address}");
    if let Some(operations) = operations {
        say!("metrics and health are at http://{}", operations.address());
        operations.serve(Arc::clone(&gateway))?;
    }
    tell_of_upstream(Arc::clone(&gateway.upstream), gateway.audit.clone())?;
    if personal {
        let file = data.join("kubeconfig");
        files::write_private(&file, kubeconfig(&ca, &address.to_string())?.as_bytes())?;
        say!("try it: kubectl --kubeconfig {} get pods", file.display());
    }
    let (stop, stopped) = watch::channel(false);
    let beginning = drain.clone();
    tokio::spawn(async move {
        let terminate = async {
            match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
                Ok(mut signal) => drop(signal.recv().await),
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            () = terminate => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        tracing::info!("draining");
        beginning.begin();
        let _ = stop.send(true);
    });
    let audit = gateway.audit.clone();
    let telling = tokio::spawn({
        let (audit, strangers) = (audit.clone(), Arc::clone(&strangers));
        async move { audit.tell_of(&strangers).await }
    });
    let served = listener.serve(gateway, serving, drain, stopped).await;
    telling.abort();
    audit.tell(&strangers, true);
    audit.close().await;
    sessions.close().await;
    let _ = stop_sending.send(true);
    if let Some(sending) = sending {
        // What is not sent by then waits on the disk for the next start.
        let _ = tokio::time::timeout(LAST_SENDING, sending).await;
    }
    if let Some(policies) = policies {
        let counted = tokio::task::spawn_blocking({
            let policies = Arc::clone(&policies);
            move || policies.runtime().counters.write(now())
        });
        if let Err(error) = counted.await.map_err(Into::into).flatten() {
            tracing::error!(error = format!("{error:#}"), "what policies counted last could not be written down");
        }
        policies.retire();
    }
    served
}

fn serving(config: &Config) -> Serving {
    Serving { threads: config.listen.threads, drain: config.listen.drain.duration(), limits: config.limits.clone() }
}

/// Records what is in force, by name and digest, and what should be and is not.
fn tell_policies(audit: &AuditLog, set: &PolicySet) {
    let mut event = Event::default();
    let in_force: Vec<_> =
        set.policies.iter().map(|policy| json!({"name": policy.name, "digest": policy.digest, "mode": policy.mode})).collect();
    event.set("inForce", in_force);
    if !set.broken.is_empty() {
        event.set("notLoaded", &set.broken);
    }
    if !set.missing.is_empty() {
        event.set("missing", &set.missing);
    }
    if !set.gone.is_empty() {
        event.set("gone", &set.gone);
    }
    audit.record(&event, Stage::Policies);
}

/// Says, and records, that the API server cannot be reached when the gateway starts: nothing passes until it can.
fn tell_of_upstream(upstream: Arc<Upstream>, audit: AuditLog) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Connections stay on the thread that opened them.
    std::thread::Builder::new().name("upstream".into()).spawn(move || {
        tokio::task::LocalSet::new().block_on(&runtime, look_at_upstream(&upstream, &audit));
    })?;
    Ok(())
}

async fn look_at_upstream(upstream: &Upstream, audit: &AuditLog) {
    let asked = upstream.read(&As::Gateway, Question::Get("/version"), LARGEST_ANSWER).await;
    let why = match asked {
        Ok((status, _)) if status != StatusCode::UNAUTHORIZED => return,
        Ok(_) => "it does not take the gateway's credential (401)".to_owned(),
        Err(refusal) => refusal.message,
    };
    tracing::error!(%why, "the API server cannot be asked: nothing passes until it can");
    let mut event = Event::default();
    event.set("apiServer", why);
    audit.record(&event, Stage::Unreachable);
}

fn kubeconfig(ca: &Ca, address: &str) -> anyhow::Result<String> {
    let username = std::env::var("USER").ok().filter(|u| !u.is_empty()).unwrap_or_else(|| "me".into());
    let (certificate, key) = ca.client(&username)?;
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    Ok(format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: postern\nclusters:\n- name: postern\n  cluster:\n    server: https://{address}\n    certificate-authority-data: {}\ncontexts:\n- name: postern\n  context: {{cluster: postern, user: me}}\nusers:\n- name: me\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
        base64(ca.pem()),
        base64(&certificate),
        base64(&key)
    ))
}
