//! Compiled plans by their masks: a policy answers with the same masks again and again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::plan::{InvalidMask, Mask, Plan};
use super::token::TokenKey;

/// Most plans kept, most programs of masks of text in them, and most bytes of the masks they are made of. Masks that differ with every caller fill this; it is emptied
/// then.
const MOST: usize = 512;
const MOST_PROGRAMS: usize = 512;
const MOST_BYTES: usize = 4 << 20;
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
    bytes: usize,
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
        let bytes = masks.iter().map(Mask::size).sum::<usize>();
        if known.plans.len() >= MOST || known.programs + plan.programs() > MOST_PROGRAMS || known.bytes + bytes > MOST_BYTES {
            *known = Known::default();
        }
        known.programs += plan.programs();
        known.bytes += bytes;
        known.plans.insert(masks.to_vec(), Arc::clone(&plan));
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Condition, Selector, Transform};

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

    /// What a policy may put into a mask is bounded, one over each bound is refused before it is compiled, and what is said of it is short.
    #[test]
    fn masks_over_a_bound_are_refused_and_what_is_kept_is_bounded_in_bytes() {
        let plans = Plans::new(TokenKey::new(&[1; 32]));
        let condition = |path: &str, value: usize| Condition { path: path.into(), equal: true, value: "v".repeat(value) };
        let field = |when: Vec<Condition>| Mask { what: Selector::Field("$.a".into()), how: Transform::Redact, when };
        let text = |pattern: String| Mask { what: Selector::Text(pattern), how: Transform::Redact, when: vec![] };
        let path =
            |length: usize| Mask { what: Selector::Field(format!("$.{}", "a".repeat(length - 2))), how: Transform::Redact, when: vec![] };
        let within = [
            vec![field(vec![condition("$.b", 1 << 10); 64])],
            vec![field(vec![condition("$.b", 1); 32]), field(vec![condition("$.b", 1); 32])],
            vec![text("a".repeat(4 << 10))],
            vec![path(1 << 10)],
            vec![field(vec![]); 64],
        ];
        let over = [
            vec![field(vec![condition("$.b", 1); 65])],
            vec![field(vec![condition("$.b", 1); 33]), field(vec![condition("$.b", 1); 32])],
            vec![field(vec![condition("$.b", (1 << 10) + 1)])],
            vec![field(vec![condition(&format!("$.{}", "a".repeat(1 << 10)), 1)])],
            vec![text("a".repeat((4 << 10) + 1))],
            vec![path((1 << 10) + 1)],
            vec![field(vec![]); 65],
        ];
        for masks in &within {
            Mask::check(masks).unwrap();
            plans.of(masks).unwrap();
        }
        for masks in &over {
            assert_eq!(plans.of(masks).unwrap_err(), Mask::check(masks).unwrap_err());
        }
        // A pattern that is none is not repeated: it may be in a log, an audit event and an answer.
        for pattern in ["*".to_owned() + &"\u{1}".repeat(4000), format!("({}", "x".repeat(4000)), "a{9}{9}{9}{9}{9}{9}".into()] {
            let why = plans.of(&[text(pattern)]).unwrap_err().to_string();
            assert!(why.len() < 400 && !why.contains('\u{1}') && !why.contains("xxxx") && why.lines().count() == 1, "{why}");
        }
        for n in 0..2 * MOST {
            plans.of(&[field(vec![condition(&format!("$.b{n}"), 1000); 64])]).unwrap();
            assert!(plans.known.lock().unwrap().bytes <= MOST_BYTES);
        }
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
