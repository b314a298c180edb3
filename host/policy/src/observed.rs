//! What policies in `observe` mode would have done with the pieces of an answer.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Outcome;

/// How often which policy would have done what. What changes nothing is not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Observed(BTreeMap<String, BTreeMap<&'static str, u64>>);

impl Observed {
    /// Counts an answer.
    pub fn add(&mut self, policy: &str, outcome: Outcome) {
        if outcome == Outcome::Allow {
            return;
        }
        if !self.0.contains_key(policy) {
            self.0.insert(policy.to_owned(), BTreeMap::new());
        }
        if let Some(counts) = self.0.get_mut(policy) {
            *counts.entry(outcome.name()).or_default() += 1;
        }
    }

    /// Whether nothing would have been done.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
