//! What was decided: an operation is refused, waits for approvals, or passes, on terms.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::approve::{Requirement, Taken, Ticket};
use crate::mask::Plan;
use crate::policy::{Basis, HookOutcome, KnownPath, Policy, StreamInstance};
use crate::status::Refusal;
use crate::words::Verdict;

/// What was decided.
pub enum Ruling {
    /// It does not pass.
    Refuse(Refused),
    /// It waits for approvals.
    Hold(Pending),
    /// It passes.
    Pass(Passed),
}

/// An operation that does not pass.
pub struct Refused {
    /// Why not.
    pub refusal: Refusal,
    terms: Terms,
}

/// An operation that passes once approvals were given.
pub struct Pending {
    requirements: Vec<Requirement>,
    terms: Terms,
}

/// That an operation passes, and on which terms. Only what decides makes one: no refusal stands against it, and every approval that was asked for was given.
pub struct Passed {
    terms: Terms,
}

/// What is done with what an operation gives back, and who wanted it so.
#[derive(Default)]
pub struct Terms {
    /// What is hidden in what comes back.
    pub masks: Option<Arc<Plan>>,
    /// Policies asked again for each object.
    pub on_object: Vec<Arc<Policy>>,
    /// Policies that look at each piece of the stream that follows.
    pub stream_instances: Vec<StreamInstance>,
    /// What each policy answered.
    pub answers: Vec<PolicyAnswer>,
    /// Names of the policies whose masks apply.
    pub masked_by: Vec<String>,
    /// Of these, the ones of which callers are warned.
    pub warned_of: Vec<String>,
    /// Whether approvals were asked for, and given.
    pub approved: bool,
}

/// One policy's part in a ruling, as it is recorded.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyAnswer {
    /// The policy.
    pub policy: String,
    /// SHA-256 of its module and settings.
    pub digest: String,
    /// What it said.
    pub verdict: HookOutcome,
    /// Set when the answer was recorded only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub observed: bool,
    /// Its reason, or why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Facts it added.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<(String, String)>,
    /// What that is based on.
    #[serde(flatten, serialize_with = "as_recorded")]
    pub basis: Basis,
    /// When it was asked.
    #[serde(skip)]
    pub began: Instant,
    /// How long that took.
    #[serde(skip)]
    pub took: Duration,
}

/// `basis`, by which a path is known, or what was `asked`.
fn as_recorded<S: Serializer>(basis: &Basis, serializer: S) -> Result<S::Ok, S::Error> {
    let mut fields = serializer.serialize_map(None)?;
    match basis {
        Basis::Unknown => {}
        Basis::Asked(asked) => fields.serialize_entry("asked", &asked.names().collect::<Vec<_>>())?,
        Basis::Path(KnownPath { id, .. }) => fields.serialize_entry("basis", &**id)?,
    }
    fields.end()
}

impl Ruling {
    pub(super) fn refuse(refusal: Refusal, terms: Terms) -> Self {
        Self::Refuse(Refused { refusal, terms })
    }

    /// Whoever was not refused passes, once all that is required was given.
    pub(super) fn unless(requirements: Vec<Requirement>, terms: Terms) -> Self {
        if requirements.is_empty() { Self::Pass(Passed { terms }) } else { Self::Hold(Pending { requirements, terms }) }
    }

    /// allow, mask, block or require-approval.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Refuse(_) => Verdict::Block,
            Self::Hold(_) => Verdict::RequireApproval,
            Self::Pass(passed) => passed.verdict(),
        }
    }

    /// The terms on which it passes, or would.
    pub fn terms(&self) -> &Terms {
        match self {
            Self::Refuse(Refused { terms, .. }) | Self::Hold(Pending { terms, .. }) | Self::Pass(Passed { terms }) => terms,
        }
    }

    /// The same, to be changed.
    pub fn terms_mut(&mut self) -> &mut Terms {
        match self {
            Self::Refuse(Refused { terms, .. }) | Self::Hold(Pending { terms, .. }) | Self::Pass(Passed { terms }) => terms,
        }
    }

    /// Why it does not pass, where it does not.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refuse(refused) => Some(&refused.refusal),
            _ => None,
        }
    }

    /// The approvals it waits for.
    pub fn requirements(&self) -> &[Requirement] {
        match self {
            Self::Hold(held) => &held.requirements,
            _ => &[],
        }
    }

    /// Lets pass what a ticket covers that was taken for it.
    pub fn released(self, taken: Taken) -> Result<Passed, Refusal> {
        let mut terms = match self {
            Self::Refuse(refused) => return Err(refused.refusal),
            Self::Hold(held) if !held.is_covered_by(taken.ticket()) => return Err(no_longer_covered(taken.ticket())),
            Self::Hold(Pending { terms, .. }) | Self::Pass(Passed { terms }) => terms,
        };
        terms.approved = true;
        terms.stream_instances.iter_mut().for_each(StreamInstance::set_approved);
        Ok(Passed { terms })
    }
}

impl Pending {
    /// The approvals it waits for.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether a ticket asks for the same approvals.
    pub fn is_covered_by(&self, ticket: &Ticket) -> bool {
        let (now, then) = (&self.requirements, &ticket.requirements);
        now.len() == then.len() && now.iter().zip(then).all(|(now, then)| now.is_same(then))
    }

    /// The terms on which it would pass.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The same, to be changed.
    pub fn terms_mut(&mut self) -> &mut Terms {
        &mut self.terms
    }
}

/// What is said where policies ask for other approvals than a ticket has.
pub fn no_longer_covered(ticket: &Ticket) -> Refusal {
    Refusal::forbidden(format!("approval {} no longer covers this operation: the policies ask for another one now", ticket.id))
}

impl Passed {
    /// allow or mask.
    pub fn verdict(&self) -> Verdict {
        if self.terms.masks.is_some() { Verdict::Mask } else { Verdict::Allow }
    }
}

impl Deref for Passed {
    type Target = Terms;

    fn deref(&self) -> &Terms {
        &self.terms
    }
}

impl DerefMut for Passed {
    fn deref_mut(&mut self) -> &mut Terms {
        &mut self.terms
    }
}

impl Terms {
    /// Whether what comes back must be read.
    pub fn reads_objects(&self) -> bool {
        !self.on_object.is_empty() || self.masks.as_ref().is_some_and(|m| m.reads_objects())
    }
}
