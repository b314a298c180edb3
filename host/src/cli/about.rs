//! What the program says of itself: its version, completions for shells, and man pages.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;
use serde_json::json;

use super::Cli;
use super::terminal::{out, say};
use crate::policy::contract::SPOKEN;

/// Says which version this is, and what it speaks.
#[derive(Args)]
pub struct Version {
    /// How it is written.
    #[arg(long, short, value_enum, default_value_t)]
    output: Form,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Form {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

impl Version {
    pub(super) fn run(self) {
        let (version, authoring) = (env!("CARGO_PKG_VERSION"), cfg!(feature = "authoring"));
        match self.output {
            Form::Text => {
                say!("postern {version}{}", if authoring { "" } else { ", without what authors of policies need" });
                say!("policies: {}", SPOKEN.join(", "));
            }
            Form::Json => say!("{}", json!({"version": version, "contracts": SPOKEN, "authoring": authoring})),
        }
    }
}

/// Prints what a shell completes commands by.
#[derive(Args)]
#[command(after_help = "Examples:
  source <(postern completion bash)
  postern completion zsh > \"${fpath[1]}/_postern\"
  postern completion fish > ~/.config/fish/completions/postern.fish
  postern completion powershell | Out-String | Invoke-Expression")]
pub struct Completion {
    /// The shell.
    shell: Shell,
}

impl Completion {
    pub(super) fn run(self) {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "postern", &mut text);
        out(&String::from_utf8_lossy(&text));
    }
}

/// Writes man pages, one for each command.
#[derive(Args)]
pub struct Man {
    /// Where to.
    #[arg(default_value = ".")]
    directory: PathBuf,
}

impl Man {
    pub(super) fn run(self) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.directory).with_context(|| format!("cannot make {}", self.directory.display()))?;
        clap_mangen::generate_to(Cli::command(), Path::new(&self.directory))
            .with_context(|| format!("cannot write to {}", self.directory.display()))
    }
}
