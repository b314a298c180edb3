//! Compiled masks, kept: a policy answers with the same ones again and again.
//!
//! Each policy has a place of its own, so that one whose masks are others with each request takes nothing from another.

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use postern_ground::clock::thread_time;
use quick_cache::sync::DefaultLifecycle;
use quick_cache::{OptionsBuilder, Weighter, sync, unsync};

use super::placeholder::Transform;
use super::plan::{InvalidMask, Mask, Plan, Text};
use super::token::TokenKey;

/// Most plans kept of a policy, about, and most bytes of them with their programs, and of programs: masks that differ with every caller fill this.
const MOST: usize = 512;
const MOST_PLAN_BYTES: u64 = 32 << 20;
const MOST_PROGRAM_BYTES: u64 = 32 << 20;
/// Policies that masks are kept of; there are as many as an operator loads.
const MOST_POLICIES: usize = 1024;
/// What a policy may take in a window to have its masks of text compiled, and twice as much for all of them: they are compiled outside its deadline, on the thread
/// that serves. It is the processor's time.
const BUDGET: Duration = Duration::from_millis(400);
const WINDOW: Duration = Duration::from_secs(10);

/// Compiles the masks that policies answer with, and keeps the plans, in bounded memory and time for each policy.
pub struct PlanCache {
    number: u64,
    key: TokenKey,
    none: Arc<Plan>,
    policies: Mutex<HashMap<String, Arc<OfPolicy>>>,
    combined: Plans<Vec<usize>, Combined>,
}

/// What is kept of one policy.
struct OfPolicy {
    plans: Plans<Vec<Mask>, Arc<Plan>>,
    compiler: Mutex<Compiler>,
}

/// Compiles the masks of one policy, within its budget.
struct Compiler {
    /// Masks of text are what takes long to compile, and are the same in plans that differ in others.
    programs: unsync::Cache<(String, Transform), Arc<Text>, Sizes, RandomState>,
    /// What was taken of the budget since the window began.
    spent: Duration,
    since: Instant,
}

/// Several plans in one. They are kept with it: it is known by where they are.
#[derive(Clone)]
struct Combined {
    plan: Arc<Plan>,
    of: Vec<Arc<Plan>>,
}

type Plans<K, V> = sync::Cache<K, V, Sizes, RandomState>;

/// What each thing that is kept takes of the memory. Nothing takes so much that it would not be kept.
#[derive(Clone)]
struct Sizes;

impl Weighter<Vec<Mask>, Arc<Plan>> for Sizes {
    fn weight(&self, masks: &Vec<Mask>, plan: &Arc<Plan>) -> u64 {
        // Programs count with each plan that holds them, for the last one that does keeps them.
        of_plan(masks.iter().map(Mask::size).sum::<usize>() + plan.size())
    }
}

impl Weighter<Vec<usize>, Combined> for Sizes {
    fn weight(&self, _: &Vec<usize>, combined: &Combined) -> u64 {
        of_plan(combined.plan.size() + combined.of.iter().map(|plan| plan.size()).sum::<usize>())
    }
}

impl Weighter<(String, Transform), Arc<Text>> for Sizes {
    fn weight(&self, _: &(String, Transform), program: &Arc<Text>) -> u64 {
        (program.size() as u64).min(MOST_PROGRAM_BYTES / 2)
    }
}

/// What a plan takes, and no less than there is for each where there are as many as may be.
fn of_plan(bytes: usize) -> u64 {
    (bytes as u64).clamp(MOST_PLAN_BYTES / MOST as u64, MOST_PLAN_BYTES / 2)
}

fn plans<K: Eq + std::hash::Hash, V: Clone>() -> Plans<K, V>
where
    Sizes: Weighter<K, V>,
{
    // In one part: a large plan would not fit one of several.
    let options = OptionsBuilder::new().estimated_items_capacity(MOST).weight_capacity(MOST_PLAN_BYTES).shards(1).build();
    // It fails where a capacity is missing.
    let options = options.unwrap_or_else(|_| unreachable!("both capacities are given"));
    Plans::with_options(options, Sizes, RandomState::new(), DefaultLifecycle::default())
}

impl Compiler {
    fn new() -> Self {
        let programs = unsync::Cache::with(64, MOST_PROGRAM_BYTES, Sizes, RandomState::new(), unsync::DefaultLifecycle::default());
        Self { programs, spent: Duration::ZERO, since: Instant::now() }
    }

    /// Compiles masks within what is left of the budget.
    fn compile(&mut self, masks: &[Mask], key: &TokenKey) -> Result<Plan, InvalidMask> {
        if self.since.elapsed() >= WINDOW {
            self.spent = Duration::ZERO;
        }
        // What is put together of programs that are there is cheap, but not for nothing.
        if self.spent > 2 * BUDGET {
            return Err(InvalidMask::too_long());
        }
        let left = BUDGET.saturating_sub(self.spent);
        let began = thread_time();
        let used = || thread_time().saturating_sub(began);
        let programs = &mut self.programs;
        let compiled = Plan::compile_with(masks, key, &mut |pattern, how| {
            let name = (pattern.to_owned(), how);
            if let Some(program) = programs.get(&name) {
                return Ok(Arc::clone(program));
            }
            if used() >= left {
                return Err(InvalidMask::too_long());
            }
            let program = Arc::new(Text::compile(pattern, how)?);
            programs.insert(name, Arc::clone(&program));
            Ok(program)
        });
        if self.spent.is_zero() {
            // The window begins where the first compilation ends: one that takes longer than it is not forgotten.
            self.since = Instant::now();
        }
        self.spent += used();
        compiled
    }
}

