//! One call of a policy in an instance of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;
use wasmtime::component::{ComponentExportIndex, Func, HasSelf, Instance, Linker, Resource, ResourceTable};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap};

use super::bindings::postern::policy::host;
use super::bindings::postern::policy::types::{self, Capabilities, HostDocument, Operation, Surrounding, Verdict};
use super::bindings::{PolicyModule, PolicyModulePre};
use super::bound::Bound;
use super::busy::patiently;
use super::counters::CounterOwner;
use super::document::{Document, Seen};
use super::engine::ticks;
use super::live::Live;
use super::sight::Sight;
use super::{CallLimits, Hook, Outcome, Policy, Runtime};
use super::{trusted, wasi};
use crate::clock;
use crate::json::RequestBody;
use crate::slots::Slot;

/// A component ready to be instantiated, and where its hooks are: an operation calls one of them, and looks up no others.
pub(super) struct Prepared {
    pub(super) module: PolicyModulePre<State>,
    pub(super) on_request: ComponentExportIndex,
    pub(super) on_object: ComponentExportIndex,
    pub(super) on_chunk: ComponentExportIndex,
}

/// The instance of the contract's exports.
pub(super) const EXPORTS: &str = "postern:policy/policy@0.1.0";

/// Milliseconds that what is done once, when a module is loaded, may take: a machine that compiles another just now is slow.
pub(super) const LOAD_TIME: u64 = 10_000;

/// Most annotations one call leaves, and their sizes.
const MOST_ANNOTATIONS: usize = 32;
const LONGEST_KEY: usize = 64;
const LONGEST_VALUE: usize = 1024;

/// The objects beside an operation, fetched before the call.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The Namespace addressed.
    pub namespace: Option<Arc<Value>>,
    /// The object as it is stored.
    pub stored: Option<Arc<Value>>,
    /// The pod.
    pub pod: Option<Arc<Value>>,
    /// Whether the operation is only asked about: what is counted is told, and not added to.
    pub only_asks: bool,
}

/// What a call is about.
pub struct Call<'a> {
    /// The operation as the contract spells it.
    pub operation: &'a Operation,
    /// The request's body, when a policy reads it.
    pub body: Option<&'a Arc<RequestBody>>,
    /// The objects beside it.
    pub surroundings: &'a Surroundings,
}

/// The most bytes that a policy hands over in one call, of the host or of its own.
const MOST_IN_A_CALL: usize = 32 << 20;
/// The most rules of a manifest, and the most words in them.
const MOST_RULES: usize = 1000;
const MOST_WORDS: usize = 10_000;
/// The most handles it has at a time. One for each way of looking around is what a policy needs.
const MOST_HANDLES: usize = 1000;

/// What a policy answered.
#[derive(Debug)]
pub struct Answer {
    /// The verdict, or why there is none.
    pub verdict: Result<Verdict, String>,
    /// Facts for the audit event.
    pub annotations: Vec<(String, String)>,
    /// Bytes of memory its instance had.
    pub memory: usize,
    /// Whether there was no room for an instance of it. That is no failure of the policy's, and what it says of those does not hold.
    pub exhausted: bool,
    /// When it was asked.
    pub began: Instant,
    /// How long that took.
    pub took: Duration,
}

/// What a store holds: all a policy can reach.
pub struct State {
    pub(super) bound: Bound,
    table: ResourceTable,
    annotations: Vec<(String, String)>,
    surroundings: Surroundings,
    /// What the policy sees of them: the Namespace, the stored object, the pod.
    seen: [Seen; 3],
    sight: Sight,
    runtime: Option<Arc<Runtime>>,
    /// Whose its counters are, where it may count.
    counts: Option<CounterOwner>,
    /// What was called of a WASI that grants nothing.
    pub(super) refused: BTreeSet<String>,
}

impl State {
    /// For a call with so much memory that nothing is known about yet.
    pub(super) fn new(memory: usize) -> Self {
        Self {
            bound: Bound::new(memory),
            table: ResourceTable::new(),
            annotations: Vec::new(),
            surroundings: Surroundings::default(),
            seen: Default::default(),
            sight: Sight::Metadata,
            runtime: None,
            counts: None,
            refused: BTreeSet::new(),
        }
    }

    /// What was said before there was an operation is nothing of the operation's.
    pub(super) fn forget(&mut self) {
        self.annotations.clear();
        self.refused.clear();
    }
}

/// Checks a compiled component against the contract.
pub(super) fn prepare(runtime: &Runtime, component: &wasmtime::component::Component) -> anyhow::Result<Prepared> {
    let mut linker: Linker<State> = Linker::new(&runtime.engine);
    PolicyModule::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    wasi::grant_nothing(&mut linker, component)?;
    let module = PolicyModulePre::new(linker.instantiate_pre(component)?)?;
    let exports = component.get_export_index(None, EXPORTS);
    let hook =
        |name: &str| component.get_export_index(exports.as_ref(), name).with_context(|| format!("it does not export {EXPORTS} {name}"));
    Ok(Prepared { module, on_request: hook("on-request")?, on_object: hook("on-object")?, on_chunk: hook("on-chunk")? })
}

