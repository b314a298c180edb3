//! What an instance of a policy holds outside its memory: all that it can reach through the host.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;
use wasmtime::component::{Resource, ResourceTable};

use crate::Runtime;
use crate::bound::Bound;
use crate::contract::asked::{Answered, Question};
use crate::contract::{PolicyOperation, Surrounding};
use crate::counters::CounterOwner;
use crate::deadline::Deadline;
use crate::document::{Document, Seen};
use crate::fault;
use crate::remember::Run;
use crate::sight::Sight;
use crate::wasi::{self, Output};
use postern_ground::clock;

/// Most annotations one call leaves, and their sizes.
const MOST_ANNOTATIONS: usize = 32;
const LONGEST_KEY: usize = 64;
const LONGEST_VALUE: usize = 1024;
/// The longest key of a counter.
const LONGEST_COUNTER: usize = 256;
/// The most limits that spending is held against at once.
const MOST_LIMITS: usize = 64;

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

/// What a store holds.
pub struct HostState {
    pub(super) limiter: Bound,
    /// How long the call may take.
    pub(super) deadline: Deadline,
    pub(super) table: ResourceTable,
    pub(super) annotations: Vec<(String, String)>,
    pub(super) surroundings: Surroundings,
    /// What the call is about.
    pub(super) subject: Option<PolicyOperation>,
    /// What the policy sees of them: the Namespace, the stored object, the pod.
    seen: [Seen; 3],
    pub(super) sight: Sight,
    pub(super) runtime: Option<Arc<Runtime>>,
    /// Whose its counters are, where it may count.
    pub(super) counts: Option<CounterOwner>,
    /// What was called of a WASI that grants nothing.
    pub(super) wasi_calls: BTreeSet<String>,
    /// What it wrote to standard output and error.
    pub(super) output: Output,
    /// What it asks, where that may come to be remembered.
    pub(super) run: Option<Run>,
}

impl HostState {
    /// For a call with so much memory that nothing is known about yet.
    pub(super) fn new(memory: usize) -> Self {
        Self {
            limiter: Bound::new(memory),
            deadline: Deadline::new(0),
            table: ResourceTable::new(),
            annotations: Vec::new(),
            surroundings: Surroundings::default(),
            subject: None,
            seen: Default::default(),
            sight: Sight::Metadata,
            runtime: None,
            counts: None,
            wasi_calls: BTreeSet::new(),
            output: Output::default(),
            run: None,
        }
    }

    /// What was said before there was an operation is nothing of the operation's.
    pub(super) fn forget(&mut self) {
        self.annotations.clear();
        self.wasi_calls.clear();
        self.output.take();
    }

    /// Adds to what was written where a call stopped and what it called in vain, as far as its runtime did not say why.
    pub(super) fn stopped(&mut self, error: &wasmtime::Error) {
        if fault::of(&self.output.text()).is_none()
            && let Some(place) = fault::place(error)
        {
            self.output.note(&format!("stopped in {place}"));
        }
        if let Some(calls) = wasi::list_of_calls(&std::mem::take(&mut self.wasi_calls)) {
            self.output.note(&format!("it called what is not granted: {calls}"));
        }
    }

    /// Keeps an object, and gives the handle it is read through.
    pub(super) fn keep(&mut self, document: Document) -> wasmtime::Result<Resource<Document>> {
        Ok(self.table.push(document)?)
    }

    /// The object of a handle.
    pub(super) fn document(&self, handle: &Resource<Document>) -> wasmtime::Result<&Document> {
        Ok(self.table.get(handle)?)
    }

