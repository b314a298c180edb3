//! What lets an operation go to the API server.

use crate::decide::Passed;
use crate::record::AuditEntry;
use crate::telemetry::RequestSpan;

/// The seal of an operation: it was decided, and it is in the log. [`Upstream::send`](super::Upstream::send) is the only way on, and takes nothing without one.
///
/// What has both can be sealed, and sent:
///
/// ```no_run
/// # use postern::{decide::Passed, forward::{Outgoing, Seal, Upstream}, record::AuditEntry};
/// async fn send(upstream: &Upstream, passed: &Passed, entry: &AuditEntry, outgoing: Outgoing<'_>) {
///     drop(upstream.send(&Seal::of(passed, entry), outgoing).await);
/// }
/// ```
///
/// What was not decided cannot: only what decides makes a [`Passed`].
///
/// ```compile_fail,E0451
/// # use postern::{decide::{Passed, Terms}, forward::{Outgoing, Seal, Upstream}, record::AuditEntry};
/// async fn send(upstream: &Upstream, terms: Terms, entry: &AuditEntry, outgoing: Outgoing<'_>) {
///     let passed = &Passed { terms };
///     drop(upstream.send(&Seal::of(passed, entry), outgoing).await);
/// }
/// ```
///
/// What waits for an approval cannot: of a [`Pending`](crate::decide::Pending) one gets a `Passed` for a ticket that was taken, and only whoever keeps tickets takes one.
///
/// ```compile_fail,E0423
/// # use postern::{approve::{Taken, Ticket}, decide::Ruling, forward::{Outgoing, Seal, Upstream}, record::AuditEntry};
/// async fn send(upstream: &Upstream, ruling: Ruling, ticket: Ticket, entry: &AuditEntry, outgoing: Outgoing<'_>) {
///     let passed = &ruling.released(Taken(ticket)).unwrap();
///     drop(upstream.send(&Seal::of(passed, entry), outgoing).await);
/// }
/// ```
///
/// What is not in the log cannot: only the log makes an [`AuditEntry`].
///
/// ```compile_fail,E0451
/// # use postern::{decide::Passed, forward::{Outgoing, Seal, Upstream}, record::{AuditEntry, AuditLog, Event}};
/// async fn send(upstream: &Upstream, passed: &Passed, audit: AuditLog, event: Event, outgoing: Outgoing<'_>) {
///     let entry = &AuditEntry { audit, event };
///     drop(upstream.send(&Seal::of(passed, entry), outgoing).await);
/// }
/// ```
///
/// And nothing goes without a seal.
///
/// ```compile_fail,E0451
/// # use postern::forward::{Outgoing, Seal, Upstream};
/// async fn send(upstream: &Upstream, outgoing: Outgoing<'_>) {
///     drop(upstream.send(&Seal { place: None }, outgoing).await);
/// }
/// ```
pub struct Seal {
    /// Its place in a trace, where one is made.
    place: Option<RequestSpan>,
}

impl Seal {
    /// Seals what was decided and is in the log.
    pub fn of(_passed: &Passed, entry: &AuditEntry) -> Self {
        Self { place: entry.place().cloned() }
    }

    pub(super) fn place(&self) -> Option<&RequestSpan> {
        self.place.as_ref()
    }
}
