//! Compiled plans by their masks: a policy answers with the same masks again and again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::placeholder::TokenKey;
use super::plan::{InvalidMask, Mask, Plan};

/// Most plans kept. Masks that differ with every caller fill this; it is emptied then.
const MOST: usize = 512;

/// Compiles plans, and remembers them.
pub struct Plans {
    key: TokenKey,
    known: Mutex<HashMap<Vec<Mask>, Arc<Plan>>>,
}

impl Plans {
    /// Begins with none. `key` is what tokens are made with.
    pub fn new(key: TokenKey) -> Self {
        Self { key, known: Mutex::default() }
    }

    /// The plan of masks; an error is an invalid answer of the policy that gave them.
    pub fn of(&self, masks: &[Mask]) -> Result<Arc<Plan>, InvalidMask> {
        if let Some(plan) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(masks) {
            return Ok(Arc::clone(plan));
        }
        let plan = Arc::new(Plan::compile(masks, &self.key)?);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(masks.to_vec(), Arc::clone(&plan));
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::{Selector, Transform};

    #[test]
    fn equal_masks_are_one_plan_and_the_memory_is_bounded() {
        let plans = Plans::new(TokenKey::new(&[1; 32]));
        let mask = |path: &str, how| [Mask { what: Selector::Field(path.into()), how, when: vec![] }];
        let first = plans.of(&mask("$.a", Transform::Redact)).unwrap();
        assert!(Arc::ptr_eq(&first, &plans.of(&mask("$.a", Transform::Redact)).unwrap()));
        assert!(!Arc::ptr_eq(&first, &plans.of(&mask("$.a", Transform::Remove)).unwrap()));
        assert!(plans.of(&mask("$..[", Transform::Redact)).is_err());
        for n in 0..2 * MOST {
            plans.of(&mask(&format!("$.a{n}"), Transform::Redact)).unwrap();
        }
        assert!(plans.known.lock().unwrap().len() <= MOST);
    }
}
