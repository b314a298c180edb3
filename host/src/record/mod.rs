//! Record: an append-only, hash-chained audit log of every operation, refusal and failed login, and [`session`]s that can be replayed.
//!
//! One thread writes, a batch at a time. What changes the cluster is on the disk before it is forwarded; what only reads is written
//! within milliseconds after its answer ends. While the log cannot be written, nothing passes.

pub mod chain;
mod entry;
mod event;
pub mod query;
mod queue;
pub mod rotated;
pub mod session;
pub mod shown;
mod strangers;

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use serde_json::json;

pub use entry::AuditEntry;
pub use event::Event;
pub use strangers::Strangers;

use crate::config::Rotation;
use crate::metrics::{Count, Metrics};
use crate::policy::PolicySet;
use crate::status::Refusal;
use crate::telemetry::Tracer;
use crate::words::{Stage, Step, Verdict};
use chain::Chain;
use queue::{Batch, Queue, Queued};
use session::{Call, Sessions};

/// How often it is looked whether failed logins are to be told of.
const TELL: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(500);
/// How long a change waits for the disk before it is refused.
const PATIENCE: Duration = Duration::from_secs(5);

/// The audit log.
#[derive(Clone)]
pub struct AuditLog {
    queue: Arc<Queue>,
    /// Where operations are counted.
    metrics: Arc<Metrics>,
    /// Where events are, of all clusters.
    of_all: Arc<Metrics>,
    tracer: Tracer,
}

impl AuditLog {
    /// Opens the log, goes on with its chain, and writes a first event, so that a gateway that cannot record does not start.
    pub fn open(
        file: &Path,
        rotation: Rotation,
        sessions: Option<Sessions>,
        metrics: Arc<Metrics>,
        tracer: Tracer,
    ) -> anyhow::Result<Self> {
        let mut writer = Writer::open(file, rotation).with_context(|| format!("the audit log {} cannot be written", file.display()))?;
        let mut started = Event::default();
        started.set("version", env!("CARGO_PKG_VERSION"));
        writer
            .append(&[Queued { line: started.at_stage(Stage::Started), who: None }], true)
            .with_context(|| format!("the audit log {} cannot be written", file.display()))?;
        let queue = Arc::new(Queue::default());
        let of_writer = Arc::clone(&queue);
        std::thread::Builder::new().name("audit".into()).spawn(move || run(&mut writer, &of_writer, sessions.as_ref()))?;
        Ok(Self { queue, of_all: Arc::clone(&metrics), metrics, tracer })
    }

    /// Writes all that is queued, and that the gateway stopped.
    pub async fn close(&self) {
        if self.record_durably(&Event::default(), Stage::Stopped).await.is_err() {
            tracing::error!("the audit log could not be written to its end");
        }
    }

    /// A handle of the same log, for operations that are counted elsewhere.
    pub fn counting_in(&self, metrics: &Arc<Metrics>) -> Self {
        Self { metrics: Arc::clone(metrics), ..self.clone() }
    }

    /// What makes the traces of requests.
    pub fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// A stage of an operation has ended just now: it is measured, and a span of the operation's trace.
    pub fn step(&self, event: &mut Event, step: Step, began: Instant) {
        self.metrics.step(step, began);
        event.step(step, began);
    }

    /// Records that a request was refused.
    pub fn refused(&self, refusal: &Refusal, event: &mut Event) {
        event.status(refusal.code).set("refusal", &refusal.message);
        self.record(event, Stage::Refused);
    }

    /// Records which policies are in force, by name and digest, and which should be and are not: of all clusters, or of one with policies of its own.
    pub fn policies(&self, set: &PolicySet, cluster: Option<&str>) {
        let mut event = Event::default();
        if let Some(cluster) = cluster {
            event.set("cluster", cluster);
        }
        let in_force: Vec<_> =
            set.policies.iter().map(|policy| json!({"name": policy.name, "digest": policy.digest, "mode": policy.mode})).collect();
        event.set("inForce", in_force);
        if !set.broken.is_empty() {
            event.set("notLoaded", &set.broken);
        }
        if !set.missing.is_empty() {
            event.set("missing", &set.missing);
        }
        if !set.gone.is_empty() {
            event.set("gone", &set.gone);
        }
        self.record(&event, Stage::Policies);
    }

