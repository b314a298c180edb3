//! Durations, by how long they are at most.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The ends of the classes, in microseconds; the last class has none.
pub(super) const ENDS: [u64; 16] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000, 30_000_000, 300_000_000];

/// Durations that were counted.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    classes: [AtomicU64; ENDS.len() + 1],
    nanoseconds: AtomicU64,
}

/// Durations that were counted, added up over threads.
#[derive(Default)]
pub(super) struct Total {
    classes: [u64; ENDS.len() + 1],
    nanoseconds: u64,
}

impl Histogram {
    pub(super) fn add(&self, took: Duration) {
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let class = ENDS.partition_point(|end| *end < microseconds);
        self.classes[class].fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn add_to(&self, total: &mut Total) {
        for (sum, class) in total.classes.iter_mut().zip(&self.classes) {
            *sum += class.load(Ordering::Relaxed);
        }
        total.nanoseconds += self.nanoseconds.load(Ordering::Relaxed);
    }
}

impl Total {
    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// How long they took together, in seconds.
    pub(super) fn seconds(&self) -> f64 {
        Duration::from_nanos(self.nanoseconds).as_secs_f64()
    }

    /// The ends of the classes in seconds, and how many there are in each.
    pub(super) fn classes(&self) -> Vec<(f64, u64)> {
        let ends = ENDS.iter().map(|end| Duration::from_micros(*end).as_secs_f64()).chain([f64::INFINITY]);
        ends.zip(self.classes).collect()
    }
}
