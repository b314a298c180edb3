//! A body on its way: worked on as it passes, and what comes in small pieces is sent together.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::{Completion, Looking, Lost, Work, readable};
use crate::body::BoxError;
use crate::classify::Shape;
use crate::policy::contract::Output;
use crate::status::Refusal;
use crate::stream::end::{End, Ends};
use crate::words::Ending;

/// What is sent at a time. The API server sends a list in a chunk for each item: each by itself would be a TLS record and a system call.
const TOGETHER: usize = 48 << 10;
/// How often hyper asks for more in one turn: once more after it has flushed (`wants_write_again` in its `proto/h1/dispatch.rs`).
const ASKED_IN_ONE_TURN: u8 = 2;
/// Why a watch cannot go on from where it began.
const EXPIRED: &str = "too old resource version: what this watch began with is no longer known; list and watch anew";

/// How the caller of an answer that goes on for long can be told why it ends.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// By an event that is an error, as in any watch. It may end without: clients then begin anew, and meet the reason.
    Events {
        /// Whether they are JSON.
        json: bool,
    },
    /// By a line of text.
    Text,
    /// Not at all. It must not look whole.
    Other,
}

impl Form {
    /// The form of an answer.
    pub(super) fn of(shape: Shape, headers: &HeaderMap) -> Self {
        match shape {
            Shape::Watch => Self::Events { json: readable(headers, true).is_ok() },
            Shape::Log if readable(headers, false).is_ok() => Self::Text,
            _ => Self::Other,
        }
    }
}

/// A piece of a body, or what ends it.
type Sent = Result<Frame<Bytes>, BoxError>;

/// A body on its way, worked on as it passes.
pub(super) struct AnswerBody<B: http_body::Body<Data = Bytes> = Incoming> {
    body: B,
    work: Work,
    ends: Option<Ends>,
    form: Form,
    /// The last byte that was sent.
    last: u8,
    completion: Completion,
    done: bool,
    /// What came of a list or a watch and was not worked on yet: a piece with many items in it is worked on in one pass.
    raw: Vec<u8>,
    /// How the body ended, while the last that came of it is worked on.
    over: Option<Option<Sent>>,
    /// What was worked on and can be sent.
    ready: Vec<u8>,
    /// How often it was asked since something came last.
    asked: u8,
    /// What ends it when all that is ready was sent.
    failed: Option<BoxError>,
    /// When what is held back of a text goes on.
    held: Option<Pin<Box<Sleep>>>,
    /// How a policy ended it: the last that is sent, and why.
    parting: Option<(Vec<u8>, String)>,
    /// What a watch waits for.
    looking: Option<Looking>,
}

impl<B: http_body::Body<Data = Bytes>> AnswerBody<B> {
    /// `ready` is what was worked on before.
    pub(super) fn new(body: B, work: Work, ready: Vec<u8>, completion: Completion) -> Self {
        let empty = matches!(work, Work::Pass) && body.is_end_stream();
        let mut answer = Self {
            body,
            work,
            ends: None,
            form: Form::Other,
            last: b'\n',
            completion,
            done: false,
            raw: Vec::new(),
            over: None,
            ready,
            asked: 0,
            failed: None,
            held: None,
            parting: None,
            looking: None,
        };
        if empty {
            answer.end(Ending::Ok);
        }
        answer
    }

    /// With what ends it before it is over, and the form in which that is told.
    pub(super) fn until(mut self, ends: Option<Ends>, form: Form) -> Self {
        (self.ends, self.form) = (ends, form);
        self
    }

    fn end(&mut self, how: Ending) {
        self.done = true;
        self.completion.ended = Some(how);
        match &self.work {
            Work::Items(items) => self.completion.worked(items),
            Work::Text(filter) => {
                self.completion.masked(&filter.report(), 0);
                self.completion.observed(filter.observed());
            }
            Work::Pass => {}
        }
    }

    /// Whether the caller has all of a text that was asked for.
    fn is_full(&self) -> bool {
        matches!(&self.work, Work::Text(filter) if filter.is_full())
    }

