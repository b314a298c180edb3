//! An instance that stays: what answered on-request looks at every piece of the stream that follows.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::Store;
use wasmtime::component::Instance;

use crate::contract::{ChunkVerdict, Hook, Output, Subject};
use crate::engine::ticks;
use crate::instance::explain;
use crate::state::State;
use crate::{Outcome, Policy, Runtime};
use postern_ground::slots::Slot;

/// A policy's instance for one stream. It goes with it.
pub struct Live {
    policy: Arc<Policy>,
    runtime: Arc<Runtime>,
    store: Store<State>,
    instance: Instance,
    subject: Subject,
    /// Its place among the instances that stay.
    _place: Slot,
    /// A policy that failed once is not asked again: its memory may be in any state.
    broken: Option<String>,
}

impl Live {
    pub(super) fn new(
        policy: Arc<Policy>,
        runtime: Arc<Runtime>,
        store: Store<State>,
        instance: Instance,
        subject: Subject,
        place: Slot,
    ) -> Self {
        Self { policy, runtime, store, instance, subject, _place: place, broken: None }
    }

    /// The policy it is of.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The operation waited for an approval, and it was given.
    pub fn approved(&mut self) {
        self.subject.approve();
    }

    /// Shows it a piece.
    pub fn on_chunk(&mut self, output: Output, data: &[u8]) -> Result<ChunkVerdict, String> {
        if let Some(why) = &self.broken {
            return Err(why.clone());
        }
        let _running = self.runtime.running();
        self.store.set_epoch_deadline(ticks(self.policy.limits.deadline));
        let began = Instant::now();
        let hooks = &self.policy.component;
        let answer = hooks.on_chunk(&self.instance, &mut self.store, &self.subject, output, data).map_err(|error| explain(&error));
        self.broken = answer.as_ref().err().cloned();
        self.policy.stats.add(Hook::OnChunk, outcome(&answer), began.elapsed());
        answer
    }
}

/// What an answer comes to.
pub fn outcome(answer: &Result<ChunkVerdict, String>) -> Outcome {
    match answer {
        Ok(ChunkVerdict::Forward) => Outcome::Allow,
        Ok(ChunkVerdict::Replace(_)) => Outcome::Mask,
        Ok(ChunkVerdict::Terminate(_)) => Outcome::Terminate,
        Err(_) => Outcome::Failed,
    }
}
