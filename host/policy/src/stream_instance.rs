//! A policy's instance that is kept for the length of a stream, and has its on-chunk hook called with each piece.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::Store;
use wasmtime::component::Instance;

use crate::contract::{ChunkVerdict, Hook, Output, PolicyOperation, in_a_line};
use crate::deadline;
use crate::instance::explain;
use crate::state::HostState;
use crate::{HookOutcome, Policy, Runtime};
use postern_ground::slots::Slot;

/// A policy's WebAssembly instance that is kept for one stream or log: its on-chunk hook is called for each piece, in the memory that on-request left.
pub struct StreamInstance {
    policy: Arc<Policy>,
    runtime: Arc<Runtime>,
    store: Store<HostState>,
    instance: Instance,
    /// The operation that the stream belongs to, as on-chunk is told it.
    operation: PolicyOperation,
    /// One of the places for instances that are kept ([`Runtime::stay`]); given back when this is dropped.
    _slot: Slot,
    /// Why on-chunk failed, once it has: this instance is not called again, for its memory may be in any state.
    failure: Option<String>,
}

impl StreamInstance {
    pub(super) fn new(
        policy: Arc<Policy>,
        runtime: Arc<Runtime>,
        store: Store<HostState>,
        instance: Instance,
        operation: PolicyOperation,
        slot: Slot,
    ) -> Self {
        Self { policy, runtime, store, instance, operation, _slot: slot, failure: None }
    }

    /// The policy that this is an instance of.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Tells the policy, from the next piece on, that the approvals asked for its operation were given.
    pub fn set_approved(&mut self) {
        self.operation.approve();
    }

    /// Calls the policy's on-chunk hook with a piece of output. An error is why the hook failed, in one line; after the first the hook is not called any more.
    pub fn on_chunk(&mut self, output: Output, data: &[u8]) -> Result<ChunkVerdict, String> {
        if let Some(why) = &self.failure {
            return Err(why.clone());
        }
        let _ticking = self.runtime.tick_epochs();
        deadline::set(&mut self.store, self.policy.limits.deadline);
        let began = Instant::now();
        let hooks = &self.policy.component;
        let answer = hooks.on_chunk(&self.instance, &mut self.store, &self.operation, output, data);
        let answer = answer.map(ChunkVerdict::in_a_line).map_err(|error| {
            self.store.data_mut().stopped(&error);
            in_a_line(explain(&error))
        });
        self.failure = answer.as_ref().err().cloned();
        let output_text = self.store.data_mut().output.take();
        self.policy.tell(&self.runtime, Hook::OnChunk, self.failure.as_deref(), &output_text);
        self.policy.stats.add(Hook::OnChunk, HookOutcome::of_chunk(&answer), began.elapsed());
        answer
    }
}
