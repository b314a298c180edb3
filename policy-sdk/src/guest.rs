//! Between the contract and [`Policy`]: what runs inside WebAssembly.

use std::marker::PhantomData;
use std::sync::OnceLock;

pub use crate::bindings::export;
use crate::bindings::exports::postern::policy::policy::Guest;
use crate::bindings::postern::policy::host;
pub use crate::bindings::postern::policy::types::Document as Held;
use crate::{Channel, ChunkVerdict, Document, Host, Manifest, Operation, Policy, Request, Surrounding, Verdict};

/// Where a module keeps its configured policy.
pub trait Instance: 'static {
    type Policy: Policy;
    const NAME: &'static str;
    const VERSION: &'static str;
    fn cell() -> &'static OnceLock<Self::Policy>;
}

/// The module of a policy.
pub struct Module<I>(PhantomData<I>);

/// What the host offers, as the contract has it.
pub struct Contract;

impl Host for Contract {
    fn look_around(&self, which: Surrounding) -> Option<Document<'static>> {
        host::look_around(which).map(Document::Around)
    }
    fn annotate(&self, key: &str, value: &str) {
        host::annotate(key, value);
    }
    fn count(&self, key: &str, amount: u64, window_seconds: u32) -> u64 {
        host::count(key, amount, window_seconds)
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

    fn on_request(operation: Operation, body: Option<&Held>) -> Verdict {
        configured::<I>().on_request(&Request::new(&operation, body.map(Document::Held), &Contract))
    }

    fn on_object(operation: Operation, object: &Held) -> Verdict {
        configured::<I>().on_object(&Request::new(&operation, None, &Contract), &Document::Held(object))
    }

    fn on_chunk(operation: Operation, channel: Channel, data: Vec<u8>) -> ChunkVerdict {
        configured::<I>().on_chunk(&Request::new(&operation, None, &Contract), channel, &data)
    }
}
