//! Fresh instances kept ready, for modules that take long to get going: an interpreter's are made, warmed and thrown away off the request's path. Each serves
//! one operation, like any other.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use wasmtime::Store;
use wasmtime::component::Instance;

use crate::contract::version::Linked;
use crate::deadline;
use crate::instance::{LOAD_TIME, store};
use crate::state::HostState;
use crate::{CallLimits, Runtime};

/// A module that is instantiated, and says what it is, faster than this is instantiated when it is called: to hand one over would cost as much.
const SLOW: Duration = Duration::from_micros(150);
/// Instances kept of one module.
const KEPT: usize = 8;
/// Instances kept of all modules: what is kept is not there for calls, and the pool is shared.
const KEPT_OF_ALL: usize = 64;
/// What may wait for the thread that makes and throws away; past that it is done where it is needed.
const WAITING: usize = 32;
/// Instances are warmed when nothing was to be made or thrown away for so long and no policy is called: under load the processor has calls to serve.
const QUIET: Duration = Duration::from_micros(500);
/// Milliseconds that warming one may take. The thread has others to make.
const WARMING_TIME: u64 = 50;
/// A module of which so many did not come to their end in that time is left cold.
const FAILURES: u32 = 3;
/// A module that took so long once is slow, and not asked again how slow.
const VERY_SLOW: Duration = Duration::from_millis(20);

/// The ready instances of one policy.
pub(super) struct Ready {
    module: Linked,
    limits: CallLimits,
    /// Those that are warm come first.
    kept: Mutex<VecDeque<IdleInstance>>,
    is_slow: bool,
    /// How often one did not come to its end when it was to be warmed.
    failures: AtomicU32,
}

struct IdleInstance {
    store: Store<HostState>,
    instance: Instance,
    is_warm: bool,
    _place: InstancePermit,
}

/// A place among the instances that are kept: as many as there are clones.
pub(super) type InstancePermit = Arc<()>;

impl Ready {
    /// Sees how long a module takes to be instantiated and to answer.
    pub(super) fn new(runtime: &Runtime, module: Linked, limits: CallLimits) -> anyhow::Result<Self> {
        let _ticking = runtime.tick_epochs();
        let mut fastest = Duration::MAX;
        let patient = CallLimits { deadline: LOAD_TIME, ..limits };
        for _ in 0..3 {
            let began = Instant::now();
            let mut store = store(runtime, HostState::new(limits.memory.0), patient);
            let instance = module.instantiate(&mut store);
            let described = instance.and_then(|instance| module.describe(&instance, &mut store));
            described.map_err(|error| anyhow::anyhow!("{}", super::instance::explain(&error)))?;
            fastest = fastest.min(began.elapsed());
            if fastest > VERY_SLOW {
                break;
            }
        }
        Ok(Self { module, limits, kept: Mutex::default(), is_slow: fastest > SLOW, failures: AtomicU32::new(0) })
    }

    /// A fresh instance: one that is ready, or one that is made now.
    pub(super) fn take(self: &Arc<Self>, runtime: &Runtime) -> (Store<HostState>, wasmtime::Result<Instance>) {
        if self.is_slow {
            let ready = self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            runtime.hand_over(Job::Fill(Arc::downgrade(self)));
            if let Some(IdleInstance { store, instance, .. }) = ready {
                return (store, Ok(instance));
            }
        }
        let mut store = store(runtime, HostState::new(self.limits.memory.0), self.limits);
        let instance = self.module.instantiate(&mut store);
        (store, instance)
    }

    /// Throws an instance away that has served.
    pub(super) fn done(&self, runtime: &Runtime, store: Store<HostState>) {
        if self.is_slow {
            runtime.hand_over(Job::Drop(Box::new(store)));
        }
    }

    /// Makes instances until enough are kept. One thread does it, for all modules.
    fn fill(&self, runtime: &Runtime) {
        let _ticking = runtime.tick_epochs();
        let is_full = || Arc::strong_count(&runtime.places) > KEPT_OF_ALL;
        while self.kept.lock().unwrap_or_else(PoisonError::into_inner).len() < KEPT && !is_full() {
            let mut store = store(runtime, HostState::new(self.limits.memory.0), self.limits);
            // What cannot be made here is told to whoever calls.
            let Ok(instance) = self.module.instantiate(&mut store) else { return };
            let kept = IdleInstance { store, instance, is_warm: false, _place: Arc::clone(&runtime.places) };
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).push_back(kept);
        }
    }

    /// Asks an instance that has not yet run to describe itself, so that the pages its interpreter needs for any call are there when it serves one: they are
    /// shared with the module's image, and each is copied the first time it is written to. Whether there was one to warm.
    fn warm_one(&self, runtime: &Runtime) -> bool {
        if self.failures.load(Ordering::Relaxed) >= FAILURES {
            return false;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut one) = kept.iter().position(|one| !one.is_warm).and_then(|at| kept.remove(at)) else { return false };
        drop(kept);
        let _ticking = runtime.tick_epochs();
        deadline::set(&mut one.store, WARMING_TIME);
        // One that does not come to its end in this time, as it did when it was loaded, is not used any more.
        if self.module.describe(&one.instance, &mut one.store).is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        one.store.data_mut().forget();
        one.is_warm = true;
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push_front(one);
        true
    }
}

