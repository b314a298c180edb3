//! The objects of an answer: what policies want with each, and what of it is shown.

use std::borrow::Cow;
use std::sync::Arc;

use super::Look;
use super::accept::Negotiated;
use super::partial;
use crate::decide;
use crate::mask::{MaskCounts, Plan, PlanCache, RowObject, Unreadable, member};
use crate::policy::contract::{Denial, Verdict};
use crate::policy::{HookOutcome, Mode, Object, ObservedOutcomes, Policy, PolicyOperation, Runtime};

/// What is done with each object.
pub struct Treatment {
    /// The masks declared on the request.
    pub masks: Option<Arc<Plan>>,
    /// Policies asked for each object.
    pub on_object: Vec<Arc<Policy>>,
    /// What they run in.
    pub runtime: Option<Arc<Runtime>>,
    /// The operation, for them.
    pub subject: Arc<PolicyOperation>,
    /// Where masks are compiled.
    pub plans: Arc<PlanCache>,
    /// The resource.
    pub resource: String,
    /// How the answer was asked for.
    pub asked: Negotiated,
    /// How a watch that goes on where its client has read before learns what that was.
    pub look_back: Look,
}

impl Treatment {
    /// The declared masks, where nothing else is done with an object.
    pub(super) fn declared(&self) -> Option<&Plan> {
        self.masks.as_deref().filter(|_| self.on_object.is_empty() && self.asked.partial.is_none())
    }

    /// What a policy wants with an object: more masks, or none to hide it. What one wants that is observed is noted.
    fn ask(&self, policy: &Arc<Policy>, object: &Arc<Object>, observed: &mut ObservedOutcomes) -> Result<Option<Option<Arc<Plan>>>, Stop> {
        let Some(runtime) = &self.runtime else { return Ok(Some(None)) };
        let answer = policy.call_on_object(runtime, &self.subject, &self.plans, object);
        let (exhausted, plan) = (answer.exhausted, answer.plan);
        let wanted = answer.verdict.and_then(|verdict| Wanted::of(&verdict, plan));
        if policy.mode == Mode::Observe {
            observed.add(&policy.name, outcome(&wanted));
            return Ok(Some(None));
        }
        match policy.in_force(wanted, exhausted) {
            Ok(None | Some(Wanted::Nothing)) => Ok(Some(None)),
            Ok(Some(Wanted::Masks(plan))) => Ok(Some(Some(plan))),
            Ok(Some(Wanted::Hidden)) => Ok(None),
            Ok(Some(Wanted::Ended(denial))) => Err(Stop::Terminated(decide::blocked_by(&policy.name, &denial))),
            Err(why) => Err(Stop::Failed(format!("the policy {} failed on an object: {why}", policy.name))),
        }
    }
}

/// What a policy wants with an object.
enum Wanted {
    Nothing,
    Masks(Arc<Plan>),
    Hidden,
    Ended(Denial),
}

impl Wanted {
    fn of(verdict: &Verdict, plan: Option<Arc<Plan>>) -> Result<Self, String> {
        Ok(match verdict {
            Verdict::Allow => Self::Nothing,
            // No object waits for an approval: one that is asked for was a failure.
            Verdict::Block(_) | Verdict::RequireApproval(_) => Self::Hidden,
            Verdict::Terminate(denial) => Self::Ended(denial.clone()),
            Verdict::Mask(_) => Self::Masks(plan.ok_or("its masks are not there")?),
        })
    }
}

/// The objects of one answer, and what was done with them.
pub(super) struct Objects {
    pub(super) treatment: Treatment,
    /// What was hidden in those that are shown.
    pub(super) report: MaskCounts,
    /// How many a policy hid.
    pub(super) hidden: u64,
    /// What policies that are observed would have done with them.
    pub(super) observed: ObservedOutcomes,
}

impl Objects {
    pub(super) fn new(treatment: Treatment) -> Self {
        Self { treatment, report: MaskCounts::new(), hidden: 0, observed: ObservedOutcomes::default() }
    }

    /// Whether a policy may hide one, or end the answer at it.
    pub(super) fn may_hide(&self) -> bool {
        decide::may_hide(&self.treatment.on_object)
    }

