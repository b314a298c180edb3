//! Record: an append-only, hash-chained audit log of every operation, refusal and failed login, and [`session`]s that can be replayed.
//!
//! One thread writes, a batch at a time. What changes the cluster is on the disk before it is forwarded; what only reads is written
//! within milliseconds after its answer ends. While the log cannot be written, nothing passes.

pub mod chain;
mod entry;
mod event;
mod file;
pub mod head;
mod inbox;
pub mod query;
mod queue;
pub mod rotated;
pub mod session;
pub mod shown;
mod strangers;
pub(crate) mod witness;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;

pub use entry::AuditEntry;
pub use event::Event;
pub use file::HeldLog;
pub use inbox::Inbox;
pub use strangers::Strangers;

use crate::config::Audit;
use crate::metrics::{Count, Metrics};
use crate::policy::PolicySet;
use crate::policy::change::{Change, InForce};
use crate::status::Refusal;
use crate::telemetry::Tracer;
use crate::words::{Stage, Step, Verdict};
use file::{LogEnd, LogFile};
use queue::{Batch, Queue, Queued};
use session::file::SealedRecording;
use session::seal::SigningKey;
use session::{Call, Sessions};
use witness::{Position, Witness};

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
    witness: Arc<Witness>,
    position: Arc<Position>,
}

/// What a log is opened with.
pub struct Opening {
    /// Where events wait for it, some of them already.
    pub inbox: Inbox,
    /// What it is signed with, now and then.
    pub key: SigningKey,
    /// Where calls are handed on to.
    pub sessions: Option<Sessions>,
    /// Where operations are counted.
    pub metrics: Arc<Metrics>,
    /// What makes the traces of requests.
    pub tracer: Tracer,
    /// What is told of the gateway that starts.
    pub started: Event,
}

#[cfg(test)]
impl Opening {
    /// A log of its own, which nobody hands anything on from.
    pub fn new(key: SigningKey) -> Self {
        Self { inbox: Inbox::default(), key, sessions: None, metrics: Arc::default(), tracer: Tracer::default(), started: Event::default() }
    }
}

impl AuditLog {
    /// Opens the log, goes on with its chain, and writes a first event, so that a gateway that cannot record does not start.
    pub fn open(path: &Path, config: &Audit, opening: Opening) -> anyhow::Result<Self> {
        let Opening { inbox, key, sessions, metrics, tracer, mut started } = opening;
        let unwritable = || format!("the audit log {} cannot be written", path.display());
        let mut file = LogFile::open(path, config.rotation(), &key).with_context(unwritable)?;
        // Before anything is written: a witness that cannot be one refuses the start.
        let (witness, position) = (Arc::new(Witness::new(path, key, config)?), Arc::new(Position::default()));
        started.set("version", env!("CARGO_PKG_VERSION"));
        match file.found() {
            LogEnd::Fits => {}
            LogEnd::CutOff { head, found } => drop(started.set("cutOff", json!({"head": head, "found": found}))),
            LogEnd::Unknown(why) => drop(started.set("endUnknown", why)),
        }
        file.append(&[Queued { line: started.at_stage(Stage::Started), who: None }], true).with_context(unwritable)?;
        let (seq, hash) = file.end();
        position.set(seq, hash);
        // At once: a start that is refused, or killed, leaves a log of which the end is known.
        witness.say(&position, true);
        Witness::go_on(&witness, &position)?;
        let queue = inbox.0;
        let (of_writer, told) = (Arc::clone(&queue), Arc::clone(&position));
        std::thread::Builder::new().name("audit".into()).spawn(move || run(&mut file, &of_writer, sessions.as_ref(), &told))?;
        Ok(Self { queue, of_all: Arc::clone(&metrics), metrics, tracer, witness, position })
    }

    /// Records that a recording is finished.
    pub fn recorded(&self, sealed: &SealedRecording) {
        Inbox(Arc::clone(&self.queue)).recorded(sealed);
    }

    /// Waits until all that was queued is written and handed on.
    pub async fn settle(&self) {
        if self.record_durably(&Event::default(), Stage::Stopping).await.is_err() {
            tracing::error!("the audit log could not be written to its end");
        }
    }

    /// Writes all that is queued, and that the gateway stopped.
    pub async fn close(&self) {
        if self.record_durably(&Event::default(), Stage::Stopped).await.is_err() {
            tracing::error!("the audit log could not be written to its end");
        }
        let (witness, position) = (Arc::clone(&self.witness), Arc::clone(&self.position));
        let told = tokio::task::spawn_blocking(move || {
            witness.say(&position, true);
            witness.settle();
        });
        // A disk that hangs is not waited for without end.
        let _ = tokio::time::timeout(2 * PATIENCE, told).await;
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

    /// Records which policies are in force, by name and digest, and which should be and are not: of all clusters, or of one with policies of its own. `changed` is what
    /// differs from what was recorded last, where that is known.
    pub fn policies(&self, set: &PolicySet, in_force: &[InForce], changed: Option<&[Change]>, cluster: Option<&str>) {
        let mut event = Event::default();
        if let Some(cluster) = cluster {
            event.set("cluster", cluster);
        }
        event.set("inForce", in_force);
        if let Some(changed) = changed {
            event.set("changed", changed);
        }
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

fn run(file: &mut LogFile, queue: &Queue, sessions: Option<&Sessions>, position: &Position) {
    let mut synced = None;
    loop {
        let Batch { events, waiting, .. } = queue.take(synced);
        while let Err(error) = file.append(&events, !waiting.is_empty()) {
            if queue.set_healthy(false) {
                tracing::error!(%error, "the audit log cannot be written; nothing passes until it can");
            }
            std::thread::sleep(RETRY);
        }
        if !waiting.is_empty() {
            synced = Some((Instant::now(), waiting.len()));
        }
        if !queue.set_healthy(true) {
            tracing::info!("the audit log is written again");
        }
        let (seq, hash) = file.end();
        position.set(seq, hash);
        // Whoever waits for the last of all knows then that calls are on their way to their sessions.
        if let Some(sessions) = sessions {
            let of_sessions = events.into_iter().filter_map(|Queued { line, who }| Some(Call { who: who?, event: line }));
            sessions.calls(of_sessions.collect());
        }
        for written in waiting {
            let _ = written.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_cannot_be_written_stops_the_start() {
        let error =
            AuditLog::open(Path::new("/dev/full"), &Audit::default(), Opening::new(SigningKey::of_seed(&[7; 32]).unwrap())).err().unwrap();
        assert!(error.to_string().contains("cannot be written"), "{error:#}");
    }
}
