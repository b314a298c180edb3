//! The way of finished recordings from the disk to an object store.
//!
//! The directory is the queue: a finished recording stays in it until the store has it, whatever happens to this process meanwhile.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use tokio::sync::{Notify, watch};

use super::file::is_finished;
use crate::store::Objects;

/// The disk is looked through this often, should nothing else give reason to.
const LOOK: Duration = Duration::from_secs(60);
/// How long a store that does not take recordings is left alone, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Recordings that are sent at a time.
const AT_A_TIME: usize = 4;
/// A store that refuses so many one after another takes none.
const ENOUGH: u32 = 8;

/// What waits on the disk for the object store.
pub struct Spool {
    waiting: AtomicU64,
    largest: u64,
    sealed: Notify,
}

impl Spool {
    /// A recording was finished.
    pub(super) fn add(&self, bytes: u64) {
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
        self.sealed.notify_one();
    }

    /// Why there is no room for a further recording.
    pub(super) fn is_full(&self) -> Option<String> {
        let waiting = self.waiting.load(Ordering::Relaxed);
        (waiting > self.largest).then(|| {
            format!("{waiting} bytes of recordings wait for the object store, more than sessions.objectStore.largestSpool; the gateway's log says why it does not take them")
        })
    }
}

/// Brings recordings to the store.
pub struct Uploader {
    directory: PathBuf,
    objects: Objects,
    spool: Arc<Spool>,
}

impl Uploader {
    /// Of the recordings in a directory, of which `largest` bytes may wait.
    pub fn new(directory: PathBuf, objects: Objects, largest: u64) -> Self {
        let spool = Spool { waiting: AtomicU64::new(0), largest, sealed: Notify::new() };
        Self { directory, objects, spool: Arc::new(spool) }
    }

    /// Where finished recordings are told of.
    pub fn spool(&self) -> Arc<Spool> {
        Arc::clone(&self.spool)
    }

    /// Goes on until it is told to stop; what lies there then is sent before it ends.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let (mut pause, mut failing) = (PAUSE.0, None);
        loop {
            let last = *stop.borrow_and_update();
            match self.pass().await {
                Ok(()) => {
                    if let Some(since) = failing.take().map(|since: Instant| since.elapsed()) {
                        tracing::info!(seconds = since.as_secs(), "the object store takes recordings again");
                    }
                    pause = PAUSE.0;
                }
                Err(error) => {
                    failing.get_or_insert_with(Instant::now);
                    tracing::error!(error = format!("{error:#}"), "recordings stay on the disk: the object store did not take them");
                }
            }
            if last {
                return;
            }
            let wait = async {
                if failing.is_some() {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                } else {
                    let _ = tokio::time::timeout(LOOK, self.spool.sealed.notified()).await;
                }
            };
            tokio::select! {
                () = wait => {}
                _ = stop.changed() => {}
            }
        }
    }

    /// Sends what lies on the disk, and removes what the store has. The first error is given back; one recording does not hold up the others.
    async fn pass(&self) -> anyhow::Result<()> {
        let directory = self.directory.clone();
        let found = tokio::task::spawn_blocking(move || finished(&directory)).await?;
        self.spool.waiting.store(found.iter().map(|recording| recording.bytes).sum(), Ordering::Relaxed);
        let mut sent = futures_util::stream::iter(found.into_iter().map(|recording| self.send(recording))).buffer_unordered(AT_A_TIME);
        let (mut first, mut in_a_row) = (None, 0);
        while let Some(outcome) = sent.next().await {
            match outcome {
                Ok(None) => in_a_row = 0,
                // It is this recording's trouble, and not the store's.
                Ok(Some(taken)) => {
                    in_a_row = 0;
                    first.get_or_insert(taken);
                }
                Err(error) => {
                    in_a_row += 1;
                    first.get_or_insert(error);
                    if in_a_row == ENOUGH {
                        break;
                    }
                }
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Sends a recording; gives back why it stays if its place is taken.
    async fn send(&self, recording: Finished) -> anyhow::Result<Option<anyhow::Error>> {
        if !self.objects.put(&recording.session, &recording.name, &recording.path).await? {
            let Finished { session, name, .. } = recording;
            return Ok(Some(anyhow::anyhow!("the bucket holds another recording as {session}/{name}; it is not written over")));
        }
        tokio::fs::remove_file(&recording.path).await?;
        // It stays if something else is in it.
        let _ = tokio::fs::remove_dir(self.directory.join(&recording.session)).await;
        let _ =
            self.spool.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| Some(waiting.saturating_sub(recording.bytes)));
        Ok(None)
    }
}

struct Finished {
    path: PathBuf,
    session: String,
    name: String,
    bytes: u64,
    at: SystemTime,
}

/// The finished recordings on the disk, the oldest first.
fn finished(directory: &Path) -> Vec<Finished> {
    let within = |directory: &Path| std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<Finished> = within(directory)
        .flat_map(|session| within(&session.path()).map(move |file| (session.file_name(), file)))
        .filter_map(|(session, file)| {
            let name = file.file_name().into_string().ok()?;
            let metadata = file.metadata().ok().filter(|_| is_finished(&name))?;
            Some(Finished {
                path: file.path(),
                session: session.into_string().ok()?,
                name,
                bytes: metadata.len(),
                at: metadata.modified().ok()?,
            })
        })
        .collect();
    found.sort_by_key(|recording| recording.at);
    found
}
