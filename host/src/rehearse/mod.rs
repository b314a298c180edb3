//! Rehearse: policies are asked about operations that are not under way, out of case files and recordings.
//!
//! What is asked goes through the same stages as in the gateway: the rules decide whether a policy is asked, `decide` what its answer means,
//! `respond` and `stream` what the caller would be shown.

#[cfg(feature = "authoring")]
pub mod cases;
pub mod given;
pub mod recorded;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::classify::Shape;
use crate::clock;
use crate::config::{Policies, Unmatched};
use crate::decide::{Decider, Ruling, Terms};
use crate::mask::{PlanCache, Scope, TokenKey};
use crate::policy::contract::Output;
use crate::policy::{Cache, CallLimits, CounterOwner, Directory, Hook, HookOutcome, Loader, Policy, PolicyOperation, PolicySet, Runtime};
use crate::respond::{Items, Negotiated, Stop, Treatment};
use crate::stream::filter::Filter;
use given::RehearsedOperation;

/// Largest object taken.
const LARGEST: usize = 64 << 20;
/// Calls of which it is kept what was written: the first, and the last.
const MOST_OUTPUTS: usize = 100;

/// Where policies are loaded and asked outside a gateway.
pub struct Stage {
    /// Loads them.
    pub loader: Loader,
    /// Where their masks are compiled.
    pub plans: Arc<PlanCache>,
    written: Arc<Mutex<VecDeque<PolicyOutput>>>,
}

/// What a policy wrote to standard output and error in one call: the text of an exception, and whatever it prints.
#[derive(Clone, Debug)]
pub struct PolicyOutput {
    /// The policy.
    pub policy: String,
    /// The hook that was called.
    pub hook: Hook,
    /// The text.
    pub text: String,
    /// Why the call failed, with the place in the source, where it did and that is known.
    pub fault: Option<String>,
}

/// What one policy says of an operation, or all of a directory together.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Said {
    /// allow, mask, block, require-approval, terminate, failed; not-asked where no rule matches.
    pub verdict: String,
    /// What the caller is told.
    pub reason: Option<String>,
    /// What is hidden.
    pub masks: Vec<String>,
    /// Groups whose members may approve.
    pub approvers: Vec<String>,
    /// Facts for the audit event.
    pub annotations: BTreeMap<String, String>,
}

/// An operation that was decided: what comes back can be shown.
pub struct Rehearsal<'a> {
    stage: &'a Stage,
    given: &'a RehearsedOperation,
    /// The decision, as the gateway would make it.
    pub ruling: Ruling,
}

impl Stage {
    /// Sets one up. Compiled modules are kept in the user's cache directory, the newest of them.
    pub fn open() -> anyhow::Result<Self> {
        Self::with(&Policies::default())
    }

    /// A stage with the limits of a configuration.
    pub fn with(policies: &Policies) -> anyhow::Result<Self> {
        let limits = CallLimits { deadline: policies.deadline_milliseconds, memory: policies.memory };
        let cache = cache()?;
        cache.prune(&[]);
        let loader = Loader { runtime: Runtime::start_for_author(limits.memory.0)?, cache, limits, remember: policies.remember };
        let written: Arc<Mutex<VecDeque<PolicyOutput>>> = Arc::default();
        let kept = Arc::clone(&written);
        loader.runtime.tell_author(move |said| {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if !said.output.is_empty() {
                kept.truncate(MOST_OUTPUTS - 1);
                kept.push_back(PolicyOutput {
                    policy: said.policy.to_owned(),
                    hook: said.hook,
                    text: said.output.to_owned(),
                    fault: said.fault,
                });
            }
        });
        Ok(Self { loader, plans: Arc::new(PlanCache::new(TokenKey::new(&[0; 32]))), written })
    }

    /// Loads a directory of policies as a gateway would, or, to pin it, whatever its lock file says.
    pub fn directory(&self, policies: &Policies, data: &Path, heeds_lock: bool) -> anyhow::Result<Arc<Directory>> {
        let runtime = Arc::clone(&self.loader.runtime);
        match heeds_lock {
            true => Directory::open(runtime, cache()?, policies, data, None),
            false => Directory::open_to_lock(runtime, cache()?, policies, data),
        }
    }

    /// Loads what loads of a directory, as a gateway would that serves the last good of what does not.
    pub fn what_loads(&self, policies: &Policies, data: &Path) -> anyhow::Result<Arc<Directory>> {
        Directory::open_what_loads(Arc::clone(&self.loader.runtime), cache()?, policies, data)
    }

    /// Takes what policies wrote since it was taken last.
    pub fn written(&self) -> Vec<PolicyOutput> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    /// Decides an operation with policies.
    pub fn decide<'a>(&'a self, policies: &[Arc<Policy>], given: &'a RehearsedOperation) -> Rehearsal<'a> {
        let set = PolicySet { policies: policies.to_vec(), ..PolicySet::default() };
        let runtime = &self.loader.runtime;
        let decider = Decider { policies: &set, runtime: Some(runtime), unmatched: Unmatched::Allow, plans: &self.plans };
        let mut ruling = decider.decide(&|| Arc::clone(&given.subject), &given.operation, given.body.as_ref(), &given.around);
        if given.subject.is_approved() {
            ruling.terms_mut().stream_instances.iter_mut().for_each(crate::policy::StreamInstance::set_approved);
        }
        Rehearsal { stage: self, given, ruling }
    }

