//! `postern:policy@0.1.0`: generated code, and what makes the gateway's own types of it. The operation is handed over whole.

use wasmtime::Store;
use wasmtime::component::{HasSelf, Instance, InstancePre, Linker, Resource};

use super::convert::conversions;
use super::version::Hooks;
use super::{
    Approval, Caller, Capability, ChunkVerdict, Command, Denial, Hook, Manifest, Operation, Output, PolicyOperation, Rule, Surrounding,
    Target, Verdict,
};
use crate::document::Document;
use crate::state::HostState;
use crate::trusted::v0_1 as trusted;
use generated::postern::policy::host;
pub(crate) use generated::postern::policy::types;
use generated::{PolicyModule, PolicyModulePre};
use postern_mask::{Condition, Mask, Selector, Transform};

/// The host's side, generated from `wit/`.
#[allow(missing_docs, clippy::all)]
mod generated {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "policy-module",
        with: { "postern:policy/types.document": crate::document::Document },
        imports: { default: trappable },
    });
}

/// What the contract offers is found.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    PolicyModule::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state)
}

/// Whether all is exported that the contract names.
pub(super) fn check(module: &InstancePre<HostState>) -> wasmtime::Result<()> {
    PolicyModulePre::new(module.clone()).map(drop)
}

/// Asks an instance what it is.
pub(super) fn describe(instance: &Instance, store: &mut Store<HostState>) -> wasmtime::Result<Manifest> {
    Ok(PolicyModule::new(&mut *store, instance)?.postern_policy_policy().call_describe(store)?.into())
}

/// Calls on-request.
pub(super) fn on_request(
    hooks: &Hooks,
    instance: &Instance,
    store: &mut Store<HostState>,
    subject: &PolicyOperation,
    body: Option<Resource<Document>>,
) -> wasmtime::Result<Verdict> {
    let hook = trusted::on_request(hooks.func(Hook::OnRequest, instance, store)?);
    Ok(hook.call(store, (&subject.0, body))?.0.into())
}

/// Calls on-object.
pub(super) fn on_object(
    hooks: &Hooks,
    instance: &Instance,
    store: &mut Store<HostState>,
    subject: &PolicyOperation,
    object: Resource<Document>,
) -> wasmtime::Result<Verdict> {
    let hook = trusted::on_object(hooks.func(Hook::OnObject, instance, store)?);
    Ok(hook.call(store, (&subject.0, object))?.0.into())
}

/// Calls on-chunk.
pub(super) fn on_chunk(
    hooks: &Hooks,
    instance: &Instance,
    store: &mut Store<HostState>,
    subject: &PolicyOperation,
    output: Output,
    data: &[u8],
) -> wasmtime::Result<ChunkVerdict> {
    let hook = trusted::on_chunk(hooks.func(Hook::OnChunk, instance, store)?);
    Ok(hook.call(store, (&subject.0, output.into(), data))?.0.into())
}

impl From<Operation> for types::Operation {
    fn from(operation: Operation) -> Self {
        let Operation { id, cluster, received_at, caller, verb, target, path, query, dry_run, command } = operation;
        let Caller { username, groups, issuer, claims } = caller;
        let target = target.map(|Target { api_group, api_version, resource, subresource, namespace, name }| types::Target {
            api_group,
            api_version,
            resource,
            subresource,
            namespace,
            name,
        });
        let command = command.map(|Command { container, argv, stdin, tty }| types::Command { container, argv, stdin, tty });
        let caller = types::Caller { username, groups, issuer, claims };
        Self { id, cluster, received_at, caller, verb, target, path, query, dry_run, command, approved: false }
    }
}

conversions!();

impl types::Host for HostState {}

impl types::HostDocument for HostState {
    fn get(&mut self, document: Resource<Document>, path: String) -> wasmtime::Result<Option<String>> {
        self.document(&document)?.get(&path)
    }

    fn select(&mut self, document: Resource<Document>, path: String) -> wasmtime::Result<Vec<(String, String)>> {
        self.document(&document)?.select(&path)
    }

    fn json(&mut self, document: Resource<Document>) -> wasmtime::Result<String> {
        self.document(&document)?.json()
    }

    fn size(&mut self, document: Resource<Document>) -> wasmtime::Result<u64> {
        self.document(&document)?.size()
    }

    fn drop(&mut self, document: Resource<Document>) -> wasmtime::Result<()> {
        self.give_up(document)
    }
}

impl host::Host for HostState {
    fn look_around(&mut self, which: types::Surrounding) -> wasmtime::Result<Option<Resource<Document>>> {
        self.surrounding(which.into()).map(|object| self.keep(object)).transpose()
    }

    fn annotate(&mut self, key: String, value: String) -> wasmtime::Result<()> {
        self.note(key, value)
    }

    fn count(&mut self, key: String, amount: u64, window_seconds: u32) -> wasmtime::Result<u64> {
        self.add(key, amount, window_seconds)
    }
}
