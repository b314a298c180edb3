//! Witnesses: every few seconds it is signed how far the log has got, and said beside it and elsewhere, where who can write the log cannot write. Each who is told has a
//! thread of its own: one that does not answer holds nobody up, and hears the latest when it does.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use reqwest::header;

use super::head::Head;
use super::session::seal::SigningKey;
use crate::config::{self, Audit};
use crate::{fetch, files};

/// How long a witness elsewhere may take, and all of them when the gateway ends.
const PATIENCE: Duration = Duration::from_secs(5);
/// How soon one that did not hear it is told again.
const AGAIN: Duration = Duration::from_secs(2);
/// How often it is looked whether it is time.
const LOOK: Duration = Duration::from_millis(250);

/// How far a log has got: told by the thread that writes it.
#[derive(Debug, Default)]
pub(super) struct Position(Mutex<Option<(u64, String)>>);

impl Position {
    pub(super) fn set(&self, seq: u64, hash: &str) {
        let mut position = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, of) = position.get_or_insert_with(Default::default);
        *known = seq;
        of.clear();
        of.push_str(hash);
    }

    fn get(&self) -> Option<(u64, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Says how far a log has got.
pub(super) struct Witness {
    log: PathBuf,
    key: SigningKey,
    every: Duration,
    listeners: Vec<Arc<Listener>>,
    said: Mutex<Said>,
}

/// What was said last.
struct Said {
    seq: Option<u64>,
    at: Instant,
    /// Whether it could not be said the last time, which is told of once.
    is_stuck: bool,
}

impl Witness {
    pub(super) fn new(log: &Path, key: SigningKey, config: &Audit) -> anyhow::Result<Self> {
        let listeners = ears(&config.witness)?.into_iter().map(Listener::begin).collect::<std::io::Result<_>>()?;
        let said = Mutex::new(Said { seq: None, at: Instant::now(), is_stuck: false });
        Ok(Self { log: log.to_owned(), key, every: config.head_every.duration(), listeners, said })
    }

    /// Says it again and again, for as long as somebody writes the log.
    pub(super) fn go_on(this: &Arc<Self>, position: &Arc<Position>) -> std::io::Result<()> {
        let (witness, position) = (Arc::downgrade(this), Arc::downgrade(position));
        let say = move || {
            while let (Some(witness), Some(position)) = (witness.upgrade(), position.upgrade()) {
                witness.say(&position, false);
                drop((witness, position));
                std::thread::sleep(LOOK);
            }
        };
        std::thread::Builder::new().name("heads".into()).spawn(say).map(drop)
    }

    /// Says it when it is time, or now.
    pub(super) fn say(&self, position: &Position, now: bool) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if !now && said.at.elapsed() < self.every {
            return;
        }
        let Some((seq, hash)) = position.get().filter(|(seq, _)| said.seq != Some(*seq)) else { return };
        said.at = Instant::now();
        match self.said(seq, &hash) {
            Ok(head) => {
                said.seq = Some(seq);
                if std::mem::replace(&mut said.is_stuck, false) {
                    tracing::info!("it is signed again how far the audit log has got");
                }
                self.listeners.iter().for_each(|listener| listener.hear(head.clone()));
            }
            Err(error) if !std::mem::replace(&mut said.is_stuck, true) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "it cannot be said how far the audit log has got: that its end was cut off could not be shown"
                );
            }
            Err(_) => {}
        }
    }

    /// Signs it, and puts it beside the log.
    fn said(&self, seq: u64, hash: &str) -> anyhow::Result<Vec<u8>> {
        // A head is never further than what a loss of power leaves.
        File::open(&self.log).and_then(|log| log.sync_data()).with_context(|| self.log.display().to_string())?;
        let head = serde_json::to_vec(&Head::sign(&self.key, seq, hash))?;
        files::write_private(&Head::file(&self.log), &head)?;
        Ok(head)
    }

    /// Waits until all have heard the last that was said, for some seconds.
    pub(super) fn settle(&self) {
        let end = Instant::now() + PATIENCE;
        self.listeners.iter().for_each(|listener| listener.wait(end));
    }
}

/// Says so where who is to be told could not be: before a gateway starts.
pub(crate) fn check(config: &config::Witness) -> anyhow::Result<()> {
    ears(config)?;
    let Some(file) = &config.file else { return Ok(()) };
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    ensure!(directory.is_dir(), "audit.witness.file: there is no directory {}", directory.display());
    Ok(())
}

/// Who is told elsewhere.
fn ears(config: &config::Witness) -> anyhow::Result<Vec<Ear>> {
    let server = config.url.as_ref().map(|url| Server::new(url, config).map(Ear::Server)).transpose().context("audit.witness")?;
    Ok(config.file.clone().map(Ear::File).into_iter().chain(server).collect())
}

/// One that is told.
enum Ear {
    File(PathBuf),
    Server(Server),
}

impl Ear {
    /// What it is called in the configuration.
    fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "audit.witness.file",
            Self::Server(_) => "audit.witness.url",
        }
    }

    fn told(&self, head: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::File(file) => append(file, head),
            Self::Server(server) => server.told(head),
        }
    }
}

/// One that is told, on a thread of its own.
#[derive(Default)]
struct Listener {
    /// What it has not heard yet: the latest alone.
    pending: Mutex<Pending>,
    changed: Condvar,
}

#[derive(Default)]
struct Pending {
    head: Option<Vec<u8>>,
    /// Whether it is being told something.
    is_told: bool,
}

