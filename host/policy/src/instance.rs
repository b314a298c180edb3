//! One call of a policy in an instance of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::Instance;
use wasmtime::{PoolConcurrencyLimitError, Store, Trap};

use crate::busy::retry_while_busy;
use crate::contract::version::{Prepared, Version};
use crate::contract::{Hook, Manifest, PolicyOperation, Verdict, in_a_line};
use crate::counters::CounterOwner;
use crate::deadline;
use crate::document::{Body, Document, Object};
use crate::grants::Capability;
use crate::remember::{About, Basis, Decision, NotDeterministic, Run};
use crate::sight::Sight;
use crate::state::{HostState, Surroundings};
use crate::stream_instance::StreamInstance;
use crate::{CallLimits, HookOutcome, Policy, Runtime};
use postern_ground::clock;
use postern_ground::slots::Slot;
use postern_mask::{Plan, PlanCache};

/// Milliseconds that what is done once, when a module is loaded, may take: a machine that compiles another just now is slow.
pub(super) const LOAD_TIME: u64 = 10_000;
/// The most bytes that a policy hands over in one call, of the host or of its own.
const MOST_IN_A_CALL: usize = 32 << 20;
const SECONDS_OF_DAY: u64 = 86_400;
/// The most handles it has at a time. One for each way of looking around is what a policy needs.
const MOST_HANDLES: usize = 1000;

/// What a call is about.
pub struct Call<'a> {
    /// The operation as policies are told of it.
    pub subject: &'a PolicyOperation,
    /// The request's body, when a policy reads it.
    pub body: Option<Arc<dyn Body>>,
    /// The object of its answer that is asked about.
    pub object: Option<Arc<Object>>,
    /// The objects beside it.
    pub surroundings: &'a Surroundings,
    /// Where the masks that it answers with are compiled.
    pub plans: &'a PlanCache,
}

impl Call<'_> {
    /// What a memory knows it by.
    fn about(&self) -> About<'_> {
        About { operation: self.subject, has_body: self.body.is_some(), object: self.object.as_deref() }
    }
}

/// What a policy answered.
#[derive(Debug)]
pub struct HookAnswer {
    /// The verdict, or why there is none.
    pub verdict: Result<Arc<Verdict>, String>,
    /// The masks of its verdict, compiled; none of another verdict.
    pub plan: Option<Arc<Plan>>,
    /// Facts for the audit event.
    pub annotations: Vec<(String, String)>,
    /// What the verdict is based on.
    pub basis: Basis,
    /// Bytes of memory its instance had.
    pub memory: usize,
    /// Whether there was no room for an instance of it, or no time left for its masks. That is no failure that its file may let pass.
    pub exhausted: bool,
    /// When it was asked.
    pub began: Instant,
    /// How long that took.
    pub took: Duration,
}

/// Asks a prepared component what it is, and checks the types of its hooks: they are not checked again with every call.
pub(super) fn describe(runtime: &Runtime, prepared: &Prepared, limits: CallLimits) -> anyhow::Result<Manifest> {
    let _ticking = runtime.tick_epochs();
    let mut store = store(runtime, HostState::new(limits.memory.0), CallLimits { deadline: limits.deadline.max(LOAD_TIME), ..limits });
    let instance = retry_while_busy(|| prepared.linked().instantiate(&mut store)).map_err(|e| anyhow::anyhow!("{}", explain(&e)))?;
    prepared.check(&instance, &mut store).map_err(|e| anyhow::anyhow!("its hooks are not those of the contract: {e:#}"))?;
    let manifest = prepared.linked().describe(&instance, &mut store).map_err(|e| anyhow::anyhow!("describe failed: {}", explain(&e)))?;
    manifest.checked()
}

pub(super) fn store(runtime: &Runtime, state: HostState, limits: CallLimits) -> Store<HostState> {
    let mut store = Store::new(&runtime.engine, state);
    store.limiter(|state| &mut state.limiter);
    deadline::keep(&mut store);
    deadline::set(&mut store, limits.deadline);
    limit_host_calls(&mut store);
    store
}

/// What a policy can have the host keep: in one call, and at a time.
pub(super) fn limit_host_calls(store: &mut Store<HostState>) {
    store.set_hostcall_fuel(MOST_IN_A_CALL);
    store.set_max_component_handles(MOST_HANDLES);
    store.data_mut().table.set_max_capacity(MOST_HANDLES);
}

