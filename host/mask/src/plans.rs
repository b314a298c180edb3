//! Compiled plans by their masks: a policy answers with the same masks again and again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::plan::{InvalidMask, Mask, Plan};
use super::token::TokenKey;

/// Most plans kept, and most programs of masks of text in them. Masks that differ with every caller fill this; it is emptied then.
const MOST: usize = 512;
const MOST_PROGRAMS: usize = 512;
/// What a policy may take in a window to have its masks compiled: they are compiled outside its deadline, on the thread that serves.
const BUDGET: Duration = Duration::from_millis(400);
const WINDOW: Duration = Duration::from_secs(10);

/// Compiles plans, and remembers them.
pub struct Plans {
    key: TokenKey,
    known: Mutex<Known>,
    spent: Mutex<HashMap<String, Spent>>,
}

#[derive(Default)]
struct Known {
    plans: HashMap<Vec<Mask>, Arc<Plan>>,
    programs: usize,
}

/// What was taken since when.
struct Spent {
    since: Instant,
    time: Duration,
}

impl Plans {
    /// Begins with none. `key` is what tokens are made with.
    pub fn new(key: TokenKey) -> Self {
        Self { key, known: Mutex::default(), spent: Mutex::default() }
    }

    /// The same for what a policy answers. One whose masks are others each time is stopped when that has taken too long.
    pub fn of_policy(&self, policy: &str, masks: &[Mask]) -> Result<Arc<Plan>, InvalidMask> {
        if let Some(plan) = self.get(masks) {
            return Ok(plan);
        }
        let began = Instant::now();
        let spent = |spent: &mut HashMap<String, Spent>| match spent.get(policy) {
            Some(spent) if spent.since.elapsed() < WINDOW => spent.time,
            _ => {
                spent.insert(policy.to_owned(), Spent { since: began, time: Duration::ZERO });
                Duration::ZERO
            }
        };
        if spent(&mut self.spent.lock().unwrap_or_else(PoisonError::into_inner)) > BUDGET {
            return Err(InvalidMask::new("its masks are others with each request, and to compile them takes too long".into()));
        }
        let plan = self.of(masks);
        if let Some(spent) = self.spent.lock().unwrap_or_else(PoisonError::into_inner).get_mut(policy) {
            spent.time += began.elapsed();
        }
        plan
    }

    fn get(&self, masks: &[Mask]) -> Option<Arc<Plan>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).plans.get(masks).cloned()
    }

    /// The plan of masks; an error is an invalid answer of the policy that gave them.
    pub fn of(&self, masks: &[Mask]) -> Result<Arc<Plan>, InvalidMask> {
        if let Some(plan) = self.get(masks) {
            return Ok(plan);
        }
        let plan = Arc::new(Plan::compile(masks, &self.key)?);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.plans.len() >= MOST || known.programs + plan.programs() > MOST_PROGRAMS {
            *known = Known::default();
        }
        known.programs += plan.programs();
        known.plans.insert(masks.to_vec(), Arc::clone(&plan));
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Selector, Transform};

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
        assert!(plans.known.lock().unwrap().plans.len() <= MOST);
    }

    #[test]
    fn masks_that_are_others_each_time_end_and_harm_no_other_policy() {
        let plans = Plans::new(TokenKey::new(&[1; 32]));
        let text = |n: usize| {
            (0..16)
                .map(|m| Mask { what: Selector::Text(format!("[a-z]{{1,60}}-{n}-{m}")), how: Transform::Redact, when: vec![] })
                .collect::<Vec<_>>()
        };
        let refused = (0..2000).find_map(|n| plans.of_policy("p", &text(n)).err()).expect("it ends");
        assert!(refused.to_string().contains("others with each request"), "{refused}");
        plans.of_policy("q", &text(5000)).unwrap();
        plans.of_policy("p", &text(5000)).unwrap();
        assert!(plans.known.lock().unwrap().programs <= MOST_PROGRAMS);
    }
}
