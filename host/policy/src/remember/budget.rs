//! How much may be remembered: of all policies together, and by what one caller asks.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

/// Bytes of all that is remembered.
const ALL: usize = 8 << 20;
/// Of these, what one caller's operations may have filled.
const OF_ONE: usize = ALL / 8;

/// What is taken of it.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    hasher: RandomState,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    callers: HashMap<u64, usize>,
}

impl Taken {
    fn has_room(&self, caller: u64, bytes: usize) -> bool {
        self.all + bytes <= ALL && self.callers.get(&caller).copied().unwrap_or(0) + bytes <= OF_ONE
    }
}

impl Budget {
    /// Whose share it is: one and the same for all policies and clusters.
    pub(super) fn caller(&self, issuer: &str, username: &str) -> u64 {
        self.hasher.hash_one((issuer, username))
    }

    /// Whether there is room for so many bytes of a caller.
    pub(super) fn has_room(&self, caller: u64, bytes: usize) -> bool {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).has_room(caller, bytes)
    }

    /// Takes so many bytes for a caller, where there is room.
    pub(super) fn take(&self, caller: u64, bytes: usize) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if !taken.has_room(caller, bytes) {
            return false;
        }
        taken.all += bytes;
        *taken.callers.entry(caller).or_default() += bytes;
        true
    }

    /// Gives back what was taken for callers.
    pub(super) fn give_back(&self, callers: HashMap<u64, usize>) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for (caller, bytes) in callers {
            taken.all = taken.all.saturating_sub(bytes);
            let left = taken.callers.get(&caller).map_or(0, |own| own.saturating_sub(bytes));
            if left == 0 {
                taken.callers.remove(&caller);
            } else {
                taken.callers.insert(caller, left);
            }
        }
    }

    /// Bytes that are taken.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_caller_fills_more_than_an_eighth_and_all_is_given_back() {
        let budget = Budget::default();
        assert!(budget.take(1, OF_ONE) && !budget.take(1, 1), "one caller has an eighth");
        for caller in 2..=8 {
            assert!(budget.take(caller, OF_ONE), "{caller}");
        }
        assert!(!budget.take(9, 1), "all of it is taken");
        budget.give_back(HashMap::from([(1, OF_ONE), (2, 1)]));
        assert!(budget.take(2, 1) && !budget.take(2, 1) && budget.take(9, OF_ONE - 1));
        budget.give_back((2..=9).map(|caller| (caller, OF_ONE)).collect());
        assert_eq!(budget.taken(), 0);
    }
}
