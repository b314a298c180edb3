//! The command line.

mod about;
mod approval;
mod asked;
mod audit;
mod config;
mod data;
mod filter;
mod kubeconfig;
mod listing;
mod pager;
mod place;
mod policy;
mod program;
mod remote;
mod serve;
mod session;
mod standing;
mod support;
mod table;
pub mod terminal;

use clap::{Parser, Subcommand, ValueEnum};

/// A policy gateway in front of the Kubernetes API server.
#[derive(Parser)]
#[command(name = "postern", version, about, max_term_width = 110)]
pub struct Cli {
    /// How the gateway's own log is written, to standard error.
    #[arg(long, global = true, env = "POSTERN_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

/// How the gateway's own log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line, for programs.
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Serves until SIGTERM.
    #[command(after_help = "Examples:
  postern serve --config /etc/postern/postern.yaml
  postern serve --kubeconfig ~/.kube/config --policies policies    your own cluster, for yourself")]
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
    /// Says which version this is, and what it speaks.
    Version(about::Version),
    /// Prints what a shell completes commands by.
    Completion(about::Completion),
    /// Writes man pages, one for each command.
    #[command(after_help = "Example:
  postern man /usr/local/share/man/man1")]
    Man(about::Man),
    /// Writes a kubeconfig for a caller of the gateway.
    Kubeconfig(kubeconfig::Kubeconfig),
    /// Gathers what somebody needs who is asked for help, without a secret in it.
    SupportBundle(support::SupportBundle),
}

impl Cli {
    /// Does what the command line says.
    pub fn run(self) -> anyhow::Result<()> {
        let pager = self.command.is_read_at_length().then(pager::Pager::begin).flatten();
        let done = self.command.run();
        let shown = pager.map_or(Ok(()), pager::Pager::done);
        done.and(shown)
    }
}

impl Command {
    /// Whether what it says may be longer than a terminal, and is there to be read: what goes on for ever, or plays, is not.
    fn is_read_at_length(&self) -> bool {
        match self {
            Self::Audit(audit) => audit.is_read_at_length(),
            Self::Session(session) => session.is_read_at_length(),
            Self::Approval(approval) => approval.is_read_at_length(),
            Self::Policy(command) => command.is_read_at_length(),
            _ => false,
        }
    }

    fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Serve(serve) => serve.run(),
            Self::Config(command) => command.run(),
            Self::Policy(command) => command.run(),
            Self::Approval(approval) => approval.run(),
            Self::Audit(audit) => audit.run(),
            Self::Session(session) => session.run(),
            Self::Data(command) => command.run(),
            Self::SupportBundle(bundle) => bundle.run(),
            Self::Version(version) => {
                version.run();
                Ok(())
            }
            Self::Completion(completion) => {
                completion.run();
                Ok(())
            }
            Self::Man(man) => man.run(),
            Self::Kubeconfig(kubeconfig) => kubeconfig.run(),
        }
    }
}
