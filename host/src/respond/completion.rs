//! The end of an operation, recorded.

use std::time::Instant;

use http::{Response, StatusCode};

use super::items::Items;
use super::objects::Stop;
use crate::body::Body;
use crate::forward::{StreamPermit, Tunnelled};
use crate::listen::Busy;
use crate::mask::MaskCounts;
use crate::metrics::Count;
use crate::policy::ObservedOutcomes;
use crate::record::AuditEntry;
use crate::slots::Slot;
use crate::status::{Refusal, exit_code};
use crate::stream::carry::Carried;
use crate::words::{Ending, Step};

/// Records the end of an operation, however it ends: finished, broken off, or dropped because the client went away.
pub struct Completion {
    pub(super) event: AuditEntry,
    pub(super) bytes: u64,
    pub(super) ended: Option<Ending>,
    /// The answer's place on a connection that watches share.
    pub(super) place: Option<StreamPermit>,
    /// When the API server began to answer.
    answered: Option<Instant>,
    held: Permits,
}

/// What an operation holds until its answer is sent: its connection is in use, and it counts among what its caller may have at a time.
#[derive(Default)]
pub struct Permits {
    _busy: Option<Busy>,
    counted: Option<Slot>,
}

impl Permits {
    /// A request on a connection.
    pub fn new(busy: Busy) -> Self {
        Self { _busy: Some(busy), counted: None }
    }

    /// It counts.
    pub fn count(&mut self, slot: Slot) {
        self.counted = Some(slot);
    }
}

impl Completion {
    /// Begins to watch over an answer.
    pub fn new(event: AuditEntry, held: Permits) -> Self {
        Self { event, bytes: 0, ended: None, place: None, answered: None, held }
    }

    /// The API server begins to answer.
    pub fn begins(&mut self) {
        self.answered = Some(Instant::now());
    }

    /// What is held until the answer is sent, for an answer that is sent when this is over.
    pub(super) fn held(&mut self) -> Permits {
        std::mem::take(&mut self.held)
    }

    /// Ends with a refusal: nothing came back.
    pub fn failed(mut self, refusal: Refusal) -> Response<Body> {
        self.ended = Some(Ending::Failed);
        self.event.status(refusal.code).set("refusal", &refusal.message);
        refusal.into_response()
    }

    /// Ends with what a connection carried that the gateway does not read.
    pub fn tunnelled(&mut self, carried: &Tunnelled) {
        self.bytes = carried.received;
        self.ended = Some(carried.ended);
        self.event.status(StatusCode::SWITCHING_PROTOCOLS).set("requestBytes", carried.sent);
    }

    /// Ends with what a stream carried.
    pub fn streamed(&mut self, carried: Carried) {
        self.bytes = carried.received;
        self.ended = Some(carried.ended);
        self.event.status(StatusCode::SWITCHING_PROTOCOLS).set("requestBytes", carried.sent);
        self.masked(&carried.report, 0);
        self.observed(&carried.observed);
        if let Some(code) = carried.exit.as_ref().and_then(exit_code) {
            self.event.set("exitCode", code);
        }
        if let Some(why) = &carried.why {
            self.event.set("refusal", why);
        }
        if !carried.ports.is_empty() {
            self.event.set("ports", &carried.ports);
        }
    }

    /// Ends with an answer that was told in another form.
    pub fn answered(&mut self, code: StatusCode, bytes: usize) {
        self.bytes = bytes as u64;
        self.ended = Some(Ending::Ok);
        self.event.status(code);
    }

    /// Ends with nothing sent: why, as the caller is told.
    pub(super) fn stopped(&mut self, stop: &Stop) -> Refusal {
        self.ended = Some(Ending::Refused);
        let refusal = match stop {
            Stop::Hidden => Refusal::forbidden("a policy hides this object from you"),
            Stop::Failed(why) => Refusal::internal(why),
            Stop::Terminated(why) => Refusal::forbidden(why),
            Stop::Unreadable(_) => Refusal::bad_gateway(stop.to_string()),
        };
        self.event.status(refusal.code).set("refusal", &refusal.message);
        refusal
    }

    /// Ends with nothing sent, because the API server went away in the middle.
    pub(super) fn broke_off(&mut self, error: &hyper::Error) -> Refusal {
        self.ended = Some(Ending::ServerGone);
        let refusal = Refusal::bad_gateway(format!("the API server's answer broke off: {error}"));
        self.event.status(refusal.code).set("refusal", &refusal.message);
        refusal
    }

    /// Notes what was done with the objects of an answer.
    pub(super) fn worked(&mut self, items: &Items) {
        self.masked(items.report(), items.hidden());
        self.observed(items.observed());
    }

    pub(super) fn observed(&mut self, observed: &ObservedOutcomes) {
        if !observed.is_empty() {
            self.event.set("observed", observed);
        }
    }

    pub(super) fn masked(&mut self, report: &MaskCounts, hidden: u64) {
        self.event.count(Count::Masked, report.values().sum());
        self.event.count(Count::Hidden, hidden);
        if !report.is_empty() {
            self.event.set("masked", report);
        }
        if hidden > 0 {
            self.event.set("hidden", hidden);
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(answered) = self.answered {
            self.event.step(Step::Respond, answered);
        }
        self.event.set("responseBytes", self.bytes);
        self.event.ended(self.ended.unwrap_or(Ending::ClientGone));
    }
}
