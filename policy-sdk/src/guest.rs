//! Between the contract and [`Policy`]: what runs inside WebAssembly.

use std::marker::PhantomData;
use std::sync::OnceLock;

pub use crate::bindings::export;
use crate::bindings::exports::postern::policy::policy::Guest;
use crate::bindings::postern::policy::host;
pub use crate::bindings::postern::policy::types::Document as Held;
use crate::bindings::postern::policy::types::Operation;
use crate::{Amount, Channel, ChunkVerdict, Command, Document, Host, Manifest, Policy, Request, Surrounding, Text, Verdict};

/// Where a module keeps its configured policy.
pub trait Instance: 'static {
    type Policy: Policy;
    const NAME: &'static str;
    const VERSION: &'static str;
    fn cell() -> &'static OnceLock<Self::Policy>;
}

/// The module of a policy.
pub struct Module<I>(PhantomData<I>);

/// What the host answers of an operation, as the contract has it.
pub struct Contract<'a>(&'a Operation);

impl Host for Contract<'_> {
    fn in_groups(&self, any_of: &[&str]) -> Option<u32> {
        self.0.in_groups(any_of)
    }
    fn is(&self, what: Text, any_of: &[&str]) -> Option<u32> {
        self.0.is(what, any_of)
    }
    fn like(&self, what: Text, globs: &[&str]) -> Option<u32> {
        self.0.like(what, globs)
    }
    fn query_like(&self, key: &str, globs: &[&str]) -> Option<u32> {
        self.0.query_like(key, globs)
    }
    fn claim_is(&self, name: &str, any_of: &[&str]) -> Option<u32> {
        self.0.claim_is(name, any_of)
    }
    fn claim_has(&self, name: &str, any_of: &[&str]) -> Option<u32> {
        self.0.claim_has(name, any_of)
    }
    fn has(&self, what: Text) -> bool {
        self.0.has(what)
    }
    fn at(&self, windows: &[(u64, u64)], period: u32, offset: i32) -> Option<u32> {
        self.0.at(windows, period, offset)
    }
    fn dry_run(&self) -> bool {
        self.0.dry_run()
    }
    fn approved(&self) -> bool {
        self.0.approved()
    }
    fn is_command(&self) -> bool {
        self.0.is_command()
    }
    fn get(&self, what: Text) -> Option<String> {
        self.0.get(what)
    }
    fn groups(&self) -> Vec<String> {
        self.0.groups()
    }
    fn claim(&self, name: &str) -> Option<String> {
        self.0.claim(name)
    }
    fn claims(&self) -> Vec<(String, String)> {
        self.0.claims()
    }
    fn query(&self, key: &str) -> Vec<String> {
        self.0.query(key)
    }
    fn queries(&self) -> Vec<(String, String)> {
        self.0.queries()
    }
    fn command(&self) -> Option<Command> {
        self.0.command()
    }
    fn id(&self) -> String {
        self.0.id()
    }
    fn received_at(&self) -> u64 {
        self.0.received_at()
    }
    fn look_around(&self, which: Surrounding) -> Option<Document<'static>> {
        host::look_around(which).map(Document::Around)
    }
    fn annotate(&self, key: &str, value: &str) {
        host::annotate(key, value);
    }
    fn count(&self, key: &str, amount: u64, window_seconds: u32) -> u64 {
        host::count(key, amount, window_seconds)
    }
    fn spend(&self, name: &str, amount: Amount<'_>, window_seconds: u32, limits: &[u64]) -> u32 {
        let amount = match amount {
            Amount::Number(number) => host::Amount::Number(number),
            Amount::SizeOf(document) => host::Amount::SizeOf(document.of_host()),
            Amount::Matches(document, path) => host::Amount::Matches((document.of_host(), path)),
        };
        host::spend(name, amount, window_seconds, limits)
    }
}

fn configured<I: Instance>() -> &'static I::Policy {
    // The host configures before it asks anything; a module that is asked before has nothing to answer with.
    I::cell().get().expect("configure was not called")
}

impl<I: Instance> Guest for Module<I> {
    fn describe() -> Manifest {
        crate::describe(configured::<I>(), I::NAME, I::VERSION)
    }

    fn configure(settings: String) -> Result<(), String> {
        #[cfg(target_arch = "wasm32")]
        crate::output::tell_panics();
        I::cell().set(crate::configure(&settings)?).map_err(|_| "configured twice".to_owned())
    }

    fn on_request(operation: &Operation, body: Option<&Held>) -> Verdict {
        configured::<I>().on_request(&Request::new(&Contract(operation), body.map(Document::Held)))
    }

    fn on_object(operation: &Operation, object: &Held) -> Verdict {
        configured::<I>().on_object(&Request::new(&Contract(operation), None), &Document::Held(object))
    }

    fn on_chunk(operation: &Operation, channel: Channel, data: Vec<u8>) -> ChunkVerdict {
        configured::<I>().on_chunk(&Request::new(&Contract(operation), None), channel, &data)
    }
}
