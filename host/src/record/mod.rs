//! Record: an append-only, hash-chained audit log of every operation, refusal and failed login.
//!
//! One thread writes. What changes the cluster is on the disk before it is forwarded; what only reads is queued when its answer
//! ends. While the log cannot be written, nothing passes.

pub mod chain;
mod event;

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::sync::oneshot;

pub use event::{Event, timestamp};

use crate::status::Refusal;
use chain::Chain;

/// Events that may wait for the disk.
const QUEUE: usize = 16_384;
/// Most events written at a time.
const BATCH: usize = 512;
const RETRY: Duration = Duration::from_millis(500);

/// The audit log.
#[derive(Clone)]
pub struct AuditLog {
    queue: SyncSender<Entry>,
    healthy: Arc<AtomicBool>,
}

struct Entry {
    event: Value,
    written: Option<oneshot::Sender<()>>,
}

impl AuditLog {
    /// Opens the log, goes on with its chain, and writes a first event, so that a gateway that cannot record does not start.
    pub fn open(file: &Path) -> anyhow::Result<Self> {
        let mut writer = Writer::open(file).with_context(|| format!("the audit log {} cannot be written", file.display()))?;
        writer
            .append(&[serde_json::json!({"time": timestamp(), "stage": "started", "version": env!("CARGO_PKG_VERSION")})], true)
            .with_context(|| format!("the audit log {} cannot be written", file.display()))?;
        let (queue, entries) = sync_channel(QUEUE);
        let healthy = Arc::new(AtomicBool::new(true));
        let flag = Arc::clone(&healthy);
        std::thread::Builder::new().name("audit".into()).spawn(move || run(&mut writer, &entries, &flag))?;
        Ok(Self { queue, healthy })
    }

    /// A refusal while the log cannot be written.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.healthy.load(Ordering::Relaxed) { Ok(()) } else { Err(unwritable()) }
    }

    /// Queues an event. When the queue is full the log counts as unwritable until it has caught up.
    pub fn record(&self, event: Value) {
        match self.queue.try_send(Entry { event, written: None }) {
            Ok(()) => {}
            Err(TrySendError::Full(entry)) => {
                self.healthy.store(false, Ordering::Relaxed);
                // An event is never dropped: the connection that made it waits.
                let _ = self.queue.send(entry);
            }
            Err(TrySendError::Disconnected(_)) => self.healthy.store(false, Ordering::Relaxed),
        }
    }

    /// Writes an event and waits until it is on the disk.
    pub async fn record_durably(&self, event: Value) -> Result<(), Refusal> {
        self.check()?;
        let (written, on_disk) = oneshot::channel();
        self.queue.try_send(Entry { event, written: Some(written) }).map_err(|_| unwritable())?;
        match tokio::time::timeout(Duration::from_secs(5), on_disk).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(unwritable()),
        }
    }
}

fn unwritable() -> Refusal {
    Refusal::unavailable("the gateway's audit log cannot be written, so nothing passes; free its disk, then try again")
}

fn run(writer: &mut Writer, entries: &Receiver<Entry>, healthy: &AtomicBool) {
    while let Ok(first) = entries.recv() {
        let mut batch = vec![first];
        batch.extend(entries.try_iter().take(BATCH - 1));
        let durable = batch.iter().any(|e| e.written.is_some());
        let (events, waiting): (Vec<_>, Vec<_>) = batch.into_iter().map(|e| (e.event, e.written)).unzip();
        while let Err(error) = writer.append(&events, durable) {
            if healthy.swap(false, Ordering::Relaxed) {
                tracing::error!(%error, "the audit log cannot be written; nothing passes until it can");
            }
            std::thread::sleep(RETRY);
        }
        if !healthy.swap(true, Ordering::Relaxed) {
            tracing::info!("the audit log is written again");
        }
        for written in waiting.into_iter().flatten() {
            let _ = written.send(());
        }
    }
}

struct Writer {
    file: File,
    length: u64,
    chain: Chain,
}

impl Writer {
    fn open(path: &Path) -> anyhow::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let (chain, length) = Chain::resume(&mut file)?;
        if file.metadata()?.is_file() && file.metadata()?.len() > length {
            tracing::warn!("the audit log ends in half an event, as after a crash; it is cut off there");
            file.set_len(length)?;
        }
        file.seek(SeekFrom::End(0))?;
        Ok(Self { file, length, chain })
    }

    /// Appends events whole or not at all.
    fn append(&mut self, events: &[Value], durable: bool) -> std::io::Result<()> {
        let mut chain = self.chain.clone();
        let mut lines = Vec::new();
        for event in events {
            chain.line(event, &mut lines);
        }
        let written = self.file.write_all(&lines).and_then(|()| if durable { self.file.sync_data() } else { Ok(()) });
        if let Err(error) = written {
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length += lines.len() as u64;
        self.chain = chain;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_cannot_be_written_stops_the_start() {
        let error = AuditLog::open(Path::new("/dev/full")).err().unwrap();
        assert!(error.to_string().contains("cannot be written"), "{error:#}");
    }
}
