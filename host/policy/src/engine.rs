//! The two wasmtime engines: one that runs policies, one that configures them.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::Thread;
use std::time::Duration;

use wasmtime::{CacheStore, Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use crate::contract::{Hook, PolicyOperation};
use crate::counters::Counters;
use crate::deadline::TICK;
use crate::functions::Functions;
use crate::ready::{self, InstancePermit, Job, Jobs};
use crate::remember::Budget;
use postern_ground::clock;
use postern_ground::slots::{Full, Slot, Slots};

/// The clock stops after so many ticks without a call: an idle gateway does not wake a hundred times a second.
const IDLE_TICKS: u32 = 100;
/// The longest rest: whether anybody is left is looked at then.
const REST: Duration = Duration::from_secs(5);
/// How often what is counted is written down.
const WRITTEN_EVERY: Duration = Duration::from_secs(1);
/// Most instances alive at a time for calls that end: one a thread, and those that are kept ready.
const CALLED: u32 = 400;
/// Most that stay with streams. They have places of their own: however many do, there is one for each call.
const STAYING: u32 = 600;
/// Most that stay for one caller.
pub(super) const STAYING_FOR_ONE: usize = 100;
/// All of them.
const INSTANCES: u32 = CALLED + STAYING;
/// Memory an instance keeps between operations, reset in place: as much as an interpreter has.
const KEEP_RESIDENT: usize = 16 << 20;

/// What policies run in.
pub struct Runtime {
    pub(super) engine: Engine,
    pub(super) configure_engine: Engine,
    /// What was compiled before, while something is compiled.
    pub(super) functions: Arc<Functions>,
    /// What policies have counted.
    pub counters: Counters,
    /// How much may be remembered of what they say.
    pub(super) budget: Arc<Budget>,
    clock: Clock,
    jobs: OnceLock<Jobs>,
    /// Who is told what policies write, where they are tried by their author.
    pub(super) author: OnceLock<Author>,
    /// Its clones are the instances that are kept ready.
    pub(super) places: InstancePermit,
    staying: Arc<Slots>,
}

/// What a policy wrote to standard output and error in one call.
#[derive(Clone, Debug)]
pub struct Written<'a> {
    /// The policy.
    pub policy: &'a str,
    /// The hook that was called.
    pub hook: Hook,
    /// Why the call failed, in the author's own words and with the place in their source, where it did and that is known.
    pub fault: Option<String>,
    /// The text: of one that is long, the beginning and the end.
    pub output: &'a str,
}

type Author = Box<dyn Fn(Written<'_>) + Send + Sync>;

/// What moves the epoch on.
#[derive(Default)]
struct Clock {
    /// Calls begun.
    calls: AtomicU64,
    /// Calls under way.
    running: AtomicUsize,
    stopped: AtomicBool,
    thread: OnceLock<Thread>,
}

/// A call under way: the clock runs.
pub(super) struct Running<'a>(&'a Clock);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Runtime {
    /// Makes the engines and starts the clock that deadlines are measured by. `memory` is the most any instance may have.
    pub fn start(memory: usize, counters: Counters) -> anyhow::Result<Arc<Self>> {
        Self::with(memory, counters, WasmBacktraceDetails::Disable)
    }

    /// The same for policies whose author tries them: where a module says of which lines it was made, a trap is told with its line. What a module says of that is
    /// read only here, and not in a gateway.
    pub fn start_for_author(memory: usize) -> anyhow::Result<Arc<Self>> {
        Self::with(memory, Counters::default(), WasmBacktraceDetails::Enable)
    }

