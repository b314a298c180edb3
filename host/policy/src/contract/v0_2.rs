//! `postern:policy@0.2.0`: generated code, and what makes the gateway's own types of it. The operation is asked about.

use wasmtime::component::{HasSelf, Instance, InstancePre, Linker, Resource};
use wasmtime::{Error, Store};

use super::convert::conversions;
use super::questions::{Text, bounded, few, values};
use super::version::Hooks;
use super::{Approval, Capability, ChunkVerdict, Denial, Hook, Manifest, Output, PolicyOperation, Rule, Surrounding, Verdict, v0_1};
use crate::document::Document;
use crate::state::HostState;
use crate::trusted::v0_2 as trusted;
use generated::postern::policy::host;
pub(crate) use generated::postern::policy::types;
use generated::{PolicyModule, PolicyModulePre};
use postern_mask::{Condition, Mask, Selector, Transform};

/// The host's side, generated from `wit/0.2`.
#[allow(missing_docs, clippy::all)]
mod generated {
    wasmtime::component::bindgen!({
        path: "../../wit/0.2",
        world: "policy-module",
        with: {
            "postern:policy/types.document": crate::document::Document,
            "postern:policy/types.operation": crate::contract::PolicyOperation,
        },
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
    asking(store, subject, |store, operation| Ok(hook.call(store, (operation, body))?.0.into()))
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
    asking(store, subject, |store, operation| Ok(hook.call(store, (operation, object))?.0.into()))
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
    asking(store, subject, |store, operation| Ok(hook.call(store, (operation, output.into(), data))?.0.into()))
}

/// Has a hook called with a handle of the operation, which is the host's and ends with the call: an instance that stays with a stream is called again and again.
fn asking<T>(
    store: &mut Store<HostState>,
    subject: &PolicyOperation,
    call: impl FnOnce(&mut Store<HostState>, Resource<PolicyOperation>) -> wasmtime::Result<T>,
) -> wasmtime::Result<T> {
    let held = store.data_mut().table.push(subject.clone())?;
    let answer = call(store, Resource::new_borrow(held.rep()));
    store.data_mut().table.delete(held)?;
    answer
}

conversions!();

impl From<types::Text> for Text {
    fn from(text: types::Text) -> Self {
        match text {
            types::Text::Verb => Self::Verb,
            types::Text::Kind => Self::Kind,
            types::Text::ApiGroup => Self::ApiGroup,
            types::Text::ApiVersion => Self::ApiVersion,
            types::Text::Resource => Self::Resource,
            types::Text::Subresource => Self::Subresource,
            types::Text::Namespace => Self::Namespace,
            types::Text::Name => Self::Name,
            types::Text::Place => Self::Place,
            types::Text::Path => Self::Path,
            types::Text::Cluster => Self::Cluster,
            types::Text::Username => Self::Username,
            types::Text::Issuer => Self::Issuer,
            types::Text::Container => Self::Container,
        }
    }
}

impl From<&v0_1::types::Command> for types::Command {
    fn from(v0_1::types::Command { container, argv, stdin, tty }: &v0_1::types::Command) -> Self {
        Self { container: container.clone(), argv: argv.clone(), stdin: *stdin, tty: *tty }
    }
}

/// An answer as the contract writes it. A list has at most a thousand entries.
fn place(at: Option<usize>) -> wasmtime::Result<Option<u32>> {
    Ok(at.map(u32::try_from).transpose()?)
}

impl types::Host for HostState {}

impl types::HostOperation for HostState {
    fn in_groups(&mut self, operation: Resource<PolicyOperation>, any_of: Vec<String>) -> wasmtime::Result<Option<u32>> {
        place(self.operation(&operation)?.in_groups(bounded(&any_of).map_err(Error::msg)?))
    }

    fn is(&mut self, operation: Resource<PolicyOperation>, what: types::Text, any_of: Vec<String>) -> wasmtime::Result<Option<u32>> {
        place(self.operation(&operation)?.is(what.into(), bounded(&any_of).map_err(Error::msg)?))
    }

    fn like(&mut self, operation: Resource<PolicyOperation>, what: types::Text, globs: Vec<String>) -> wasmtime::Result<Option<u32>> {
        place(self.operation(&operation)?.like(what.into(), bounded(&globs).map_err(Error::msg)?))
    }

    fn query_like(&mut self, operation: Resource<PolicyOperation>, key: String, globs: Vec<String>) -> wasmtime::Result<Option<u32>> {
        place(self.operation(&operation)?.query_like(&key, bounded(&globs).map_err(Error::msg)?))
    }

    fn claim_is(&mut self, operation: Resource<PolicyOperation>, name: String, any_of: Vec<String>) -> wasmtime::Result<Option<u32>> {
        place(self.operation(&operation)?.claim_is(&name, &values(&any_of).map_err(Error::msg)?))
    }

    fn claim_has(&mut self, operation: Resource<PolicyOperation>, name: String, any_of: Vec<String>) -> wasmtime::Result<Option<u32>> {
        place(self.operation(&operation)?.claim_has(&name, &values(&any_of).map_err(Error::msg)?))
    }

    fn has(&mut self, operation: Resource<PolicyOperation>, what: types::Text) -> wasmtime::Result<bool> {
        Ok(self.operation(&operation)?.text(what.into()).is_some())
    }

    fn at(
        &mut self,
        operation: Resource<PolicyOperation>,
        windows: Vec<(u64, u64)>,
        period: u32,
        offset: i32,
    ) -> wasmtime::Result<Option<u32>> {
        place(self.operation(&operation)?.at(few(&windows).map_err(Error::msg)?, period, offset).map_err(Error::msg)?)
    }

    fn dry_run(&mut self, operation: Resource<PolicyOperation>) -> wasmtime::Result<bool> {
        Ok(self.operation(&operation)?.is_dry_run())
    }

    fn approved(&mut self, operation: Resource<PolicyOperation>) -> wasmtime::Result<bool> {
        Ok(self.operation(&operation)?.is_approved())
    }

    fn is_command(&mut self, operation: Resource<PolicyOperation>) -> wasmtime::Result<bool> {
        Ok(self.operation(&operation)?.command().is_some())
    }

    fn get(&mut self, operation: Resource<PolicyOperation>, what: types::Text) -> wasmtime::Result<Option<String>> {
        Ok(self.operation(&operation)?.text(what.into()).map(Into::into))
    }

    fn groups(&mut self, operation: Resource<PolicyOperation>) -> wasmtime::Result<Vec<String>> {
        Ok(self.operation(&operation)?.groups().to_vec())
    }

    fn claim(&mut self, operation: Resource<PolicyOperation>, name: String) -> wasmtime::Result<Option<String>> {
        Ok(self.operation(&operation)?.claim(&name).map(Into::into))
    }

    fn claims(&mut self, operation: Resource<PolicyOperation>) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.operation(&operation)?.claims().to_vec())
    }

