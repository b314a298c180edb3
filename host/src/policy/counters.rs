//! Counters that policies keep: budgets and rate limits, shared by all operations and kept over a restart.
//!
//! A window slides in [`SLICES`] steps: what was counted leaves the sum a slice at a time, never early, and at most a slice late.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::store::{CounterRow, CounterStore};

/// Steps in which a window slides.
const SLICES: u64 = 60;
/// Most counters of one policy. What would be one more counts as its failure; no policy takes another's.
const MOST: usize = 20_000;

/// The counters of all policies.
#[derive(Default)]
pub struct Counters {
    kept: Mutex<Kept>,
    store: Option<Mutex<CounterStore>>,
}

#[derive(Default)]
struct Kept {
    of: HashMap<String, HashMap<(String, u32), Counter>>,
    /// Those that ended and are in the store still.
    ended: Vec<(String, String, u32)>,
}

#[derive(Debug, Default)]
struct Counter {
    /// What was counted, by the number of its slice.
    slices: VecDeque<(u64, u64)>,
    changed: bool,
}

impl Counter {
    /// Forgets what has left the window.
    fn slide(&mut self, window: u32, now: u64) {
        let length = slice_of(window);
        while self.slices.front().is_some_and(|(slice, _)| (slice + 1) * length + u64::from(window) <= now) {
            self.slices.pop_front();
        }
    }

    fn add(&mut self, amount: u64, window: u32, now: u64) -> u64 {
        self.slide(window, now);
        let slice = now / slice_of(window);
        match self.slices.back_mut() {
            // A clock that was put back counts on where it was.
            Some((last, sum)) if *last >= slice => *sum = sum.saturating_add(amount),
            _ if amount > 0 => self.slices.push_back((slice, amount)),
            _ => {}
        }
        self.changed |= amount > 0;
        self.slices.iter().fold(0, |sum, (_, amount)| sum.saturating_add(*amount))
    }
}

/// Seconds of a slice.
fn slice_of(window: u32) -> u64 {
    u64::from(window).div_ceil(SLICES).max(1)
}

impl Counters {
    /// Goes on with what was counted before.
    pub fn open(store: CounterStore, now: u64) -> anyhow::Result<Self> {
        let mut kept = Kept::default();
        for CounterRow { policy, key, window, slices } in store.load(now)? {
            let counter = Counter { slices: slices.into(), changed: false };
            kept.of.entry(policy).or_default().insert((key, window), counter);
        }
        Ok(Self { kept: Mutex::new(kept), store: Some(Mutex::new(store)) })
    }

    /// Adds to a counter and returns what was counted in the last `window` seconds; none when the policy keeps too many.
    pub fn add(&self, policy: &str, key: String, amount: u64, window: u32, now: u64) -> Option<u64> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut *kept;
        if !kept.of.contains_key(policy) {
            kept.of.insert(policy.to_owned(), HashMap::new());
        }
        let counters = kept.of.get_mut(policy)?;
        let id = (key, window);
        if let Some(counter) = counters.get_mut(&id) {
            return Some(counter.add(amount, window, now));
        }
        if amount == 0 {
            return Some(0);
        }
        if counters.len() >= MOST {
            sweep(policy, counters, &mut kept.ended, now);
        }
        if counters.len() >= MOST {
            return None;
        }
        Some(counters.entry(id).or_default().add(amount, window, now))
    }

    /// Writes down what changed, and forgets what ended.
    pub fn write(&self, now: u64) -> anyhow::Result<()> {
        let (mut changed, ended) = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let kept = &mut *kept;
            let mut changed = Vec::new();
            for (policy, counters) in &mut kept.of {
                sweep(policy, counters, &mut kept.ended, now);
                for ((key, window), counter) in counters.iter_mut().filter(|(_, counter)| counter.changed) {
                    counter.changed = false;
                    let slices = counter.slices.iter().copied().collect();
                    changed.push(CounterRow { policy: policy.clone(), key: key.clone(), window: *window, slices });
                }
            }
            kept.of.retain(|_, counters| !counters.is_empty());
            (changed, std::mem::take(&mut kept.ended))
        };
        let Some(store) = self.store.as_ref().filter(|_| !changed.is_empty() || !ended.is_empty()) else { return Ok(()) };
        let ends = |row: &CounterRow| row.slices.last().map_or(0, |(slice, _)| (slice + 1) * slice_of(row.window) + u64::from(row.window));
        let rows = changed.iter().map(|row| (row, ends(row)));
        store.lock().unwrap_or_else(PoisonError::into_inner).write(rows, &ended).inspect_err(|_| {
            // They are tried again with the next.
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            for row in changed.drain(..) {
                if let Some(counter) = kept.of.get_mut(&row.policy).and_then(|of| of.get_mut(&(row.key, row.window))) {
                    counter.changed = true;
                }
            }
        })
    }
}

