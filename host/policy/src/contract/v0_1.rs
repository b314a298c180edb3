//! `postern:policy@0.1.0`: generated code, and what makes the gateway's own types of it.

use wasmtime::component::{Component, ComponentExportIndex, Func, HasSelf, Instance, InstancePre, Linker, Resource};
use wasmtime::{Engine, Store};

use anyhow::Context;

use super::{
    Approval, Caller, Capability, ChunkVerdict, Command, Denial, Hook, Manifest, Operation, Output, PolicyOperation, Rule, Surrounding,
    Target, Verdict,
};
use crate::document::Document;
use crate::state::HostState;
use crate::{trusted, wasi};
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

/// The instance of its exports.
pub(crate) const POLICY_INTERFACE: &str = "postern:policy/policy@0.1.0";
/// What a module may import of it.
pub(crate) const HOST_INTERFACES: [&str; 2] = ["postern:policy/types@0.1.0", "postern:policy/host@0.1.0"];

/// Most characters of the end of a value that a mask keeps.
const MOST_KEPT: u8 = 16;

/// The call of `configure` with settings, as a WAVE expression for Wizer.
pub(crate) fn configure_call(settings: &str) -> anyhow::Result<String> {
    Ok(format!("postern:policy/policy.configure@0.1.0({})", serde_json::to_string(settings)?))
}

/// Where the imports of a component are found: the contract's, and a WASI that grants nothing.
pub(crate) fn linker(engine: &Engine, component: &Component) -> wasmtime::Result<Linker<HostState>> {
    let mut linker: Linker<HostState> = Linker::new(engine);
    PolicyModule::add_to_linker::<_, HasSelf<HostState>>(&mut linker, |state| state)?;
    wasi::grant_nothing(&mut linker, component)?;
    Ok(linker)
}

/// A component ready to be instantiated, and where its hooks are: an operation calls one of them, and looks up no others.
pub(crate) struct Prepared {
    module: PolicyModulePre<HostState>,
    on_request: ComponentExportIndex,
    on_object: ComponentExportIndex,
    on_chunk: ComponentExportIndex,
}

impl Prepared {
    /// Checks a compiled component against the contract.
    pub(crate) fn new(engine: &Engine, component: &Component) -> anyhow::Result<Self> {
        let module = PolicyModulePre::new(linker(engine, component)?.instantiate_pre(component)?)?;
        let exports = component.get_export_index(None, POLICY_INTERFACE);
        let hook = |hook: Hook| {
            let name = hook.name();
            component.get_export_index(exports.as_ref(), name).with_context(|| format!("it does not export {POLICY_INTERFACE} {name}"))
        };
        Ok(Self { module, on_request: hook(Hook::OnRequest)?, on_object: hook(Hook::OnObject)?, on_chunk: hook(Hook::OnChunk)? })
    }

    /// What is instantiated.
    pub(crate) fn module(&self) -> &InstancePre<HostState> {
        self.module.instance_pre()
    }

    /// Checks the types of its hooks, once for all its instances.
    pub(crate) fn check(&self, instance: &Instance, store: &mut Store<HostState>) -> wasmtime::Result<()> {
        trusted::check(&self.on_request, &self.on_object, &self.on_chunk, instance, store)
    }

    /// Calls on-request.
    pub(crate) fn on_request(
        &self,
        instance: &Instance,
        store: &mut Store<HostState>,
        subject: &PolicyOperation,
        body: Option<Document>,
    ) -> wasmtime::Result<Verdict> {
        let hook = trusted::on_request(hook(&self.on_request, instance, store)?);
        let body = body.map(|body| store.data_mut().keep(body)).transpose()?;
        let borrowed = body.as_ref().map(|body| Resource::new_borrow(body.rep()));
        Ok(hook.call(store, (&subject.0, borrowed))?.0.into())
    }

    /// Calls on-object.
    pub(crate) fn on_object(
        &self,
        instance: &Instance,
        store: &mut Store<HostState>,
        subject: &PolicyOperation,
        object: Document,
    ) -> wasmtime::Result<Verdict> {
        let hook = trusted::on_object(hook(&self.on_object, instance, store)?);
        let object = store.data_mut().keep(object)?;
        let borrowed = Resource::new_borrow(object.rep());
        Ok(hook.call(store, (&subject.0, borrowed))?.0.into())
    }

    /// Calls on-chunk.
    pub(crate) fn on_chunk(
        &self,
        instance: &Instance,
        store: &mut Store<HostState>,
        subject: &PolicyOperation,
        output: Output,
        data: &[u8],
    ) -> wasmtime::Result<ChunkVerdict> {
        let hook = trusted::on_chunk(hook(&self.on_chunk, instance, store)?);
        Ok(hook.call(store, (&subject.0, output.into(), data))?.0.into())
    }
}