    /// A refusal while the log cannot be written.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.queue.is_healthy() { Ok(()) } else { Err(unwritable()) }
    }

    /// Tells, again and again, of failed logins that were no events of their own.
    pub async fn tell_of(&self, strangers: &Strangers) {
        loop {
            tokio::time::sleep(TELL).await;
            self.tell(strangers, false);
        }
    }

    /// The same now, of all there were.
    pub fn tell(&self, strangers: &Strangers, all: bool) {
        for (address, count) in strangers.gather(all) {
            let mut event = Event::default();
            event.set("source", address).verdict(Verdict::Unauthenticated).set("failedLogins", count);
            self.record(&event, Stage::Refused);
        }
    }

    /// Queues an event: it is written within milliseconds. While the queue is full whoever records waits; nothing is dropped.
    pub fn record(&self, event: &Event, stage: Stage) {
        self.count(event, stage);
        self.queue.push(queued(event, stage));
    }

    /// Counts something that is told of the gateway and not of a cluster: it outlives those.
    pub fn count_of_all(&self, what: Count) {
        self.of_all.add(what, 1);
    }

    /// The last word on an operation is where it is counted.
    fn count(&self, event: &Event, stage: Stage) {
        self.count_of_all(Count::Events);
        if let Some((outcome, took)) = event.outcome().filter(|_| stage.is_last()) {
            self.metrics.request(outcome, took);
        }
    }

    /// How many events wait to be written.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// Writes an event and waits until it is on the disk.
    pub async fn record_durably(&self, event: &Event, stage: Stage) -> Result<(), Refusal> {
        self.check()?;
        self.count(event, stage);
        let on_disk = self.queue.push_durably(queued(event, stage)).ok_or_else(unwritable)?;
        match tokio::time::timeout(PATIENCE, on_disk).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(unwritable()),
        }
    }
}

fn unwritable() -> Refusal {
    Refusal::unavailable("the gateway's audit log cannot be written, so nothing passes; free its disk, then try again")
}

fn queued(event: &Event, stage: Stage) -> Queued {
    Queued { line: event.at_stage(stage), who: event.who.clone().filter(|_| stage.is_last()) }
}