    /// An object as it is shown; none when a policy hides it.
    pub(super) fn object(&mut self, object: &[u8]) -> Result<Option<Vec<u8>>, Stop> {
        require_object(object)?;
        let Some(plans) = self.plans(object)? else { return Ok(None) };
        let mut shown = Cow::Borrowed(object);
        for plan in &plans {
            let mut masked = Vec::with_capacity(shown.len() + 64);
            plan.apply(&shown, &self.treatment.resource, false, &mut masked, &mut self.report)?;
            shown = Cow::Owned(masked);
        }
        match self.treatment.asked.partial {
            Some(version) => Ok(Some(partial::object(&shown, version)?)),
            None => Ok(Some(shown.into_owned())),
        }
    }

    /// A row of a Table as it is shown; none when a policy hides its object.
    pub(super) fn row(&mut self, row: &[u8]) -> Result<Option<Vec<u8>>, Stop> {
        require_object(row)?;
        let Some(mut plans) = self.plans(member(row, b"object")?.unwrap_or(b"null"))? else { return Ok(None) };
        if plans.is_empty() {
            // The API server was asked for whole objects, and the client may have asked for less.
            plans.push(self.treatment.plans.none());
        }
        let last = plans.len() - 1;
        let mut shown = Cow::Borrowed(row);
        for (index, plan) in plans.iter().enumerate() {
            // Only the last may take the object away, which the others must read.
            let include = if index == last { self.treatment.asked.rows } else { RowObject::Object };
            let mut masked = Vec::with_capacity(shown.len() + 64);
            plan.apply_row(&shown, &self.treatment.resource, include, &mut masked, &mut self.report)?;
            shown = Cow::Owned(masked);
        }
        Ok(Some(shown.into_owned()))
    }

    /// The masks an object is shown with: those that were declared, and those that policies want for it. None when one hides it.
    fn plans(&mut self, object: &[u8]) -> Result<Option<Vec<Arc<Plan>>>, Stop> {
        let mut plans: Vec<Arc<Plan>> = self.treatment.masks.iter().cloned().collect();
        if !self.treatment.on_object.is_empty() {
            let object = Arc::new(Object::read(object)?);
            let Some(more) = self.look_at(&object)? else {
                self.hidden += 1;
                return Ok(None);
            };
            plans.extend(more);
        }
        Ok(Some(plans))
    }

    /// What all policies want with an object: the masks they ask for, or none to hide it.
    pub(super) fn look_at(&mut self, object: &Arc<Object>) -> Result<Option<Vec<Arc<Plan>>>, Stop> {
        let mut plans = Vec::new();
        for policy in &self.treatment.on_object {
            match self.treatment.ask(policy, object, &mut self.observed)? {
                Some(more) => plans.extend(more),
                None => return Ok(None),
            }
        }
        Ok(Some(plans))
    }
}

/// Why an answer ends early.
#[derive(Debug)]
pub enum Stop {
    /// It cannot be read.
    Unreadable(Unreadable),
    /// A policy failed on an object.
    Failed(String),
    /// A policy hid the one object that was asked for.
    Hidden,
    /// A policy ended the answer: what the caller is told.
    Terminated(String),
}

impl From<Unreadable> for Stop {
    fn from(why: Unreadable) -> Self {
        Self::Unreadable(why)
    }
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable(why) => write!(f, "the answer must be masked and cannot be read: {why}"),
            Self::Failed(why) | Self::Terminated(why) => f.write_str(why),
            Self::Hidden => f.write_str("a policy hides this object"),
        }
    }
}

fn outcome(wanted: &Result<Wanted, String>) -> HookOutcome {
    match wanted {
        Ok(Wanted::Nothing) => HookOutcome::Allow,
        Ok(Wanted::Masks(_)) => HookOutcome::Mask,
        Ok(Wanted::Hidden) => HookOutcome::Block,
        Ok(Wanted::Ended(_)) => HookOutcome::Terminate,
        Err(_) => HookOutcome::Failed,
    }
}

/// Masks name fields of objects: what is none has nothing they could find, and does not pass for that.
pub(super) fn require_object(value: &[u8]) -> Result<(), Unreadable> {
    match value.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => Ok(()),
        _ => Err(Unreadable::Malformed),
    }
}

/// Whether it is a Table of the API server's own, and not a custom resource whose kind is called so.
pub(super) fn is_table(object: &[u8]) -> Result<bool, Unreadable> {
    is_kind(object, b"\"Table\"", b"\"meta.k8s.io/")
}

/// Whether an object is of a kind, and of a version that begins so.
pub(super) fn is_kind(object: &[u8], kind: &[u8], version: &[u8]) -> Result<bool, Unreadable> {
    Ok(member(object, b"kind")? == Some(kind) && member(object, b"apiVersion")?.is_some_and(|of| of.starts_with(version)))
}
