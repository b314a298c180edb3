//! Counters that policies keep: budgets and rate limits.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Most counters kept. What would be one more counts as a failure of the policy that asks for it.
const MOST: usize = 100_000;

/// Counters by policy and key.
#[derive(Debug, Default)]
pub(super) struct Counters(Mutex<HashMap<(String, String), (u64, u64)>>);

impl Counters {
    /// Adds to a counter whose window began at its first use and ends `window` seconds later; none when there are too many.
    pub(super) fn add(&self, policy: &str, key: String, amount: u64, window: u32, now: u64) -> Option<u64> {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counters.len() >= MOST {
            counters.retain(|_, (_, ends)| *ends > now);
        }
        let full = counters.len() >= MOST;
        let id = (policy.to_owned(), key);
        if full && !counters.contains_key(&id) {
            return None;
        }
        let (sum, ends) = counters.entry(id).or_insert((0, now + u64::from(window)));
        if *ends <= now {
            (*sum, *ends) = (0, now + u64::from(window));
        }
        *sum = sum.saturating_add(amount);
        Some(*sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_begins_anew_with_its_window() {
        let counters = Counters::default();
        let add = |policy, now| counters.add(policy, "k".into(), 2, 10, now);
        assert_eq!((add("a", 100), add("a", 109), add("b", 109), add("a", 110)), (Some(2), Some(4), Some(2), Some(2)));
    }
}