    fn with(memory: usize, counters: Counters, details: WasmBacktraceDetails) -> anyhow::Result<Arc<Self>> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(INSTANCES)
            .total_core_instances(INSTANCES * 4)
            .total_memories(INSTANCES)
            .total_tables(INSTANCES * 4)
            .max_core_instances_per_component(60)
            .max_tables_per_component(60)
            .max_memories_per_component(1)
            .max_component_instance_size(16 << 20)
            .max_core_instance_size(16 << 20)
            .max_memory_size(memory)
            .linear_memory_keep_resident(KEEP_RESIDENT)
            .table_keep_resident(64 << 10)
            .pagemap_scan(Enabled::Auto);
        let functions = Arc::new(Functions::default());
        let mut config = base(details, &functions)?;
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool)).memory_init_cow(true);
        let engine = Engine::new(&config)?;
        let runtime = Arc::new(Self {
            engine,
            configure_engine: Engine::new(&base(details, &functions)?)?,
            functions,
            counters,
            budget: Arc::default(),
            clock: Clock::default(),
            jobs: OnceLock::new(),
            author: OnceLock::new(),
            places: InstancePermit::default(),
            staying: Slots::new(STAYING as usize),
        });
        let weak = Arc::downgrade(&runtime);
        let thread = std::thread::Builder::new().name("epoch".into()).spawn(move || tick(&weak))?;
        let _ = runtime.clock.thread.set(thread.thread().clone());
        let weak = Arc::downgrade(&runtime);
        let _ = runtime.jobs.set(ready::begin(move || weak.upgrade())?);
        let weak = Arc::downgrade(&runtime);
        std::thread::Builder::new().name("counters".into()).spawn(move || keep(&weak))?;
        Ok(runtime)
    }

    /// Has what policies write told to their author, and not to the log.
    pub fn tell_author(&self, author: impl Fn(Written<'_>) + Send + Sync + 'static) {
        let _ = self.author.set(Box::new(author));
    }

    /// A place for an instance that stays with a stream: each caller has so many in each cluster.
    pub fn stay(&self, subject: &PolicyOperation) -> Result<Slot, Full> {
        self.staying.take(&[subject.cluster(), subject.issuer(), subject.username()], STAYING_FOR_ONE)
    }

    /// Has something done off the request's path, if there is room for it.
    pub(super) fn hand_over(&self, job: Job) {
        if let Some(jobs) = self.jobs.get() {
            let _ = jobs.try_send(job);
        }
    }

    /// Whether a call is under way.
    pub(super) fn is_called(&self) -> bool {
        self.clock.running.load(Ordering::SeqCst) > 0
    }

    /// Begins a call: while it is under way the epoch moves on.
    pub(super) fn tick_epochs(&self) -> Running<'_> {
        let clock = &self.clock;
        clock.calls.fetch_add(1, Ordering::Relaxed);
        clock.running.fetch_add(1, Ordering::SeqCst);
        if clock.stopped.swap(false, Ordering::SeqCst)
            && let Some(thread) = clock.thread.get()
        {
            thread.unpark();
        }
        Running(clock)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // The thread sees that nobody is left and ends.
        if let Some(thread) = self.clock.thread.get() {
            thread.unpark();
        }
    }
}

/// Moves the epoch on, and rests while nothing is called.
fn tick(runtime: &Weak<Runtime>) {
    let (mut seen, mut idle) = (0, 0);
    while let Some(this) = runtime.upgrade() {
        this.engine.increment_epoch();
        this.configure_engine.increment_epoch();
        let clock = &this.clock;
        let calls = clock.calls.load(Ordering::Relaxed);
        idle = if calls == seen && clock.running.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
        seen = calls;
        if idle < IDLE_TICKS {
            drop(this);
            std::thread::sleep(TICK);
            continue;
        }
        clock.stopped.store(true, Ordering::SeqCst);
        // A call that began just now saw the clock run: it is looked for once more before the rest.
        if clock.running.load(Ordering::SeqCst) > 0 {
            clock.stopped.store(false, Ordering::SeqCst);
        } else {
            drop(this);
            std::thread::park_timeout(REST);
        }
        idle = 0;
    }
}

/// Writes down what is counted, a moment later: a crash gives back that moment's counts and no more.
fn keep(runtime: &Weak<Runtime>) {
    while let Some(this) = runtime.upgrade() {
        if let Err(error) = this.counters.write(clock::now()) {
            tracing::error!(%error, "what policies count cannot be written down; a restart would forget it");
        }
        drop(this);
        std::thread::sleep(WRITTEN_EVERY);
    }
}

fn base(details: WasmBacktraceDetails, functions: &Arc<Functions>) -> anyhow::Result<Config> {
    let mut config = Config::new();
    // Only an author is told where a trap was; without its map machine code is a tenth smaller, and sooner there.
    config.wasm_backtrace_details(details).generate_address_map(matches!(details, WasmBacktraceDetails::Enable));
    config.wasm_component_model(true).epoch_interruption(true).max_wasm_stack(512 << 10);
    // A policy answers one call at a time: what a store keeps for several is not made.
    config.concurrency_support(false);
    // What differs from one machine to another has no place in a policy's answer.
    config.cranelift_nan_canonicalization(true).wasm_relaxed_simd(false);
    config.enable_incremental_compilation(Arc::clone(functions) as Arc<dyn CacheStore>)?;
    Ok(config)
}
