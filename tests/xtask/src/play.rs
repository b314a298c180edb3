//! Plays scenes: the command that really runs, what it really printed, and why.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use testbed::wait_until;

/// A demo under way.
pub(crate) struct Play {
    /// Where commands run.
    directory: PathBuf,
    scene: u32,
    failures: Vec<String>,
}

/// What a command printed.
pub(crate) struct Printed {
    pub(crate) ok: bool,
    pub(crate) text: String,
}

impl Play {
    /// Begins a demo whose commands run in a directory.
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), scene: 0, failures: Vec::new() }
    }

    /// A command of the demo: the programs the testbed built go before others of the same name.
    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Command {
        let path: PathBuf = match program {
            "postern" => testbed::postern(),
            "kubectl" | "helm" => testbed::binary(program),
            other => other.into(),
        };
        let mut command = Command::new(path);
        command.current_dir(&self.directory).args(args);
        command.env("HOME", std::env::temp_dir().join("postern-demo-home")).env_remove("KUBECONFIG");
        command
    }

    /// Waits for the ticket of a requester, whose name ends so, and gives its id.
    pub(crate) fn ticket_of(&self, requester: &str) -> anyhow::Result<String> {
        let mut id = String::new();
        wait_until("the ticket is there", Duration::from_secs(30), || {
            let list = self.command("postern", &["approval", "--kubeconfig", "approver.kubeconfig", "list", "--json"]).output()?;
            let list: Value = serde_json::from_slice(&list.stdout).context("the list of approvals")?;
            let is_theirs = |item: &&Value| item["username"].as_str().is_some_and(|name| name.ends_with(requester));
            let ticket = list["items"].as_array().into_iter().flatten().find(is_theirs);
            id = ticket.and_then(|ticket| ticket["id"].as_str()).unwrap_or_default().to_owned();
            Ok(!id.is_empty())
        })?;
        Ok(id)
    }

    /// Begins a scene.
    pub(crate) fn scene(&mut self, title: &str) {
        self.scene += 1;
        println!("\n{}. {title}", self.scene);
    }

    /// Runs a command, showing it and what it prints.
    pub(crate) fn run(&mut self, program: &str, args: &[&str]) -> anyhow::Result<Printed> {
        self.show(program, args);
        let output = self.command(program, args).output()?;
        Ok(self.printed(&output))
    }

    /// Shows a command.
    pub(crate) fn show(&self, program: &str, args: &[&str]) {
        let words: Vec<String> =
            args.iter().map(|a| if a.contains([' ', '{', '*', '|', '(']) { format!("'{a}'") } else { (*a).to_owned() }).collect();
        println!("   $ {program} {}", words.join(" "));
    }

    /// Shows what a command printed.
    pub(crate) fn printed(&self, output: &Output) -> Printed {
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        for line in text.lines().take(24) {
            let cut: String = line.chars().take(200).collect();
            println!("     {cut}");
        }
        Printed { ok: output.status.success(), text }
    }

    /// Says why, and remembers when a scene did not show what it should.
    pub(crate) fn because(&mut self, shown: bool, why: &str) {
        println!("   {} {why}", if shown { "->" } else { "FAILED:" });
        if !shown {
            self.failures.push(format!("scene {}: {why}", self.scene));
        }
    }

    /// An error when any scene failed.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        if self.failures.is_empty() {
            println!("\nAll {} scenes showed what they should.", self.scene);
            return Ok(());
        }
        anyhow::bail!("{}", self.failures.join("\n"))
    }
}