impl Policy {
    /// Calls on-request in a fresh instance.
    pub fn call_on_request(&self, runtime: &Arc<Runtime>, call: &Call<'_>) -> HookAnswer {
        if let Some(answer) = self.recall(call) {
            return answer;
        }
        let hook = |instance: &Instance, store: &mut Store<HostState>| {
            store.data_mut().run = self.is_asking().then(Run::default);
            self.on_request_in(instance, store, call)
        };
        let (mut answer, mut left) = self.call(runtime, call, Hook::OnRequest, hook);
        if let Some(run) = run_of(&mut left) {
            answer.basis = Basis::Asked(run.asked());
            self.learn(call, run, &answer);
        }
        self.done(runtime, left);
        answer
    }

    /// How much it may see of what is in an operation.
    fn sight(&self, subject: &PolicyOperation) -> Sight {
        let (resource, subresource) = subject.resource();
        Sight::new(&self.granted, resource, subresource)
    }

    /// What it is known to say, where its module need not be asked.
    fn recall(&self, call: &Call<'_>) -> Option<HookAnswer> {
        if !self.remembered.is_on() {
            return None;
        }
        let began = Instant::now();
        // Of objects there are too many to tell what each verdict is based on.
        let is_told = call.object.is_none() && !call.surroundings.only_asks;
        // Of the event that names it, not of an operation that may have waited.
        let day = is_told.then(|| 1 + clock::now() / SECONDS_OF_DAY);
        let (decision, basis) = self.remembered.recall(&call.about(), self.sight(call.subject), day)?;
        // Masks that are compiled no more, and for which there is no time, are the module's to answer for.
        let plan = decision.plan(&self.name, call.plans).ok()?;
        let verdict = Ok(Arc::clone(&decision.verdict));
        let took = began.elapsed();
        if !call.surroundings.only_asks {
            let hook = if call.object.is_some() { Hook::OnObject } else { Hook::OnRequest };
            self.stats.add_remembered(hook, HookOutcome::of(&verdict), took);
        }
        Some(HookAnswer { verdict, plan, annotations: decision.annotations.clone(), basis, memory: 0, exhausted: false, began, took })
    }

    /// Whether it asks for what it knows: one of contract 0.1 is told everything.
    fn is_asking(&self) -> bool {
        self.component.version() != Version::V0_1
    }

    /// Takes in what a run came to.
    fn learn(&self, call: &Call<'_>, run: Run, answer: &HookAnswer) {
        let Ok(verdict) = &answer.verdict else { return };
        let decision = Decision::new(Arc::clone(verdict), answer.annotations.clone());
        if let Err(NotDeterministic) = self.remembered.learn(&call.about(), self.sight(call.subject), run, decision) {
            tracing::warn!(
                policy = %self.name,
                "the policy said two things of the same answers: it is not deterministic, and is asked about each operation from now on"
            );
        }
    }

    /// Calls on-request, and the instance goes on to look at the stream that follows. Of a policy without on-request the verdict is allow.
    pub fn call_and_stay(self: &Arc<Self>, runtime: &Arc<Runtime>, call: &Call<'_>, place: Slot) -> (HookAnswer, Option<StreamInstance>) {
        let (mut answer, mut left) = self.call(runtime, call, Hook::OnRequest, |instance, store| match self.has(Hook::OnRequest) {
            true => {
                store.data_mut().run = self.is_asking().then(Run::default);
                self.on_request_in(instance, store, call)
            }
            false => Ok(Verdict::Allow),
        });
        if let Some(run) = run_of(&mut left) {
            answer.basis = Basis::Asked(run.asked());
        }
        let live = left.map(|(store, instance)| {
            StreamInstance::new(Arc::clone(self), Arc::clone(runtime), store, instance, call.subject.clone(), place)
        });
        (answer, live)
    }

    fn on_request_in(&self, instance: &Instance, store: &mut Store<HostState>, call: &Call<'_>) -> wasmtime::Result<Verdict> {
        let body = call.body.clone().map(|body| Document::body(body, store.data().sight));
        self.component.on_request(instance, store, call.subject, body)
    }