    fn query(&mut self, operation: Resource<PolicyOperation>, key: String) -> wasmtime::Result<Vec<String>> {
        Ok(self.operation(&operation)?.query(&key).map(Into::into).collect())
    }

    fn queries(&mut self, operation: Resource<PolicyOperation>) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.operation(&operation)?.queries().to_vec())
    }

    fn command(&mut self, operation: Resource<PolicyOperation>) -> wasmtime::Result<Option<types::Command>> {
        Ok(self.operation(&operation)?.command().map(Into::into))
    }

    fn id(&mut self, operation: Resource<PolicyOperation>) -> wasmtime::Result<String> {
        Ok(self.operation(&operation)?.id().into())
    }

    fn received_at(&mut self, operation: Resource<PolicyOperation>) -> wasmtime::Result<u64> {
        Ok(self.operation(&operation)?.received_at())
    }

    fn drop(&mut self, _: Resource<PolicyOperation>) -> wasmtime::Result<()> {
        Err(Error::msg("an operation is the host's, and no policy has one of its own"))
    }
}

impl types::HostDocument for HostState {
    fn get(&mut self, document: Resource<Document>, path: String) -> wasmtime::Result<Option<String>> {
        self.document(&document)?.get(&path)
    }

    fn select(&mut self, document: Resource<Document>, path: String) -> wasmtime::Result<Vec<(String, String)>> {
        self.document(&document)?.select(&path)
    }

    fn is(&mut self, document: Resource<Document>, path: String, any_of: Vec<String>) -> wasmtime::Result<Option<u32>> {
        place(self.document(&document)?.is(&path, &values(&any_of).map_err(Error::msg)?)?)
    }

    fn matches(&mut self, document: Resource<Document>, path: String) -> wasmtime::Result<u32> {
        self.document(&document)?.matches(&path)
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

    fn spend(&mut self, name: String, amount: host::Amount, window_seconds: u32, limits: Vec<u64>) -> wasmtime::Result<u32> {
        let amount = match amount {
            host::Amount::Number(amount) => amount,
            host::Amount::SizeOf(document) => self.document(&document)?.size()?,
            host::Amount::Matches((document, path)) => self.document(&document)?.matches(&path)?.into(),
        };
        self.add_for_caller(&name, amount, window_seconds, &limits)
    }
}
