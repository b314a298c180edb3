//! The command line.

use crate::cli::terminal::say;
mod approval;
mod audit;
mod policy;
mod serve;
mod session;
mod table;
pub mod terminal;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::Config;

/// A policy gateway in front of the Kubernetes API server.
#[derive(Parser)]
#[command(name = "postern", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves until SIGTERM.
    Serve(serve::Serve),
    /// Looks at a configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Looks at policies.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Lists and answers approvals.
    Approval(approval::Approval),
    /// Reads the audit log.
    Audit(audit::Audit),
    /// Lists, shows, replays, exports, searches and verifies recorded sessions.
    Session(session::Session),
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Says whether a configuration is valid.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Prints the JSON Schema of the configuration.
    Schema,
}

impl Cli {
    /// Does what the command line says.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Serve(serve) => serve.run(),
            Command::Config(ConfigCommand::Check { file }) => {
                Config::load(&file)?;
                say!("{} is valid", file.display());
                Ok(())
            }
            Command::Config(ConfigCommand::Schema) => {
                terminal::out(&Config::schema());
                Ok(())
            }
            Command::Policy(command) => command.run(),
            Command::Approval(approval) => approval.run(),
            Command::Audit(audit) => audit.run(),
            Command::Session(session) => session.run(),
        }
    }
}
