//! Write Postern policies in Rust.
//!
//! A policy implements [`Policy`] and is exported with [`export_policy!`]. Its settings are a type of its own, read from the file beside the
//! module; their JSON Schema goes into the manifest. The same type runs natively: [`kit`] puts operations together for tests, without
//! WebAssembly and without a gateway.
//!
//! ```
//! use postern_policy_sdk::*;
//!
//! /// The settings.
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields, default)]
//! struct Settings {
//!     /// Groups that may delete.
//!     groups: Vec<String>,
//! }
//!
//! impl Default for Settings {
//!     fn default() -> Self {
//!         Self { groups: vec!["sre".into()] }
//!     }
//! }
//!
//! struct NoDeletes(Settings);
//!
//! impl Policy for NoDeletes {
//!     type Settings = Settings;
//!     const SUMMARY: &'static str = "Refuses deletes";
//!
//!     fn new(settings: Settings) -> Result<Self, String> {
//!         Ok(Self(settings))
//!     }
//!     fn rules(&self) -> Vec<Rule> {
//!         vec![rule().verbs(["delete", "deletecollection"])]
//!     }
//!     fn on_request(&self, request: &Request) -> Verdict {
//!         if request.is_in(&self.0.groups) {
//!             return allow();
//!         }
//!         block(format!("{} may not delete", request.caller.username())).hint("ask the platform team")
//!     }
//! }
//!
//! export_policy!(NoDeletes);
//!
//! # fn main() {
//! let policy: NoDeletes = kit::policy("{}").unwrap();
//! let delete = kit::operation("delete", "pods").named("web");
//! assert_eq!(delete.by("ann", &["sre"]).ask(&policy), allow());
//! assert!(delete.by("bob", &[]).ask(&policy).is_block());
//! # }
//! ```

#![allow(missing_docs)]

#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit/0.2",
        world: "policy-module",
        ownership: Borrowing { duplicate_if_necessary: true },
        pub_export_macro: true,
        default_bindings_module: "postern_policy_sdk::bindings",
        additional_derives: [PartialEq],
        // It holds handles, of which none is like another.
        additional_derives_ignore: ["amount"],
    });
}
mod document;
#[doc(hidden)]
pub mod guest;
#[cfg(not(target_arch = "wasm32"))]
pub mod kit;
mod output;
mod request;
mod review;
mod shapes;
mod verdict;

pub use bindings::postern::policy::types::{
    Approval, Capabilities, Channel, ChunkVerdict, Command, Comparison, Condition, Denial, Hooks, Manifest, Mask, Rule, Selector,
    Surrounding, Text, Transform, Verdict,
};
pub use document::Document;
#[doc(hidden)]
pub use output::write_line;
#[doc(hidden)]
pub use request::Host;
pub use request::{Amount, Caller, Request};
pub use review::Review;
#[doc(hidden)]
pub use schemars;
pub use schemars::JsonSchema;
#[doc(hidden)]
pub use serde;
pub use serde::Deserialize;
#[doc(hidden)]
pub use serde_json;
pub use shapes::{IMAGE_RESOURCES, Images, forms_of, full_image_name, glob, images};
pub use verdict::{allow, block, end_stream, field, forward, mask, pattern, pod_secrets, replace, require_approval, rule, terminate};

/// A policy.
pub trait Policy: Sized + 'static {
    /// The settings of its file; [`NoSettings`] where it has none.
    type Settings: serde::de::DeserializeOwned + JsonSchema;
    /// One line for lists.
    const SUMMARY: &'static str;

    /// Takes the settings in. What is made here is what every operation starts from: parse and compile here. An error says what to write
    /// instead.
    fn new(settings: Self::Settings) -> Result<Self, String>;

    /// Which operations it is called for; none means all.
    fn rules(&self) -> Vec<Rule>;

    /// The hooks it is called for.
    fn hooks(&self) -> Hooks {
        Hooks::REQUEST
    }

    /// What it must know beside the operation.
    fn needs(&self) -> Vec<Surrounding> {
        Vec::new()
    }

    /// What it must see and do beyond the operation: who asks, for what, by which verb and with which command. Reading more than is named here
    /// traps; the gateway grants no more than the file beside the module allows.
    fn capabilities(&self) -> Capabilities {
        Capabilities::BODIES
    }

    /// Before anything reaches the cluster.
    fn on_request(&self, _request: &Request<'_>) -> Verdict {
        allow()
    }

    /// Each object on its way back, where the hooks say so.
    fn on_object(&self, _request: &Request<'_>, _object: &Document<'_>) -> Verdict {
        allow()
    }

    /// Each piece of what a container writes, in the instance that answered on_request, where the hooks say so.
    fn on_chunk(&self, _request: &Request<'_>, _channel: Channel, _data: &[u8]) -> ChunkVerdict {
        forward()
    }
}

/// The settings of a policy that has none.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

/// Reads settings and makes the policy of them.
#[doc(hidden)]
pub fn configure<P: Policy>(settings: &str) -> Result<P, String> {
    P::new(serde_json::from_str(settings).map_err(|error| error.to_string())?)
}

/// What a policy says of itself.
#[doc(hidden)]
pub fn describe<P: Policy>(policy: &P, name: &str, version: &str) -> Manifest {
    let schema = schemars::schema_for!(P::Settings);
    Manifest {
        name: name.into(),
        version: version.into(),
        summary: P::SUMMARY.into(),
        rules: policy.rules(),
        hooks: policy.hooks(),
        needs: policy.needs(),
        capabilities: policy.capabilities(),
        settings_schema: serde_json::to_string(&schema).unwrap_or_default(),
    }
}

/// Exports a [`Policy`] as the module's policy. Its name and version are those of its crate.
#[macro_export]
macro_rules! export_policy {
    ($policy:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            static CONFIGURED: std::sync::OnceLock<$policy> = std::sync::OnceLock::new();
            struct Exported;
            impl $crate::guest::Instance for Exported {
                type Policy = $policy;
                const NAME: &'static str = env!("CARGO_PKG_NAME");
                const VERSION: &'static str = env!("CARGO_PKG_VERSION");
                fn cell() -> &'static std::sync::OnceLock<$policy> {
                    &CONFIGURED
                }
            }
            type Module = $crate::guest::Module<Exported>;
    $crate::guest::export!(Module with_types_in $crate::bindings);
        };
    };
}