    /// Asks the operation of a handle.
    pub(super) fn ask<T>(
        &mut self,
        handle: &Resource<PolicyOperation>,
        question: Question,
        take: impl FnOnce(Answered<'_>) -> wasmtime::Result<T>,
    ) -> wasmtime::Result<T> {
        let operation = self.operation(handle)?.clone();
        let answered = question.answer(&operation, None).map_err(wasmtime::Error::msg)?;
        self.was_asked(question, &answered);
        take(answered)
    }

    /// The policy asked, and was answered.
    pub(super) fn was_asked(&mut self, question: Question, answered: &Answered<'_>) {
        if let Some(run) = &mut self.run {
            run.note(question, answered);
        }
    }

    /// The hook has answered. What it says on another day, with less time or less memory, may be something else: such a run is not remembered.
    pub(super) fn end_run(&mut self) {
        let Some(run) = &mut self.run else { return };
        if self.limiter.was_refused {
            run.leave("more memory than it may have");
        } else if self.deadline.is_half_used() {
            run.leave("more than half of its time");
        }
    }

    /// The run asks what is another thing each time, or does something: it is not remembered.
    pub(super) fn leave(&mut self, what: &'static str) {
        if let Some(run) = &mut self.run {
            run.leave(what);
        }
    }

    /// The operation of a handle.
    pub(super) fn operation(&self, handle: &Resource<PolicyOperation>) -> wasmtime::Result<&PolicyOperation> {
        Ok(self.table.get(handle)?)
    }

    /// The policy wants an object no more.
    pub(super) fn give_up(&mut self, handle: Resource<Document>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }

    /// An object beside the operation, where there is such a one.
    pub(super) fn surrounding(&self, which: Surrounding) -> Option<Document> {
        let Surroundings { namespace, stored, pod, .. } = &self.surroundings;
        let (object, seen) = match which {
            Surrounding::Namespace => (namespace, &self.seen[0]),
            Surrounding::Stored => (stored, &self.seen[1]),
            Surrounding::Pod => (pod, &self.seen[2]),
        };
        object.clone().map(|object| Document::ready(object, self.sight, Arc::clone(seen)))
    }

    /// Adds a fact to the audit event.
    pub(super) fn note(&mut self, key: String, value: String) -> wasmtime::Result<()> {
        if self.annotations.len() >= MOST_ANNOTATIONS || key.len() > LONGEST_KEY || value.len() > LONGEST_VALUE {
            return Err(wasmtime::Error::msg("annotate: at most 32 facts, keys of 64 bytes and values of 1024"));
        }
        self.annotations.push((key, value));
        Ok(())
    }

    /// Adds to a counter, and says what it stands at.
    pub(super) fn add(&self, key: String, amount: u64, window_seconds: u32) -> wasmtime::Result<u64> {
        if key.len() > LONGEST_COUNTER {
            return Err(wasmtime::Error::msg("count: the key is over 256 bytes long"));
        }
        self.counted("count", window_seconds, amount, |owner| (owner.clone(), key))
    }

    /// Adds to a counter that is the caller's, and says how many of the limits it is over.
    pub(super) fn add_for_caller(&self, name: &str, amount: u64, window_seconds: u32, limits: &[u64]) -> wasmtime::Result<u32> {
        if name.len() > LONGEST_COUNTER {
            return Err(wasmtime::Error::msg("spend: the name is over 256 bytes long"));
        }
        if limits.len() > MOST_LIMITS || limits.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(wasmtime::Error::msg("spend: at most 64 limits are taken, each larger than the one before"));
        }
        let Some(subject) = &self.subject else {
            return Err(wasmtime::Error::msg("spend is there for operations, not for configure or describe"));
        };
        let sum = self.counted("spend", window_seconds, amount, |owner| owner.spent(subject, name))?;
        Ok(limits.iter().filter(|limit| sum > **limit).count() as u32)
    }

    fn counted(
        &self,
        how: &str,
        window_seconds: u32,
        amount: u64,
        place: impl FnOnce(&CounterOwner) -> (CounterOwner, String),
    ) -> wasmtime::Result<u64> {
        let Some(runtime) = &self.runtime else {
            return Err(wasmtime::Error::msg(format!("{how} is there for operations, not for configure or describe")));
        };
        let Some(owner) = &self.counts else {
            return Err(wasmtime::Error::msg(format!("{how}: its manifest does not name the capability counters")));
        };
        let amount = if self.surroundings.only_asks { 0 } else { amount };
        let (owner, key) = place(owner);
        let sum = runtime.counters.add(&owner, key, amount, window_seconds, clock::now());
        sum.ok_or_else(|| wasmtime::Error::msg(format!("{how}: too many counters are kept")))
    }
}
