//! `postern policy`: makes, checks, tries and shares policies.
//!
//! What authors need and a gateway that serves does not is the feature `authoring`: toolchains are run and cases tried by it.

mod based;
#[cfg(feature = "authoring")]
mod bench;
#[cfg(feature = "authoring")]
mod branches;
#[cfg(feature = "authoring")]
mod build;
#[cfg(feature = "authoring")]
mod capture;
mod check;
mod history;
mod list;
#[cfg(feature = "authoring")]
mod new;
#[cfg(all(test, feature = "authoring"))]
mod new_tests;
mod recorded;
#[cfg(feature = "authoring")]
mod replay;
mod share;
#[cfg(feature = "authoring")]
mod test;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Subcommand;

use crate::cli::listing::Output;
use crate::cli::place::Configured;
use crate::cli::remote::Remote;
use crate::cli::table;
use crate::cli::terminal::say;
use crate::config::Config;
use crate::policy::{Policy, PolicyFile};
use crate::rehearse::Stage;

/// Makes, checks, tries and shares policies.
#[derive(Subcommand)]
pub enum PolicyCommand {
    #[cfg(feature = "authoring")]
    /// Makes a folder with a policy that builds, tests and loads.
    New(new::New),
    #[cfg(feature = "authoring")]
    /// Builds a policy's folder into a module, with the toolchain that is there.
    Build {
        /// The folder.
        #[arg(default_value = ".")]
        directory: PathBuf,
    },
    /// Says all that is wrong with a module, or with a directory of them as the gateway would load it.
    Check(check::Check),
    /// Shows what a module is: its contract, what it is called for, what it may see, its settings.
    Inspect {
        /// The module, `NAME.wasm`.
        file: PathBuf,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    #[cfg(feature = "authoring")]
    /// Tries the cases of a folder: operations, and what the policy is to say of them.
    Test(test::Test),
    #[cfg(feature = "authoring")]
    /// Prints the JSON Schema of files of cases, for editors.
    CasesSchema,
    #[cfg(feature = "authoring")]
    /// Measures what calls of a module cost, by hook.
    Bench(bench::Bench),
    #[cfg(feature = "authoring")]
    /// Cuts cases out of a recorded session.
    Capture(capture::Capture),
    #[cfg(feature = "authoring")]
    /// Runs a policy over recorded traffic and says what would have changed.
    Replay(replay::Replay),
    #[cfg(feature = "authoring")]
    /// Says how two versions of a policy differ: contract, rules, settings, and what they say of the cases.
    Diff(replay::Diff),
    /// Decides a recorded operation again, and shows which policy says what of it.
    Explain(recorded::Explain),
    /// Puts a module into an OCI registry, and signs it.
    Push(share::Push),
    /// Gets a module from an OCI registry, and checks whose it is.
    Pull(share::Pull),
    /// Pins what a policy directory holds, so that a gateway takes nothing else from it.
    Lock(share::LockCommand),
    History(history::History),
    /// Lists the policies in force in the gateway of a configuration, and those that do not load.
    List {
        #[command(flatten)]
        configured: Configured,
        /// A kubeconfig of the gateway, instead of its files; what `KUBECONFIG` names where no configuration is found.
        #[arg(long, conflicts_with = "config")]
        kubeconfig: Option<PathBuf>,
        /// One of several clusters: its own policies, where it has some, and those that all share otherwise.
        #[arg(long)]
        cluster: Option<String>,
        /// Waits until what is in the directory now is in force, or is known not to load; for so many seconds, two minutes unless said.
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "120")]
        wait: Option<u64>,
        #[command(flatten)]
        output: Output,
    },
}

impl PolicyCommand {
    pub(super) fn is_read_at_length(&self) -> bool {
        matches!(self, Self::History(_) | Self::List { wait: None, .. } | Self::Explain(_) | Self::Inspect { .. })
    }

    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            #[cfg(feature = "authoring")]
            Self::New(new) => new.run(),
            #[cfg(feature = "authoring")]
            Self::Build { directory } => build::build_and_tell(&directory),
            Self::Check(check) => check.run(),
            Self::Inspect { file, json } => check::inspect(&file, json),
            #[cfg(feature = "authoring")]
            Self::Test(test) => test.run(),
            #[cfg(feature = "authoring")]
            Self::CasesSchema => {
                super::terminal::out(&crate::rehearse::cases::CaseFile::schema());
                Ok(())
            }
            #[cfg(feature = "authoring")]
            Self::Bench(bench) => bench.run(),
            #[cfg(feature = "authoring")]
            Self::Capture(capture) => capture.run(),
            #[cfg(feature = "authoring")]
            Self::Replay(replay) => replay.run(),
            #[cfg(feature = "authoring")]
            Self::Diff(diff) => diff.run(),
            Self::Explain(explain) => explain.run(),
            Self::Push(push) => push.run(),
            Self::Pull(pull) => pull.run(),
            Self::Lock(lock) => lock.run(),
            Self::History(history) => history.run(),
            Self::List { configured, kubeconfig, cluster, wait, output } => match (kubeconfig, configured.found()) {
                (None, Some(config)) => list::list(&Config::load(&config)?, cluster.as_deref(), wait, output),
                (kubeconfig, _) => list::list_of(&Remote::open(kubeconfig)?, wait, output),
            },
        }
    }
}

/// Tells what policies wrote while they were asked, as often as they wrote something else.
fn tell_written(stage: &Stage) {
    let mut told = std::collections::HashSet::new();
    for written in stage.written() {
        if told.insert(written.text.clone()) {
            say!("\n{} wrote in {}:", written.policy, written.hook.name());
            written.fault.iter().for_each(|fault| say!("  it failed: {}", table::printable(fault)));
            written.text.lines().for_each(|line| say!("  {}", table::printable(line)));
        }
    }
}

/// Reads a module.
fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    if file.is_dir() {
        bail!("{} is a directory; name the module in it, NAME.wasm", file.display());
    }
    let size = std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
    if size > crate::share::LARGEST_MODULE {
        bail!("{} is over {} bytes long", file.display(), crate::share::LARGEST_MODULE);
    }
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// A policy's name: that of its file.
fn name_of(file: &Path) -> String {
    file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Loads a module with the file beside it, granted all it asks for where that does not say.
fn load(stage: &Stage, file: &Path) -> anyhow::Result<Arc<Policy>> {
    let mut beside = PolicyFile::beside(file)?;
    beside.grants.get_or_insert_with(|| crate::policy::grants::Capability::ALL.to_vec());
    beside.mode = crate::policy::Mode::Enforce;
    let policy = stage.loader.load(&name_of(file), &read(file)?, beside).with_context(|| format!("{} does not load", file.display()))?;
    Ok(Arc::new(policy))
}
