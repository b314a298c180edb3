//! `postern data`: sees to what a gateway keeps.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;

use super::place::Configured;
use super::terminal::{say, visible};
use crate::config::Config;
use crate::record::chain::{Chain, Whole, closing};
use crate::record::session::entangled;
use crate::record::session::file::{is_finished, recording_of};
use crate::record::session::seal::{SigningKey, Verification, verify};
use crate::record::{Event, HeldLog, rotated};
use crate::store::DataDirectory;
use crate::words::Stage;

#[derive(Subcommand)]
pub(super) enum DataCommand {
    /// Closes what two gateways in one data directory left behind: an audit log with two chains, recordings that one sealed while the other wrote on. Every line and
    /// every file stays; an event in the audit log says what was done. The gateway must not run meanwhile.
    Repair {
        #[command(flatten)]
        configured: Configured,
        /// The number (`seq`) of the first event of the audit log that is there: what came before is kept elsewhere.
        #[arg(long, default_value_t = 1)]
        first: u64,
    },
}

impl DataCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self::Repair { configured, first } = self;
        repair(&Config::load(&configured.file()?)?, first)
    }
}

fn repair(config: &Config, first: u64) -> anyhow::Result<()> {
    let data = &config.data_directory;
    if !data.is_dir() {
        bail!("there is no data directory {}", data.display());
    }
    let _held = DataDirectory::open(data)?;
    let file = config.audit_file();
    // Nothing is written before all was read.
    let found = read(&file, first)?;
    let key = data.join("session.key");
    if !key.exists() {
        bail!("{} is not there, and without it nobody knows what this gateway wrote", key.display());
    }
    let key = SigningKey::open(data)?;
    let recordings = Recordings::find(&config.sessions_directory(), &key)?;
    if found.open().is_none() && recordings.entangled.is_empty() {
        say!("nothing to repair: {} events of one chain", found.events);
        return recordings.told();
    }
    // What is done to recordings is in the log before it is done.
    let mut log = HeldLog::open(&file, &key)?;
    let joins = found.open().map(|open| open.ends.clone()).unwrap_or_default();
    let mut event = Event::default();
    event.set("recordings", recordings.entangled.iter().map(|(_, name)| name).collect::<Vec<_>>());
    event.set("signature", key.sign(&closing(log.end(), &joins))).set("joins", joins);
    log.append(&event, Stage::Repaired)?;
    let now = read(&file, first)?;
    if let Some(open) = found.open() {
        let closed = now.crossings.last().and_then(|crossing| crossing.closed).context("it was not closed: somebody writes it")?;
        say!(
            "{}: from line {} on several gateways wrote it at once ({} chains); event {} closes that, and no line was changed",
            file.display(),
            open.line,
            open.ends.len() + 1,
            closed
        );
    }
    recordings.repair(&key).told()
}

/// What the log is. Of one that was changed nothing is closed.
fn read(file: &Path, first: u64) -> anyhow::Result<Whole> {
    let log = rotated::Log::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    Chain::verify(log, first).map_err(|broken| {
        anyhow::anyhow!(
            "{}: line {}: {}. That is not the work of two gateways, and is not repaired: keep the log as it is, somewhere else, and let the gateway begin another",
            file.display(),
            broken.line,
            broken.why
        )
    })
}

/// What was found of recordings.
#[derive(Default)]
struct Recordings {
    /// Those that can be put together: their files and names.
    entangled: Vec<(PathBuf, String)>,
    /// What is to be said of those that were.
    said: Vec<String>,
    /// Those that are not whole and cannot be, and why.
    left: Vec<String>,
}

impl Recordings {
    fn find(sessions: &Path, key: &SigningKey) -> anyhow::Result<Self> {
        let mut this = Self::default();
        for session in entries(sessions)?.into_iter().filter(|session| is(session, std::fs::FileType::is_dir)) {
            let paths = entries(&session).unwrap_or_else(|error| {
                this.left.push(format!("{}: {error:#}", session.display()));
                Vec::new()
            });
            for path in paths {
                if path.file_name().and_then(|name| name.to_str()).is_some_and(is_finished) {
                    this.one(path, key);
                }
            }
        }
        Ok(this)
    }

    fn one(&mut self, path: PathBuf, key: &SigningKey) {
        let name = recording_of(&path);
        if !is(&path, std::fs::FileType::is_file) {
            self.left.push(format!("{name}: it is no file"));
            return;
        }
        let file = match std::fs::read(&path) {
            Ok(file) => file,
            Err(error) => return self.left.push(format!("{name}: {error}")),
        };
        let verified = verify(&name, &file, key.public());
        if matches!(verified, Ok(Verification::Whole(_))) {
            return;
        }
        match (entangled::look(&name, &file, key.public(), Some(key)), verified) {
            (Ok(Some(_)), _) => self.entangled.push((path, name)),
            (_, Err(why)) => self.left.push(format!("{name}: {why:#}")),
            (_, Ok(_)) => self.left.push(format!("{name}: it has no seal")),
        }
    }

    /// Puts together what can be. What fails of one is no matter of the others.
    fn repair(mut self, key: &SigningKey) -> Self {
        for (path, name) in std::mem::take(&mut self.entangled) {
            match put_together(&path, &name, key) {
                Ok(said) => self.said.push(said),
                Err(error) => self.left.push(format!("{name}: {error:#}")),
            }
        }
        self
    }

    /// Says what was done, and what could not be.
    fn told(&self) -> anyhow::Result<()> {
        self.said.iter().for_each(|line| say!("{}", visible(line)));
        if !self.left.is_empty() {
            let left: Vec<_> = self.left.iter().map(|line| visible(line)).collect();
            bail!("left as they are:\n{}", left.join("\n"));
        }
        Ok(())
    }
}

/// Puts one together, and says so.
fn put_together(path: &Path, name: &str, key: &SigningKey) -> anyhow::Result<String> {
    let file = std::fs::read(path)?;
    let found = entangled::look(name, &file, key.public(), Some(key))?.context("it changed meanwhile")?;
    let before = entangled::repair(path, name, &file, &found, key)?;
    let unsure = match found.unsure {
        0 => String::new(),
        bytes => format!("; {bytes} bytes that nobody vouches for, or whose beginning is gone, are left out"),
    };
    let end = if found.has_end { "" } else { "; what came last may be missing" };
    Ok(format!("{name}: put together from what two gateways wrote{unsure}{end}; as it was it is {}", before.display()))
}

/// Of what type a path is, and not what it leads to.
fn is(path: &Path, of: impl Fn(&std::fs::FileType) -> bool) -> bool {
    path.symlink_metadata().is_ok_and(|about| of(&about.file_type()))
}

/// What is in a directory, in order.
fn entries(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let mut entries: Vec<PathBuf> = std::fs::read_dir(directory)?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    Ok(entries)
}
