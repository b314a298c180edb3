//! The one place with `unsafe`: what wasmtime cannot check itself, and what it would check again with every call.

#![allow(unsafe_code)]

use wasmtime::Engine;
use wasmtime::component::Component;

/// A component from machine code that this gateway wrote: its caller has verified an HMAC under a key that only the gateway reads.
pub(super) fn component(engine: &Engine, authentic: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes are what `Component::serialize` gave this gateway.
    unsafe { Component::deserialize(engine, authentic) }
}

/// The hooks of a version of the contract, which differ in what an operation is.
macro_rules! hooks {
    ($version:ident, $operation:ty) => {
        /// The hooks of this version of the contract.
        pub(super) mod $version {
            use wasmtime::Store;
            use wasmtime::component::{ComponentExportIndex, Func, Instance, Resource, TypedFunc};

            use crate::contract::$version::types::{Channel, ChunkVerdict, Verdict};
            use crate::document::Document;
            use crate::state::HostState;

            type OnRequest<'a> = TypedFunc<($operation, Option<Resource<Document>>), (Verdict,)>;
            type OnObject<'a> = TypedFunc<($operation, Resource<Document>), (Verdict,)>;
            type OnChunk<'a> = TypedFunc<($operation, Channel, &'a [u8]), (ChunkVerdict,)>;

            /// Checks the types of a component's hooks, once for all its instances.
            pub(crate) fn check(
                [on_request, on_object, on_chunk]: &[ComponentExportIndex; 3],
                instance: &Instance,
                store: &mut Store<HostState>,
            ) -> wasmtime::Result<()> {
                let _: OnRequest<'_> = instance.get_typed_func(&mut *store, on_request)?;
                let _: OnObject<'_> = instance.get_typed_func(&mut *store, on_object)?;
                let _: OnChunk<'_> = instance.get_typed_func(&mut *store, on_chunk)?;
                Ok(())
            }

            /// on-request of an instance.
            pub(crate) fn on_request<'a>(func: Func) -> OnRequest<'a> {
                // SAFETY: it is the hook of a component that `check` passed: none is called before it was described, and that checks it.
                unsafe { TypedFunc::new_unchecked(func) }
            }

            /// on-object of an instance.
            pub(crate) fn on_object<'a>(func: Func) -> OnObject<'a> {
                // SAFETY: as above.
                unsafe { TypedFunc::new_unchecked(func) }
            }

            /// on-chunk of an instance.
            pub(crate) fn on_chunk<'a>(func: Func) -> OnChunk<'a> {
                // SAFETY: as above.
                unsafe { TypedFunc::new_unchecked(func) }
            }
        }
    };
}

hooks!(v0_1, &'a crate::contract::v0_1::types::Operation);
hooks!(v0_2, Resource<crate::contract::PolicyOperation>);
