//! A file becomes a configured component: core modules are componentised, imports checked, settings taken in.

use std::collections::BTreeSet;

use anyhow::{Context, bail};
use wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER;
use wasmtime::Store;
use wasmtime::component::{Component, Val};
use wasmtime_wizer::Wizer;
use wit_component::{ComponentEncoder, DecodedWasm};

use crate::contract::v0_1::{self, EXPORTS, IMPORTS};
use crate::engine::{Runtime, ticks};
use crate::instance::bound_host;
use crate::state::State;
use crate::wasi;

/// What core modules call an operating system.
const PREVIEW1: &str = "wasi_snapshot_preview1";
/// Milliseconds `configure` may take, compilation included.
const CONFIGURE_TIME: u64 = 120_000;

/// A module, looked at but not run.
#[derive(Debug)]
pub struct Looked {
    /// As a component.
    component: Vec<u8>,
    /// Whether it came as one.
    pub was_component: bool,
    /// What it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
}

/// A module after `configure`.
pub(super) struct Configured {
    /// The component: what every operation starts from.
    pub(super) component: Vec<u8>,
    /// What it called of WASI meanwhile.
    pub(super) refused: BTreeSet<String>,
}

impl Looked {
    /// Why it is no policy: all reasons.
    pub fn findings(&self) -> Vec<String> {
        let granted = |name: &String| IMPORTS.contains(&name.as_str()) || wasi::is_known(name);
        let mut findings: Vec<String> = self
            .imports
            .iter()
            .filter(|name| !granted(name))
            .map(|name| format!("it imports {name}, which is not granted; a policy may import {} only", IMPORTS.join(" and ")))
            .collect();
        if !self.exports.iter().any(|name| name == EXPORTS) {
            let other = self.exports.iter().find(|name| name.starts_with("postern:policy/"));
            findings.push(match other {
                Some(other) => format!("it exports {other}, and this gateway speaks {EXPORTS}: build it against that version"),
                None => format!("it does not export {EXPORTS}"),
            });
        }
        findings
    }
}

/// Looks at a file: what it imports and exports.
pub fn look(file: &[u8]) -> anyhow::Result<Looked> {
    if !file.starts_with(b"\0asm") {
        bail!("not a WebAssembly file");
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
        Ok(Looked { component, was_component: !is_core, imports, exports })
    })
    .map_err(|_| anyhow::anyhow!("the module is not a policy: it cannot be decoded"))?
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

/// The component after `configure`: what every operation starts from.
pub(super) fn configured(runtime: &Runtime, file: &[u8], settings: &str, memory: usize) -> anyhow::Result<Configured> {
    let looked = look(file)?;
    if let Some(finding) = looked.findings().into_iter().next() {
        bail!(finding);
    }
    configure(runtime, &looked.component, settings, memory)
}

fn configure(runtime: &Runtime, component: &[u8], settings: &str, memory: usize) -> anyhow::Result<Configured> {
    let engine = &runtime.configuring;
    let _running = runtime.running();
    let mut store = Store::new(engine, State::new(memory));
    store.limiter(|state| &mut state.bound);
    store.set_epoch_deadline(ticks(CONFIGURE_TIME));
    bound_host(&mut store);
    let mut wizer = Wizer::new();
    wizer.init_func(v0_1::configure(settings)?).keep_init_func(true);
    let instantiate = async |store: &mut Store<State>, component: &Component| {
        let linker = v0_1::linker(engine, component)?;
        super::busy::patiently(|| linker.instantiate(&mut *store, component))
    };
    let run = wizer.run_component(&mut store, component, instantiate);
    let done = futures_util::FutureExt::now_or_never(run).context("configure waits for something, and a policy has nothing to wait for")?;
    let refused = std::mem::take(&mut store.data_mut().refused);
    let (component, answer) = done.map_err(|error| {
        let why = super::instance::explain(&error);
        match wasi::told(&refused) {
            Some(calls) => anyhow::anyhow!("configure failed: {why}; before that it called what is not granted: {calls}"),
            None => anyhow::anyhow!("configure failed: {why}"),
        }
    })?;
    match answer.first() {
        Some(Val::Result(Ok(_))) => Ok(Configured { component, refused }),
        Some(Val::Result(Err(Some(message)))) => match &**message {
            Val::String(message) => bail!("the settings are not valid: {message}"),
            _ => bail!("the settings are not valid"),
        },
        _ => bail!("configure gave no result"),
    }
}