impl PlanCache {
    /// Begins with none. `key` is what tokens are made with.
    pub fn new(key: TokenKey) -> Self {
        let none = Arc::new(Plan::none(&key));
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        Self { number, key, none, policies: Mutex::default(), combined: plans() }
    }

    /// The plan that hides nothing.
    pub fn none(&self) -> Arc<Plan> {
        Arc::clone(&self.none)
    }

    /// Which of all that were made it is: no other has this number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The plan of the masks that a policy answered with: kept, or compiled now. An error is an invalid answer of it, or says that it has used up the time that its
    /// masks may take ([`InvalidMask::is_exhausted`]).
    pub fn of_policy(&self, policy: &str, masks: &[Mask]) -> Result<Arc<Plan>, InvalidMask> {
        let place = self.place(policy);
        if let Some(plan) = place.plans.get(masks) {
            return Ok(plan);
        }
        Mask::check(masks)?;
        // Others that ask for the same masks wait while they are compiled, and find them then.
        let mut compiler = place.compiler.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = place.plans.get(masks) {
            return Ok(plan);
        }
        let plan = Arc::new(compiler.compile(masks, &self.key)?);
        place.plans.insert(masks.to_vec(), Arc::clone(&plan));
        Ok(plan)
    }

    fn place(&self, policy: &str) -> Arc<OfPolicy> {
        let mut policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = policies.get(policy) {
            return Arc::clone(place);
        }
        if policies.len() >= MOST_POLICIES {
            policies.clear();
        }
        Arc::clone(
            policies
                .entry(policy.to_owned())
                .or_insert_with(|| Arc::new(OfPolicy { plans: plans(), compiler: Mutex::new(Compiler::new()) })),
        )
    }

    /// One plan of several, which hides what each of them does, and where two hide the same shows as little as either. An error says that they are too many together.
    pub fn combined(&self, plans: &[Arc<Plan>]) -> Result<Arc<Plan>, InvalidMask> {
        if let [plan] = plans {
            return Ok(Arc::clone(plan));
        }
        let name: Vec<usize> = plans.iter().map(|plan| Arc::as_ptr(plan) as usize).collect();
        if let Some(known) = self.combined.get(&name) {
            return Ok(known.plan);
        }
        let plan = Arc::new(Plan::combined(plans, &self.key)?);
        self.combined.insert(name, Combined { plan: Arc::clone(&plan), of: plans.to_vec() });
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Condition, Selector, Transform};

    #[test]
    fn equal_masks_are_one_plan_and_the_memory_is_bounded() {
        let plans = PlanCache::new(TokenKey::new(&[1; 32]));
        let mask = |path: &str, how| [Mask { what: Selector::Field(path.into()), how, when: vec![] }];
        let first = plans.of_policy("p", &mask("$.a", Transform::Redact)).unwrap();
        assert!(Arc::ptr_eq(&first, &plans.of_policy("p", &mask("$.a", Transform::Redact)).unwrap()));
        assert!(!Arc::ptr_eq(&first, &plans.of_policy("p", &mask("$.a", Transform::Remove)).unwrap()));
        assert!(plans.of_policy("p", &mask("$..[", Transform::Redact)).is_err());
        for n in 0..2 * MOST {
            plans.of_policy("p", &mask(&format!("$.a{n}"), Transform::Redact)).unwrap();
        }
        assert!(plans.place("p").plans.len() <= MOST);
    }