impl Listener {
    fn begin(ear: Ear) -> std::io::Result<Arc<Self>> {
        let this = Arc::new(Self::default());
        let weak = Arc::downgrade(&this);
        let listen = move || {
            let mut is_deaf = false;
            while let Some(this) = weak.upgrade() {
                let Some(head) = this.next() else { continue };
                let heard = ear.told(&head);
                match (&heard, is_deaf) {
                    (Ok(()), true) => tracing::info!(who = ear.name(), "is told again how far the audit log has got"),
                    (Err(error), false) => tracing::error!(
                        who = ear.name(),
                        error = format!("{error:#}"),
                        "cannot be told how far the audit log has got; it is tried again"
                    ),
                    _ => {}
                }
                is_deaf = heard.is_err();
                this.done(heard.err().map(|_| head));
                if is_deaf {
                    std::thread::sleep(AGAIN);
                }
            }
        };
        std::thread::Builder::new().name("witness".into()).spawn(listen)?;
        Ok(this)
    }

    fn hear(&self, head: Vec<u8>) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).head = Some(head);
        self.changed.notify_all();
    }

    /// What is to be told, as soon as there is something; nothing where there was none for a while.
    fn next(&self) -> Option<Vec<u8>> {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(pending, LOOK, |pending| pending.head.is_none());
        let mut pending = waited.unwrap_or_else(PoisonError::into_inner).0;
        pending.is_told = pending.head.is_some();
        pending.head.take()
    }

    /// It was told, or was not, and nothing newer is to be.
    fn done(&self, unheard: Option<Vec<u8>>) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.is_told = false;
        pending.head = pending.head.take().or(unheard);
        self.changed.notify_all();
    }

    fn wait(&self, end: Instant) {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let left = end.saturating_duration_since(Instant::now());
        drop(self.changed.wait_timeout_while(pending, left, |pending| pending.head.is_some() || pending.is_told));
    }
}

/// Appends a line, whole or not at all; behind half a line, as a full disk leaves it, it is a line of its own.
fn append(file: &Path, line: &[u8]) -> anyhow::Result<()> {
    let at = || format!("cannot write {}", file.display());
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(file).with_context(at)?;
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.seek(SeekFrom::Start(length - 1))?;
        file.read_exact(&mut last)?;
    }
    let whole = [if last == [b'\n'] { b"".as_slice() } else { b"\n" }, line, b"\n"].concat();
    if let Err(error) = file.write_all(&whole) {
        let _ = file.set_len(length);
        return Err(error).with_context(at);
    }
    file.sync_data().with_context(at)
}

/// A server that is told.
struct Server {
    url: String,
    client: reqwest::Client,
    headers_file: Option<PathBuf>,
}

impl Server {
    fn new(url: &str, witness: &config::Witness) -> anyhow::Result<Self> {
        // Each is told on a connection of its own: what would keep one ends with the telling.
        let client = fetch::client(witness.ca_file.as_deref(), witness.headers_file.as_deref(), witness.is_near())?;
        let client = client.pool_max_idle_per_host(0).build()?;
        Ok(Self { url: url.to_owned(), client, headers_file: witness.headers_file.clone() })
    }

    fn told(&self, head: &[u8]) -> anyhow::Result<()> {
        let mut request =
            self.client.post(&self.url).timeout(PATIENCE).header(header::CONTENT_TYPE, "application/json").body(head.to_vec());
        if let Some(file) = &self.headers_file {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            request = request.headers(fetch::headers_of(&text).with_context(|| file.display().to_string())?);
        }
        // It is seldom, and on a thread of its own: nothing is kept for it.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(async { request.send().await }).map_err(reqwest::Error::without_url);
        // A name that is looked up without end is not waited for.
        runtime.shutdown_background();
        let status = answer?.status();
        ensure!(status.is_success(), "it answered {status}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_spoils_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("heads.jsonl");
        let key = SigningKey::of_seed(&[7; 32]).unwrap();
        let head = |seq: u64| Head::sign(&key, seq, "h");
        append(&file, &serde_json::to_vec(&head(1)).unwrap()).unwrap();
        OpenOptions::new().append(true).open(&file).unwrap().write_all(b"{\"time\":\"20").unwrap();
        append(&file, &serde_json::to_vec(&head(2)).unwrap()).unwrap();
        let (heads, unread) = Head::all(&file).unwrap();
        assert_eq!((heads.iter().map(|head| head.seq).collect::<Vec<_>>(), unread), (vec![1, 2], 1));
        assert!(append(directory.path(), b"").is_err());
    }

    /// One that hangs holds nobody up, and one that was away hears the latest.
    #[test]
    fn who_does_not_listen_holds_nobody_up() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("audit.jsonl");
        std::fs::write(&log, "").unwrap();
        let place = directory.path().join("elsewhere");
        let mut config = Audit::default();
        config.witness.file = Some(place.join("heads.jsonl"));
        let witness = Witness::new(&log, SigningKey::of_seed(&[7; 32]).unwrap(), &config).unwrap();
        let position = Position::default();
        for seq in 1..=3 {
            position.set(seq, "h");
            witness.say(&position, true);
            assert_eq!(Head::beside(&log).unwrap().unwrap().seq, seq);
        }
        // It is not there yet; once it is, what came last is told, though nothing new is written.
        std::fs::create_dir(&place).unwrap();
        witness.settle();
        let heads = Head::all(&place.join("heads.jsonl")).unwrap().0;
        assert_eq!(heads.last().map(|head| head.seq), Some(3));
    }
}
