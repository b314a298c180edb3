//! What a policy is asked about.

use std::ops::Deref;

use serde_json::Value;

use crate::{Caller, Document, Operation, Surrounding, Target};

/// An operation, its body, and what the host offers. The fields of [`Operation`] are its own.
pub struct Request<'a> {
    operation: &'a Operation,
    body: Option<Document<'a>>,
    host: Offered<'a>,
}

/// In WebAssembly what offers it is known when a policy is built: the module then imports what the policy calls, and no more.
#[cfg(target_arch = "wasm32")]
type Offered<'a> = &'a crate::guest::Contract;
#[cfg(not(target_arch = "wasm32"))]
type Offered<'a> = &'a dyn Host;

/// What the host offers: behind the methods of [`Request`].
pub trait Host {
    /// One of the objects the policy's `needs` name.
    fn look_around(&self, which: Surrounding) -> Option<Document<'static>>;
    /// Adds a fact to the audit event.
    fn annotate(&self, key: &str, value: &str);
    /// Adds to a counter and returns its sum.
    fn count(&self, key: &str, amount: u64, window_seconds: u32) -> u64;
}

impl Deref for Request<'_> {
    type Target = Operation;

    fn deref(&self) -> &Operation {
        self.operation
    }
}

impl<'a> Request<'a> {
    #[doc(hidden)]
    pub fn new(operation: &'a Operation, body: Option<Document<'a>>, host: Offered<'a>) -> Self {
        Self { operation, body, host }
    }

    /// The body, where the request has one. A body that cannot be decoded traps when it is read: the operation is then refused.
    pub fn body(&self) -> Option<&Document<'a>> {
        self.body.as_ref()
    }

    /// `pods`, `pods/exec`; empty where no resource is addressed.
    pub fn resource(&self) -> String {
        match &self.operation.target {
            Some(Target { resource, subresource: Some(subresource), .. }) => format!("{resource}/{subresource}"),
            Some(target) => target.resource.clone(),
            None => String::new(),
        }
    }

    /// The namespace addressed; none for what has none and for lists over all of them.
    pub fn namespace(&self) -> Option<&'a str> {
        self.operation.target.as_ref()?.namespace.as_deref()
    }

    /// The object's name; none for lists.
    pub fn object_name(&self) -> Option<&'a str> {
        self.operation.target.as_ref()?.name.as_deref()
    }

    /// The first value of a query parameter.
    pub fn query_value(&self, key: &str) -> Option<&'a str> {
        self.operation.query.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// Every value of a query parameter.
    pub fn query_values<'k>(&self, key: &'k str) -> impl Iterator<Item = &'a str> + use<'a, 'k> {
        self.operation.query.iter().filter(move |(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// One of the objects that the policy's `needs` name; none where there is no such object.
    pub fn around(&self, which: Surrounding) -> Option<Document<'static>> {
        self.host.look_around(which)
    }

    /// Whether the caller is in one of these groups.
    pub fn is_in<S: AsRef<str>>(&self, groups: &[S]) -> bool {
        self.operation.caller.is_in(groups)
    }

    /// A verified claim of the caller's token.
    pub fn claim(&self, name: &str) -> Option<Value> {
        self.operation.caller.claim(name)
    }

    /// Adds a fact to the audit event: never a secret.
    pub fn annotate(&self, key: &str, value: impl AsRef<str>) {
        self.host.annotate(key, value.as_ref());
    }

    /// Adds to a counter and returns what was counted in the last `window_seconds`; 0 asks without counting.
    pub fn count(&self, key: &str, amount: u64, window_seconds: u32) -> u64 {
        self.host.count(key, amount, window_seconds)
    }
}

impl Caller {
    /// Whether the caller is in one of these groups.
    pub fn is_in<S: AsRef<str>>(&self, groups: &[S]) -> bool {
        groups.iter().any(|group| self.groups.iter().any(|own| own == group.as_ref()))
    }

    /// A verified claim of the caller's token.
    pub fn claim(&self, name: &str) -> Option<Value> {
        let (_, text) = self.claims.iter().find(|(key, _)| key == name)?;
        serde_json::from_str(text).ok()
    }
}
