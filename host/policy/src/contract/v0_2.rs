//! `postern:policy@0.2.0`: generated code, and what makes the gateway's own types of it. The operation is asked about.

use wasmtime::component::{HasSelf, Instance, InstancePre, Linker, Resource};
use wasmtime::{Error, Store};

use super::asked::{Answered, Question};
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
fn index(at: Option<usize>) -> wasmtime::Result<Option<u32>> {
    Ok(at.map(u32::try_from).transpose()?)
}

fn place(answered: Answered<'_>) -> wasmtime::Result<Option<u32>> {
    if let Answered::Place(at) = answered { index(at) } else { Err(mistaken()) }
}

fn flag(answered: Answered<'_>) -> wasmtime::Result<bool> {
    if let Answered::Flag(flag) = answered { Ok(flag) } else { Err(mistaken()) }
}

fn text(answered: Answered<'_>) -> wasmtime::Result<Option<String>> {
    if let Answered::Text(text) = answered { Ok(text.map(Into::into)) } else { Err(mistaken()) }
}

fn texts(answered: Answered<'_>) -> wasmtime::Result<Vec<String>> {
    if let Answered::Texts(texts) = answered { Ok(texts.into_iter().map(Into::into).collect()) } else { Err(mistaken()) }
}

fn pairs(answered: Answered<'_>) -> wasmtime::Result<Vec<(String, String)>> {
    if let Answered::Pairs(pairs) = answered { Ok(pairs.to_vec()) } else { Err(mistaken()) }
}

/// Each question has answers of one kind; what would not be of it is a fault of the gateway's, and fails the call.
fn mistaken() -> Error {
    Error::msg("the question was answered with something else")
}

impl types::Host for HostState {}

impl types::HostOperation for HostState {
    fn in_groups(&mut self, operation: Resource<PolicyOperation>, any_of: Vec<String>) -> wasmtime::Result<Option<u32>> {
        bounded(&any_of).map_err(Error::msg)?;
        self.ask(&operation, Question::InGroups(any_of), place)
    }

    fn is(&mut self, operation: Resource<PolicyOperation>, what: types::Text, any_of: Vec<String>) -> wasmtime::Result<Option<u32>> {
        bounded(&any_of).map_err(Error::msg)?;
        self.ask(&operation, Question::Is(what.into(), any_of), place)
    }

    fn like(&mut self, operation: Resource<PolicyOperation>, what: types::Text, globs: Vec<String>) -> wasmtime::Result<Option<u32>> {
        bounded(&globs).map_err(Error::msg)?;
        self.ask(&operation, Question::Like(what.into(), globs), place)
    }

    fn query_like(&mut self, operation: Resource<PolicyOperation>, key: String, globs: Vec<String>) -> wasmtime::Result<Option<u32>> {
        bounded(&globs).map_err(Error::msg)?;
        self.ask(&operation, Question::QueryLike(key, globs), place)
    }

    fn claim_is(&mut self, operation: Resource<PolicyOperation>, name: String, any_of: Vec<String>) -> wasmtime::Result<Option<u32>> {
        self.ask(&operation, Question::ClaimIs(name, values(&any_of).map_err(Error::msg)?), place)
    }

    fn claim_has(&mut self, operation: Resource<PolicyOperation>, name: String, any_of: Vec<String>) -> wasmtime::Result<Option<u32>> {
        self.ask(&operation, Question::ClaimHas(name, values(&any_of).map_err(Error::msg)?), place)
    }

    fn has(&mut self, operation: Resource<PolicyOperation>, what: types::Text) -> wasmtime::Result<bool> {
        self.ask(&operation, Question::Has(what.into()), flag)
    }

    fn at(
        &mut self,
        operation: Resource<PolicyOperation>,
        windows: Vec<(u64, u64)>,
        period: u32,
        offset: i32,
    ) -> wasmtime::Result<Option<u32>> {
        few(&windows).map_err(Error::msg)?;
        self.ask(&operation, Question::At(windows, period, offset), place)
    }

    fn dry_run(&mut self, operation: Resource<PolicyOperation>) -> wasmtime::Result<bool> {
        self.ask(&operation, Question::DryRun, flag)
    }

    fn approved(&mut self, operation: Resource<PolicyOperation>) -> wasmtime::Result<bool> {
        self.ask(&operation, Question::Approved, flag)
    }

    fn is_command(&mut self, operation: Resource<PolicyOperation>) -> wasmtime::Result<bool> {
        self.ask(&operation, Question::IsCommand, flag)
    }

    fn get(&mut self, operation: Resource<PolicyOperation>, what: types::Text) -> wasmtime::Result<Option<String>> {
        self.ask(&operation, Question::Get(what.into()), text)
    }