    /// What a policy may put into a mask is bounded, one over each bound is refused before it is compiled, and what is said of it is short.
    #[test]
    fn masks_over_a_bound_are_refused_and_what_is_kept_is_bounded_in_bytes() {
        let plans = PlanCache::new(TokenKey::new(&[1; 32]));
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
            plans.of_policy("p", masks).unwrap();
        }
        for masks in &over {
            assert_eq!(plans.of_policy("p", masks).unwrap_err(), Mask::check(masks).unwrap_err());
        }
        // A pattern that is none is not repeated: it may be in a log, an audit event and an answer.
        for pattern in ["*".to_owned() + &"\u{1}".repeat(4000), format!("({}", "x".repeat(4000)), "a{9}{9}{9}{9}{9}{9}".into()] {
            let why = plans.of_policy("p", &[text(pattern)]).unwrap_err().to_string();
            assert!(why.len() < 400 && !why.contains('\u{1}') && !why.contains("xxxx") && why.lines().count() == 1, "{why}");
        }
        for n in 0..2 * MOST {
            plans.of_policy("p", &[field(vec![condition(&format!("$.b{n}"), 1000); 64])]).unwrap();
            assert!(plans.place("p").plans.weight() <= MOST_PLAN_BYTES);
        }
    }

    fn texts(n: usize) -> Vec<Mask> {
        let text = |m| Mask { what: Selector::Text(format!("[a-z]{{1,60}}-{n}-{m}")), how: Transform::Redact, when: vec![] };
        (0..16).map(text).collect()
    }

    #[test]
    fn masks_that_are_others_each_time_end_and_harm_no_other_policy() {
        let plans = PlanCache::new(TokenKey::new(&[1; 32]));
        let kept = plans.of_policy("q", &texts(5000)).unwrap();
        let refused = (0..4000).find_map(|n| plans.of_policy("p", &texts(n)).err()).expect("it ends");
        assert!(refused.is_exhausted() && refused.to_string().contains("others with each request"), "{refused}");
        // What the other answers with is there still, and it may have more compiled.
        assert!(Arc::ptr_eq(&kept, &plans.of_policy("q", &texts(5000)).unwrap()));
        plans.of_policy("q", &texts(5001)).unwrap();
        let place = plans.place("p");
        assert!(place.compiler.lock().unwrap().programs.weight() <= MOST_PROGRAM_BYTES && place.plans.weight() <= MOST_PLAN_BYTES);
    }

    /// One answer may take no longer than many: it is looked at the clock between two programs, and what was compiled until then is kept.
    #[test]
    fn one_answer_of_dear_masks_ends_too() {
        let plans = PlanCache::new(TokenKey::new(&[1; 32]));
        let dear: String = ('a'..='z').chain('A'..='Z').map(|c| format!("{c}?")).collect();
        let masks: Vec<Mask> =
            (0..64).map(|n| Mask { what: Selector::Text(format!("({dear}){{40}}!{n}")), how: Transform::Redact, when: vec![] }).collect();
        let place = plans.place("p");
        place.compiler.lock().unwrap().spent = BUDGET - Duration::from_millis(1);
        let refused = plans.of_policy("p", &masks).unwrap_err();
        assert!(refused.is_exhausted(), "{refused}");
        let compiled = place.compiler.lock().unwrap().programs.len();
        assert!((1..64).contains(&compiled), "{compiled} programs");
        // What is compiled by then is there, and nothing more is compiled in this window.
        plans.of_policy("p", &masks[..1]).unwrap();
        assert!(plans.of_policy("p", &texts(1)).unwrap_err().is_exhausted());
    }

    /// What is kept is kept, however large: masks that are the same each time are put together once.
    #[test]
    fn the_largest_plan_is_kept() {
        let plans = PlanCache::new(TokenKey::new(&[1; 32]));
        let mask = Mask { what: Selector::Text("a[\\w-]{1,20}".into()), how: Transform::Redact, when: vec![] };
        let one = plans.of_policy("p", &[mask]).unwrap();
        let many = vec![one; 64];
        let all = plans.combined(&many).unwrap();
        assert!(all.size() as u64 > MOST_PLAN_BYTES, "{}", all.size());
        assert!(Arc::ptr_eq(&all, &plans.combined(&many).unwrap()));
    }

    #[test]
    fn several_plans_in_one_hide_what_each_does() {
        let plans = PlanCache::new(TokenKey::new(&[1; 32]));
        let mask = |what, how| [Mask { what, how, when: vec![] }];
        let field = |path: &str| Selector::Field(path.into());
        let of = |policy: &str, masks: &[Mask]| plans.of_policy(policy, masks).unwrap();
        let parts = [
            of("a", &mask(field("$.data.x"), Transform::Redact)),
            of("b", &mask(Selector::Text("s3cr[a-z0-9]+".into()), Transform::Redact)),
            of("c", &mask(field("$..x"), Transform::Remove)),
            of("d", &mask(field("$.data.y"), Transform::Redact)),
        ];
        let one = plans.combined(&parts).unwrap();
        assert!(Arc::ptr_eq(&one, &plans.combined(&parts).unwrap()) && Arc::ptr_eq(&parts[0], &plans.combined(&parts[..1]).unwrap()));
        let object = br#"{"data":{"x":"1","y":"2","z":"a s3cret"},"spec":{"x":"3","w":"4"}}"#;
        let (mut out, mut report) = (Vec::new(), crate::MaskCounts::new());
        one.apply(object, "widgets", false, &mut out, &mut report).unwrap();
        let shown = String::from_utf8(out).unwrap();
        assert_eq!(shown, r#"{"data":{"y":"postern-masked","z":"a postern-masked"},"spec":{"w":"4"}}"#);
        assert_eq!(one.names().len(), 4);
        let many: Vec<_> = (0..65).map(|n| of("e", &mask(field(&format!("$.a{n}")), Transform::Redact))).collect();
        assert!(plans.combined(&many[..64]).is_ok());
        assert!(plans.combined(&many).unwrap_err().to_string().contains("65 masks"));
    }
}