    /// Calls on-object in a fresh instance.
    pub fn call_on_object(&self, runtime: &Arc<Runtime>, subject: &PolicyOperation, plans: &PlanCache, object: &Arc<Object>) -> HookAnswer {
        let call = Call { subject, body: None, object: Some(Arc::clone(object)), surroundings: &Surroundings::default(), plans };
        if object.is_short()
            && let Some(answer) = self.recall(&call)
        {
            return answer;
        }
        let (answer, mut left) = self.call(runtime, &call, Hook::OnObject, |instance, store| {
            // Of an object it is not told what a verdict is based on: what is asked is for the memory alone.
            store.data_mut().run = self.remembered.is_on().then(Run::default);
            let object = Document::object(Arc::clone(object), store.data().sight);
            self.component.on_object(instance, store, subject, object)
        });
        if let Some(run) = run_of(&mut left) {
            self.learn(&call, run, &answer);
        }
        self.done(runtime, left);
        answer
    }

    /// An instance that has served.
    fn done(&self, runtime: &Runtime, left: Option<(Store<HostState>, Instance)>) {
        if let Some((store, _)) = left {
            self.ready.done(runtime, store);
        }
    }

    fn call(
        &self,
        runtime: &Arc<Runtime>,
        about: &Call<'_>,
        which: Hook,
        hook: impl FnOnce(&Instance, &mut Store<HostState>) -> wasmtime::Result<Verdict>,
    ) -> (HookAnswer, Option<(Store<HostState>, Instance)>) {
        let Call { subject, surroundings, plans, .. } = *about;
        let _ticking = runtime.tick_epochs();
        let began = Instant::now();
        let (mut store, instance) = self.ready.take(runtime);
        deadline::set(&mut store, self.limits.deadline);
        let state = store.data_mut();
        state.surroundings = surroundings.clone();
        state.subject = Some(subject.clone());
        let sight = self.sight(subject);
        state.sight = sight;
        state.counts = self
            .granted
            .contains(&Capability::Counters)
            .then(|| CounterOwner { cluster: subject.cluster().to_owned(), policy: self.name.clone() });
        state.runtime = Some(Arc::clone(runtime));
        let verdict = match &instance {
            Ok(instance) => {
                let answer = hook(instance, &mut store);
                store.data_mut().end_run();
                answer.map_err(|error| {
                    store.data_mut().stopped(&error);
                    explain(&error)
                })
            }
            Err(error) => Err(explain(error)),
        };
        let verdict = verdict.and_then(|verdict| seen_only(sight, verdict.of_hook(which)?)).map_err(in_a_line);
        let took = began.elapsed();
        let (mut plan, mut exhausted) = (None, instance.as_ref().is_err_and(|error| error.is::<PoolConcurrencyLimitError>()));
        // A mask that is none is a failure of the policy that gave it.
        let verdict = verdict.and_then(|verdict| {
            if let Verdict::Mask(masks) = &verdict {
                plan = Some(plans.of_policy(&self.name, masks).map_err(|error| {
                    exhausted |= error.is_exhausted();
                    if error.is_exhausted() { error.to_string() } else { format!("it returned a mask that is none: {error}") }
                })?);
            }
            Ok(Arc::new(verdict))
        });
        if !surroundings.only_asks {
            self.stats.add(which, HookOutcome::of(&verdict), took);
        }
        let state = store.data_mut();
        let (annotations, output) = (std::mem::take(&mut state.annotations), state.output.take());
        let failure = verdict.as_ref().err().filter(|_| !surroundings.only_asks);
        self.tell(runtime, which, failure.map(String::as_str), &output);
        let answer =
            HookAnswer { verdict, plan, annotations, basis: Basis::default(), memory: state.limiter.memory, exhausted, began, took };
        (answer, instance.ok().map(|instance| (store, instance)))
    }
}

/// What was asked in a call, where that was kept.
fn run_of(left: &mut Option<(Store<HostState>, Instance)>) -> Option<Run> {
    left.as_mut()?.0.data_mut().run.take()
}

/// A verdict whose masks have conditions on what the policy sees only: another would tell it what it may not know.
fn seen_only(sight: Sight, verdict: Verdict) -> Result<Verdict, String> {
    if let Verdict::Mask(masks) = &verdict
        && let Some(path) = sight.unseen_condition(masks)
    {
        return Err(format!("it returned a mask with a condition on {path}, which it may not see; its file must grant that"));
    }
    Ok(verdict)
}

/// An engine's error in words for the operator, without the policy's stack.
pub(super) fn explain(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => "it was still running at its deadline".into(),
        Some(Trap::UnreachableCodeReached) => "it panicked".into(),
        Some(trap) => format!("it trapped: {trap}"),
        None => {
            let mut text = error.root_cause().to_string();
            text.truncate(text.char_indices().nth(300).map_or(text.len(), |(at, _)| at));
            text
        }
    }
}
