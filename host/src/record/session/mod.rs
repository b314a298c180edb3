//! Sessions: what one credential did, API calls and streams in one timeline, kept so that it can be replayed.
//!
//! Everything is recorded after masking. A stream is a file of its own, begun before the command is sent; calls are gathered in segments. One
//! thread writes, a batch at a time; `format` is what a file looks like, [`seal`] what it is signed with, `file` one that is written, [`entangled`] one
//! that two gateways wrote.

pub mod entangled;
pub mod file;
pub mod format;
pub mod index;
pub mod library;
pub mod read;
pub mod recent;
pub mod seal;
pub mod search;
pub mod shelf;
pub mod spool;
pub mod untold;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};

use crate::clock;
use crate::identify::Caller;
use crate::record::Inbox;
use crate::status::Refusal;
use crate::words::Ending;
use format::Kind;
use index::SessionIndex;
use seal::SigningKey;
use spool::Spool;
use writer::Writer;

/// Bytes of one recording that may wait for the disk. Past that its stream waits.
const MOST_WAITING: usize = 1 << 20;
/// Bytes of bodies that may wait for the disk. Past that a body is left out, and said to be.
const MOST_BODIES: usize = 64 << 20;
/// Calls that may wait for the disk. Past that the audit log, which they come from, waits.
const MOST_CALLS: usize = 16_384;

/// Recordings, and the thread that writes them.
#[derive(Clone)]
pub struct Sessions {
    queue: Arc<Queue>,
    largest: u64,
    next: Arc<AtomicU64>,
    spool: Option<Arc<Spool>>,
}

/// What waits for the disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waiting {
    /// Calls.
    pub calls: usize,
    /// Bytes of bodies.
    pub bodies: usize,
}

/// What the writer is asked to do.
enum Job {
    Open { id: u64, path: PathBuf, who: Arc<Caller>, frames: Vec<u8>, state: Arc<Backlog>, opened: oneshot::Sender<Result<(), String>> },
    Frames { id: u64, frames: Vec<u8>, count: u64 },
    Close { id: u64, ended: Ending, lost: u64 },
    Discard { id: u64 },
    Calls(Vec<Call>),
    Body { who: Arc<Caller>, frame: Vec<u8> },
    Stop(oneshot::Sender<()>),
}

/// A call for its session.
pub(super) struct Call {
    pub(super) who: Arc<Caller>,
    /// Its audit event: the members of a JSON object.
    pub(super) event: Vec<u8>,
}

#[derive(Default)]
struct Queue {
    jobs: Mutex<Vec<Job>>,
    filled: Condvar,
    calls: AtomicUsize,
    emptied: Condvar,
    /// Bytes of bodies that wait.
    bodies: AtomicUsize,
    /// Whether the writer rests until it is woken.
    rests: AtomicBool,
}

/// What a stream and the writer know of a recording together.
#[derive(Default)]
struct Backlog {
    waiting: AtomicUsize,
    room: Notify,
    /// Something of it could not be written. It stays so, though the disk may take the rest.
    failed: AtomicBool,
}

impl Sessions {
    /// Opens the directory, takes up what a gateway before did not get to end, and begins to write.
    pub fn open(
        directory: &Path,
        data: &Path,
        index: impl SessionIndex + 'static,
        largest: u64,
        spool: Option<Arc<Spool>>,
        inbox: &Inbox,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make the sessions directory {}", directory.display()))?;
        let key = SigningKey::open(data)?;
        writer::recover(directory, &key, inbox);
        let queue = Arc::new(Queue::default());
        let mut writer = Writer::new(directory.to_owned(), key, Box::new(index), spool.clone(), inbox.clone());
        let of_writer = Arc::clone(&queue);
        std::thread::Builder::new().name("sessions".into()).spawn(move || writer.run(&of_writer))?;
        Ok(Self { queue, largest, next: Arc::default(), spool })
    }

