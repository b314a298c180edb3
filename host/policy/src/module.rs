//! A file becomes a configured component: core modules are componentised, imports checked, settings taken in.

use std::collections::BTreeSet;

use anyhow::{Context, bail};
use wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER;
use wasmtime::Store;
use wasmtime::component::{Component, Val};
use wasmtime_wizer::Wizer;
use wit_component::{ComponentEncoder, DecodedWasm};

use crate::contract::SPOKEN;
use crate::contract::version::Version;
use crate::deadline;
use crate::engine::Runtime;
use crate::fault;
use crate::instance::limit_host_calls;
use crate::state::HostState;
use crate::wasi;

/// The module name under which core modules import WASI preview 1.
const PREVIEW1: &str = "wasi_snapshot_preview1";
/// How deep components may be nested: toolchains write two or three levels.
const DEEPEST: usize = 20;
/// Milliseconds `configure` may take, compilation included.
const CONFIGURE_TIME: u64 = 120_000;

/// A policy's module, decoded but not run: its component, and what it imports and exports.
#[derive(Debug)]
pub struct InspectedModule {
    /// The module as a component; a core module is made into one.
    component: Vec<u8>,
    /// Whether the file was a component, and not a core module.
    pub was_component: bool,
    /// The interfaces that it imports, with their versions.
    pub imports: Vec<String>,
    /// The interfaces that it exports, with their versions.
    pub exports: Vec<String>,
}

/// A component whose memory was snapshotted after `configure` (by Wizer): every instance starts from there, with the settings taken in.
pub(super) struct ConfiguredModule {
    /// The component.
    pub(super) component: Vec<u8>,
    /// The WASI functions that `configure` called.
    pub(super) wasi_calls: BTreeSet<String>,
}

impl InspectedModule {
    /// Why the module cannot serve as a policy, every reason; empty where it can.
    pub fn problems(&self) -> Vec<String> {
        let version = self.version();
        // Of a module that is of no version, it is the newest that it should be.
        let host = version.unwrap_or(Version::ALL[0]).imports();
        let granted = |name: &String| host.contains(&name.as_str()) || wasi::is_known(name);
        let mut problems: Vec<String> = self
            .imports
            .iter()
            .filter(|name| !granted(name))
            .map(|name| format!("it imports {name}, which is not granted; a policy may import {} only", host.join(" and ")))
            .collect();
        if version.is_none() {
            let spoken = SPOKEN.join(" and ");
            let other = self.exports.iter().find(|name| name.starts_with("postern:policy/"));
            problems.push(match other {
                Some(other) => format!("it exports {other}, and this gateway speaks {spoken}: build it against one of these versions"),
                None => format!("it does not export {spoken}; a policy exports one of them"),
            });
        }
        problems
    }

    /// The version of the contract that it was built against.
    fn version(&self) -> Option<Version> {
        Version::of(|interface| self.exports.iter().any(|name| name == interface))
    }
}

/// Looks at a file: what it imports and exports.
pub fn inspect(file: &[u8]) -> anyhow::Result<InspectedModule> {
    if !file.starts_with(b"\0asm") {
        bail!("not a WebAssembly file");
    }
    let depth = depth(file)?;
    if depth > DEEPEST {
        bail!("its components are nested {depth} deep; at most {DEEPEST} are taken");
    }
    // wit-component trusts that what it is given is valid, and panics where it is not: it is checked before, and guarded too.
    wasmparser::Validator::new().validate_all(file).map_err(|error| anyhow::anyhow!("not a valid WebAssembly file: {error}"))?;
    std::panic::catch_unwind(|| {
        // The fourth to eighth byte tell a core module (version 1, layer 0) from a component.
        let is_core = file.get(..8) == Some(b"\0asm\x01\0\0\0");
        let component = if is_core { componentized(file)? } else { file.to_vec() };
        let (resolve, world) = match wit_component::decode(&component).context("the component does not decode")? {
            DecodedWasm::Component(resolve, world) => (resolve, world),
            DecodedWasm::WitPackage(..) => bail!("the file is a WIT package and no policy"),
        };
        let world = &resolve.worlds[world];
        let imports = world.imports.keys().map(|key| resolve.name_world_key(key)).collect();
        let exports = world.exports.keys().map(|key| resolve.name_world_key(key)).collect();
        Ok(InspectedModule { component, was_component: !is_core, imports, exports })
    })
    .map_err(|_| anyhow::anyhow!("the module is not a policy: it cannot be decoded"))?
}