/// Asks a prepared component what it is, and checks the types of its hooks: they are not checked again with every call.
pub(super) fn describe(runtime: &Runtime, prepared: &Prepared, limits: CallLimits) -> anyhow::Result<types::Manifest> {
    let _running = runtime.running();
    let mut store = store(runtime, State::new(limits.memory.0), CallLimits { deadline: limits.deadline.max(LOAD_TIME), ..limits });
    let instance = patiently(|| prepared.module.instance_pre().instantiate(&mut store)).map_err(|e| anyhow::anyhow!("{}", explain(&e)))?;
    trusted::check(prepared, &instance, &mut store).map_err(|e| anyhow::anyhow!("its hooks are not those of the contract: {e:#}"))?;
    let manifest = describe_in(&instance, &mut store).map_err(|e| anyhow::anyhow!("describe failed: {}", explain(&e)))?;
    let words: usize = manifest.rules.iter().map(|r| r.verbs.len() + r.api_groups.len() + r.resources.len() + r.namespaces.len()).sum();
    // Each request is held against them.
    anyhow::ensure!(
        manifest.rules.len() <= MOST_RULES && words <= MOST_WORDS,
        "its manifest has {} rules with {words} words; at most {MOST_RULES} with {MOST_WORDS} are taken",
        manifest.rules.len()
    );
    Ok(manifest)
}

/// Asks an instance what it is.
pub(super) fn describe_in(instance: &Instance, store: &mut Store<State>) -> wasmtime::Result<types::Manifest> {
    PolicyModule::new(&mut *store, instance)?.postern_policy_policy().call_describe(store)
}

pub(super) fn store(runtime: &Runtime, state: State, limits: CallLimits) -> Store<State> {
    let mut store = Store::new(&runtime.engine, state);
    store.limiter(|state| &mut state.bound);
    store.set_epoch_deadline(ticks(limits.deadline));
    bound_host(&mut store);
    store
}

/// What a policy can have the host keep: in one call, and at a time.
pub(super) fn bound_host(store: &mut Store<State>) {
    store.set_hostcall_fuel(MOST_IN_A_CALL);
    store.set_max_component_handles(MOST_HANDLES);
    store.data_mut().table.set_max_capacity(MOST_HANDLES);
}

impl Policy {
    /// Calls on-request in a fresh instance.
    pub fn call_on_request(&self, runtime: &Arc<Runtime>, call: &Call<'_>) -> Answer {
        let (answer, left) = self
            .call(runtime, call.operation, call.surroundings, Hook::OnRequest, |instance, store| self.on_request_in(instance, store, call));
        self.done(runtime, left);
        answer
    }

    /// The same, and the instance goes on to look at the stream that follows. Of a policy without on-request the verdict is allow.
    pub fn call_and_stay(self: &Arc<Self>, runtime: &Arc<Runtime>, call: &Call<'_>, place: Slot) -> (Answer, Option<Live>) {
        let (answer, left) =
            self.call(runtime, call.operation, call.surroundings, Hook::OnRequest, |instance, store| match self.on_request() {
                true => self.on_request_in(instance, store, call),
                false => Ok(Verdict::Allow),
            });
        let live =
            left.map(|(store, instance)| Live::new(Arc::clone(self), Arc::clone(runtime), store, instance, call.operation.clone(), place));
        (answer, live)
    }

    fn on_request_in(&self, instance: &Instance, store: &mut Store<State>, call: &Call<'_>) -> wasmtime::Result<Verdict> {
        let hook = trusted::on_request(hook(instance, store, &self.component.on_request)?);
        let body = match call.body {
            Some(body) => {
                let document = Document::body(Arc::clone(body), store.data().sight);
                Some(store.data_mut().table.push(document)?)
            }
            None => None,
        };
        let borrowed = body.as_ref().map(|b| Resource::new_borrow(b.rep()));
        Ok(hook.call(store, (call.operation, borrowed))?.0)
    }

    /// Calls on-object in a fresh instance.
    /// `size` is how many bytes the object came in.
    pub fn call_on_object(&self, runtime: &Arc<Runtime>, operation: &Operation, object: Arc<Value>, size: u64) -> Answer {
        let (answer, left) = self.call(runtime, operation, &Surroundings::default(), Hook::OnObject, |instance, store| {
            let hook = trusted::on_object(hook(instance, store, &self.component.on_object)?);
            let document = Document::ready(object, Some(size), store.data().sight, Seen::default());
            let document = store.data_mut().table.push(document)?;
            let borrowed = Resource::new_borrow(document.rep());
            Ok(hook.call(store, (operation, borrowed))?.0)
        });
        self.done(runtime, left);
        answer
    }

    /// An instance that has served.
    fn done(&self, runtime: &Runtime, left: Option<(Store<State>, Instance)>) {
        if let Some((store, _)) = left {
            self.ready.done(runtime, store);
        }
    }