    /// Has a policy stand at what it counted before, by a key of its own or by what the caller spends under that name.
    pub fn count(&self, policy: &Policy, subject: &PolicyOperation, key: &str, amount: u64, window: u32) {
        let owner = CounterOwner { cluster: subject.cluster().to_owned(), policy: policy.name.clone() };
        for (owner, key) in [owner.spent(subject, key), (owner, key.to_owned())] {
            self.loader.runtime.counters.add(&owner, key, amount, window, clock::now());
        }
    }
}

/// Compiled modules are kept in the user's cache directory.
fn cache() -> anyhow::Result<Cache> {
    let place = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let directory = place("XDG_CACHE_HOME").or_else(|| place("HOME").map(|home| home.join(".cache")));
    let directory = directory.context("there is no place for compiled policies: set HOME or XDG_CACHE_HOME")?.join("postern").join("tool");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    Cache::open(&directory)
}

impl Rehearsal<'_> {
    /// What was said.
    pub fn said(&self) -> Said {
        let (refusal, approvals) = (self.ruling.refusal(), self.ruling.requirements());
        let Terms { masks, answers, on_object, stream_instances, .. } = self.ruling.terms();
        let failed = answers.iter().any(|answer| answer.verdict == HookOutcome::Failed);
        let verdict = match self.ruling.verdict().name() {
            _ if failed => "failed",
            "allow" if answers.is_empty() && on_object.is_empty() && stream_instances.is_empty() => "not-asked",
            verdict => verdict,
        };
        let reason = refusal.map(|refusal| refusal.message.clone());
        Said {
            verdict: verdict.to_owned(),
            reason: reason.or_else(|| approvals.first().map(|approval| approval.reason.clone())),
            masks: masks.as_ref().map(|masks| masks.names()).unwrap_or_default(),
            approvers: approvals.iter().flat_map(|approval| approval.approvers.clone()).collect(),
            annotations: answers.iter().flat_map(|answer| answer.annotations.clone()).collect(),
        }
    }

    /// What becomes of an object on its way back: what is said of it, and what the caller is shown.
    pub fn object(&self, object: &Value) -> (Said, Option<Value>) {
        let text = object.to_string();
        let treatment = Treatment {
            masks: self.ruling.terms().masks.clone(),
            on_object: self.ruling.terms().on_object.clone(),
            runtime: Some(Arc::clone(&self.stage.loader.runtime)),
            subject: Arc::clone(&self.given.subject),
            plans: Arc::clone(&self.stage.plans),
            resource: self.given.operation.target.as_ref().map(crate::classify::Target::full_resource).unwrap_or_default(),
            asked: Negotiated::default(),
            look_back: None,
        };
        let mut items = Items::new(treatment, "get", Shape::Answer, LARGEST);
        let mut out = Vec::with_capacity(text.len());
        let said = |verdict: &str, reason: Option<String>| Said { verdict: verdict.into(), reason, ..Said::default() };
        match items.push(text.as_bytes(), &mut out).and_then(|()| items.finish(&mut out)) {
            Ok(()) => {
                let mut said = said(if items.report().is_empty() { "allow" } else { "mask" }, None);
                said.masks = items.report().keys().cloned().collect();
                (said, serde_json::from_slice(&out).ok())
            }
            Err(Stop::Hidden) => (said("block", None), None),
            Err(Stop::Terminated(why)) => (said("terminate", Some(why)), None),
            Err(stop) => (said("failed", Some(stop.to_string())), None),
        }
    }

    /// What becomes of what a container writes: of each piece what is said of it, and what the caller is shown. A stream that was ended shows no more.
    pub fn chunks(&mut self, pieces: &[(Output, Vec<u8>)]) -> Vec<(Said, Vec<u8>)> {
        let rules =
            self.ruling.terms().masks.as_ref().filter(|masks| masks.reads_text()).map(|masks| masks.text_rules(None, Scope::default()));
        let mut filter = Filter::new(std::mem::take(&mut self.ruling.terms_mut().stream_instances), rules, false);
        let mut shown = Vec::new();
        for (output, data) in pieces {
            let mut out = Vec::new();
            let said = |verdict: &str, reason: Option<String>| Said { verdict: verdict.into(), reason, ..Said::default() };
            if let Err(refusal) = filter.push(*output, data, &mut out) {
                let verdict = if refusal.code.is_server_error() { "failed" } else { "terminate" };
                shown.push((said(verdict, Some(refusal.message)), out));
                break;
            }
            filter.flush(*output, &mut out);
            shown.push((said(if out == *data { "forward" } else { "replace" }, None), out));
        }
        shown
    }
}
