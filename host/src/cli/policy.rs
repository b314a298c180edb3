//! `postern policy`.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Subcommand;

use super::table::{self, row};
use crate::config::{Config, Policies};
use crate::policy::report::{Line, Report};
use crate::policy::{Cache, Counters, Directory, Runtime};

/// Looks at policies.
#[derive(Subcommand)]
pub enum PolicyCommand {
    /// Lists the policies in force in the gateway of a configuration, and those that do not load.
    List {
        /// The configuration.
        #[arg(long)]
        config: PathBuf,
    },
    /// Loads a directory of policies as the gateway would, and says what is wrong with it.
    Check {
        /// The directory.
        directory: PathBuf,
    },
}

impl PolicyCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List { config } => list(&Config::load(&config)?),
            Self::Check { directory } => check(directory),
        }
    }
}

fn list(config: &Config) -> anyhow::Result<()> {
    let file = Report::file(&config.data_directory);
    let Some(report) = Report::read(&file)? else {
        bail!("{} is not there: the gateway of this configuration does not run, or has no policies.directory", file.display());
    };
    println!("as the gateway read its directory at {}", report.time);
    print(&report.policies);
    if let Some(missing) = report.missing.first() {
        println!("nothing passes: the required policy {missing} is missing or broken");
    }
    Ok(())
}

fn check(directory: PathBuf) -> anyhow::Result<()> {
    if !directory.is_dir() {
        bail!("{} is not a directory", directory.display());
    }
    let scratch = std::env::temp_dir().join(format!("postern-check-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let policies = Policies { directory: Some(directory), ..Policies::default() };
    let opened = open(&policies, &scratch);
    let _ = std::fs::remove_dir_all(scratch);
    print(&Report::of(&opened?.current()).policies);
    Ok(())
}

fn open(policies: &Policies, data: &Path) -> anyhow::Result<std::sync::Arc<Directory>> {
    Directory::open(Runtime::start(policies.memory.0, Counters::default())?, Cache::open(data)?, policies, None)
}

fn print(lines: &[Line]) {
    let mut rows = vec![row(["NAME", "STATE", "VERSION", "MODE", "ON-FAILURE", "DIGEST", "SUMMARY"])];
    for line in lines {
        let (mode, on_failure) = (format!("{:?}", line.mode).to_lowercase(), format!("{:?}", line.on_failure).to_lowercase());
        let digest = line.digest.get(..12).unwrap_or_default();
        let said = match &line.error {
            Some(error) => format!("does not load: {}", error.lines().next().unwrap_or_default()),
            None => line.summary.clone(),
        };
        rows.push(row([&line.name, line.state.name(), &line.version, &mode, &on_failure, digest, &said]));
    }
    table::print(&rows);
}
