//! Metrics: what is counted while requests pass, and how it is told to Prometheus.
//!
//! A thread that serves counts in a shard of its own, so that no two wait for one cache line; a scrape adds the shards up. Every label has few values that
//! are known beforehand ([`crate::words`], the names of policies, clusters and issuers): no caller can make one grow.

mod collector;
mod histogram;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;

use crate::words::{Ending, Step, Verb, Verdict};
pub use collector::{Kind, Sample, Source};
use histogram::Histogram;

/// Shards: threads beyond so many share them.
const SHARDS: usize = 16;
/// Classes of status codes: none, and from 1xx to 5xx.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// What is counted. Where nobody asks for it nothing is.
#[derive(Debug, Default)]
pub struct Metrics {
    shards: Option<Box<[Shard; SHARDS]>>,
}

/// What one thread counted.
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    requests: [[[AtomicU64; CLASSES.len()]; Verdict::ALL.len()]; Verb::ALL.len()],
    steps: [Histogram; Step::ALL.len()],
    endings: [AtomicU64; Ending::ALL.len()],
    counts: [AtomicU64; Count::ALL.len()],
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            requests: [const { [const { [const { AtomicU64::new(0) }; CLASSES.len()] }; Verdict::ALL.len()] }; Verb::ALL.len()],
            steps: Default::default(),
            endings: Default::default(),
            counts: Default::default(),
        }
    }
}

/// What is counted without labels, or by cluster alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Requests of which it is not known who asked.
    FailedLogins,
    /// Values that masks hid.
    Masked,
    /// Objects that policies hid.
    Hidden,
    /// Connections that were opened to the API server.
    Connections,
    /// Credentials of its own that the API server did not take.
    CredentialsRefused,
    /// Tokens of ServiceAccounts that were asked for.
    Tokens,
    /// Events that were written to the audit log.
    Events,
}

impl Count {
    /// Whether it is told by cluster.
    const fn is_by_cluster(self) -> bool {
        !matches!(self, Self::FailedLogins | Self::Events)
    }

    const ALL: [(Self, &'static str, &'static str); 7] = [
        (Self::FailedLogins, "postern_failed_logins", "Requests of which it is not known who asked"),
        (Self::Masked, "postern_masked_values", "Values that masks hid in what came back"),
        (Self::Hidden, "postern_hidden_objects", "Objects that policies hid in what came back"),
        (Self::Connections, "postern_upstream_connections_opened", "Connections that were opened to the API server"),
        (Self::CredentialsRefused, "postern_upstream_credentials_refused", "Credentials of the gateway that the API server did not take"),
        (Self::Tokens, "postern_upstream_token_requests", "Tokens of ServiceAccounts that were asked for"),
        (Self::Events, "postern_audit_events", "Events that were handed to the audit log"),
    ];
}

/// How an operation ended, in words that can be counted.
#[derive(Clone, Copy, Debug)]
pub struct OperationOutcome {
    /// What was asked for.
    pub verb: Verb,
    /// What was decided.
    pub verdict: Verdict,
    /// The status of the answer; 0 where there was none.
    pub code: u16,
}

impl Default for OperationOutcome {
    fn default() -> Self {
        Self { verb: Verb::Other, verdict: Verdict::None, code: 0 }
    }
}

thread_local! {
    static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The shard of the next thread.
static NEXT: AtomicUsize = AtomicUsize::new(0);

impl Metrics {
    /// Counts from now on.
    pub fn counting() -> Arc<Self> {
        Arc::new(Self { shards: Some(Box::default()) })
    }

    fn mine(&self) -> Option<&Shard> {
        let shards = self.shards.as_deref()?;
        let number = MINE.get();
        if number < SHARDS {
            return Some(&shards[number]);
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
        MINE.set(number);
        Some(&shards[number])
    }

    /// Counts an operation that has ended.
    pub fn request(&self, outcome: OperationOutcome, took: Duration) {
        let Some(shard) = self.mine() else { return };
        let class = usize::from(outcome.code / 100).min(CLASSES.len() - 1);
        shard.requests[outcome.verb as usize][outcome.verdict as usize][class].fetch_add(1, Ordering::Relaxed);
        shard.steps[Step::All as usize].add(took);
    }

    /// Counts how an answer ended.
    pub fn ended(&self, how: Ending) {
        if let Some(shard) = self.mine() {
            shard.endings[how as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Measures a step: it has taken until now.
    pub fn step(&self, step: Step, began: Instant) {
        if let Some(shard) = self.mine() {
            shard.steps[step as usize].add(began.elapsed());
        }
    }

    /// Counts something.
    pub fn add(&self, what: Count, number: u64) {
        if let Some(shard) = self.mine().filter(|_| number > 0) {
            shard.counts[what as usize].fetch_add(number, Ordering::Relaxed);
        }
    }

    /// The text of a scrape, as OpenMetrics has it: what was counted in each cluster, and what is looked at only now.
    pub fn text(counted: Vec<(String, Arc<Self>)>, sources: Vec<Box<dyn Source>>) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(collector::Collector { counted, sources }));
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    }

    fn shards(&self) -> &[Shard] {
        self.shards.as_deref().map_or(&[], |shards| shards.as_slice())
    }

    fn sum(&self, of: impl Fn(&Shard) -> u64) -> u64 {
        self.shards().iter().map(of).sum()
    }
}

#[cfg(test)]
mod tests;