    fn groups(&mut self, operation: Resource<PolicyOperation>) -> wasmtime::Result<Vec<String>> {
        self.ask(&operation, Question::Groups, texts)
    }

    fn claim(&mut self, operation: Resource<PolicyOperation>, name: String) -> wasmtime::Result<Option<String>> {
        self.ask(&operation, Question::Claim(name), text)
    }

    fn claims(&mut self, operation: Resource<PolicyOperation>) -> wasmtime::Result<Vec<(String, String)>> {
        self.ask(&operation, Question::Claims, pairs)
    }

    fn query(&mut self, operation: Resource<PolicyOperation>, key: String) -> wasmtime::Result<Vec<String>> {
        self.ask(&operation, Question::Query(key), texts)
    }

    fn queries(&mut self, operation: Resource<PolicyOperation>) -> wasmtime::Result<Vec<(String, String)>> {
        self.ask(&operation, Question::Queries, pairs)
    }

    fn command(&mut self, operation: Resource<PolicyOperation>) -> wasmtime::Result<Option<types::Command>> {
        self.leave("operation.command");
        Ok(self.operation(&operation)?.command().map(Into::into))
    }

    fn id(&mut self, operation: Resource<PolicyOperation>) -> wasmtime::Result<String> {
        self.leave("operation.id");
        Ok(self.operation(&operation)?.id().into())
    }

    fn received_at(&mut self, operation: Resource<PolicyOperation>) -> wasmtime::Result<u64> {
        self.leave("operation.received-at");
        Ok(self.operation(&operation)?.received_at())
    }

    fn drop(&mut self, _: Resource<PolicyOperation>) -> wasmtime::Result<()> {
        Err(Error::msg("an operation is the host's, and no policy has one of its own"))
    }
}

impl types::HostDocument for HostState {
    fn get(&mut self, document: Resource<Document>, path: String) -> wasmtime::Result<Option<String>> {
        self.leave("document.get");
        self.document(&document)?.get(&path)
    }

    fn select(&mut self, document: Resource<Document>, path: String) -> wasmtime::Result<Vec<(String, String)>> {
        self.leave("document.select");
        self.document(&document)?.select(&path)
    }

    fn is(&mut self, document: Resource<Document>, path: String, any_of: Vec<String>) -> wasmtime::Result<Option<u32>> {
        let any_of = values(&any_of).map_err(Error::msg)?;
        let document = self.document(&document)?;
        let (place, names) = (document.is(&path, &any_of)?, document.remembered_by(&path));
        match names {
            Some(names) => self.was_asked(Question::ObjectIs(names, any_of), &Answered::Place(place)),
            None => self.leave("document.is"),
        }
        index(place)
    }

    fn matches(&mut self, document: Resource<Document>, path: String) -> wasmtime::Result<u32> {
        let document = self.document(&document)?;
        let (count, names) = (document.matches(&path)?, document.remembered_by(&path));
        match names {
            Some(names) => self.was_asked(Question::ObjectMatches(names), &Answered::Flag(count > 0)),
            None => self.leave("document.matches"),
        }
        Ok(count)
    }

    fn json(&mut self, document: Resource<Document>) -> wasmtime::Result<String> {
        self.leave("document.json");
        self.document(&document)?.json()
    }

    fn size(&mut self, document: Resource<Document>) -> wasmtime::Result<u64> {
        self.leave("document.size");
        self.document(&document)?.size()
    }

    fn drop(&mut self, document: Resource<Document>) -> wasmtime::Result<()> {
        self.give_up(document)
    }
}

impl host::Host for HostState {
    fn look_around(&mut self, which: types::Surrounding) -> wasmtime::Result<Option<Resource<Document>>> {
        self.leave("look-around");
        self.surrounding(which.into()).map(|object| self.keep(object)).transpose()
    }

    fn annotate(&mut self, key: String, value: String) -> wasmtime::Result<()> {
        self.note(key, value)
    }

    fn count(&mut self, key: String, amount: u64, window_seconds: u32) -> wasmtime::Result<u64> {
        self.leave("count");
        self.add(key, amount, window_seconds)
    }

    fn spend(&mut self, name: String, amount: host::Amount, window_seconds: u32, limits: Vec<u64>) -> wasmtime::Result<u32> {
        self.leave("spend");
        let amount = match amount {
            host::Amount::Number(amount) => amount,
            host::Amount::SizeOf(document) => self.document(&document)?.size()?,
            host::Amount::Matches((document, path)) => self.document(&document)?.matches(&path)?.into(),
        };
        self.add_for_caller(&name, amount, window_seconds, &limits)
    }
}