/// How deep components and modules are nested: what works on them goes as deep on the stack, and copies what is within each time.
fn depth(file: &[u8]) -> anyhow::Result<usize> {
    let (mut depth, mut deepest) = (0usize, 0);
    for payload in wasmparser::Parser::new(0).parse_all(file) {
        match payload.map_err(|error| anyhow::anyhow!("not a valid WebAssembly file: {error}"))? {
            wasmparser::Payload::Version { .. } => depth += 1,
            wasmparser::Payload::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    Ok(deepest)
}

/// Makes a component of a core module.
fn componentized(file: &[u8]) -> anyhow::Result<Vec<u8>> {
    let encode = || {
        let encoder = ComponentEncoder::default().module(file)?;
        // What libc asks of an operating system becomes what a component asks: of that nothing is granted.
        encoder.adapter(PREVIEW1, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?.validate(true).encode()
    };
    encode().map_err(|error| anyhow::anyhow!("the module is not a policy: {error:#}"))
}

/// Inspects a policy's module, runs `configure` with its settings (JSON), and snapshots it. `memory` is the most bytes that an instance may have.
pub(super) fn inspect_and_configure(runtime: &Runtime, file: &[u8], settings: &str, memory: usize) -> anyhow::Result<ConfiguredModule> {
    let inspected = inspect(file)?;
    if let Some(problem) = inspected.problems().into_iter().next() {
        bail!(problem);
    }
    let version = inspected.version().context("it is of no version of the contract")?;
    configure(runtime, version, &wasi::replace(&inspected.component)?, settings, memory)
}

fn configure(runtime: &Runtime, version: Version, component: &[u8], settings: &str, memory: usize) -> anyhow::Result<ConfiguredModule> {
    let engine = &runtime.configure_engine;
    let _ticking = runtime.tick_epochs();
    let mut store = Store::new(engine, HostState::new(memory));
    store.limiter(|state| &mut state.limiter);
    deadline::keep(&mut store);
    deadline::set(&mut store, CONFIGURE_TIME);
    limit_host_calls(&mut store);
    let mut wizer = Wizer::new();
    wizer.init_func(version.configure_call(settings)?).keep_init_func(true);
    let instantiate = async |store: &mut Store<HostState>, component: &Component| {
        let linker = version.linker(engine, component)?;
        super::busy::retry_while_busy(|| linker.instantiate(&mut *store, component))
    };
    let run = wizer.run_component(&mut store, component, instantiate);
    let done = futures_util::FutureExt::now_or_never(run).context("configure waits for something, and a policy has nothing to wait for")?;
    let wasi_calls = std::mem::take(&mut store.data_mut().wasi_calls);
    let (component, answer) = done.map_err(|error| {
        store.data_mut().stopped(&error);
        let fault = fault::of(&store.data_mut().output.text()).map(|fault| format!(": {fault}")).unwrap_or_default();
        let why = super::instance::explain(&error) + &fault;
        match wasi::list_of_calls(&wasi_calls) {
            Some(calls) => anyhow::anyhow!("configure failed: {why}; before that it called what is not granted: {calls}"),
            None => anyhow::anyhow!("configure failed: {why}"),
        }
    })?;
    match answer.first() {
        Some(Val::Result(Ok(_))) => Ok(ConfiguredModule { component, wasi_calls }),
        Some(Val::Result(Err(Some(message)))) => match &**message {
            Val::String(message) => bail!("the settings are not valid: {message}"),
            _ => bail!("the settings are not valid"),
        },
        _ => bail!("configure gave no result"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Components within one another, each with nothing else in it.
    fn nested(depth: usize) -> Vec<u8> {
        let head = b"\0asm\x0d\0\x01\0";
        let mut component = head.to_vec();
        for _ in 1..depth {
            let mut outer = wasm_encoder::Component::new();
            outer.section(&wasm_encoder::RawSection { id: wasm_encoder::ComponentSectionId::Component as u8, data: &component });
            component = outer.finish();
        }
        component
    }

    #[test]
    fn components_that_are_nested_without_end_are_refused() {
        assert_eq!((depth(&nested(1)).unwrap(), depth(&nested(DEEPEST)).unwrap()), (1, DEEPEST));
        assert!(inspect(&nested(DEEPEST)).is_ok());
        for deep in [DEEPEST + 1, 5000] {
            let why = inspect(&nested(deep)).unwrap_err().to_string();
            assert!(why.contains(&format!("nested {deep} deep")), "{why}");
        }
    }
}
