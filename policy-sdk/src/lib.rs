//! Write Postern policies in Rust.
//!
//! A policy implements [`Policy`] and is exported with [`export_policy!`]. The same type runs natively in tests: an [`Operation`]
//! is a plain value, and [`Object`] wraps JSON there and the host's handle in WebAssembly.
//!
//! ```
//! use postern_policy_sdk::*;
//!
//! #[derive(serde::Deserialize, Default)]
//! struct NoDeletes {}
//!
//! impl Policy for NoDeletes {
//!     fn configure(_settings: &str) -> Result<Self, String> {
//!         Ok(Self {})
//!     }
//!     fn describe(&self) -> Manifest {
//!         manifest("no-deletes", "1.0.0", "Refuses every delete", vec![rule().verbs(["delete"])])
//!     }
//!     fn on_request(&self, operation: &Operation, _body: Option<&Object>, _host: &dyn Host) -> Verdict {
//!         block(format!("{} may not delete", operation.caller.username), "ask the platform team")
//!     }
//! }
//! # fn main() {}
//! ```

#![allow(missing_docs)]

mod build;
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({ path: "../wit", world: "policy-module", pub_export_macro: true, default_bindings_module: "postern_policy_sdk::bindings" });
}
#[doc(hidden)]
pub mod guest;

pub use bindings::postern::policy::types::{
    Approval, Caller, Channel, ChunkVerdict, Command, Comparison, Condition, Denial, Hooks, Manifest, Mask, Operation, Rule, Selector,
    Surrounding, Target, Transform, Verdict,
};
pub use build::{block, field_mask, manifest, rule};

/// A policy.
pub trait Policy: Sized {
    /// Takes the settings in, as JSON text; an error says what to write instead.
    fn configure(settings: &str) -> Result<Self, String>;
    /// What the policy is and which operations it is called for.
    fn describe(&self) -> Manifest;
    /// Before anything reaches the cluster.
    fn on_request(&self, operation: &Operation, body: Option<&Object>, host: &dyn Host) -> Verdict;
    /// Each object on its way back, for policies whose hooks say so.
    fn on_object(&self, _operation: &Operation, _object: &Object, _host: &dyn Host) -> Verdict {
        Verdict::Allow
    }
    /// Each piece of a text stream, in the instance that answered on_request, for policies whose hooks say so.
    fn on_chunk(&self, _operation: &Operation, _channel: Channel, _data: &[u8]) -> ChunkVerdict {
        ChunkVerdict::Forward
    }
}

/// A Kubernetes object.
pub enum Object<'a> {
    /// Held by the host.
    Held(&'a guest::Document),
    /// In a native test.
    Native(serde_json::Value),
}

impl Object<'_> {
    /// The first match of a JSONPath.
    pub fn get(&self, path: &str) -> Option<serde_json::Value> {
        match self {
            Self::Held(document) => document.get(path).and_then(|text| serde_json::from_str(&text).ok()),
            // Natively the plain form `$.a.b` is enough to test with.
            Self::Native(value) => value.pointer(&path.trim_start_matches('$').replace('.', "/")).cloned(),
        }
    }
}

/// What the host offers.
pub trait Host {
    /// One of the objects the manifest said the policy needs, as JSON.
    fn look_around(&self, which: Surrounding) -> Option<serde_json::Value>;
    /// Adds a fact to the audit event.
    fn annotate(&self, key: &str, value: &str);
    /// Adds to a counter and returns its sum.
    fn count(&self, key: &str, amount: u64, window_seconds: u32) -> u64;
}

/// A host with nothing around, for native tests.
pub struct NoHost;

impl Host for NoHost {
    fn look_around(&self, _: Surrounding) -> Option<serde_json::Value> {
        None
    }
    fn annotate(&self, _: &str, _: &str) {}
    fn count(&self, _: &str, amount: u64, _: u32) -> u64 {
        amount
    }
}

/// Exports a [`Policy`] as the module's policy.
#[macro_export]
macro_rules! export_policy {
    ($policy:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            static CONFIGURED: std::sync::OnceLock<$policy> = std::sync::OnceLock::new();
            struct Exported;
            impl $crate::guest::Instance for Exported {
                type Policy = $policy;
                fn cell() -> &'static std::sync::OnceLock<$policy> {
                    &CONFIGURED
                }
            }
            type Module = $crate::guest::Module<Exported>;
    $crate::guest::export!(Module with_types_in $crate::guest::bindings);
        };
    };
}
