//! What policies are known to say. A module is deterministic: the same answers to its questions give the same verdict. So what it asked and was answered is kept,
//! and an operation that gives all the same answers is decided without running it.
//!
//! A verdict that is remembered is one that this module gave twice for exactly these answers. What has another answer each time (the id, the time, a command), what
//! does something (`count`, `spend`), and what is read in documents ends it, but for tests of what stands at one place of an object of an answer: such a run is never remembered. docs/decisions/0016 says why each rule is there.

mod basis;
mod budget;
mod once;
mod run;
mod tree;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};

use postern_mask::{InvalidMask, Mask, Plan, PlanCache, Selector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::{PolicyOperation, Verdict};
use crate::document::Object;
use crate::sight::Sight;
pub use basis::{Asked, AskedQuestions, Basis, KnownPath, Untold};
pub(crate) use budget::Budget;
use once::{Again, Once};
pub(crate) use run::Run;
use tree::{AskedAbout, Look, Root, Taken, Tree};

/// Of so many operations that are decided from memory one is asked all the same.
const ASKED_AGAIN: u64 = 1_000;

/// Whether verdicts of a policy are remembered.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remember {
    /// They are.
    #[default]
    On,
    /// Each operation is asked about.
    Off,
    /// They are, for each caller apart: what one asked makes nothing faster for another.
    PerCaller,
}

/// Whether verdicts of a policy are remembered, and why not.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remembering {
    /// They are.
    On,
    /// They are, for each caller apart.
    PerCaller,
    /// They are not, as it is set.
    #[default]
    Off,
    /// They are not: it is a module of contract 0.1, and nobody knows what it read.
    Contract,
    /// They are not any more: it said two things of the same answers.
    NotDeterministic,
}

/// What a policy is asked about: an operation, or an object of its answer.
#[derive(Clone, Copy)]
pub(crate) struct About<'a> {
    /// The operation.
    pub(crate) operation: &'a PolicyOperation,
    /// Whether its body is there to be read.
    pub(crate) has_body: bool,
    /// The object.
    pub(crate) object: Option<&'a Object>,
}

impl About<'_> {
    fn what(&self) -> AskedAbout {
        match (self.object, self.has_body) {
            (Some(_), _) => AskedAbout::Object,
            (None, true) => AskedAbout::RequestWithBody,
            (None, false) => AskedAbout::Request,
        }
    }
}

/// What was decided at the end of a path.
#[derive(Debug)]
pub(crate) struct Decision {
    /// The verdict, checked.
    pub(crate) verdict: Arc<Verdict>,
    /// Facts for the audit event.
    pub(crate) annotations: Vec<(String, String)>,
    /// What it is known by, once it is remembered, and the day on which it was told last what that is.
    id: OnceLock<Arc<str>>,
    told_on: Arc<AtomicU64>,
    /// Its masks as they were compiled last, and where: as long as they are kept there.
    plan: Mutex<Option<(u64, Weak<Plan>)>>,
}

impl PartialEq for Decision {
    fn eq(&self, other: &Self) -> bool {
        self.verdict == other.verdict && self.annotations == other.annotations
    }
}

impl Decision {
    /// Of a run.
    pub(crate) fn new(verdict: Arc<Verdict>, annotations: Vec<(String, String)>) -> Self {
        Self { verdict, annotations, id: OnceLock::new(), told_on: Arc::default(), plan: Mutex::default() }
    }

    /// The plan of its masks, compiled where another cluster's are not; none of another verdict.
    pub(crate) fn plan(&self, policy: &str, plans: &PlanCache) -> Result<Option<Arc<Plan>>, InvalidMask> {
        let Verdict::Mask(masks) = &*self.verdict else { return Ok(None) };
        let mut kept = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, plan)) = &*kept
            && *of == plans.number()
            && let Some(plan) = plan.upgrade()
        {
            return Ok(Some(plan));
        }
        let plan = plans.of_policy(policy, masks)?;
        *kept = Some((plans.number(), Arc::downgrade(&plan)));
        Ok(Some(plan))
    }

    fn size(&self) -> usize {
        let text = |text: &String| size_of::<String>() + text.len();
        let mask = |mask: &Mask| {
            let what = match &mask.what {
                Selector::Field(text) | Selector::Text(text) => text.len(),
                Selector::PodSecrets => 0,
            };
            size_of::<Mask>() + what + mask.when.iter().map(|when| size_of_val(when) + when.path.len() + when.value.len()).sum::<usize>()
        };
        let verdict = match &*self.verdict {
            Verdict::Allow => 0,
            Verdict::Mask(masks) => masks.iter().map(mask).sum(),
            Verdict::Block(denial) | Verdict::Terminate(denial) => text(&denial.reason) + denial.hint.as_ref().map_or(0, text),
            Verdict::RequireApproval(approval) => text(&approval.reason) + approval.approvers.iter().map(text).sum::<usize>(),
        };
        size_of::<Self>() + basis::ID + verdict + self.annotations.iter().map(|(key, value)| text(key) + text(value)).sum::<usize>()
    }
}

/// What is remembered of one policy, since it was loaded.
#[derive(Debug)]
pub(crate) struct Remembered {
    how: Remember,
    budget: Arc<Budget>,
    tree: RwLock<Tree>,
    once: Mutex<Once>,
    /// Operations that were decided from memory, and that were not, since it began to learn.
    hits: AtomicU64,
    misses: AtomicU64,
    /// It said two things of the same answers, and is asked each time.
    is_spoilt: AtomicBool,
}

