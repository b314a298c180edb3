//! What a policy has done since it was loaded: how often it was asked, what it said, and how long that took.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Hook;
use crate::contract::{ChunkVerdict, Verdict};

/// Classes of durations: eight to each doubling, from a microsecond on.
const CLASSES: usize = 25 * 8;

/// Counts of one policy's calls.
pub struct Stats {
    verdicts: [[AtomicU64; HookOutcome::ALL.len()]; Hook::ALL.len()],
    nanoseconds: [AtomicU64; Hook::ALL.len()],
    durations: [AtomicU64; CLASSES],
    remembered: AtomicU64,
}

/// What a call of a hook came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookOutcome {
    /// allow, or forward.
    Allow,
    /// mask, or replace.
    Mask,
    /// block.
    Block,
    /// require-approval.
    RequireApproval,
    /// terminate.
    Terminate,
    /// No answer.
    Failed,
}

impl HookOutcome {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [Self::Allow, Self::Mask, Self::Block, Self::RequireApproval, Self::Terminate, Self::Failed];

    /// What a verdict on an operation or an object comes to; an error is why there is none.
    pub fn of(verdict: &Result<Arc<Verdict>, String>) -> Self {
        match verdict.as_deref() {
            Ok(Verdict::Allow) => Self::Allow,
            Ok(Verdict::Mask(_)) => Self::Mask,
            Ok(Verdict::Block(_)) => Self::Block,
            Ok(Verdict::RequireApproval(_)) => Self::RequireApproval,
            Ok(Verdict::Terminate(_)) => Self::Terminate,
            Err(_) => Self::Failed,
        }
    }

    /// What a verdict on a piece of a stream comes to; an error is why there is none.
    pub fn of_chunk(verdict: &Result<ChunkVerdict, String>) -> Self {
        match verdict {
            Ok(ChunkVerdict::Forward) => Self::Allow,
            Ok(ChunkVerdict::Replace(_)) => Self::Mask,
            Ok(ChunkVerdict::Terminate(_)) => Self::Terminate,
            Err(_) => Self::Failed,
        }
    }

    /// As the audit log names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Mask => "mask",
            Self::Block => "block",
            Self::RequireApproval => "require-approval",
            Self::Terminate => "terminate",
            Self::Failed => "failed",
        }
    }
}

/// The counts at a moment.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    /// Calls of all hooks.
    pub calls: u64,
    /// Those answered with allow.
    pub allow: u64,
    /// With mask.
    pub mask: u64,
    /// With block.
    pub block: u64,
    /// With require-approval.
    pub require_approval: u64,
    /// With terminate.
    pub terminate: u64,
    /// Not answered.
    pub failed: u64,
    /// Calls of on-request.
    pub requests: u64,
    /// Of these, answered from memory.
    pub remembered: u64,
    /// Nanoseconds that half of the calls took at most.
    pub p50: u64,
    /// Nanoseconds that 99 of 100 calls took at most.
    pub p99: u64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            verdicts: Default::default(),
            nanoseconds: Default::default(),
            durations: [const { AtomicU64::new(0) }; CLASSES],
            remembered: AtomicU64::new(0),
        }
    }
}

impl Stats {
    pub(super) fn add(&self, hook: Hook, outcome: HookOutcome, took: Duration) {
        self.verdicts[hook as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
        self.nanoseconds[hook as usize].fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.durations[class_of(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a call that was answered from memory.
    pub(super) fn add_remembered(&self, hook: Hook, outcome: HookOutcome, took: Duration) {
        self.remembered.fetch_add(1, Ordering::Relaxed);
        self.add(hook, outcome, took);
    }

    /// How many calls were answered from memory.
    pub fn remembered(&self) -> u64 {
        self.remembered.load(Ordering::Relaxed)
    }

    /// How many calls of a hook came to this.
    pub fn count(&self, hook: Hook, outcome: HookOutcome) -> u64 {
        self.verdicts[hook as usize][outcome as usize].load(Ordering::Relaxed)
    }

    /// How long all calls of a hook took together.
    pub fn took(&self, hook: Hook) -> Duration {
        Duration::from_nanos(self.nanoseconds[hook as usize].load(Ordering::Relaxed))
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        let [allow, mask, block, require_approval, terminate, failed] =
            HookOutcome::ALL.map(|outcome| Hook::ALL.iter().map(|hook| self.count(*hook, outcome)).sum());
        let requests = HookOutcome::ALL.map(|outcome| self.count(Hook::OnRequest, outcome)).iter().sum();
        let durations: Vec<u64> = self.durations.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let calls: u64 = durations.iter().sum();
        let quantile = |per_hundred: u64| {
            let mut rest = (calls * per_hundred).div_ceil(100);
            let class = durations.iter().position(|count| {
                let found = *count >= rest && rest > 0;
                rest = rest.saturating_sub(*count);
                found
            });
            class.map_or(0, upper_end)
        };
        Counts {
            calls,
            allow,
            mask,
            block,
            require_approval,
            terminate,
            failed,
            requests,
            remembered: self.remembered(),
            p50: quantile(50),
            p99: quantile(99),
        }
    }
}

/// The class of a duration: the last three bits after the first are kept.
fn class_of(took: Duration) -> usize {
    let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1024);
    let doublings = 63 - nanoseconds.leading_zeros() as usize;
    let within = (nanoseconds >> (doublings - 3)) as usize & 7;
    ((doublings - 10) * 8 + within).min(CLASSES - 1)
}

/// Nanoseconds of the longest duration of a class.
fn upper_end(class: usize) -> u64 {
    (9 + class as u64 % 8) << (class / 8 + 10 - 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_an_eighth() {
        let stats = Stats::default();
        for n in 1..=1000 {
            stats.add(Hook::OnRequest, if n % 2 == 0 { HookOutcome::Allow } else { HookOutcome::Block }, Duration::from_micros(n));
        }
        let counts = stats.counts();
        assert_eq!((counts.calls, counts.allow, counts.block, counts.failed), (1000, 500, 500, 0));
        assert!((500_000..=563_000).contains(&counts.p50), "{}", counts.p50);
        assert!((990_000..=1_125_000).contains(&counts.p99), "{}", counts.p99);
        assert_eq!(Stats::default().counts(), Counts::default());
    }

    proptest::proptest! {
        #[test]
        fn a_duration_is_in_the_class_that_ends_after_it(nanoseconds in 1u64..10_000_000_000) {
            let end = upper_end(class_of(Duration::from_nanos(nanoseconds)));
            proptest::prop_assert!(end > nanoseconds && (nanoseconds < 1024 || end <= nanoseconds + nanoseconds / 8 + 1), "{} {}", nanoseconds, end);
        }
    }
}
