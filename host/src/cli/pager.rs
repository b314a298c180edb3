//! What is longer than the terminal is shown by a pager, as git and systemctl do.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::{program, terminal};

/// A pager that runs; standard output goes to it until this is dropped, which waits until it was read.
pub(super) struct Pager {
    /// Where standard output goes once all was said.
    nothing: File,
    is_said: Arc<AtomicBool>,
    shows: Option<JoinHandle<Option<i32>>>,
}

/// What programs leave in the environment that let somebody do one thing as another user.
const OF_ANOTHER: [&str; 3] = ["SUDO_UID", "DOAS_USER", "PKEXEC_UID"];

impl Pager {
    /// Begins one, where standard output is a terminal: `POSTERN_PAGER`, `PAGER`, or `less`. Nothing, or `cat`, is none.
    pub(super) fn begin() -> Option<Self> {
        let named = |name: &str| std::env::var(name).ok();
        // Who may do one thing as another user is given no program as that user: of their own choice, with a shell in it, or with files that it writes.
        let is_lent = OF_ANOTHER.iter().any(|name| named(name).is_some());
        let line = named("POSTERN_PAGER").or_else(|| named("PAGER")).unwrap_or_else(|| "less".to_owned());
        let is_dumb = named("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        if !std::io::stdout().is_terminal() || is_dumb || is_lent || matches!(line.trim(), "" | "cat") {
            return None;
        }
        // Many containers have no `less`.
        program::find(line.split_whitespace().next()?)?;
        // How wide it is, and whether it has colours, is known before it is no terminal any more.
        terminal::remember();
        let nothing = File::options().write(true).open("/dev/null").ok()?;
        let (reads, writes) = std::io::pipe().ok()?;
        // A line for the shell, as it is for others who read these variables.
        let mut command = Command::new("sh");
        command.args(["-c", &line]).stdin(Stdio::from(reads));
        // It ends by itself where all fits on the screen, shows colours, and leaves what it showed.
        if std::env::var_os("LESS").is_none() {
            command.env("LESS", "FRX");
        }
        let child = command.spawn().ok()?;
        // It answers an interrupt itself, and goes on showing what it has; where it ends by it, all does.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::default());
        rustix::stdio::dup2_stdout(writes).ok()?;
        let is_said = Arc::default();
        let told = Arc::clone(&is_said);
        let shows = std::thread::spawn(move || wait(child, &told));
        Some(Self { nothing, is_said, shows: Some(shows) })
    }
}

/// Waits for the pager, and says how it ended. Who has left it wants no more: what is still being looked for is not waited for.
fn wait(mut child: Child, is_said: &AtomicBool) -> Option<i32> {
    let ended = child.wait().ok().and_then(|status| status.code());
    if !is_said.load(Ordering::SeqCst) {
        std::process::exit(ended.unwrap_or(0));
    }
    ended
}

impl Pager {
    /// All was said. An error is that the pager failed, and may have shown nothing of it.
    pub(super) fn done(mut self) -> anyhow::Result<()> {
        match self.end() {
            Some(code) if code != 0 => anyhow::bail!("the pager ended with {code}; POSTERN_PAGER names another, or cat for none"),
            _ => Ok(()),
        }
    }

    fn end(&mut self) -> Option<i32> {
        let _ = std::io::stdout().flush();
        self.is_said.store(true, Ordering::SeqCst);
        let _ = rustix::stdio::dup2_stdout(&self.nothing);
        self.shows.take()?.join().ok()?
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        self.end();
    }
}
