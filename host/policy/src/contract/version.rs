//! The versions of the contract, side by side: which one a module was built against, and how it is called.

use anyhow::Context;
use wasmtime::component::{Component, ComponentExportIndex, Func, Instance, InstancePre, Linker, Resource};
use wasmtime::{Engine, Store};

use super::{ChunkVerdict, Hook, Manifest, Output, PolicyOperation, Verdict, v0_1, v0_2};
use crate::document::Document;
use crate::state::HostState;
use crate::{trusted, wasi};

/// A version of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// 0.1, in which an operation is handed over.
    V0_1,
    /// 0.2, in which it is asked about.
    V0_2,
}

impl Version {
    /// All of them, the newest first.
    pub(crate) const ALL: [Self; 2] = [Self::V0_2, Self::V0_1];

    /// The interface that a module exports.
    pub(crate) const fn interface(self) -> &'static str {
        match self {
            Self::V0_1 => "postern:policy/policy@0.1.0",
            Self::V0_2 => "postern:policy/policy@0.2.0",
        }
    }

    /// The interfaces that it may import.
    pub(crate) const fn imports(self) -> [&'static str; 2] {
        match self {
            Self::V0_1 => ["postern:policy/types@0.1.0", "postern:policy/host@0.1.0"],
            Self::V0_2 => ["postern:policy/types@0.2.0", "postern:policy/host@0.2.0"],
        }
    }

    /// That of a module which exports these, the newest where it was built against several.
    pub(crate) fn of(is_exported: impl Fn(&str) -> bool) -> Option<Self> {
        Self::ALL.into_iter().find(|version| is_exported(version.interface()))
    }

    /// The call of `configure` with settings, as a WAVE expression for Wizer.
    pub(crate) fn configure_call(self, settings: &str) -> anyhow::Result<String> {
        let (interface, version) = self.interface().split_once('@').context("it has no version")?;
        Ok(format!("{interface}.configure@{version}({})", serde_json::to_string(settings)?))
    }

    /// Where the imports of a component are found: the contract's, and a WASI that grants nothing.
    pub(crate) fn linker(self, engine: &Engine, component: &Component) -> wasmtime::Result<Linker<HostState>> {
        let mut linker: Linker<HostState> = Linker::new(engine);
        match self {
            Self::V0_1 => v0_1::add_to_linker(&mut linker)?,
            Self::V0_2 => v0_2::add_to_linker(&mut linker)?,
        }
        wasi::grant_nothing(&mut linker, component)?;
        Ok(linker)
    }
}

/// A component whose imports were found.
#[derive(Clone)]
pub(crate) struct Linked {
    version: Version,
    module: InstancePre<HostState>,
}

impl Linked {
    /// Makes an instance.
    pub(crate) fn instantiate(&self, store: &mut Store<HostState>) -> wasmtime::Result<Instance> {
        self.module.instantiate(store)
    }

    /// Asks an instance what it is.
    pub(crate) fn describe(&self, instance: &Instance, store: &mut Store<HostState>) -> wasmtime::Result<Manifest> {
        match self.version {
            Version::V0_1 => v0_1::describe(instance, store),
            Version::V0_2 => v0_2::describe(instance, store),
        }
    }
}

/// Where the hooks of a component are: an operation calls one of them, and looks up no others.
pub(crate) struct Hooks([ComponentExportIndex; 3]);

impl Hooks {
    /// A hook of an instance.
    pub(super) fn func(&self, hook: Hook, instance: &Instance, store: &mut Store<HostState>) -> wasmtime::Result<Func> {
        instance.get_func(store, self.0[hook as usize]).ok_or_else(|| wasmtime::Error::msg("it has no such hook"))
    }
}

/// A component ready to be instantiated and called.
pub(crate) struct Prepared {
    linked: Linked,
    hooks: Hooks,
}

impl Prepared {
    /// Checks a compiled component against the version of the contract that it exports.
    pub(crate) fn new(engine: &Engine, component: &Component) -> anyhow::Result<Self> {
        let version = Version::of(|interface| component.get_export_index(None, interface).is_some())
            .with_context(|| format!("it does not export {}", Version::ALL[0].interface()))?;
        let module = version.linker(engine, component)?.instantiate_pre(component)?;
        match version {
            Version::V0_1 => v0_1::check(&module)?,
            Version::V0_2 => v0_2::check(&module)?,
        }
        let exports = component.get_export_index(None, version.interface());
        let hook = |hook: Hook| {
            let (name, interface) = (hook.name(), version.interface());
            component.get_export_index(exports.as_ref(), name).with_context(|| format!("it does not export {interface} {name}"))
        };
        let hooks = Hooks([hook(Hook::OnRequest)?, hook(Hook::OnObject)?, hook(Hook::OnChunk)?]);
        Ok(Self { linked: Linked { version, module }, hooks })
    }

    /// The version of the contract it was built against.
    pub(crate) fn version(&self) -> Version {
        self.linked.version
    }

    /// What is instantiated.
    pub(crate) fn linked(&self) -> &Linked {
        &self.linked
    }

    /// Checks the types of its hooks, once for all its instances.
    pub(crate) fn check(&self, instance: &Instance, store: &mut Store<HostState>) -> wasmtime::Result<()> {
        match self.linked.version {
            Version::V0_1 => trusted::v0_1::check(&self.hooks.0, instance, store),
            Version::V0_2 => trusted::v0_2::check(&self.hooks.0, instance, store),
        }
    }

    /// Calls on-request.
    pub(crate) fn on_request(
        &self,
        instance: &Instance,
        store: &mut Store<HostState>,
        subject: &PolicyOperation,
        body: Option<Document>,
    ) -> wasmtime::Result<Verdict> {
        let body = body.map(|body| borrowed(store, body)).transpose()?;
        match self.linked.version {
            Version::V0_1 => v0_1::on_request(&self.hooks, instance, store, subject, body),
            Version::V0_2 => v0_2::on_request(&self.hooks, instance, store, subject, body),
        }
    }

    /// Calls on-object.
    pub(crate) fn on_object(
        &self,
        instance: &Instance,
        store: &mut Store<HostState>,
        subject: &PolicyOperation,
        object: Document,
    ) -> wasmtime::Result<Verdict> {
        let object = borrowed(store, object)?;
        match self.linked.version {
            Version::V0_1 => v0_1::on_object(&self.hooks, instance, store, subject, object),
            Version::V0_2 => v0_2::on_object(&self.hooks, instance, store, subject, object),
        }
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
        match self.linked.version {
            Version::V0_1 => v0_1::on_chunk(&self.hooks, instance, store, subject, output, data),
            Version::V0_2 => v0_2::on_chunk(&self.hooks, instance, store, subject, output, data),
        }
    }
}

/// A handle of an object that is the host's, and ends with its instance.
fn borrowed(store: &mut Store<HostState>, document: Document) -> wasmtime::Result<Resource<Document>> {
    let held = store.data_mut().keep(document)?;
    Ok(Resource::new_borrow(held.rep()))
}