fn run(writer: &mut Writer, queue: &Queue, sessions: Option<&Sessions>) {
    loop {
        let Batch { events, waiting, .. } = queue.take();
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
    path: PathBuf,
    file: File,
    length: u64,
    chain: Chain,
    rotation: Rotation,
    /// The number of the file's first event, and when the file was begun.
    first: u64,
    began: SystemTime,
}

impl Writer {
    fn open(path: &Path, rotation: Rotation) -> anyhow::Result<Self> {
        let mut file = private(path)?;
        // Of two writers each would break the chain of the other.
        if !crate::store::take(&file)? {
            anyhow::bail!("another process writes it; each gateway has a log of its own");
        }
        let (mut chain, length) = Chain::resume(&mut file)?;
        let files = rotated::files(path);
        if length == 0
            && let [.., before, _] = files.as_slice()
        {
            chain = Chain::resume(&mut File::open(before)?)?.0;
        }
        if file.metadata()?.is_file() && file.metadata()?.len() > length {
            tracing::warn!("the audit log ends in half an event, as after a crash; it is cut off there");
            file.set_len(length)?;
        }
        file.seek(SeekFrom::End(0))?;
        let first = if length == 0 { chain.next() } else { first_event(path)? };
        let began = file.metadata().and_then(|about| about.created().or_else(|_| about.modified())).unwrap_or(SystemTime::now());
        Ok(Self { path: path.to_owned(), file, length, chain, rotation, first, began })
    }

    /// Goes on in another file where this one is long or old enough. What cannot be rotated is written on.
    fn rotate(&mut self) -> std::io::Result<()> {
        let Rotation { size, age } = self.rotation;
        let is_old = age.is_some_and(|age| self.began.elapsed().is_ok_and(|old| old >= age));
        if self.length == 0 || !(is_old || size > 0 && self.length >= size) {
            return Ok(());
        }
        self.file.sync_data()?;
        let to = rotated::name(&self.path, self.first);
        if to.exists() {
            return Err(std::io::Error::other(format!("{} is there already", to.display())));
        }
        // The other file is there before this one has another name: what fails leaves all as it is.
        let next = self.path.with_extension("next");
        let file = private(&next)?;
        file.set_len(0)?;
        file.lock()?;
        std::fs::rename(&self.path, &to)?;
        if let Err(error) = std::fs::rename(&next, &self.path) {
            std::fs::rename(&to, &self.path)?;
            return Err(error);
        }
        (self.file, self.length, self.first, self.began) = (file, 0, self.chain.next(), SystemTime::now());
        Ok(())
    }

    /// Appends events whole or not at all.
    fn append(&mut self, events: &[Queued], durable: bool) -> std::io::Result<()> {
        if let Err(error) = self.rotate() {
            tracing::error!(%error, "the audit log cannot go on in another file; it goes on in this one");
        }
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

/// An audit log while no gateway writes it.
pub struct HeldLog(Writer);

impl HeldLog {
    /// Takes it; an error when a gateway has it. Half an event at its end, as a crash leaves it, is cut off.
    pub fn open(file: &Path) -> anyhow::Result<Self> {
        Writer::open(file, Rotation::default()).map(Self).with_context(|| format!("the audit log {} cannot be written", file.display()))
    }

    /// The hash of its last line.
    pub fn end(&self) -> &str {
        self.0.chain.hash()
    }

    /// Appends an event, and waits until it is on the disk.
    pub fn append(&mut self, event: &Event, stage: Stage) -> anyhow::Result<()> {
        Ok(self.0.append(&[Queued { line: event.at_stage(stage), who: None }], true)?)
    }
}

/// Opens a log that nobody else reads.
fn private(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// The number of a file's first event.
fn first_event(path: &Path) -> anyhow::Result<u64> {
    use std::io::BufRead;
    let mut line = String::new();
    std::io::BufReader::new(File::open(path)?).read_line(&mut line)?;
    let first: serde_json::Value = serde_json::from_str(&line).context("its first line is no event")?;
    first["seq"].as_u64().context("its first line has no seq")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_rotated_and_its_chain_goes_on_across_files_and_starts() {
        let directory = std::env::temp_dir().join(format!("postern-rotated-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("audit.jsonl");
        let rotation = Rotation { size: 400, age: None };
        let event = |n: u32| Queued { line: format!("\"n\":{n}").into_bytes(), who: None };
        for start in 0..3 {
            let mut writer = Writer::open(&path, rotation).unwrap();
            let refused = Writer::open(&path, rotation).err().unwrap().to_string();
            assert!(refused.contains("another process writes it"), "{refused}");
            (0..7).for_each(|n| writer.append(&[event(start * 7 + n)], false).unwrap());
        }
        let files = rotated::files(&path);
        assert!(files.len() > 4, "{files:?}");
        let all: Vec<u8> = files.iter().flat_map(|file| std::fs::read(file).unwrap()).collect();
        assert_eq!(Chain::verify(all.as_slice(), 1).map(|whole| whole.events), Ok(21));
        let first = rotated::first(&path, &files[2]).unwrap();
        let rest: Vec<u8> = files[2..].iter().flat_map(|file| std::fs::read(file).unwrap()).collect();
        assert_eq!(Chain::verify(rest.as_slice(), first).map(|whole| whole.events), Ok(21 - first + 1));
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_log_that_cannot_be_written_stops_the_start() {
        let error = AuditLog::open(Path::new("/dev/full"), Rotation::default(), None, Arc::default(), Tracer::default()).err().unwrap();
        assert!(error.to_string().contains("cannot be written"), "{error:#}");
    }
}
