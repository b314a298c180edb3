//! Counters that policies keep: budgets and rate limits, shared by all operations and kept over a restart.
//!
//! A window slides in [`SLICES`] steps: what was counted leaves the sum a slice at a time, never early, and at most a slice late.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::contract::PolicyOperation;
use postern_ground::digest;
use postern_ground::steps::{Rows, wait};

/// Steps in which a window slides.
const SLICES: u64 = 60;
/// Most counters of one policy in one cluster. What would be one more counts as its failure; no policy takes another's.
const MOST: usize = 20_000;

/// Where counters are kept.
pub trait CounterRows: Send + Sync {
    /// Those that stand at something at a time, in Unix seconds; the others are forgotten.
    fn load(&self, now: u64) -> Rows<'_, Vec<CounterRow>>;

    /// Writes some, each with the second at which it ends, and takes out others, all of it or nothing.
    fn write(&self, rows: Vec<(CounterRow, u64)>, ended: Vec<CounterId>) -> Rows<'_, ()>;
}

/// Whose counter it is: what a policy counts in one cluster is nothing to it in another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CounterOwner {
    /// The name of the cluster; empty in rows that are older than that a gateway had several.
    pub cluster: String,
    /// The name of the policy.
    pub policy: String,
}

impl CounterOwner {
    /// Where what a caller spends is counted, and by which key: apart from all keys of the policy's own choice, as no policy has a name with a slash in it.
    pub fn spent(&self, subject: &PolicyOperation, name: &str) -> (Self, String) {
        let whose = digest::of_parts(&[subject.issuer().as_bytes(), subject.username().as_bytes(), name.as_bytes()]);
        (Self { cluster: self.cluster.clone(), policy: format!("{}/spend", self.policy) }, digest::hex(&whose))
    }
}

/// Which counter it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterId {
    /// Whose.
    pub owner: CounterOwner,
    /// The policy's own name for it.
    pub key: String,
    /// The seconds it looks back.
    pub window: u32,
}

/// A counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterRow {
    /// Which it is.
    pub id: CounterId,
    /// The number of each slice of time, and what was counted in it.
    pub slices: Vec<(u64, u64)>,
}

/// The counters of all policies.
#[derive(Default)]
pub struct Counters {
    /// The name of the only cluster there is.
    alone: Option<String>,
    kept: Mutex<CounterTable>,
    /// Nothing is kept where there is none.
    rows: Option<Box<dyn CounterRows>>,
}

#[derive(Default)]
struct CounterTable {
    of: HashMap<CounterOwner, HashMap<(String, u32), Counter>>,
    /// Those that ended and are in the store still.
    ended: Vec<CounterId>,
}

#[derive(Clone, Debug, Default)]
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
    /// Goes on with what was counted before. `alone` is the name of the only cluster, where there is one: its rows have no name, and so a cluster that becomes one
    /// of several goes on where it was.
    pub async fn open(rows: impl CounterRows + 'static, alone: Option<&str>, now: u64) -> anyhow::Result<Self> {
        let mut kept = CounterTable::default();
        for CounterRow { id: CounterId { owner, key, window }, slices } in rows.load(now).await? {
            kept.of.entry(owner).or_default().insert((key, window), Counter { slices: slices.into(), changed: false });
        }
        Ok(Self { alone: alone.map(str::to_owned), kept: Mutex::new(kept), rows: Some(Box::new(rows)) })
    }

    /// Whose a counter is as it is kept, and whose it was where there was one cluster and are several now, or the other way round.
    fn owners(&self, owner: &CounterOwner) -> [CounterOwner; 2] {
        let nameless = CounterOwner { cluster: String::new(), policy: owner.policy.clone() };
        match self.alone.as_deref() == Some(owner.cluster.as_str()) {
            true => [nameless, owner.clone()],
            false => [owner.clone(), nameless],
        }
    }

    /// Adds to a counter and returns what was counted in the last `window` seconds; none when the policy keeps too many.
    pub fn add(&self, owner: &CounterOwner, key: String, amount: u64, window: u32, now: u64) -> Option<u64> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut *kept;
        let ([owner, before], id) = (self.owners(owner), (key, window));
        let known = kept.of.get(&owner).is_some_and(|counters| counters.contains_key(&id));
        // What was counted then counts on in each of them: nobody has a budget anew.
        let before = if known { None } else { kept.of.get(&before).and_then(|counters| counters.get(&id)).cloned() };
        let counters = kept.of.entry(owner.clone()).or_default();
        if let Some(before) = before {
            counters.insert(id.clone(), Counter { changed: true, ..before });
        }
        if let Some(counter) = counters.get_mut(&id) {
            return Some(counter.add(amount, window, now));
        }
        if amount == 0 {
            return Some(0);
        }
        if counters.len() >= MOST {
            sweep(&owner, counters, &mut kept.ended, now);
        }
        if counters.len() >= MOST {
            return None;
        }
        Some(counters.entry(id).or_default().add(amount, window, now))
    }

    /// Writes down what changed, and forgets what ended. It waits for the disk: for threads that serve nobody.
    pub fn write(&self, now: u64) -> anyhow::Result<()> {
        let (changed, ended) = self.changed(now);
        let Some(rows) = self.rows.as_ref().filter(|_| !changed.is_empty() || !ended.is_empty()) else { return Ok(()) };
        let ids: Vec<CounterId> = changed.iter().map(|(row, _)| row.id.clone()).collect();
        wait(rows.write(changed, ended)).inspect_err(|_| {
            // They are tried again with the next.
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            for CounterId { owner, key, window } in ids {
                if let Some(counter) = kept.of.get_mut(&owner).and_then(|of| of.get_mut(&(key, window))) {
                    counter.changed = true;
                }
            }
        })
    }

    /// What changed since this was asked last, each with the second at which it ends, and what ended.
    fn changed(&self, now: u64) -> (Vec<(CounterRow, u64)>, Vec<CounterId>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut *kept;
        let mut changed = Vec::new();
        for (owner, counters) in &mut kept.of {
            sweep(owner, counters, &mut kept.ended, now);
            for ((key, window), counter) in counters.iter_mut().filter(|(_, counter)| counter.changed) {
                counter.changed = false;
                let ends = counter.slices.back().map_or(0, |(slice, _)| (slice + 1) * slice_of(*window) + u64::from(*window));
                let slices = counter.slices.iter().copied().collect();
                changed.push((CounterRow { id: CounterId { owner: owner.clone(), key: key.clone(), window: *window }, slices }, ends));
            }
        }
        kept.of.retain(|_, counters| !counters.is_empty());
        (changed, std::mem::take(&mut kept.ended))
    }
}

/// Takes out the counters of a policy that stand at nothing.
fn sweep(owner: &CounterOwner, counters: &mut HashMap<(String, u32), Counter>, ended: &mut Vec<CounterId>, now: u64) {
    counters.retain(|(key, window), counter| {
        counter.slide(*window, now);
        if counter.slices.is_empty() {
            ended.push(CounterId { owner: owner.clone(), key: key.clone(), window: *window });
        }
        !counter.slices.is_empty()
    });
}

#[cfg(test)]
mod tests;
