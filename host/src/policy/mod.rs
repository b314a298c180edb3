//! Policies: loading and running modules.
//!
//! [`directory`] reads the watched directory, [`module`] makes a configured component of a file, `compiled` keeps its machine
//! code on disk, `instance` calls it, [`rules`] says which operations it is called for, and [`report`] what is in force.

pub mod bindings;
mod bound;
mod busy;
mod compiled;
mod counters;
pub mod directory;
mod document;
mod engine;
pub mod grants;
mod instance;
mod live;
pub mod loader;
pub mod module;
mod observed;
mod origin;
mod ready;
pub mod report;
pub mod rules;
mod sight;
mod stats;
mod trusted;
mod wasi;

use std::sync::Arc;

pub use compiled::Cache;
pub use counters::{CounterOwner, Counters, SqliteCounters};
pub use directory::{Directory, PolicySet};
pub use document::Document;
pub use engine::Runtime;
pub use instance::{Answer, Call, Surroundings};
pub use live::{Live, outcome};
pub use loader::{Loader, PolicyFile};
pub use observed::Observed;
pub use stats::{Counts, Hook, Outcome, Stats};

use crate::config::ByteSize;
use crate::mask::Mask;
use crate::mask::path::Path;
use crate::share::lock::Locked;
use bindings::postern::policy::types::{self, Capabilities, Hooks, Manifest, Surrounding};
use rules::Rule;
use sight::Sight;

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
    pub granted: Capabilities,
    /// Narrower rules from its file; empty when there are none.
    pub narrowed: Vec<Rule>,
    rules: Vec<Rule>,
    limits: CallLimits,
    /// What its module and the file beside it are, by digest; none outside a directory.
    locked: Option<Locked>,
    component: instance::Prepared,
    ready: Arc<ready::Ready>,
    /// What it has done since it was loaded.
    pub stats: Stats,
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
    /// Milliseconds.
    pub deadline: u64,
    /// Memory.
    pub memory: ByteSize,
}

impl Policy {
    /// Whether it is called for an operation.
    pub fn matches(&self, operation: &crate::classify::Operation) -> bool {
        let any = |rules: &[Rule]| rules.is_empty() || rules.iter().any(|rule| rule.matches(operation));
        any(&self.rules) && any(&self.narrowed)
    }

    /// Whether it may read the bodies of requests.
    pub fn reads_bodies(&self) -> bool {
        self.on_request() && self.granted.contains(Capabilities::BODIES)
    }

    /// Whether it is called before anything reaches the cluster.
    pub fn on_request(&self) -> bool {
        self.manifest.hooks.contains(Hooks::REQUEST)
    }

    /// Whether it is called for each object on its way back.
    pub fn on_object(&self) -> bool {
        self.manifest.hooks.contains(Hooks::OBJECT)
    }

    /// Whether it looks at every piece of a stream.
    pub fn on_chunk(&self) -> bool {
        self.manifest.hooks.contains(Hooks::CHUNK)
    }

    /// The first condition of a mask that is on what the policy does not see of the objects of an operation.
    pub fn unseen_condition<'a>(&self, operation: &types::Operation, masks: &'a [Mask]) -> Option<&'a str> {
        let sight = Sight::new(self.granted, operation.target.as_ref());
        let unseen = |path: &&str| Path::parse(path).is_ok_and(|path| !sight.shows(&path));
        masks.iter().flat_map(|mask| &mask.when).map(|condition| condition.path.as_str()).find(unseen)
    }

    /// What it wants to know beside the operation.
    pub fn needs(&self) -> &[Surrounding] {
        &self.manifest.needs
    }
}

/// A policy that did not load, and why.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Broken {
    /// Its name.
    pub name: String,
    /// Why.
    pub error: String,
    /// Whether the version before it goes on serving.
    pub serving_last_good: bool,
}

/// Shared by all policies and all threads.
pub type SharedRuntime = Arc<Runtime>;
