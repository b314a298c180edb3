//! What policies in `observe` mode would have done with the objects of an answer and the pieces of a stream: counted for the audit event.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::HookOutcome;

/// Counts by policy name and by outcome (`mask`, `terminate`, `failed`), as `observed` of the audit event has them. What changes nothing is not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ObservedOutcomes(BTreeMap<String, BTreeMap<&'static str, u64>>);

impl ObservedOutcomes {
    /// Counts one call of a policy's hook by what it came to; one that changes nothing is left out.
    pub fn add(&mut self, policy: &str, outcome: HookOutcome) {
        if outcome == HookOutcome::Allow {
            return;
        }
        if !self.0.contains_key(policy) {
            self.0.insert(policy.to_owned(), BTreeMap::new());
        }
        if let Some(counts) = self.0.get_mut(policy) {
            *counts.entry(outcome.name()).or_default() += 1;
        }
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
