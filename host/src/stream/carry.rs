//! Carries a stream: bytes both ways, read as they pass, with back-pressure. What the caller is told at its end is said once.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::end::Ends;
use super::filter::{Filter, output_of};
use crate::mask::MaskCounts;
use crate::policy::ObservedOutcomes;
use crate::record::session::format::Kind;
use crate::record::session::{Recording, cannot_record};
use crate::status::Refusal;
use crate::wire::Channel;
use crate::wire::codec::{Codec, Part, Protocol};
use crate::wire::frames::Sender;
use crate::wire::waiting::Answered;
use crate::words::Ending;

/// Bytes read at a time.
const AT_A_TIME: usize = 64 << 10;
/// How long a caller has to close its side after the end.
pub const FAREWELL: Duration = Duration::from_secs(5);
/// The longest Status that is remembered.
const LONGEST_STATUS: usize = 64 << 10;
/// The most ports that are remembered.
const MOST_PORTS: usize = 100;

/// What a stream is carried with.
pub struct Setup {
    /// How it was agreed on.
    pub protocol: Protocol,
    /// The streams whose opening the gateway has answered already.
    pub answered: Option<Answered>,
    /// What is done with its output.
    pub filter: Filter,
    /// Its recording; none where it goes on without.
    pub recording: Option<Recording>,
    /// Whether it ends when it cannot be recorded.
    pub must_record: bool,
    /// How long it may carry nothing.
    pub idle: Duration,
    /// How long it may last.
    pub longest: Duration,
    /// Is cancelled when the gateway is about to end.
    pub leaving: CancellationToken,
    /// Is ready when the caller's credential or right has ended.
    pub ends: Ends,
    /// The channel on which the user is told something, as far as there is one.
    pub told_on: Option<Channel>,
}

/// What was carried.
#[derive(Debug, Default)]
pub struct Carried {
    /// Bytes from the caller.
    pub sent: u64,
    /// Bytes to the caller.
    pub received: u64,
    /// How it ended.
    pub ended: Ending,
    /// Why the gateway ended it.
    pub why: Option<String>,
    /// How much was hidden.
    pub report: MaskCounts,
    /// What policies that are observed would have done.
    pub observed: ObservedOutcomes,
    /// The Status a command ended with.
    pub exit: Option<serde_json::Value>,
    /// The ports that were connected to.
    pub ports: Vec<String>,
}

/// Passes bytes both ways until one side ends, a policy or a limit says so, or the caller's credential ends. `already` is what the caller sent
/// before.
pub async fn carry<C, S>(caller: C, server: S, already: Bytes, setup: Setup) -> Carried
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ((from_caller, to_caller), (from_server, to_server)) = (tokio::io::split(caller), tokio::io::split(server));
    let as_it_is = setup.filter.is_idle() && setup.answered.is_none();
    let Setup { idle, longest, leaving, ends, .. } = setup;
    let limits = Limits { idle, longest, leaving, ends };
    let stream = Rc::new(Stream {
        inner: RefCell::new(Inner {
            codec: Codec::new(setup.protocol, !as_it_is, setup.answered),
            as_it_is,
            filter: setup.filter,
            recording: setup.recording,
            must_record: setup.must_record,
            told_on: setup.told_on,
            carried: Carried { ended: Ending::ClientGone, ..Carried::default() },
            status: Vec::new(),
            last: Instant::now(),
            ending: None,
        }),
        ending: Notify::new(),
        over: Notify::new(),
    });
    let work = async {
        let inward = stream.inward(from_caller, to_server, already);
        let outward = async {
            let ended = stream.outward(from_server, to_caller).await;
            stream.over.notify_one();
            ended
        };
        let _ = tokio::try_join!(inward, outward);
    };
    tokio::select! {
        () = work => {}
        () = stream.watch(limits) => {}
    }
    let mut inner = stream.inner.borrow_mut();
    inner.finish()
}

/// Takes what is there already beside what was read: much output goes on in few pieces.
async fn fill<S: AsyncRead + AsyncWrite>(from: &mut ReadHalf<S>, buffer: &mut [u8], mut read: usize) -> usize {
    while read < buffer.len() {
        let mut more = std::pin::pin!(from.read(&mut buffer[read..]));
        // The end, and an error, are told again when they are asked for.
        match std::future::poll_fn(|cx| std::task::Poll::Ready(more.as_mut().poll(cx))).await {
            std::task::Poll::Ready(Ok(more @ 1..)) => read += more,
            _ => return read,
        }
    }
    read
}

struct Limits {
    idle: Duration,
    longest: Duration,
    leaving: CancellationToken,
    ends: Ends,
}

