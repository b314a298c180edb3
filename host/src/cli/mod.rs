//! The command line.

mod approval;
mod audit;
mod config;
mod data;
mod policy;
mod remote;
mod serve;
mod session;
mod support;
mod table;
pub mod terminal;

use clap::{Parser, Subcommand};

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
    Config(config::ConfigCommand),
    /// Looks at policies.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Lists and answers approvals.
    Approval(approval::Approval),
    /// Reads the audit log.
    Audit(audit::Audit),
    /// Lists, shows, replays, exports, searches and verifies recorded sessions.
    Session(session::Session),
    /// Sees to what a gateway keeps.
    #[command(subcommand)]
    Data(data::DataCommand),
    /// Gathers what somebody needs who is asked for help, without a secret in it.
    SupportBundle(support::SupportBundle),
}

impl Cli {
    /// Does what the command line says.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Serve(serve) => serve.run(),
            Command::Config(command) => command.run(),
            Command::Policy(command) => command.run(),
            Command::Approval(approval) => approval.run(),
            Command::Audit(audit) => audit.run(),
            Command::Session(session) => session.run(),
            Command::Data(command) => command.run(),
            Command::SupportBundle(bundle) => bundle.run(),
        }
    }
}