/// Takes out the counters of a policy that stand at nothing.
fn sweep(policy: &str, counters: &mut HashMap<(String, u32), Counter>, ended: &mut Vec<(String, String, u32)>, now: u64) {
    counters.retain(|(key, window), counter| {
        counter.slide(*window, now);
        if counter.slices.is_empty() {
            ended.push((policy.to_owned(), key.clone(), *window));
        }
        !counter.slices.is_empty()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_slides_and_forgets_nothing_early() {
        let counters = Counters::default();
        let add = |policy, amount, now| counters.add(policy, "k".into(), amount, 600, now).unwrap();
        assert_eq!((add("a", 2, 1000), add("a", 3, 1300), add("b", 1, 1300)), (2, 5, 1));
        assert_eq!(add("a", 0, 1599), 5, "both are in the last ten minutes");
        assert_eq!(add("a", 0, 1610), 3, "the first has left");
        assert_eq!(add("a", 1, 1899), 4);
        assert_eq!(add("a", 0, 1911), 1);
        assert_eq!(add("a", 7, 1911), 8);
        assert_eq!((add("a", 0, 2521), add("a", 1, 10)), (0, 1), "a clock that was put back");
    }

    #[test]
    fn other_windows_and_other_policies_count_for_themselves() {
        let counters = Counters::default();
        for window in [1, 59, 60, 61, 3600, u32::MAX] {
            assert_eq!(counters.add("a", "k".into(), u64::MAX, window, 5000), Some(u64::MAX), "{window}");
            assert_eq!(counters.add("a", "k".into(), u64::MAX, window, 5001), Some(u64::MAX), "{window}");
        }
    }

    #[test]
    fn a_policy_that_keeps_too_many_is_told_and_others_go_on() {
        let counters = Counters::default();
        assert!((0..MOST).all(|n| counters.add("a", n.to_string(), 1, 60, 100).is_some()));
        assert_eq!(counters.add("a", "one more".into(), 1, 60, 100), None);
        assert_eq!(counters.add("a", "5".into(), 1, 60, 100), Some(2));
        assert_eq!(counters.add("b", "k".into(), 1, 60, 100), Some(1));
        assert_eq!(counters.add("a", "one more".into(), 1, 60, 161), Some(1), "the others have ended");
    }

    #[test]
    fn what_was_counted_is_there_after_a_restart() {
        let directory = std::env::temp_dir().join(format!("postern-counters-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let open = |now| Counters::open(CounterStore::open(&directory.join("postern.db")).unwrap(), now).unwrap();
        let counters = open(1000);
        counters.add("a", "k".into(), 2, 600, 1000);
        counters.add("a", "k".into(), 3, 600, 1100);
        counters.add("a", "short".into(), 9, 10, 1100);
        counters.write(1100).unwrap();
        let counters = open(1200);
        assert_eq!(counters.add("a", "k".into(), 1, 600, 1200), Some(6));
        assert_eq!(counters.add("a", "short".into(), 1, 10, 1200), Some(1));
        counters.write(1200).unwrap();
        counters.write(3000).unwrap();
        assert_eq!(CounterStore::open(&directory.join("postern.db")).unwrap().load(0).unwrap().len(), 0, "what ended is not kept");
        std::fs::remove_dir_all(directory).unwrap();
    }

    proptest::proptest! {
        #[test]
        fn a_sum_is_never_under_what_was_counted_in_the_window(steps in proptest::collection::vec((0u64..200, 0u64..9), 1..60), window in 1u32..2000) {
            let counters = Counters::default();
            let (mut now, mut all) = (10_000, Vec::new());
            for (later, amount) in steps {
                now += later;
                all.push((now, amount));
                let sum = counters.add("a", "k".into(), amount, window, now).unwrap();
                let within = |seconds: u64| all.iter().filter(|(at, _)| at + seconds > now).map(|(_, amount)| amount).sum::<u64>();
                proptest::prop_assert!(within(u64::from(window)) <= sum && sum <= within(u64::from(window) + slice_of(window)));
            }
        }
    }
}