    fn call(
        &self,
        runtime: &Arc<Runtime>,
        operation: &Operation,
        surroundings: &Surroundings,
        which: Hook,
        hook: impl FnOnce(&Instance, &mut Store<State>) -> wasmtime::Result<Verdict>,
    ) -> (Answer, Option<(Store<State>, Instance)>) {
        let _running = runtime.running();
        let began = Instant::now();
        let (mut store, instance) = self.ready.take(runtime);
        store.set_epoch_deadline(ticks(self.limits.deadline));
        let state = store.data_mut();
        state.surroundings = surroundings.clone();
        state.sight = Sight::new(self.granted, operation.target.as_ref());
        state.counts = self
            .granted
            .contains(Capabilities::COUNTERS)
            .then(|| CounterOwner { cluster: operation.cluster.clone(), policy: self.name.clone() });
        state.runtime = Some(Arc::clone(runtime));
        let verdict = match &instance {
            Ok(instance) => hook(instance, &mut store).map_err(|error| explain(&error)),
            Err(error) => Err(explain(error)),
        };
        let took = began.elapsed();
        if !surroundings.only_asks {
            self.stats.add(which, outcome(&verdict), took);
        }
        let exhausted = instance.as_ref().is_err_and(|error| error.is::<PoolConcurrencyLimitError>());
        let state = store.data_mut();
        let annotations = std::mem::take(&mut state.annotations);
        let answer = Answer { verdict, annotations, memory: state.bound.memory, exhausted, began, took };
        (answer, instance.ok().map(|instance| (store, instance)))
    }
}

fn outcome(verdict: &Result<Verdict, String>) -> Outcome {
    match verdict {
        Ok(Verdict::Allow) => Outcome::Allow,
        Ok(Verdict::Mask(_)) => Outcome::Mask,
        Ok(Verdict::Block(_)) => Outcome::Block,
        Ok(Verdict::RequireApproval(_)) => Outcome::RequireApproval,
        Ok(Verdict::Terminate(_)) => Outcome::Terminate,
        Err(_) => Outcome::Failed,
    }
}

/// A hook of an instance.
pub(super) fn hook(instance: &Instance, store: &mut Store<State>, index: &ComponentExportIndex) -> wasmtime::Result<Func> {
    instance.get_func(store, index).ok_or_else(|| wasmtime::Error::msg("it has no such hook"))
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

impl types::Host for State {}

impl HostDocument for State {
    fn get(&mut self, document: Resource<Document>, path: String) -> wasmtime::Result<Option<String>> {
        self.table.get(&document)?.get(&path)
    }

    fn select(&mut self, document: Resource<Document>, path: String) -> wasmtime::Result<Vec<(String, String)>> {
        self.table.get(&document)?.select(&path)
    }

    fn json(&mut self, document: Resource<Document>) -> wasmtime::Result<String> {
        self.table.get(&document)?.json()
    }

    fn size(&mut self, document: Resource<Document>) -> wasmtime::Result<u64> {
        self.table.get(&document)?.size()
    }

    fn drop(&mut self, document: Resource<Document>) -> wasmtime::Result<()> {
        self.table.delete(document)?;
        Ok(())
    }
}

impl host::Host for State {
    fn look_around(&mut self, which: Surrounding) -> wasmtime::Result<Option<Resource<Document>>> {
        let (object, seen) = match which {
            Surrounding::Namespace => (&self.surroundings.namespace, &self.seen[0]),
            Surrounding::Stored => (&self.surroundings.stored, &self.seen[1]),
            Surrounding::Pod => (&self.surroundings.pod, &self.seen[2]),
        };
        Ok(match object.clone() {
            Some(object) => Some(self.table.push(Document::ready(object, None, self.sight, Arc::clone(seen)))?),
            None => None,
        })
    }

    fn annotate(&mut self, key: String, value: String) -> wasmtime::Result<()> {
        if self.annotations.len() >= MOST_ANNOTATIONS || key.len() > LONGEST_KEY || value.len() > LONGEST_VALUE {
            return Err(wasmtime::Error::msg("annotate: at most 32 facts, keys of 64 bytes and values of 1024"));
        }
        self.annotations.push((key, value));
        Ok(())
    }

    fn count(&mut self, key: String, amount: u64, window_seconds: u32) -> wasmtime::Result<u64> {
        let Some(runtime) = &self.runtime else {
            return Err(wasmtime::Error::msg("count is there for operations, not for configure or describe"));
        };
        let Some(owner) = &self.counts else {
            return Err(wasmtime::Error::msg("count: its manifest does not name the capability counters"));
        };
        if key.len() > 256 {
            return Err(wasmtime::Error::msg("count: the key is over 256 bytes long"));
        }
        let amount = if self.surroundings.only_asks { 0 } else { amount };
        runtime
            .counters
            .add(owner, key, amount, window_seconds, clock::now())
            .ok_or_else(|| wasmtime::Error::msg("count: too many counters are kept"))
    }
}
