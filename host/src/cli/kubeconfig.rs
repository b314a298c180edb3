//! `postern kubeconfig`: what a caller reaches the gateway with.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::{Value, json};

use super::place::Configured;
use crate::cli::terminal::out;
use crate::config::Config;

/// Writes a kubeconfig for a caller of the gateway. The credential itself is named, not copied: it stays in its own file.
#[derive(Args)]
#[command(after_help = "Examples:
  postern kubeconfig --token-file ci.token > ci.kubeconfig
  postern kubeconfig --server https://postern.example.com --client-certificate ann.crt --client-key ann.key")]
pub struct Kubeconfig {
    #[command(flatten)]
    configured: Configured,
    /// Which of several clusters.
    #[arg(long)]
    cluster: Option<String>,
    /// The address callers reach the gateway at, where it is another than it listens at.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The CA of the gateway's certificate, where it is not the gateway's own.
    #[arg(long, value_name = "FILE")]
    certificate_authority: Option<PathBuf>,
    /// The file with the caller's token.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["client_certificate", "client_key"])]
    token_file: Option<PathBuf>,
    /// The file with the caller's certificate.
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_certificate: Option<PathBuf>,
    /// The file with its key.
    #[arg(long, value_name = "FILE", requires = "client_certificate")]
    client_key: Option<PathBuf>,
}

impl Kubeconfig {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let file = self.configured.file()?;
        let config = Config::load(&file)?;
        let members = config.members();
        let member = match (&self.cluster, members.as_slice()) {
            (Some(name), all) => all.iter().find(|member| member.cluster.name == *name).with_context(|| {
                format!("{} has no cluster {name}; it has {}", file.display(), names(all.iter().map(|member| member.cluster.name.as_str())))
            })?,
            (None, [one]) => one,
            (None, all) => bail!("say which with --cluster: {}", names(all.iter().map(|member| member.cluster.name.as_str()))),
        };
        let server = match (&self.server, member.hosts.first()) {
            (Some(server), _) if !server.starts_with("https://") => {
                bail!("--server: write the whole address, for example https://{server}")
            }
            (Some(server), _) => server.trim_end_matches('/').to_owned(),
            (None, Some(host)) => format!("https://{host}:{}", port(&config)?),
            (None, None) => reachable(&config)?,
        };
        let server = format!("{server}{}", member.path_prefix.as_deref().unwrap_or_default());
        // With a certificate of somebody else's CA callers know that CA, or are told of it.
        let ca = match (&self.certificate_authority, &config.listen.certificate_file) {
            (Some(file), _) => Some(STANDARD.encode(std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?)),
            (None, None) => {
                let ca = config.data_directory.join("ca.crt");
                let pem = std::fs::read(&ca)
                    .with_context(|| format!("cannot read {}: the gateway makes it when it starts first", ca.display()))?;
                Some(STANDARD.encode(pem))
            }
            (None, Some(_)) => {
                eprintln!("callers must trust the CA of the gateway's certificate already; --certificate-authority FILE puts it in");
                None
            }
        };
        let mut cluster = json!({"server": server});
        if let Some(ca) = ca {
            cluster["certificate-authority-data"] = ca.into();
        }
        let name = if member.is_alone { "postern" } else { &member.cluster.name };
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": name,
            "clusters": [{"name": name, "cluster": cluster}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": "caller"}}],
            "users": [{"name": "caller", "user": self.user()?}],
        });
        out(&serde_saphyr::to_string(&kubeconfig)?);
        Ok(())
    }

    fn user(&self) -> anyhow::Result<Value> {
        let absolute = |file: &Path| -> anyhow::Result<String> {
            anyhow::ensure!(file.is_file(), "there is no file {}", file.display());
            Ok(std::path::absolute(file)?.display().to_string())
        };
        Ok(match (&self.token_file, &self.client_certificate, &self.client_key) {
            (Some(token), ..) => json!({"tokenFile": absolute(token)?}),
            (None, Some(certificate), Some(key)) => json!({"client-certificate": absolute(certificate)?, "client-key": absolute(key)?}),
            _ => bail!("name the caller's credential: --token-file FILE, or --client-certificate FILE and --client-key FILE"),
        })
    }
}

fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    all.collect::<Vec<_>>().join(", ")
}

fn port(config: &Config) -> anyhow::Result<u16> {
    let port = config.listen.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).filter(|port| *port != 0);
    port.with_context(|| format!("listen.address {} says no port that callers could reach: give --server", config.listen.address))
}

/// The address that a gateway listens at, where callers can be sent there.
fn reachable(config: &Config) -> anyhow::Result<String> {
    let (host, port) = (config.listen.address.rsplit_once(':').map_or("", |(host, _)| host), port(config)?);
    if matches!(host, "0.0.0.0" | "[::]" | "") {
        let name = config.listen.names.first();
        return Ok(format!(
            "https://{}:{port}",
            name.context("the gateway listens at all addresses: say by which callers reach it, with --server")?
        ));
    }
    Ok(format!("https://{host}:{port}"))
}