    /// Gathers what comes in small pieces; none while there is not enough to be worked on.
    fn gather(&mut self, data: Bytes) -> Option<Bytes> {
        if !matches!(self.work, Work::Items(_)) || self.raw.is_empty() && data.len() >= TOGETHER {
            return Some(data);
        }
        if !self.raw.is_empty() && self.raw.capacity() < TOGETHER {
            self.raw.reserve(TOGETHER);
        }
        self.raw.extend_from_slice(&data);
        (self.raw.len() >= TOGETHER).then(|| self.gathered())
    }

    fn gathered(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.raw))
    }

    /// Works on a piece, or on what is left at the end.
    fn work_on(&mut self, data: Option<&Bytes>) -> Result<(), BoxError> {
        let out = &mut self.ready;
        let before = out.len();
        if before > 0 && out.capacity() < TOGETHER {
            out.reserve(TOGETHER);
        }
        match (&mut self.work, data) {
            (Work::Pass, data) => out.extend_from_slice(data.map_or(&[], |data| data)),
            (Work::Items(items), data) => {
                let step = match data {
                    Some(data) => items.push(data, out),
                    None => items.finish(out),
                };
                if let Err(stop) = step {
                    let error = stop.to_string();
                    self.parting = items.parting(stop);
                    if self.parting.as_ref().is_none_or(|(last, _)| last.is_empty()) {
                        // Half an object may be there with what hides it still to come.
                        out.truncate(before);
                    }
                    return Err(error.into());
                }
            }
            (Work::Text(filter), Some(data)) => filter.push(Output::Log, data, out).map_err(|refusal| {
                // A log has no other place to say why it ends.
                self.parting = Some((format!("\npostern: {}\n", refusal.message).into_bytes(), refusal.message.clone()));
                refusal.message
            })?,
            (Work::Text(filter), None) => filter.flush(Output::Log, out),
        }
        Ok(())
    }

    /// Learns what a watch must know before it goes on. What is ready meanwhile need not wait.
    fn look(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        let Work::Items(items) = &mut self.work else { return Poll::Ready(Ok(())) };
        loop {
            let looking = match (&mut self.looking, items.asks()) {
                (Some(looking), _) => looking,
                (None, Some(asked)) => self.looking.insert(asked),
                (None, None) => return Poll::Ready(Ok(())),
            };
            let found = ready!(looking.as_mut().poll(cx));
            self.looking = None;
            items.answer(found?.as_deref(), &mut self.ready).map_err(|stop| Lost::Unknown(stop.to_string()))?;
        }
    }

    /// Nothing comes just now. What is ready goes out when others on this thread had their turn, the connection to the API server among them, and
    /// brought no more; what a text mask held back long enough goes on.
    fn idle(&mut self, cx: &mut Context<'_>) -> Poll<Option<Sent>> {
        if !self.ready.is_empty() {
            return if self.had_turns(cx) { self.send() } else { Poll::Pending };
        }
        let Work::Text(filter) = &mut self.work else { return Poll::Pending };
        let Some(wait) = filter.wait() else { return Poll::Pending };
        let held = self.held.get_or_insert_with(|| Box::pin(tokio::time::sleep(wait)));
        ready!(held.as_mut().poll(cx));
        self.held = None;
        filter.flush(Output::Log, &mut self.ready);
        if self.is_full() {
            self.end(Ending::Ok);
        }
        if self.ready.is_empty() { Poll::Pending } else { self.send() }
    }

    /// Whether others on this thread had their turn since something came. If not, it is asked again after them.
    fn had_turns(&mut self, cx: &mut Context<'_>) -> bool {
        self.asked = self.asked.saturating_add(1);
        let had = self.asked > ASKED_IN_ONE_TURN;
        if !had {
            cx.waker().wake_by_ref();
        }
        had
    }

    /// Sends what is ready, or says that there is no more.
    fn send(&mut self) -> Poll<Option<Sent>> {
        let ready = Bytes::from(std::mem::take(&mut self.ready));
        self.last = ready.last().copied().unwrap_or(self.last);
        self.completion.bytes += ready.len() as u64;
        Poll::Ready((!ready.is_empty()).then(|| Ok(Frame::data(ready))))
    }

    /// Ends before it is over, and says why.
    fn cut(&mut self, end: End) -> Poll<Option<Sent>> {
        self.end(end.how());
        let refusal = end.refusal();
        let begins_line = self.ready.last().copied().unwrap_or(self.last) == b'\n';
        match self.form {
            Form::Events { json: true } if begins_line => self.ready.extend_from_slice(refusal.to_event().as_bytes()),
            Form::Events { .. } => {}
            Form::Text => {
                let line = if begins_line { "" } else { "\n" };
                self.ready.extend_from_slice(format!("{line}postern: {}\n", refusal.message).as_bytes());
            }
            Form::Other => return self.fail(refusal.message.into()),
        }
        self.send()
    }

    /// Breaks off what cannot be gone on with. Why is in the audit log, for callers may bring this about as often as they like.
    fn break_off(&mut self, error: BoxError) -> Poll<Option<Sent>> {
        self.completion.event.set("refusal", error.to_string());
        self.end(Ending::BrokenOff);
        self.fail(error)
    }

    /// Sends what is ready, and then nothing but the error.
    fn fail(&mut self, error: BoxError) -> Poll<Option<Sent>> {
        self.failed = Some(error);
        if self.ready.is_empty() { Poll::Ready(self.failed.take().map(Err)) } else { self.send() }
    }
}

