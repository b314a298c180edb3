//! `postern policy`.

use std::path::PathBuf;

use clap::Subcommand;

use crate::config::{Config, Policies};
use crate::policy::{Cache, Directory, Runtime};

/// Looks at policies.
#[derive(Subcommand)]
pub enum PolicyCommand {
    /// Lists the policies of a configuration's directory as they would load now.
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
        let scratch = std::env::temp_dir().join(format!("postern-check-{}", std::process::id()));
        let (policies, data) = match self {
            Self::List { config } => {
                let config = Config::load(&config)?;
                (config.policies, config.data_directory)
            }
            Self::Check { directory } => (Policies { directory: Some(directory), ..Policies::default() }, scratch.clone()),
        };
        std::fs::create_dir_all(&data)?;
        let result = show(&policies, &data);
        let _ = std::fs::remove_dir_all(scratch);
        result
    }
}

fn show(policies: &Policies, data: &std::path::Path) -> anyhow::Result<()> {
    let directory = Directory::open(Runtime::start(policies.memory.0)?, Cache::open(data)?, policies)?;
    println!("{:<24} {:<9} {:<8} {:<12} SUMMARY", "NAME", "VERSION", "MODE", "DIGEST");
    for policy in &directory.current().policies {
        let mode = format!("{:?}", policy.mode).to_lowercase();
        println!("{:<24} {:<9} {mode:<8} {:<12.12} {}", policy.name, policy.manifest.version, policy.digest, policy.manifest.summary);
    }
    Ok(())
}
