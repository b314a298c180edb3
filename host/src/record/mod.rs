//! Record: an append-only, hash-chained audit log of every operation, refusal and failed login, and [`session`]s that can be replayed.
//!
//! One thread writes, a batch at a time. What changes the cluster is on the disk before it is forwarded; what only reads is written
//! within milliseconds after its answer ends. While the log cannot be written, nothing passes.

pub mod chain;
mod event;
mod queue;
pub mod session;

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

pub use event::{Event, timestamp, timestamp_of};

use crate::status::Refusal;
use chain::Chain;
use queue::{Batch, Queue, Queued};
use session::{Call, Sessions};

const RETRY: Duration = Duration::from_millis(500);
/// How long a change waits for the disk before it is refused.
const PATIENCE: Duration = Duration::from_secs(5);

/// The audit log.
#[derive(Clone)]
pub struct AuditLog(Arc<Queue>);

impl AuditLog {
    /// Opens the log, goes on with its chain, and writes a first event, so that a gateway that cannot record does not start.
    pub fn open(file: &Path, sessions: Option<Sessions>) -> anyhow::Result<Self> {
        let mut writer = Writer::open(file).with_context(|| format!("the audit log {} cannot be written", file.display()))?;
        let mut started = Event::default();
        started.set("version", env!("CARGO_PKG_VERSION"));
        writer
            .append(&[Queued { line: started.at_stage("started"), who: None }], true)
            .with_context(|| format!("the audit log {} cannot be written", file.display()))?;
        let queue = Arc::new(Queue::default());
        let of_writer = Arc::clone(&queue);
        std::thread::Builder::new().name("audit".into()).spawn(move || run(&mut writer, &of_writer, sessions.as_ref()))?;
        Ok(Self(queue))
    }

    /// Writes all that is queued, and that the gateway stopped.
    pub async fn close(&self) {
        if self.record_durably(&Event::default(), "stopped").await.is_err() {
            tracing::error!("the audit log could not be written to its end");
        }
    }

    /// A refusal while the log cannot be written.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.0.is_healthy() { Ok(()) } else { Err(unwritable()) }
    }

    /// Queues an event: it is written within milliseconds. While the queue is full whoever records waits; nothing is dropped.
    pub fn record(&self, event: &Event, stage: &str) {
        self.0.push(queued(event, stage));
    }

    /// Writes an event and waits until it is on the disk.
    pub async fn record_durably(&self, event: &Event, stage: &str) -> Result<(), Refusal> {
        self.check()?;
        let on_disk = self.0.push_durably(queued(event, stage)).ok_or_else(unwritable)?;
        match tokio::time::timeout(PATIENCE, on_disk).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(unwritable()),
        }
    }
}

fn unwritable() -> Refusal {
    Refusal::unavailable("the gateway's audit log cannot be written, so nothing passes; free its disk, then try again")
}

fn queued(event: &Event, stage: &str) -> Queued {
    let is_last = matches!(stage, "completed" | "refused");
    Queued { line: event.at_stage(stage), who: event.who.clone().filter(|_| is_last) }
}

fn run(writer: &mut Writer, queue: &Queue, sessions: Option<&Sessions>) {
    loop {
        let Batch { events, waiting } = queue.take();
        while let Err(error) = writer.append(&events, !waiting.is_empty()) {
            if queue.set_healthy(false) {
                tracing::error!(%error, "the audit log cannot be written; nothing passes until it can");
            }
            std::thread::sleep(RETRY);
        }
        if !queue.set_healthy(true) {
            tracing::info!("the audit log is written again");
        }
        for written in waiting {
            let _ = written.send(());
        }
        if let Some(sessions) = sessions {
            let of_sessions = events.into_iter().filter_map(|Queued { line, who }| Some(Call { who: who?, event: line }));
            sessions.calls(of_sessions.collect());
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
    fn append(&mut self, events: &[Queued], durable: bool) -> std::io::Result<()> {
        let mut chain = self.chain.clone();
        let mut lines = Vec::new();
        for event in events {
            chain.line(&event.line, &mut lines);
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
        let error = AuditLog::open(Path::new("/dev/full"), None).err().unwrap();
        assert!(error.to_string().contains("cannot be written"), "{error:#}");
    }
}
