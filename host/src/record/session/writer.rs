//! The thread that writes recordings.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::file::{PART, RecordingFile};
use super::format::{self, Kind};
use super::index::{SessionIndex, Touched};
use super::seal::SigningKey;
use super::spool::Spool;
use super::{Backlog, Call, Job, Queue, micros};
use crate::identify::Caller;
use crate::record::Inbox;
use crate::store::wait;
use crate::words::Ending;

/// How often calls are looked for: they are on their way from the audit log, which has them already.
const LOOK: Duration = Duration::from_millis(200);
/// How often what was written is put on the disk and the index is brought up to date.
const TURN: Duration = Duration::from_secs(1);
/// A segment of calls is sealed when it is so long idle, so old or so large.
const IDLE: Duration = Duration::from_secs(300);
const OLD: Duration = Duration::from_secs(3600);
const LARGE: u64 = 64 << 20;
/// Segments that are open at a time.
const MOST_SEGMENTS: usize = 500;

pub(super) struct Writer {
    directory: PathBuf,
    key: SigningKey,
    index: Box<dyn SessionIndex>,
    streams: HashMap<u64, Stream>,
    segments: HashMap<String, Segment>,
    /// By the address of the caller, which [`Touched`] keeps alive.
    touched: HashMap<usize, Touched>,
    /// The way on to an object store, if there is one.
    spool: Option<Arc<Spool>>,
    /// Where the audit log hears of what is finished.
    inbox: Inbox,
}

struct Stream {
    file: RecordingFile,
    state: Arc<Backlog>,
    who: Arc<Caller>,
    /// Bytes that could not be written.
    lost: u64,
    /// Whether what came last could not be.
    broken: bool,
}

struct Segment {
    file: RecordingFile,
    began: Instant,
    last: Instant,
}

impl Writer {
    pub(super) fn new(directory: PathBuf, key: SigningKey, index: Box<dyn SessionIndex>, spool: Option<Arc<Spool>>, inbox: Inbox) -> Self {
        Self { directory, key, index, streams: HashMap::new(), segments: HashMap::new(), touched: HashMap::new(), spool, inbox }
    }

    pub(super) fn run(&mut self, queue: &Queue) {
        let mut turned = Instant::now();
        loop {
            let mut stopped = None;
            for job in self.take(queue) {
                match job {
                    Job::Stop(done) => stopped = Some(done),
                    Job::Calls(calls) => {
                        queue.calls.fetch_sub(calls.len(), Ordering::Relaxed);
                        queue.emptied.notify_all();
                        self.calls(calls);
                    }
                    Job::Body { who, frame } => {
                        queue.bodies.fetch_sub(frame.len(), Ordering::Relaxed);
                        if let Err(error) = self.append(&who.credential, &who, &frame, 1) {
                            tracing::error!(%error, "the body of a call could not be added to its session");
                        }
                    }
                    job => self.stream(job),
                }
            }
            if turned.elapsed() >= TURN || stopped.is_some() {
                turned = Instant::now();
                self.turn(stopped.is_some());
            }
            if let Some(done) = stopped {
                let _ = done.send(());
                return;
            }
        }
    }

    fn take(&self, queue: &Queue) -> Vec<Job> {
        let mut jobs = queue.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.is_empty() {
            // With nothing open nobody is woken.
            let nothing_open = self.streams.is_empty() && self.segments.is_empty() && self.touched.is_empty();
            let rest = if nothing_open { Duration::from_secs(3600) } else { LOOK };
            queue.rests.store(nothing_open, Ordering::Relaxed);
            jobs = queue.filled.wait_timeout(jobs, rest).unwrap_or_else(PoisonError::into_inner).0;
            queue.rests.store(false, Ordering::Relaxed);
        }
        std::mem::take(&mut jobs)
    }

    fn stream(&mut self, job: Job) {
        match job {
            Job::Open { id, path, who, frames, state, opened } => {
                let made =
                    RecordingFile::create(&self.directory.join(path)).and_then(|mut file| match file.append(&self.key, &frames, 1) {
                        Ok(()) => Ok(file),
                        Err(error) => {
                            file.discard();
                            Err(error)
                        }
                    });
                let answer = match made {
                    Ok(file) => {
                        self.streams.insert(id, Stream { file, state, who, lost: 0, broken: false });
                        Ok(())
                    }
                    Err(error) => {
                        tracing::error!(%error, "a session cannot be recorded");
                        Err(error.to_string())
                    }
                };
                let _ = opened.send(answer);
            }
            Job::Frames { id, frames, count } => {
                let Some(stream) = self.streams.get_mut(&id) else { return };
                stream.append(&self.key, &frames, count);
                stream.state.waiting.fetch_sub(frames.len(), Ordering::AcqRel);
                stream.state.room.notify_waiters();
            }
            Job::Close { id, ended, lost } => {
                let Some(stream) = self.streams.remove(&id) else { return };
                self.touch(&stream.who).streams += 1;
                let lost = lost + stream.lost;
                let ended = if stream.lost > 0 { Ending::NotRecordedWhole } else { ended };
                self.seal(stream.file, ended, lost);
            }
            Job::Discard { id } => {
                if let Some(stream) = self.streams.remove(&id) {
                    stream.file.discard();
                }
            }
            Job::Body { .. } | Job::Calls(_) | Job::Stop(_) => {}
        }
    }

