//! `postern serve`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use base64::Engine;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::cli::place::Configured;
use crate::cli::standing;
use crate::cli::terminal::say;
use crate::config::{self, Config, Listen};
use crate::files;
use crate::gateway::{Again, Gateway, Source};
use crate::listen::{Ca, Certificates, Listener, Serving};
use crate::operations::Operations;

/// Serves until SIGTERM.
#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    configured: Configured,
    /// Serves the cluster of a kubeconfig for yourself, without a configuration.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
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
        let (config, followed) = match (&self.kubeconfig, self.configured.found()) {
            (None, Some(file)) => {
                let source = Source::read(file)?;
                (source.config()?, Some(source))
            }
            (Some(kubeconfig), _) => (self.personal(kubeconfig)?, None),
            (None, None) => bail!("give --config FILE, or --kubeconfig FILE to serve a cluster for yourself"),
        };
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(serve(
            config,
            followed,
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

async fn serve(config: Config, followed: Option<Source>, address_file: Option<PathBuf>) -> anyhow::Result<()> {
    // From the first moment on: before it is heeded, a SIGHUP would end the process. Of one that serves a person in their terminal it does: that is closed.
    let hangup = followed.is_some().then(|| signal(SignalKind::hangup())).transpose().context("SIGHUP cannot be heeded")?;
    let (data, listen, operations) = (config.data_directory.clone(), config.listen.clone(), config.operations.clone());
    let (serving, hosts) = (serving(&config), hosts_of(&config));
    let gateway = Gateway::open(config, followed.as_ref()).await?;
    let places = Places { data, listen, operations, hosts, address_file };
    let served = serve_at(places, &gateway, followed, hangup, serving).await;
    // Where it could not begin, its log says that it ended all the same.
    gateway.close().await;
    served
}

/// Where a gateway serves.
struct Places {
    data: PathBuf,
    listen: Listen,
    operations: Option<config::Operations>,
    hosts: Vec<String>,
    address_file: Option<PathBuf>,
}

async fn serve_at(
    places: Places,
    gateway: &Arc<Gateway>,
    followed: Option<Source>,
    hangup: Option<Signal>,
    serving: Serving,
) -> anyhow::Result<()> {
    let Places { data, listen, operations, hosts, address_file } = places;
    let is_personal = followed.is_none();
    let ca = Ca::open(&data)?;
    let certificates = Certificates::load(&listen, &hosts, &ca)?;
    let listener = Listener::bind(&listen.address, Arc::clone(&certificates)).await?;
    let address = listener.address()?;
    let operations = match &operations {
        Some(operations) => Some(Operations::bind(&operations.address).await?),
        None => None,
    };
    if let Some(file) = address_file {
        files::write(&file, address.to_string().as_bytes())?;
    }
    standing::tell(gateway, &address.to_string(), followed.as_ref().map(|source| source.file.as_path()));
    if let Some(operations) = operations {
        say!("metrics and health are at http://{}", operations.address());
        operations.serve(Arc::clone(gateway))?;
    }
    gateway.tell_of_upstreams()?;
    if is_personal {
        let file = data.join("kubeconfig");
        files::write_private(&file, kubeconfig(&ca, &address.to_string())?.as_bytes())?;
        say!("try it: kubectl --kubeconfig {} get pods", file.display());
    }
    let again = match followed {
        Some(source) => {
            let ca = Ca::open(&data)?;
            let again = gateway.follow(source, move |config| {
                if let Err(error) = certificates.renew(&listen, &hosts_of(config), &ca) {
                    tracing::error!(error = format!("{error:#}"), "the serving certificate cannot be made for the clusters' new hosts");
                }
            })?;
            Some(again)
        }
        None => None,
    };
    if let (Some(hangup), Some(again)) = (hangup, again) {
        tokio::spawn(on_hangup(hangup, again));
    }
    let (stop, stopped) = watch::channel(false);
    let drain = gateway.drain().clone();
    let beginning = drain.clone();
    tokio::spawn(async move {
        let terminate = async {
            match signal(SignalKind::terminate()) {
                Ok(mut terminate) => drop(terminate.recv().await),
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
    let telling = tokio::spawn({
        let gateway = Arc::clone(gateway);
        async move { gateway.tell_of_strangers().await }
    });
    let served = listener.serve(Arc::clone(gateway), serving, drain, stopped).await;
    telling.abort();
    served
}

/// At SIGHUP the configuration is read again, as of other servers.
async fn on_hangup(mut hangup: Signal, again: Again) {
    while hangup.recv().await.is_some() {
        again.look();
    }
}

/// The hosts that clusters are reached by.
fn hosts_of(config: &Config) -> Vec<String> {
    config.members().into_iter().flat_map(|member| member.hosts).collect()
}

fn serving(config: &Config) -> Serving {
    Serving { threads: config.listen.threads, drain: config.listen.drain.duration(), limits: config.limits.clone() }
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
