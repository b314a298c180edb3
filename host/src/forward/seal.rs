//! What lets an operation go to the API server.

use crate::decide::Passed;
use crate::record::AuditEntry;
use crate::telemetry::RequestSpan;

/// The seal of an operation: it was decided, and it is in the log. [`Upstream::send`](super::Upstream::send) is the only way on, and takes nothing without one.
///
/// What has both can be sealed, and sent:
///
/// ```no_run
/// # use postern::{decide::Passed, forward::{Outgoing, Seal, Upstream}, record::Entry};
/// async fn send(upstream: &Upstream, passed: &Passed, entry: &Entry, outgoing: Outgoing<'_>) {
///     drop(upstream.send(&Seal::of(passed, entry), outgoing).await);
/// }
/// ```
///
/// What was not decided cannot: only what decides makes a [`Passed`].
///
/// ```compile_fail
/// # use postern::{decide::{Passed, Terms}, forward::{Outgoing, Seal, Upstream}, record::Entry};
/// async fn send(upstream: &Upstream, terms: Terms, entry: &Entry, outgoing: Outgoing<'_>) {
///     let passed = &Passed { terms };
///     drop(upstream.send(&Seal::of(passed, entry), outgoing).await);
/// }
/// ```
///
/// What waits for an approval cannot: of a [`Held`](crate::decide::Held) one gets a `Passed` for a ticket that was taken, and only whoever keeps tickets takes one.
///
/// ```compile_fail
/// # use postern::{approve::{Taken, Ticket}, decide::Ruling, forward::{Outgoing, Seal, Upstream}, record::Entry};
/// async fn send(upstream: &Upstream, ruling: Ruling, ticket: Ticket, entry: &Entry, outgoing: Outgoing<'_>) {
///     let passed = &ruling.released(Taken(ticket)).unwrap();
///     drop(upstream.send(&Seal::of(passed, entry), outgoing).await);
/// }
/// ```
///
/// What is not in the log cannot: only the log makes an [`AuditEntry`].
///
/// ```compile_fail
/// # use postern::{decide::Passed, forward::{Outgoing, Seal, Upstream}, record::{AuditLog, Entry, Event}};
/// async fn send(upstream: &Upstream, passed: &Passed, audit: AuditLog, event: Event, outgoing: Outgoing<'_>) {
///     let entry = &Entry { audit, event, began: std::time::Instant::now() };
///     drop(upstream.send(&Seal::of(passed, entry), outgoing).await);
/// }
/// ```
///
/// And nothing goes without a seal.
///
/// ```compile_fail
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
