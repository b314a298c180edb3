//! Looks at a configuration.

mod online;

use std::fs::DirBuilder;
use std::net::ToSocketAddrs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;

use super::place::Configured;
use super::terminal::{self, say};
use crate::config::Config;
use crate::forward::{Access, Upstream};
use crate::identify::Identifier;
use crate::listen::{Ca, Certificates};
use crate::record::witness;
use crate::rehearse::Stage;
use crate::store::{DataDirectory, Objects};
use crate::telemetry;

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Says whether `serve` would take a configuration: its files, keys, issuers and policies are read too.
    Check {
        /// The file; what POSTERN_CONFIG names, or the usual one, where none is given.
        file: Option<PathBuf>,
        /// The same, as other commands take it.
        #[arg(long, conflicts_with = "file", value_name = "FILE")]
        config: Option<PathBuf>,
        /// Asks the API servers, issuers and the object store that it names too, with the gateway's credentials.
        #[arg(long)]
        online: bool,
    },
    /// Prints the JSON Schema of the configuration.
    Schema,
}

impl ConfigCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Check { file, config, online } => {
                let file = Configured::named(file.or(config)).file()?;
                check(&file)?;
                let config = Config::load(&file)?;
                who_gets_in(&config);
                if online {
                    online::check(&config)?;
                }
                say!("{} is valid", file.display());
            }
            Self::Schema => terminal::out(&Config::schema()),
        }
        Ok(())
    }
}

/// Says so where a gateway of this configuration lets nobody in, or refuses everybody it does: that is no error, and hardly what is meant.
fn who_gets_in(config: &Config) {
    if config.authentication.jwt.is_empty() && config.authentication.client_ca_file.is_none() {
        eprintln!("warning: nobody gets in: authentication has neither an issuer (jwt) nor clientCaFile");
    }
    for member in config.members().iter().filter(|member| member.access.is_empty()) {
        let of = if member.is_alone { String::new() } else { format!("clusters: {}: ", member.cluster.name) };
        eprintln!("warning: {of}access has no rule, so that every caller is refused with 403");
    }
}

/// All that `serve` does before it listens, but for the data directory: that may be a running gateway's, and is not touched.
fn check(file: &Path) -> anyhow::Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = Config::load(file)?;
    can_be_made(&config.data_directory).context("dataDirectory")?;
    let members = config.members();
    let mut cluster_ca = Vec::new();
    for member in &members {
        let at = || if member.is_alone { "cluster".to_owned() } else { format!("clusters: {}", member.cluster.name) };
        let access = Access::load(&member.cluster).with_context(at)?;
        if member.is_alone {
            cluster_ca = access.ca.clone();
        }
        Upstream::new(access, &member.cluster.service_account_issuers, &config.limits, std::sync::Arc::default()).with_context(at)?;
    }
    Identifier::new(&config.authentication, &cluster_ca)?;
    if let Some(store) = &config.sessions.object_store {
        Objects::open(store)?;
    }
    if let Some(config) = &config.telemetry {
        telemetry::check(config)?;
    }
    witness::check(&config.audit.witness)?;
    let scratch = Scratch(std::env::temp_dir().join(format!("postern-check-{}-{}", std::process::id(), crate::clock::now())));
    // Made here, and by nobody before: a link would lead elsewhere.
    DirBuilder::new().mode(0o700).create(&scratch.0).with_context(|| scratch.0.display().to_string())?;
    let _held = DataDirectory::open(&scratch.0)?;
    Certificates::load(&config.listen, &[], &Ca::open(&scratch.0)?)?;
    config.listen.address.to_socket_addrs().with_context(|| format!("listen.address {}", config.listen.address))?;
    let own = members
        .iter()
        .filter(|member| member.has_own_policies)
        .map(|member| (format!("clusters: {}: ", member.cluster.name), &member.policies));
    let shared = config.policies.directory.as_ref().map(|_| (String::new(), &config.policies));
    for (at, policies) in shared.into_iter().chain(own) {
        let set = Stage::with(policies)?.directory(policies, &scratch.0, true).with_context(|| format!("{at}policies"))?.current();
        if !set.missing.is_empty() {
            bail!(
                "{at}policies.required: {} is not in force, so that nothing would pass; put it into the directory",
                set.missing.join(", ")
            );
        }
    }
    Ok(())
}

/// Whether a directory is there, or can be made; it is not touched.
fn can_be_made(directory: &Path) -> anyhow::Result<()> {
    let is_there = |place: &&Path| place.symlink_metadata().is_ok();
    let there = directory.ancestors().map(|place| if place.as_os_str().is_empty() { Path::new(".") } else { place }).find(is_there);
    let there = there.unwrap_or(Path::new("."));
    if !there.is_dir() {
        bail!("{} cannot be made: {} is no directory", directory.display(), there.display());
    }
    let may = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(there, may).map_err(std::io::Error::from).with_context(|| format!("cannot write into {}", there.display()))
}

/// A directory for what a gateway would keep.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