/// That a policy said two things of the same answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotDeterministic;

impl Remembered {
    /// Nothing yet.
    pub(crate) fn new(how: Remember, budget: Arc<Budget>) -> Self {
        Self {
            how,
            budget,
            tree: RwLock::default(),
            once: Mutex::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            is_spoilt: AtomicBool::new(false),
        }
    }

    /// How it is set.
    pub(crate) fn how(&self) -> Remember {
        self.how
    }

    /// Whether anything is remembered, or may come to be.
    pub(crate) fn is_on(&self) -> bool {
        self.how != Remember::Off && !self.is_spoilt()
    }

    /// Whether it was found to say two things of the same answers.
    pub(crate) fn is_spoilt(&self) -> bool {
        self.is_spoilt.load(Ordering::Relaxed)
    }

    /// How many paths are known.
    pub(crate) fn paths(&self) -> usize {
        self.tree.read().unwrap_or_else(PoisonError::into_inner).paths
    }

    fn root<'a>(&self, about: &About<'a>, sight: Sight) -> Root<'a> {
        let of = about.operation;
        let caller = (self.how == Remember::PerCaller).then(|| (of.issuer(), of.username()));
        Root { cluster: of.cluster(), asked_about: about.what(), sight, caller }
    }

    /// What the policy is known to say of what it may see so much of, and what that is based on. `day` is that on which others are told of it, where they are.
    pub(crate) fn recall(&self, about: &About<'_>, sight: Sight, day: Option<u64>) -> Option<(Arc<Decision>, Basis)> {
        // The questions are answered under no lock.
        let first = self.tree.read().unwrap_or_else(PoisonError::into_inner).first(&self.root(about, sight))?;
        let decision = first.walk(about)?;
        // Now and then it is asked though it is known: a module that changes its mind is found.
        let is_due = self.hits.fetch_add(1, Ordering::Relaxed) % ASKED_AGAIN == ASKED_AGAIN - 1;
        if is_due {
            return None;
        }
        let id = Arc::clone(decision.id.get()?);
        // A log is kept for so long: each day's has it.
        let untold = day.and_then(|day| Untold::on(day, &decision.told_on, || first.path(about)));
        Some((Arc::clone(decision), Basis::Path(KnownPath { id, untold })))
    }

    /// Takes in what a run asked and came to.
    pub(crate) fn learn(&self, about: &About<'_>, sight: Sight, run: Run, decision: Decision) -> Result<(), NotDeterministic> {
        if run.open().is_some() || !self.is_on() {
            return Ok(());
        }
        let of = about.operation;
        let (root, caller) = (self.root(about, sight), self.budget.caller(of.issuer(), of.username()));
        let decision = Arc::new(decision);
        let (steps, bytes, look) = {
            let tree = self.tree.read().unwrap_or_else(PoisonError::into_inner);
            let steps = tree.shared(run.steps);
            let (bytes, look) = (tree.size(&root, &steps) + decision.size(), tree.look(caller, &root, &steps, &decision));
            (steps, bytes, look)
        };
        let again = match look {
            Look::Known => return Ok(()),
            Look::New { has_room } if !has_room || !self.budget.has_room(caller, bytes) => return self.refused(),
            Look::New { .. } => {
                self.once.lock().unwrap_or_else(PoisonError::into_inner).see(caller, &root.kept(), &steps, bytes, &decision)
            }
            Look::Differs => Again::Differs,
        };
        match again {
            Again::First => {
                self.misses.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            Again::Differs => {}
            Again::Same => {
                decision.id.get_or_init(|| basis::id(&root, &steps));
                let mut tree = self.tree.write().unwrap_or_else(PoisonError::into_inner);
                // What was found meanwhile holds.
                match if self.is_spoilt() { Taken::In } else { tree.insert(&self.budget, caller, &root, &steps, &decision) } {
                    Taken::In | Taken::Full => return Ok(()),
                    Taken::Differs => {}
                }
            }
        }
        self.forget();
        Err(NotDeterministic)
    }

    /// There is no room for it. A tree that is old and helps less often than not is learnt anew: what is asked today may be something else.
    fn refused(&self) -> Result<(), NotDeterministic> {
        let misses = self.misses.fetch_add(1, Ordering::Relaxed) + 1;
        if self.hits.load(Ordering::Relaxed) >= misses || !self.tree.read().unwrap_or_else(PoisonError::into_inner).is_old() {
            return Ok(());
        }
        self.tree.write().unwrap_or_else(PoisonError::into_inner).clear(&self.budget);
        self.hits.store(0, Ordering::Relaxed);
        self.misses.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// It is asked each time from now on.
    fn forget(&self) {
        self.is_spoilt.store(true, Ordering::Relaxed);
        self.tree.write().unwrap_or_else(PoisonError::into_inner).clear(&self.budget);
        *self.once.lock().unwrap_or_else(PoisonError::into_inner) = Once::default();
    }
}

impl Drop for Remembered {
    fn drop(&mut self) {
        self.tree.get_mut().unwrap_or_else(PoisonError::into_inner).clear(&self.budget);
    }
}

#[cfg(test)]
mod tests;
