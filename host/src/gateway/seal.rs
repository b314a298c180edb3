//! The last things before an operation is sent: what must stand is made, and it is entered in the log. HTTP and a waiting terminal are two fronts of this.

use std::time::Instant;

use http::header;

use super::Cluster;
use super::exchange::{AUDIT_ID, Exchange};
use super::opens::Opens;
use crate::classify::Shape;
use crate::decide::{Passed, Terms};
use crate::forward::Seal;
use crate::record::{AuditEntry, Event};
use crate::slots::Slot;
use crate::status::Refusal;
use crate::stream::end::End;
use crate::words::Step;

/// An operation for which all stands that must, before it is sent: its masks can be applied, its body is put right and kept, and what it opens can be
/// recorded. Only [`Cluster::prepare`] makes one. What it would have opened is undone when it is dropped.
struct Prepared {
    exchange: Box<Exchange>,
    passed: Passed,
    opens: Option<Opens>,
}

/// An operation that was decided, prepared and entered in the log. Only [`Cluster::seal`] makes one.
pub(super) struct Sealed {
    pub(super) exchange: Box<Exchange>,
    pub(super) passed: Passed,
    /// What an upgraded connection is.
    pub(super) opens: Option<Opens>,
    /// Records how it ends.
    pub(super) entry: AuditEntry,
    /// With it it may be sent.
    pub(super) seal: Seal,
}

impl Cluster {
    /// Prepares an operation that passes and enters it in the log. `slot` is its place among its caller's streams, where it has one already.
    pub(super) async fn seal(
        &self,
        exchange: Box<Exchange>,
        passed: Passed,
        slot: Option<Slot>,
        event: &mut Event,
    ) -> Result<Sealed, Refusal> {
        // Whoever waited may have waited for a cluster that is this one no more.
        self.is_there()?;
        let Prepared { mut exchange, passed, opens } = self.prepare(exchange, passed, slot, event).await?;
        exchange.headers.insert(AUDIT_ID, exchange.audit_id());
        let entering = Instant::now();
        let mut entry = self.audit.enter(event, exchange.operation.is_mutating()).await?;
        if exchange.operation.is_mutating() {
            entry.step(Step::Record, entering);
        }
        let seal = Seal::of(&passed, &entry);
        Ok(Sealed { exchange, passed, opens, entry, seal })
    }

    /// Whether this is the cluster still: where it was changed or taken out, nothing goes by what it was.
    pub(super) fn is_there(&self) -> Result<(), Refusal> {
        if self.gone.is_cancelled() { Err(End::ClusterChanged.refusal()) } else { Ok(()) }
    }

    async fn prepare(
        &self,
        mut exchange: Box<Exchange>,
        mut passed: Passed,
        slot: Option<Slot>,
        event: &mut Event,
    ) -> Result<Prepared, Refusal> {
        check_masks(&exchange, &passed)?;
        self.keep_request(&exchange, &passed)?;
        // What few operations go through is a future of its own: every request would carry its size.
        if exchange.operation.is_mutating() {
            Box::pin(self.restore(&mut exchange, &passed, event)).await?;
        }
        let upgrades = exchange.headers.contains_key(header::UPGRADE);
        let slot = match slot {
            None if upgrades => Some(self.slot(&exchange.caller)?),
            slot => slot,
        };
        let opens = match slot {
            Some(slot) if exchange.operation.shape == Shape::Stream => {
                Some(Opens::Stream(Box::new(Box::pin(self.ready(&mut exchange, &mut passed, slot, event)).await?)))
            }
            slot => slot.map(Opens::Tunnel),
        };
        Ok(Prepared { exchange, passed, opens })
    }
}

/// Whether what masks hide can be hidden in what comes back.
fn check_masks(exchange: &Exchange, terms: &Terms) -> Result<(), Refusal> {
    let Some(masks) = &terms.masks else { return Ok(()) };
    let by = terms.masked_by.join(", ");
    match exchange.operation.shape {
        Shape::Proxy => Err(Refusal::forbidden(format!("policy {by} masks this, and what comes by proxy cannot be masked"))),
        Shape::Stream if exchange.operation.command.is_none() && masks.reads_text() => {
            Err(Refusal::forbidden(format!("policy {by} masks text, and what flows through a port cannot be masked")))
        }
        _ => Ok(()),
    }
}