fn hook(index: &ComponentExportIndex, instance: &Instance, store: &mut Store<HostState>) -> wasmtime::Result<Func> {
    instance.get_func(store, index).ok_or_else(|| wasmtime::Error::msg("it has no such hook"))
}

/// Asks an instance what it is.
pub(crate) fn describe(instance: &Instance, store: &mut Store<HostState>) -> wasmtime::Result<Manifest> {
    Ok(PolicyModule::new(&mut *store, instance)?.postern_policy_policy().call_describe(store)?.into())
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

impl From<types::Verdict> for Verdict {
    fn from(verdict: types::Verdict) -> Self {
        match verdict {
            types::Verdict::Allow => Self::Allow,
            types::Verdict::Mask(masks) => Self::Mask(masks.into_iter().map(Mask::from).collect()),
            types::Verdict::Block(denial) => Self::Block(denial.into()),
            types::Verdict::RequireApproval(types::Approval { reason, approvers, required, valid_seconds }) => {
                Self::RequireApproval(Approval { reason, approvers, required, valid_seconds })
            }
            types::Verdict::Terminate(denial) => Self::Terminate(denial.into()),
        }
    }
}

impl From<types::ChunkVerdict> for ChunkVerdict {
    fn from(verdict: types::ChunkVerdict) -> Self {
        match verdict {
            types::ChunkVerdict::Forward => Self::Forward,
            types::ChunkVerdict::Replace(with) => Self::Replace(with),
            types::ChunkVerdict::Terminate(denial) => Self::Terminate(denial.into()),
        }
    }
}

impl From<types::Denial> for Denial {
    fn from(types::Denial { reason, hint }: types::Denial) -> Self {
        Self { reason, hint }
    }
}

impl From<types::Mask> for Mask {
    fn from(mask: types::Mask) -> Self {
        let condition = |types::Condition { path, is, value }| Condition { path, equal: matches!(is, types::Comparison::Equal), value };
        Self {
            what: match mask.what {
                types::Selector::Field(path) => Selector::Field(path),
                types::Selector::Text(pattern) => Selector::Text(pattern),
                types::Selector::PodSecrets => Selector::PodSecrets,
            },
            how: match mask.how {
                types::Transform::Redact => Transform::Redact,
                types::Transform::Tokenize => Transform::Tokenize,
                types::Transform::KeepLast(n) => Transform::KeepLast(n.min(MOST_KEPT)),
                types::Transform::Remove => Transform::Remove,
            },
            when: mask.when.into_iter().map(condition).collect(),
        }
    }
}

impl From<types::Manifest> for Manifest {
    fn from(manifest: types::Manifest) -> Self {
        let types::Manifest { name, version, summary, rules, hooks, needs, capabilities, settings_schema } = manifest;
        Self {
            name,
            version,
            summary,
            rules: rules.into_iter().map(Rule::from).collect(),
            hooks: Hook::ALL.into_iter().filter(|hook| hooks.contains(hook_flag(*hook))).collect(),
            needs: Surrounding::ALL.into_iter().filter(|which| needs.iter().any(|need| Surrounding::from(*need) == *which)).collect(),
            capabilities: Capability::ALL.into_iter().filter(|one| capabilities.contains(capability_flag(*one))).collect(),
            settings_schema,
        }
    }
}

fn hook_flag(hook: Hook) -> types::Hooks {
    match hook {
        Hook::OnRequest => types::Hooks::REQUEST,
        Hook::OnObject => types::Hooks::OBJECT,
        Hook::OnChunk => types::Hooks::CHUNK,
    }
}

fn capability_flag(capability: Capability) -> types::Capabilities {
    match capability {
        Capability::Bodies => types::Capabilities::BODIES,
        Capability::SecretValues => types::Capabilities::SECRET_VALUES,
        Capability::Streams => types::Capabilities::STREAMS,
        Capability::Counters => types::Capabilities::COUNTERS,
    }
}

impl From<types::Rule> for Rule {
    fn from(types::Rule { verbs, api_groups, resources, namespaces }: types::Rule) -> Self {
        Self { clusters: Vec::new(), verbs, api_groups, resources, namespaces }
    }
}

impl From<types::Surrounding> for Surrounding {
    fn from(which: types::Surrounding) -> Self {
        match which {
            types::Surrounding::Namespace => Self::Namespace,
            types::Surrounding::Stored => Self::Stored,
            types::Surrounding::Pod => Self::Pod,
        }
    }
}

impl From<Output> for types::Channel {
    fn from(output: Output) -> Self {
        match output {
            Output::Stdout => Self::Stdout,
            Output::Stderr => Self::Stderr,
            Output::Log => Self::Log,
        }
    }
}

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