impl<B: http_body::Body<Data = Bytes>> Drop for AnswerBody<B> {
    fn drop(&mut self) {
        if !self.done {
            self.end(Ending::ClientGone);
        }
    }
}

impl<B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Unpin> AnswerBody<B> {
    /// What comes next of the body.
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Sent>> {
        match self.over.take() {
            Some(end) => Poll::Ready(end),
            None => Pin::new(&mut self.body).poll_frame(cx).map(|came| came.map(|frame| frame.map_err(Into::into))),
        }
    }
}

impl<B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Unpin> http_body::Body for AnswerBody<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Sent>> {
        let this = &mut *self;
        if this.done {
            return Poll::Ready(this.failed.take().map(Err));
        }
        if let Some(ends) = &mut this.ends
            && let Poll::Ready(end) = ends.as_mut().poll(cx)
        {
            return this.cut(end);
        }
        loop {
            if this.ready.len() >= TOGETHER {
                return this.send();
            }
            match this.look(cx) {
                Poll::Pending => return this.idle(cx),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(Lost::Expired)) => {
                    this.end(Ending::Expired);
                    this.ready.extend_from_slice(Refusal::expired(EXPIRED).to_event().as_bytes());
                    return this.send();
                }
                Poll::Ready(Err(Lost::Unknown(error))) => return this.break_off(error.into()),
            }
            let data = match this.next(cx) {
                Poll::Pending if this.raw.is_empty() => return this.idle(cx),
                Poll::Pending if !this.had_turns(cx) => return Poll::Pending,
                Poll::Pending => Some(this.gathered()),
                Poll::Ready(came) => {
                    (this.held, this.asked) = (None, 0);
                    match came {
                        Some(Ok(frame)) => {
                            let Some(data) = frame.into_data().ok().and_then(|data| this.gather(data)) else { continue };
                            Some(data)
                        }
                        end if !this.raw.is_empty() => {
                            this.over = Some(end);
                            Some(this.gathered())
                        }
                        None => None,
                        Some(Err(error)) => {
                            this.end(Ending::ServerGone);
                            return this.fail(error);
                        }
                    }
                }
            };
            if let (Work::Pass, Some(long)) = (&this.work, &data)
                && this.ready.is_empty()
                && long.len() >= TOGETHER
            {
                this.completion.bytes += long.len() as u64;
                this.last = long.last().copied().unwrap_or(this.last);
                if this.body.is_end_stream() {
                    this.end(Ending::Ok);
                }
                return Poll::Ready(data.map(|data| Ok(Frame::data(data))));
            }
            if let Err(error) = this.work_on(data.as_ref()) {
                let Some((last, why)) = this.parting.take() else {
                    return this.break_off(error);
                };
                this.completion.event.set("refusal", &why);
                this.end(Ending::Terminated);
                this.ready.extend_from_slice(&last);
                // What cannot say why it ends must not look whole.
                return if last.is_empty() { this.fail(error) } else { this.send() };
            }
            // With a length that is known nobody asks whether there is more.
            if data.is_none() || this.is_full() || matches!(this.work, Work::Pass) && this.body.is_end_stream() {
                this.end(Ending::Ok);
                return this.send();
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.done && self.failed.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if matches!(self.work, Work::Pass) && self.ready.is_empty() { self.body.size_hint() } else { SizeHint::default() }
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