    fn calls(&mut self, calls: Vec<Call>) {
        let mut by_session: HashMap<String, (Arc<Caller>, Vec<u8>, u64)> = HashMap::new();
        let now = micros();
        for Call { who, event } in calls {
            let refused = memchr::memmem::find(&event, b"\"stage\":\"refused\"").is_some();
            let touched = self.touch(&who);
            touched.calls += 1;
            touched.refused += u64::from(refused);
            if !by_session.contains_key(&who.credential) {
                by_session.insert(who.credential.clone(), (Arc::clone(&who), Vec::new(), 0));
            }
            let Some(entry) = by_session.get_mut(&who.credential) else { continue };
            format::frame_of(Kind::Call, now, &[b"{", &event, b"}"], &mut entry.1);
            entry.2 += 1;
        }
        for (session, (who, frames, count)) in by_session {
            if let Err(error) = self.append(&session, &who, &frames, count) {
                // The audit log has them: what is lost is their place in the session.
                tracing::error!(%error, %session, calls = count, "calls could not be added to their session");
                self.segments.remove(&session);
            }
        }
    }

    fn append(&mut self, session: &str, who: &Caller, frames: &[u8], count: u64) -> std::io::Result<()> {
        let now = Instant::now();
        if !self.segments.contains_key(session) {
            if self.segments.len() >= MOST_SEGMENTS
                && let Some(oldest) = self.segments.iter().min_by_key(|(_, segment)| segment.last).map(|(session, _)| session.clone())
            {
                self.seal_segment(&oldest);
            }
            let name = format!("{:016x}.calls", micros());
            let mut file = RecordingFile::create(&self.directory.join(session).join(name))?;
            let mut header = Vec::new();
            let of = json!({"kind": "calls", "session": session, "caller": {"username": who.username, "groups": who.groups, "issuer": who.issuer}});
            format::frame(Kind::Header, micros(), of.to_string().as_bytes(), &mut header);
            file.append(&self.key, &header, 1)?;
            self.segments.insert(session.to_owned(), Segment { file, began: now, last: now });
        }
        match self.segments.get_mut(session) {
            Some(segment) => {
                segment.last = now;
                segment.file.append(&self.key, frames, count)
            }
            None => Ok(()),
        }
    }

    fn touch(&mut self, who: &Arc<Caller>) -> &mut Touched {
        let touched = self.touched.entry(Arc::as_ptr(who).addr()).or_insert_with(|| Touched::new(Arc::clone(who)));
        touched.last = micros() / 1_000_000;
        touched
    }

    /// Once a second: onto the disk, into the index, and what is done is sealed.
    fn turn(&mut self, last: bool) {
        for stream in self.streams.values_mut() {
            if let Err(error) = stream.file.sync() {
                tracing::error!(%error, "a recording cannot be put on the disk");
                stream.fail();
            }
        }
        let done: Vec<String> = self
            .segments
            .iter_mut()
            .filter_map(|(session, segment)| {
                let _ = segment.file.sync();
                let done = last || segment.last.elapsed() > IDLE || segment.began.elapsed() > OLD || segment.file.length() > LARGE;
                done.then(|| session.clone())
            })
            .collect();
        done.iter().for_each(|session| self.seal_segment(session));
        if last {
            for (_, stream) in std::mem::take(&mut self.streams) {
                self.seal(stream.file, Ending::GatewayStopped, stream.lost);
            }
        }
        if self.touched.is_empty() {
            return;
        }
        match wait(self.index.touch(self.touched.values().cloned().collect())) {
            Ok(()) => self.touched.clear(),
            // Recordings are their own truth: the index is caught up when it can be.
            Err(error) => tracing::error!(%error, "the index of sessions cannot be written"),
        }
    }

    fn seal_segment(&mut self, session: &str) {
        if let Some(segment) = self.segments.remove(session) {
            self.seal(segment.file, Ending::Ok, 0);
        }
    }

    fn seal(&self, file: RecordingFile, ended: Ending, lost: u64) {
        let (bytes, recording) = (file.length(), file.path().to_owned());
        match file.seal(&self.key, ended, lost) {
            Ok(sealed) => {
                self.inbox.recorded(&sealed);
                self.spool.iter().for_each(|spool| spool.add(bytes));
            }
            // The file keeps its unfinished name, and is taken up when the gateway starts again.
            Err(error) => tracing::error!(recording = %recording.display(), %error, "a recording cannot be sealed"),
        }
    }
}

impl Stream {
    /// Appends, or counts what is lost; when the disk takes it again, the loss is marked first.
    fn append(&mut self, key: &SigningKey, frames: &[u8], count: u64) {
        if self.broken {
            let what = json!({"what": "the disk could not be written; what came here is missing", "bytes": self.lost});
            let mut mark = Vec::new();
            format::frame(Kind::Mark, micros(), what.to_string().as_bytes(), &mut mark);
            mark.extend_from_slice(frames);
            match self.file.append(key, &mark, count + 1) {
                Ok(()) => self.broken = false,
                Err(_) => self.lost += frames.len() as u64,
            }
        } else if let Err(error) = self.file.append(key, frames, count) {
            tracing::error!(%error, "a session cannot be recorded any more");
            self.lost += frames.len() as u64;
            self.broken = true;
            self.fail();
        }
    }

    fn fail(&self) {
        self.state.failed.store(true, Ordering::Release);
        self.state.room.notify_waiters();
    }
}

/// Takes up what a gateway before this one did not get to end.
pub(super) fn recover(directory: &Path, key: &SigningKey, inbox: &Inbox) {
    let of = |directory: &Path| std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>();
    for path in of(directory).iter().flat_map(|session| of(session)).filter(|path| path.extension().is_some_and(|e| e == PART)) {
        match RecordingFile::recover(&path, key) {
            Ok(sealed) => {
                inbox.recorded(&sealed);
                tracing::warn!(recording = %path.display(), "a recording that was not ended is sealed as far as it goes");
            }
            Err(error) => tracing::error!(recording = %path.display(), %error, "a recording that was not ended cannot be taken up"),
        }
    }
}
