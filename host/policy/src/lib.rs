//! Policies: the contract, and what loads modules and calls them.
//!
//! [`contract`] is what policies are asked and answer, [`loader`] makes a [`Policy`] of a module and the file beside it, [`module`] componentises and configures,
//! `compiled` keeps machine code on disk, `instance` calls, [`rules`] says which operations a policy is called for, `grants` and `sight` what it may see.

mod bound;
mod busy;
mod compiled;
mod complaints;
pub mod contract;
mod counters;
mod deadline;
mod document;
mod engine;
mod fault;
mod functions;
pub mod grants;
mod instance;
pub mod loader;
mod locked;
pub mod module;
mod observed;
mod ready;
mod remember;
pub mod rules;
mod sight;
mod state;
mod stats;
mod stream_instance;
mod trusted;
mod wasi;

use std::sync::Arc;

pub use compiled::Cache;
pub use contract::{Hook, PolicyOperation};
pub use counters::{CounterId, CounterOwner, CounterRow, CounterRows, Counters};
pub use document::{Body, Object};
pub use engine::{Runtime, Written};
pub use instance::{Call, HookAnswer};
use loader::redacted;
pub use loader::{Loader, PolicyFile};
pub use locked::Locked;
pub use observed::ObservedOutcomes;
pub use remember::{Asked, AskedQuestions, Basis, KnownPath, Remember, Remembering, Untold};
pub use rules::Addressed;
pub use sight::holds_credentials;
pub use state::Surroundings;
pub use stats::{Counts, HookOutcome, Stats};
pub use stream_instance::StreamInstance;

use contract::Manifest;
use contract::version::{Prepared, Version};
use grants::Capability;
use postern_ground::clock;
use postern_ground::quantity::ByteSize;
use rules::Rule;

/// The longest a call of a policy may take, in milliseconds: it holds up the thread it is made on.
pub const LONGEST_DEADLINE: u64 = 10_000;

/// A policy, loaded: configured, compiled, and ready to be called.
pub struct Policy {
    /// Its name: that of its file.
    pub name: String,
    /// What it says of itself.
    pub manifest: Manifest,
    /// SHA-256 of the module and its settings, in hexadecimal.
    pub digest: String,
    /// SHA-256 of the module alone, as OCI registries and lock files write it.
    pub module_digest: String,
    /// Whose signature the module carries; none where none was asked for.
    pub signer: Option<String>,
    /// Whether its answers are carried out.
    pub mode: Mode,
    /// What becomes of an operation when it fails.
    pub on_failure: OnFailure,
    /// Whether callers are warned of what it hides.
    pub warns: bool,
    /// What it asks for and was granted.
    pub granted: Vec<Capability>,
    /// Narrower rules from its file; empty when there are none.
    pub narrowed: Vec<Rule>,
    limits: CallLimits,
    /// What its module and the file beside it are, by digest; none outside a directory.
    pub locked: Option<Locked>,
    component: Prepared,
    ready: Arc<ready::Ready>,
    /// What it has done since it was loaded.
    pub stats: Stats,
    complaints: complaints::Complaints,
    remembered: remember::Remembered,
    /// What its file sets: that is not said in the log.
    settings: Option<serde_json::Value>,
}

/// Whether a policy's answers are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// They are.
    #[default]
    Enforce,
    /// They are recorded and change nothing.
    Observe,
}

/// What becomes of an operation when a policy fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// It is refused.
    #[default]
    Refuse,
    /// It goes on as if the policy had answered allow.
    Allow,
}

/// What one call may use.
#[derive(Clone, Copy, Debug)]
pub struct CallLimits {
    /// Milliseconds of the processor's time.
    pub deadline: u64,
    /// Memory.
    pub memory: ByteSize,
}

impl Policy {
    /// Whether it is called for an operation.
    pub fn matches(&self, operation: &impl Addressed) -> bool {
        let any = |rules: &[Rule]| rules.is_empty() || rules.iter().any(|rule| rule.matches(operation));
        any(&self.manifest.rules) && any(&self.narrowed)
    }

    /// Whether it may read the bodies of requests.
    pub fn reads_bodies(&self) -> bool {
        self.has(Hook::OnRequest) && self.granted.contains(&Capability::Bodies)
    }

    /// Whether its verdicts are remembered.
    pub fn remembering(&self) -> Remembering {
        match self.remembered.how() {
            _ if self.component.version() == Version::V0_1 => Remembering::Contract,
            _ if self.remembered.is_spoilt() => Remembering::NotDeterministic,
            Remember::On => Remembering::On,
            Remember::PerCaller => Remembering::PerCaller,
            Remember::Off => Remembering::Off,
        }
    }

    /// How many ways to a verdict of it are known.
    pub fn known_paths(&self) -> usize {
        self.remembered.paths()
    }

    /// Whether it has a hook, and is called by it.
    pub fn has(&self, hook: Hook) -> bool {
        self.manifest.hooks.contains(&hook)
    }

    /// Tells its author what it wrote, or else those who run the gateway: why it failed, once a second, however often it does, and at the level of debugging what it
    /// wrote when it did not. Callers are told neither.
    fn tell(&self, runtime: &Runtime, hook: Hook, failure: Option<&str>, output: &str) {
        if let Some(author) = runtime.author.get() {
            author(Written { policy: &self.name, hook, fault: failure.and_then(|_| fault::of(output)), output });
        } else if let Some(why) = failure {
            if let Some(untold) = self.complaints.told(clock::now()) {
                // Values are taken out before anything is shortened: of half a value nobody could tell that it is one.
                let output = redacted(output, self.settings.as_ref());
                let fault = fault::of(&output);
                tracing::warn!(policy = %self.name, hook = hook.name(), %why, fault, output, untold, "the policy failed");
            }
        } else if !output.is_empty() {
            let output = tracing::enabled!(tracing::Level::DEBUG).then(|| redacted(output, self.settings.as_ref()));
            tracing::debug!(policy = %self.name, hook = hook.name(), output, "the policy wrote");
        }
    }

    /// What an answer of it comes to by its mode and by what its file says of failures: none where it changes nothing, an error where it refuses.
    /// `exhausted` says that it was not asked at all, for lack of room, which no file lets pass.
    pub fn in_force<T>(&self, answer: Result<T, String>, exhausted: bool) -> Result<Option<T>, String> {
        match answer {
            _ if self.mode == Mode::Observe => Ok(None),
            Err(_) if self.on_failure == OnFailure::Allow && !exhausted => Ok(None),
            answer => answer.map(Some),
        }
    }
}