struct Stream {
    inner: RefCell<Inner>,
    /// The gateway ends the stream.
    ending: Notify,
    /// Nothing more comes from the server.
    over: Notify,
}

struct Inner {
    codec: Codec,
    /// Whether what the server sends goes on as it came.
    as_it_is: bool,
    filter: Filter,
    recording: Option<Recording>,
    must_record: bool,
    told_on: Option<Channel>,
    carried: Carried,
    status: Vec<u8>,
    last: Instant,
    ending: Option<Refusal>,
}

impl Stream {
    /// From the caller into the container: parsed and recorded, never changed.
    async fn inward<C, S>(&self, mut caller: ReadHalf<C>, mut server: WriteHalf<S>, already: Bytes) -> std::io::Result<()>
    where
        C: AsyncRead + AsyncWrite,
        S: AsyncRead + AsyncWrite,
    {
        // A server that has ended takes nothing more, and what it said before is on its way still: that goes on to the caller, who may be slow.
        let mut taken = Ok(());
        for piece in already.chunks(AT_A_TIME) {
            taken = self.take_in(piece, &mut server).await;
        }
        let mut buffer = vec![0; AT_A_TIME];
        loop {
            let read = tokio::select! {
                read = caller.read(&mut buffer) => read?,
                () = self.over.notified() => {
                    // The caller closes in its turn; closed at once, what was said last could be lost.
                    let rest = async { while caller.read(&mut buffer).await.is_ok_and(|read| read > 0) {} };
                    let _ = tokio::time::timeout(FAREWELL, rest).await;
                    return Ok(());
                }
            };
            if read == 0 {
                let _ = server.shutdown().await;
                return Ok(());
            }
            if taken.is_ok() {
                taken = self.take_in(&buffer[..read], &mut server).await;
            }
        }
    }

    async fn take_in<S: AsyncRead + AsyncWrite>(&self, bytes: &[u8], server: &mut WriteHalf<S>) -> std::io::Result<()> {
        if !self.inner.borrow_mut().inward(bytes) {
            self.ending.notify_one();
            return Ok(());
        }
        self.recorded().await;
        if self.inner.borrow().ending.is_some() {
            // What could not be recorded does not reach the container.
            return Ok(());
        }
        server.write_all(bytes).await?;
        server.flush().await
    }

    /// From the container to the caller.
    async fn outward<C, S>(&self, mut server: ReadHalf<S>, mut caller: WriteHalf<C>) -> std::io::Result<()>
    where
        C: AsyncRead + AsyncWrite,
        S: AsyncRead + AsyncWrite,
    {
        let (mut buffer, mut out) = (vec![0; AT_A_TIME], Vec::new());
        loop {
            let wait = self.inner.borrow().filter.wait().filter(|_| self.inner.borrow().codec.at_rest());
            let read = tokio::select! {
                biased;
                () = self.ending.notified() => return self.farewell(&mut server, &mut caller).await,
                read = server.read(&mut buffer) => read,
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {
                    out.clear();
                    self.inner.borrow_mut().let_go(wait, &mut out);
                    self.inner.borrow_mut().carried.received += out.len() as u64;
                    caller.write_all(&out).await?;
                    caller.flush().await?;
                    continue;
                }
            };
            out.clear();
            let read = match read {
                Ok(read @ 1..) => fill(&mut server, &mut buffer, read).await,
                ended => {
                    self.inner.borrow_mut().server_ended(ended.is_ok(), &mut out);
                    self.recorded().await;
                    caller.write_all(&out).await?;
                    return caller.shutdown().await;
                }
            };
            let as_it_is = self.inner.borrow_mut().outward(&buffer[..read], &mut out);
            self.recorded().await;
            caller.write_all(if as_it_is { &buffer[..read] } else { &out }).await?;
            caller.flush().await?;
            if self.inner.borrow().ending.is_some() {
                return self.farewell(&mut server, &mut caller).await;
            }
        }
    }

    /// Hands what was recorded to the disk. A stream that cannot be recorded ends.
    async fn recorded(&self) {
        // The recording stays where it is: while one direction waits the other goes on to record.
        let room = self.inner.borrow_mut().recording.as_mut().map(Recording::hand_on);
        let Some(room) = room else { return };
        let written = room.wait().await;
        let mut inner = self.inner.borrow_mut();
        if !written && inner.must_record && inner.ending.is_none() {
            inner.end(Ending::RecordingFailed, cannot_record("the gateway's disk cannot be written"));
            self.ending.notify_one();
        }
    }