/// What is done off the request's path.
pub(super) enum Job {
    /// Instances are made.
    Fill(Weak<Ready>),
    /// One is thrown away: its pages are reset.
    Drop(Box<Store<HostState>>),
}

/// Where jobs are handed over. What cannot be is done by who hands it over: an instance is dropped, or made when it is needed.
pub(super) type Jobs = SyncSender<Job>;

/// Begins to work off jobs.
pub(super) fn begin(runtime: impl Fn() -> Option<Arc<Runtime>> + Send + 'static) -> std::io::Result<Jobs> {
    let (jobs, work) = sync_channel(WAITING);
    std::thread::Builder::new().name("instances".into()).spawn(move || {
        let mut cold: VecDeque<Weak<Ready>> = VecDeque::new();
        let mut quiet = QUIET;
        loop {
            let job = match cold.is_empty() {
                true => work.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => work.recv_timeout(quiet),
            };
            quiet = QUIET;
            match job {
                Ok(Job::Drop(store)) => drop(store),
                // A policy that is gone wants nothing any more.
                Ok(Job::Fill(ready)) => {
                    if let (Some(this), Some(runtime)) = (ready.upgrade(), runtime()) {
                        this.fill(&runtime);
                        if !cold.iter().any(|one| one.ptr_eq(&ready)) {
                            cold.push_back(ready);
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    let ready = cold.front().and_then(Weak::upgrade).zip(runtime());
                    if ready.as_ref().is_some_and(|(_, runtime)| runtime.is_called()) {
                        quiet = QUIET * 10;
                        continue;
                    }
                    match ready.is_some_and(|(ready, runtime)| ready.warm_one(&runtime)) {
                        true => quiet = Duration::ZERO,
                        false => drop(cold.pop_front()),
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    })?;
    Ok(jobs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remember::Remember;
    use crate::{Cache, Counters, Loader, PolicyFile, grants::Capability};
    use postern_ground::quantity::ByteSize;

    #[test]
    fn what_is_kept_of_all_modules_together_is_bounded_and_goes_with_them() {
        let data = std::env::temp_dir().join(format!("postern-ready-{}", std::process::id()));
        std::fs::create_dir_all(&data).unwrap();
        let limits = CallLimits { deadline: 1000, memory: ByteSize(64 << 20) };
        let runtime = Runtime::start(limits.memory.0, Counters::default()).unwrap();
        let loader = Loader { runtime: Arc::clone(&runtime), cache: Cache::open(&data).unwrap(), limits, remember: Remember::Off };
        let module = include_bytes!("../../../tests/contract/0.1.0/exercise.wasm");
        let file = PolicyFile { grants: Some(Capability::ALL.to_vec()), ..PolicyFile::default() };
        let policy = loader.load("p", module, file).unwrap();
        let slow = || {
            let ready = Ready::new(&runtime, policy.component.linked().clone(), limits).unwrap();
            Ready { is_slow: true, ..ready }
        };
        let many: Vec<Ready> = (0..KEPT_OF_ALL).map(|_| slow()).collect();
        many.iter().for_each(|ready| ready.fill(&runtime));
        let kept: usize = many.iter().map(|ready| ready.kept.lock().unwrap().len()).sum();
        assert_eq!((kept, Arc::strong_count(&runtime.places)), (KEPT_OF_ALL, KEPT_OF_ALL + 1));
        // One that is taken makes room, and so does a policy that goes.
        let one = Arc::new(slow());
        one.fill(&runtime);
        assert_eq!(one.kept.lock().unwrap().len(), 0);
        drop(many);
        one.fill(&runtime);
        assert_eq!((one.kept.lock().unwrap().len(), Arc::strong_count(&runtime.places)), (KEPT, KEPT + 1));
        std::fs::remove_dir_all(data).unwrap();
    }
}
