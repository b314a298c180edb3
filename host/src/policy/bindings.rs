//! The contract's host side, generated from `wit/`.

#![allow(missing_docs, clippy::all)]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "policy-module",
    with: { "postern:policy/types.document": crate::policy::Document },
    imports: { default: trappable },
});
