//! What is longer than the terminal is shown by a pager, as git and systemctl do.

use std::io::{IsTerminal, PipeWriter, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use super::terminal;

/// A pager that runs; standard output goes to it.
pub(super) struct Pager(Child);

impl Pager {
    /// Begins one, where standard output is a terminal: `POSTERN_PAGER`, `PAGER`, or `less`. Nothing, or `cat`, is none.
    pub(super) fn begin() -> Option<Self> {
        let named = |name: &str| std::env::var(name).ok();
        let program = named("POSTERN_PAGER").or_else(|| named("PAGER")).unwrap_or_else(|| "less".to_owned());
        if !std::io::stdout().is_terminal()
            || matches!(program.trim(), "" | "cat")
            || std::env::var("TERM").is_ok_and(|term| term == "dumb")
        {
            return None;
        }
        // How wide it is, and whether it has colours, is known before it is no terminal any more.
        terminal::remember();
        let (reads, writes) = std::io::pipe().ok()?;
        let mut words = program.split_whitespace();
        let mut command = Command::new(words.next()?);
        command.args(words).stdin(Stdio::from(reads));
        // It ends by itself where all fits on the screen, shows colours, and leaves what it showed.
        if std::env::var_os("LESS").is_none() {
            command.env("LESS", "FRX");
        }
        let child = command.spawn().ok()?;
        // It answers an interrupt itself, and goes on showing what it has; nobody else reads the terminal then.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::default());
        takes_output(writes)?;
        Some(Self(child))
    }

    /// Ends what it is given, and waits until it was read.
    pub(super) fn end(mut self) {
        let _ = std::io::stdout().flush();
        if let Ok(nothing) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
            let _ = rustix::stdio::dup2_stdout(nothing);
        }
        let _ = self.0.wait();
    }
}

fn takes_output(pipe: PipeWriter) -> Option<()> {
    rustix::stdio::dup2_stdout(pipe).ok()
}
