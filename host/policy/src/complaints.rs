//! What is said in the log of a policy that fails: callers decide how often it is asked, and not how long the log grows.

use std::sync::atomic::{AtomicU64, Ordering};

/// When something was said last, in Unix seconds, and how much was not said since.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    last: AtomicU64,
    untold: AtomicU64,
}

impl Complaints {
    /// Whether it is said, at a time, and how many were not before it. Once a second is.
    pub(super) fn told(&self, now: u64) -> Option<u64> {
        let last = self.last.load(Ordering::Relaxed);
        if last == now || self.last.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            self.untold.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.untold.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_failures_in_a_second_one_is_said_and_the_next_tells_how_many_were_not() {
        let complaints = Complaints::default();
        assert_eq!(complaints.told(100), Some(0));
        assert!((0..5000).all(|_| complaints.told(100).is_none()));
        assert_eq!((complaints.told(101), complaints.told(101), complaints.told(102)), (Some(5000), None, Some(1)));
    }
}
