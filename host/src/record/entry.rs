//! An operation that is in the log before it is sent, and whose end will be.

use std::ops::{Deref, DerefMut};
use std::time::Instant;

use super::{AuditLog, Event};
use crate::metrics::Count;
use crate::status::Refusal;
use crate::words::{Ending, Stage, Step};

/// An operation's place in the log. Only the log makes one: what changes the cluster is on its disk by then, and how the operation ended is recorded when this is
/// dropped, however that comes about.
pub struct AuditEntry {
    audit: AuditLog,
    event: Event,
}

impl AuditLog {
    /// Enters an operation that is about to be sent. A change is on the disk when this returns; what only reads needs a log that can be written. The event is
    /// handed over with it: whoever has the entry records how it ends.
    pub async fn enter(&self, event: &mut Event, changes: bool) -> Result<AuditEntry, Refusal> {
        match changes {
            true => self.record_durably(event, Stage::Decided).await?,
            false => self.check()?,
        }
        Ok(AuditEntry { audit: self.clone(), event: event.hand_over() })
    }
}

impl AuditEntry {
    /// A stage of the operation has ended just now.
    pub fn step(&mut self, step: Step, began: Instant) {
        self.audit.step(&mut self.event, step, began);
    }

    /// The answer has ended: that is noted, and counted.
    pub fn ended(&mut self, how: Ending) {
        self.event.set("ended", how);
        self.audit.metrics.ended(how);
    }

    /// Counts something that was done with the answer.
    pub fn count(&self, what: Count, number: u64) {
        self.audit.metrics.add(what, number);
    }
}

impl Deref for AuditEntry {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.event
    }
}

impl DerefMut for AuditEntry {
    fn deref_mut(&mut self) -> &mut Event {
        &mut self.event
    }
}

impl Drop for AuditEntry {
    fn drop(&mut self) {
        if let Some((_, took)) = self.event.outcome() {
            self.event.set("milliseconds", u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        }
        self.audit.record(&self.event, Stage::Completed);
    }
}