    /// Begins the recording of a stream. Nothing of it is sent before its beginning is written.
    pub async fn begin(&self, who: &Arc<Caller>, name: &str, header: &Value) -> Result<Unopened, String> {
        if let Some(why) = self.spool.as_ref().and_then(|spool| spool.is_full()) {
            return Err(why);
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let state = Arc::new(Backlog::default());
        let mut frames = Vec::new();
        format::frame(Kind::Header, micros(), header.to_string().as_bytes(), &mut frames);
        let (opened, answer) = oneshot::channel();
        let path = Path::new(&who.credential).join(format!("{name}.stream"));
        self.queue.push(Job::Open { id, path, who: Arc::clone(who), frames, state: Arc::clone(&state), opened });
        match answer.await {
            Ok(Ok(())) => Ok(Unopened(Recording {
                id,
                queue: Arc::clone(&self.queue),
                state,
                frames: Vec::new(),
                count: 0,
                left: self.largest,
                lost: 0,
                ended: None,
            })),
            Ok(Err(why)) => Err(why),
            Err(_) => Err("the gateway stops".into()),
        }
    }

    /// Adds calls to their sessions; waits while too many wait for the disk.
    pub(super) fn calls(&self, calls: Vec<Call>) {
        if calls.is_empty() {
            return;
        }
        let mut jobs = self.queue.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        while self.queue.calls.load(Ordering::Relaxed) > MOST_CALLS {
            jobs = self.queue.emptied.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
        let waiting = self.queue.calls.fetch_add(calls.len(), Ordering::Relaxed) + calls.len();
        jobs.push(Job::Calls(calls));
        // The writer looks for calls of its own accord while it is awake: to be woken for each batch would cost more than the calls.
        if waiting > MOST_CALLS / 8 || self.queue.rests.load(Ordering::Relaxed) {
            self.queue.filled.notify_one();
        }
    }

    /// Adds a body to its session: a line that says what it is of, and itself.
    pub fn body(&self, who: &Arc<Caller>, kind: Kind, about: &Value, body: &[u8]) {
        let waiting = self.queue.bodies.load(Ordering::Relaxed);
        let (mut about, mut body) = (about.clone(), body);
        if waiting + body.len() > MOST_BODIES {
            about["omitted"] = "the gateway's disk could not keep up".into();
            body = b"";
        }
        let about = about.to_string();
        let mut frame = Vec::with_capacity(format::HEAD + about.len() + body.len() + 1);
        format::frame_of(kind, micros(), &[about.as_bytes(), b"\n", body], &mut frame);
        self.queue.bodies.fetch_add(frame.len(), Ordering::Relaxed);
        self.queue.push(Job::Body { who: Arc::clone(who), frame });
    }

    /// What waits for the disk.
    pub fn waiting(&self) -> Waiting {
        Waiting { calls: self.queue.calls.load(Ordering::Relaxed), bodies: self.queue.bodies.load(Ordering::Relaxed) }
    }

    /// Seals every recording, and ends the thread.
    pub async fn close(&self) {
        let (stopped, done) = oneshot::channel();
        self.queue.push(Job::Stop(stopped));
        let _ = done.await;
    }
}

impl Queue {
    fn push(&self, job: Job) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).push(job);
        self.filled.notify_one();
    }
}

/// A recording of a stream that is not open yet. Dropped before anything was sent it is taken away again: there was nothing to record.
pub struct Unopened(Recording);

impl Unopened {
    /// The operation is about to be sent: whatever becomes of it, its recording stays, unless it is known that nothing was opened.
    pub fn sent(&mut self) {
        self.0.ended = Some(Ending::BrokenOff);
    }

    /// Nothing was opened: the recording is taken away.
    pub fn refused(mut self) {
        self.0.ended = None;
    }

    /// The stream is open.
    pub fn opened(mut self) -> Recording {
        self.0.ended = Some(Ending::BrokenOff);
        self.0
    }
}

/// One stream that is recorded.
pub struct Recording {
    id: u64,
    queue: Arc<Queue>,
    state: Arc<Backlog>,
    frames: Vec<u8>,
    count: u64,
    left: u64,
    lost: u64,
    /// How it ended, as far as is known; none where nothing was opened, and the recording is taken away.
    ended: Option<Ending>,
}

impl Recording {
    /// Adds to the recording. What is over its size is left out, visibly.
    pub fn write(&mut self, kind: Kind, payload: &[u8]) {
        if matches!(kind, Kind::Stdin | Kind::Stdout | Kind::Stderr) {
            if payload.is_empty() {
                return;
            }
            if payload.len() as u64 > self.left {
                if self.lost == 0 {
                    self.left = 0;
                    self.mark("the recording is as large as it may be (sessions.largestRecording); what follows was not recorded");
                }
                self.lost += payload.len() as u64;
                return;
            }
            self.left -= payload.len() as u64;
        }
        self.count += 1;
        format::frame(kind, micros(), payload, &mut self.frames);
    }

    /// Says that something is missing.
    pub fn mark(&mut self, what: &str) {
        self.write(Kind::Mark, json!({ "what": what }).to_string().as_bytes());
    }

    /// Hands on what was added; whoever added it waits for room before it goes on.
    pub fn hand_on(&mut self) -> Room {
        if self.count > 0 {
            let frames = std::mem::take(&mut self.frames);
            self.state.waiting.fetch_add(frames.len(), Ordering::AcqRel);
            self.queue.push(Job::Frames { id: self.id, frames, count: std::mem::take(&mut self.count) });
        }
        Room(Arc::clone(&self.state))
    }

    /// Says how it ended.
    pub fn end(mut self, how: Ending) {
        self.ended = Some(how);
    }
}

/// Where both directions of a stream wait while too much of its recording waits for the disk.
pub struct Room(Arc<Backlog>);

impl Room {
    /// Waits for room. False when the recording could not be written.
    pub async fn wait(&self) -> bool {
        loop {
            let mut changed = std::pin::pin!(self.0.room.notified());
            // Before anything is looked at: what changes meanwhile is not missed.
            changed.as_mut().enable();
            if self.0.failed.load(Ordering::Acquire) {
                return false;
            }
            if self.0.waiting.load(Ordering::Acquire) <= MOST_WAITING {
                return true;
            }
            changed.await;
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let Some(ended) = self.ended else {
            self.queue.push(Job::Discard { id: self.id });
            return;
        };
        let _ = self.hand_on();
        self.queue.push(Job::Close { id: self.id, ended, lost: self.lost });
    }
}

/// Why something that must be recorded does not pass.
pub fn cannot_record(why: &str) -> Refusal {
    Refusal::unavailable(format!(
        "this session cannot be recorded ({why}), and what is not recorded does not pass; try again once the gateway's disk takes recordings (sessions.onFailure)"
    ))
}

/// Unix microseconds.
pub(crate) fn micros() -> u64 {
    clock::since_1970().as_micros() as u64
}

#[cfg(test)]
mod tests;
