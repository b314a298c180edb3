//! `postern data`: sees to what a gateway keeps.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::Engine;
use clap::Subcommand;

use super::terminal::{say, visible};
use crate::config::Config;
use crate::record::chain::{Chain, REPAIRED, Whole};
use crate::record::session::entangled;
use crate::record::session::file::{is_finished, recording_of};
use crate::record::session::seal::{SigningKey, Verdict, verify};
use crate::record::{Event, HeldLog, rotated};
use crate::store::DataDirectory;

#[derive(Subcommand)]
pub(super) enum DataCommand {
    /// Closes what two gateways in one data directory left behind: an audit log with two chains, recordings that one sealed while the other wrote on. Every line and
    /// every file stays; an event in the audit log says what was done. The gateway must not run meanwhile.
    Repair {
        /// The gateway's configuration: it says where its data is.
        #[arg(long)]
        config: PathBuf,
        /// The number (`seq`) of the first event of the audit log that is there: what came before is kept elsewhere.
        #[arg(long, default_value_t = 1)]
        first: u64,
    },
}

impl DataCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self::Repair { config, first } = self;
        repair(&Config::load(&config)?, first)
    }
}

fn repair(config: &Config, first: u64) -> anyhow::Result<()> {
    let data = &config.data_directory;
    if !data.is_dir() {
        bail!("there is no data directory {}", data.display());
    }
    let _held = DataDirectory::open(data)?;
    let file = config.audit_file();
    let mut log = HeldLog::open(&file)?;
    let found = read(&file, first)?;
    let recordings = Recordings::repair(&config.sessions_directory(), data)?;
    if found.open().is_none() && recordings.done.is_empty() {
        say!("nothing to repair: {} events of one chain", found.events);
        return recordings.told();
    }
    let mut event = Event::default();
    event.set("joins", found.open().map(|open| open.ends.as_slice()).unwrap_or_default());
    event.set("recordings", &recordings.done);
    log.append(&event, REPAIRED)?;
    let now = read(&file, first)?;
    if now.open().is_some() {
        bail!("{} was not closed: somebody writes it", file.display());
    }
    if let Some(open) = found.open() {
        say!(
            "{}: from line {} on {} gateways wrote it at once; event {} closes that, and no line was changed",
            file.display(),
            open.line,
            open.ends.len() + 1,
            now.crossings.last().and_then(|crossing| crossing.closed).unwrap_or_default()
        );
    }
    recordings.told()
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
    /// Those that were put together.
    done: Vec<String>,
    /// What is to be said of them.
    said: Vec<String>,
    /// Those that are not whole and cannot be.
    left: Vec<String>,
}

impl Recordings {
    fn repair(sessions: &Path, data: &Path) -> anyhow::Result<Self> {
        let mut this = Self::default();
        if !sessions.is_dir() {
            return Ok(this);
        }
        let key = SigningKey::open(data)?;
        let public = std::fs::read_to_string(data.join("session.pub"))?;
        let public = base64::engine::general_purpose::STANDARD.decode(public.trim())?;
        for path in entries(sessions)?.iter().flat_map(|session| entries(session)).flatten() {
            if path.file_name().and_then(|name| name.to_str()).is_some_and(is_finished) {
                this.one(&path, &key, &public).with_context(|| path.display().to_string())?;
            }
        }
        Ok(this)
    }

    fn one(&mut self, path: &Path, key: &SigningKey, public: &[u8]) -> anyhow::Result<()> {
        let (name, file) = (recording_of(path), std::fs::read(path)?);
        if matches!(verify(&name, &file, public), Ok(Verdict::Whole(_))) {
            return Ok(());
        }
        match entangled::look(&name, &file, public, |payload| key.has_vouched(&name, payload)) {
            Ok(Some(found)) => {
                let before = entangled::repair(path, &name, &file, &found, key)?;
                let unsure = match found.unsure {
                    0 => String::new(),
                    bytes => format!("; {bytes} bytes that nobody vouches for are left out"),
                };
                self.said.push(format!("{name}: put together from what two gateways wrote{unsure}; as it was it is {}", before.display()));
                self.done.push(name);
            }
            _ => self.left.push(name),
        }
        Ok(())
    }

    /// Says what was done, and what could not be.
    fn told(&self) -> anyhow::Result<()> {
        self.said.iter().for_each(|line| say!("{}", visible(line)));
        if !self.left.is_empty() {
            bail!(
                "not the work of two gateways, and left as they are (`postern session verify` says why): {}",
                visible(&self.left.join(", "))
            );
        }
        Ok(())
    }
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
