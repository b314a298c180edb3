//! An instance that stays: what answered on-request looks at every piece of the stream that follows.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::Store;
use wasmtime::component::Instance;

use super::bindings::postern::policy::types::{Channel, ChunkVerdict, Operation};
use super::engine::ticks;
use super::instance::{State, explain, hook};
use super::{Hook, Mode, OnFailure, Outcome, Policy, Runtime, trusted};
use crate::slots::Slot;

/// A policy's instance for one stream. It goes with it.
pub struct Live {
    policy: Arc<Policy>,
    runtime: Arc<Runtime>,
    store: Store<State>,
    instance: Instance,
    operation: Operation,
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
        operation: Operation,
        place: Slot,
    ) -> Self {
        Self { policy, runtime, store, instance, operation, _place: place, broken: None }
    }

    /// The policy's name.
    pub fn name(&self) -> &str {
        &self.policy.name
    }

    /// Whether its answers are recorded only.
    pub fn is_observed(&self) -> bool {
        self.policy.mode == Mode::Observe
    }

    /// The operation waited for an approval, and it was given.
    pub fn approved(&mut self) {
        self.operation.approved = true;
    }

    /// What becomes of the stream when it fails.
    pub fn on_failure(&self) -> OnFailure {
        self.policy.on_failure
    }

    /// Shows it a piece.
    pub fn on_chunk(&mut self, channel: Channel, data: &[u8]) -> Result<ChunkVerdict, String> {
        if let Some(why) = &self.broken {
            return Err(why.clone());
        }
        let _running = self.runtime.running();
        self.store.set_epoch_deadline(ticks(self.policy.limits.deadline));
        let began = Instant::now();
        let answer = hook(&self.instance, &mut self.store, &self.policy.component.on_chunk)
            .and_then(|hook| trusted::on_chunk(hook).call(&mut self.store, (&self.operation, channel, data)))
            .map_err(|error| explain(&error));
        let answer = answer.map(|(verdict,)| verdict);
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