    /// Ends the stream at its limits.
    async fn watch(&self, mut limits: Limits) {
        let total = Instant::now() + limits.longest;
        let (how, why) = loop {
            let idle = self.inner.borrow().last + limits.idle;
            tokio::select! {
                () = tokio::time::sleep_until(idle.min(total)) => {}
                end = &mut limits.ends => break (end.how(), end.refusal().message),
                () = limits.leaving.cancelled() => {
                    break (Ending::GatewayStopped, "the gateway is being stopped; run the command again in a moment".to_owned());
                }
            }
            let (now, idle) = (Instant::now(), self.inner.borrow().last + limits.idle);
            if now >= total {
                break (Ending::TooLong, format!("a stream lasts {} seconds at most (limits.streamTime)", limits.longest.as_secs()));
            } else if now >= idle {
                break (Ending::Idle, format!("nothing was carried for {} seconds (limits.streamIdleTime)", limits.idle.as_secs()));
            }
        };
        self.inner.borrow_mut().end(how, Refusal::timeout(format!("the stream was ended: {why}")));
        self.ending.notify_one();
        // A caller that takes nothing is not waited for.
        tokio::time::sleep(FAREWELL).await;
    }

    /// Tells the caller why, as its protocol has it.
    async fn farewell<C, S>(&self, server: &mut ReadHalf<S>, caller: &mut WriteHalf<C>) -> std::io::Result<()>
    where
        C: AsyncRead + AsyncWrite,
        S: AsyncRead + AsyncWrite,
    {
        let mut out = Vec::new();
        // In the middle of a frame nothing can be said: its rest goes first, byte by byte, for what follows it stays behind.
        let rest = async {
            let mut buffer = [0; 4096];
            while !self.inner.borrow().may_tell() {
                let read = server.read(&mut buffer).await.unwrap_or(0);
                if read == 0 {
                    break;
                }
                for byte in &buffer[..read] {
                    let mut inner = self.inner.borrow_mut();
                    if inner.may_tell() {
                        break;
                    }
                    inner.pass(std::slice::from_ref(byte), &mut out);
                }
            }
        };
        let _ = tokio::time::timeout(FAREWELL, rest).await;
        self.inner.borrow_mut().farewell(&mut out);
        caller.write_all(&out).await?;
        caller.shutdown().await
    }
}

impl Inner {
    /// False when the stream ends here.
    fn inward(&mut self, bytes: &[u8]) -> bool {
        if self.ending.is_some() {
            return false;
        }
        self.carried.sent += bytes.len() as u64;
        let Self { codec, recording, carried, last, .. } = self;
        let read = codec.push(Sender::Client, bytes, &mut |part| match part {
            Part::Data(channel, data) => {
                // A ping keeps nothing alive: only what is carried does.
                *last = Instant::now();
                let kind = match channel {
                    Channel::Stdin => Kind::Stdin,
                    Channel::Resize => Kind::Resize,
                    _ => return,
                };
                if let Some(recording) = recording {
                    recording.write(kind, data);
                }
            }
            Part::Port(port) => {
                if carried.ports.len() < MOST_PORTS && !carried.ports.iter().any(|known| known == port) {
                    carried.ports.push(port.to_owned());
                }
                if let Some(recording) = recording {
                    recording.write(Kind::Port, port.as_bytes());
                }
            }
            Part::Raw(_) | Part::End(_) => {}
        });
        if let Err(violation) = read {
            self.end(Ending::Violation, Refusal::bad_request(violation.to_string()));
        }
        read.is_ok()
    }

