//! Where a gateway's things are, as every command is told it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::config::Config;

/// Where a configuration is as a rule.
const USUAL: &str = "/etc/postern/postern.yaml";

/// Where a gateway's things are: what its configuration says, or a data directory alone.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Place {
    /// The gateway's configuration; what POSTERN_CONFIG names, or `/etc/postern/postern.yaml` where that is there, where nothing else is said.
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "data_directory")]
    pub(super) config: Option<PathBuf>,
    /// The gateway's data directory, instead of a configuration.
    #[arg(long, global = true, value_name = "DIRECTORY")]
    pub(super) data_directory: Option<PathBuf>,
}

impl Place {
    /// The configuration that is meant; none where a data directory is, or nothing.
    pub(super) fn config(&self) -> Option<PathBuf> {
        if self.data_directory.is_some() {
            return None;
        }
        self.config.clone().or_else(unsaid)
    }

    /// The public key of the gateway, where it is known where that keeps its data.
    pub(super) fn session_key(&self) -> anyhow::Result<Option<PathBuf>> {
        let data = match (&self.data_directory, self.config()) {
            (Some(data), _) => Some(data.clone()),
            (None, Some(config)) => Some(Config::load(&config)?.data_directory),
            (None, None) => None,
        };
        Ok(data.map(|data| data.join("session.pub")).filter(|key| key.exists()))
    }

    /// The file of the witness that a configuration names, as far as it can be read here.
    pub(super) fn witness(&self) -> anyhow::Result<Vec<PathBuf>> {
        let Some(config) = self.config() else { return Ok(Vec::new()) };
        Ok(Config::load(&config)?.audit.witness.file.into_iter().filter(|file| file.exists()).collect())
    }

    /// The audit log: the file that is named, or the one of what is.
    pub(super) fn audit_file(&self, file: Option<PathBuf>) -> anyhow::Result<PathBuf> {
        const NAME: &str = "audit.jsonl";
        match (file, &self.data_directory, self.config()) {
            (Some(file), ..) => Ok(file),
            (None, Some(data), _) => Ok(data.join(NAME)),
            (None, None, Some(config)) => Ok(Config::load(&config)?.audit_file()),
            (None, None, None) => Some(PathBuf::from(NAME)).filter(|here| Path::new(here).exists()).context(
                "say where the audit log is: --config FILE of the gateway (or POSTERN_CONFIG), --data-directory DIRECTORY, or --file FILE",
            ),
        }
    }
}

/// The configuration where the command line names none. What is said there goes before it.
fn unsaid() -> Option<PathBuf> {
    of_environment().or_else(|| Some(PathBuf::from(USUAL)).filter(|usual| usual.exists()))
}

/// The configuration that the environment names.
pub(super) fn of_environment() -> Option<PathBuf> {
    std::env::var_os("POSTERN_CONFIG").filter(|named| !named.is_empty()).map(PathBuf::from)
}

/// A gateway's configuration.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Configured {
    /// The gateway's configuration; what POSTERN_CONFIG names, or `/etc/postern/postern.yaml` where that is there, where none is named.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Configured {
    /// The one that is named, where one is.
    pub(super) fn named(config: Option<PathBuf>) -> Self {
        Self { config }
    }

    /// The file that is named, or the usual one where it is there.
    pub(super) fn found(&self) -> Option<PathBuf> {
        Place { config: self.config.clone(), data_directory: None }.config()
    }

    /// The same, where nothing can be done without.
    pub(super) fn file(&self) -> anyhow::Result<PathBuf> {
        self.found().context("say which gateway's: --config FILE, or POSTERN_CONFIG")
    }
}