    /// Whether the bytes go on as they are; else what goes on is in `out`.
    fn outward(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> bool {
        let as_it_is = self.as_it_is;
        let mut pieces = Vec::new();
        let Self { codec, status, recording, last, .. } = self;
        let mut moved = false;
        let read = codec.push(Sender::Server, bytes, &mut |part| {
            moved |= matches!(part, Part::Data(..));
            match part {
                Part::Data(Channel::Error, data) => {
                    let room = LONGEST_STATUS.saturating_sub(status.len());
                    status.extend_from_slice(&data[..data.len().min(room)]);
                    if !as_it_is {
                        pieces.push((Some(Channel::Error), data.to_vec(), false));
                    }
                }
                Part::Data(channel @ (Channel::Stdout | Channel::Stderr), data) if as_it_is => {
                    if let Some(recording) = recording {
                        recording.write(kind(channel), data);
                    }
                }
                Part::Raw(bytes) if !as_it_is => pieces.push((None, bytes.to_vec(), false)),
                Part::Data(channel @ (Channel::Stdout | Channel::Stderr), data) => pieces.push((Some(channel), data.to_vec(), false)),
                Part::End(channel @ (Channel::Stdout | Channel::Stderr | Channel::Error)) if !as_it_is => {
                    pieces.push((Some(channel), Vec::new(), true))
                }
                _ => {}
            }
        });
        if moved {
            *last = Instant::now();
        }
        for (channel, bytes, ends) in pieces {
            match channel {
                None => out.extend_from_slice(&bytes),
                Some(Channel::Error) => {
                    // A client that has the Status goes: what is held back goes before it.
                    self.let_go(None, out);
                    if ends {
                        self.codec.end(Channel::Error, out);
                    } else {
                        self.codec.write(Channel::Error, &bytes, out);
                    }
                }
                Some(channel) => {
                    let mut text = Vec::new();
                    if ends {
                        self.filter.flush(output_of(channel), &mut text);
                    } else if let Err(refusal) = self.filter.push(output_of(channel), &bytes, &mut text) {
                        self.end(Ending::Terminated, refusal);
                        break;
                    }
                    // An empty message says that the connection is there.
                    if !text.is_empty() || bytes.is_empty() && !ends {
                        self.show(channel, &text, out);
                    }
                    if ends {
                        self.codec.end(channel, out);
                    }
                }
            }
        }
        if let Err(violation) = read {
            self.end(Ending::Violation, Refusal::bad_gateway(violation.to_string()));
            // Nothing of what could not be read goes on.
            out.clear();
            return false;
        }
        self.carried.received += if as_it_is { bytes.len() } else { out.len() } as u64;
        as_it_is
    }

    fn show(&mut self, channel: Channel, text: &[u8], out: &mut Vec<u8>) {
        if let Some(recording) = &mut self.recording {
            recording.write(kind(channel), text);
        }
        self.codec.write(channel, text, out);
    }

    /// Lets go what was held back: all of it, or only what was to be held for as long as was waited. What one channel holds for a moment must not
    /// let go what may be half a value on the other.
    fn let_go(&mut self, waited: Option<Duration>, out: &mut Vec<u8>) {
        for channel in [Channel::Stdout, Channel::Stderr] {
            if waited.is_some() && self.filter.wait_of(output_of(channel)) != waited {
                continue;
            }
            let mut text = Vec::new();
            self.filter.flush(output_of(channel), &mut text);
            if !text.is_empty() {
                self.show(channel, &text, out);
            }
        }
    }

    fn server_ended(&mut self, well: bool, out: &mut Vec<u8>) {
        if self.codec.at_rest() {
            self.let_go(None, out);
            self.carried.received += out.len() as u64;
        }
        self.carried.ended = if well { Ending::Ok } else { Ending::ServerGone };
    }

    fn end(&mut self, how: Ending, why: Refusal) {
        if self.ending.is_none() {
            self.carried.ended = how;
            self.carried.why = Some(why.message.clone());
            self.ending = Some(why);
        }
    }

    /// Whether the caller can be told something: it is between two frames, or its protocol is broken and nothing will do.
    fn may_tell(&self) -> bool {
        self.codec.at_rest() || self.carried.ended == Ending::Violation
    }

    /// A byte of a frame that was begun.
    fn pass(&mut self, byte: &[u8], out: &mut Vec<u8>) {
        let as_it_is = self.as_it_is;
        let read = self.codec.push(Sender::Server, byte, &mut |part| match part {
            Part::Raw(bytes) if !as_it_is => out.extend_from_slice(bytes),
            _ => {}
        });
        if as_it_is {
            out.extend_from_slice(byte);
        }
        if read.is_err() {
            self.carried.ended = Ending::Violation;
        }
    }

    fn farewell(&mut self, out: &mut Vec<u8>) {
        let Some(why) = self.ending.clone() else { return };
        if let Some(recording) = &mut self.recording {
            recording.mark(&why.message);
        }
        if !self.codec.at_rest() {
            return;
        }
        if let Some(channel) = self.told_on {
            self.codec.write(channel, format!("\r\npostern: {}\r\n", why.message).as_bytes(), out);
        }
        self.codec.finish(why.to_json().trim_end().as_bytes(), out);
    }

    fn finish(&mut self) -> Carried {
        let mut carried = std::mem::take(&mut self.carried);
        carried.report = self.filter.report();
        carried.observed = self.filter.observed().clone();
        let status = String::from_utf8_lossy(&self.status).into_owned();
        if let Some(recording) = self.recording.take() {
            let mut recording = recording;
            if !status.is_empty() {
                recording.write(Kind::Exit, status.as_bytes());
            }
            recording.end(carried.ended);
        }
        carried.exit = serde_json::from_str(&status).ok();
        carried
    }
}

fn kind(channel: Channel) -> Kind {
    if channel == Channel::Stderr { Kind::Stderr } else { Kind::Stdout }
}

#[cfg(test)]
#[path = "carry_tests.rs"]
mod tests;
