//! A file becomes a configured component: core modules are componentised, imports checked, settings taken in.

use anyhow::{Context, bail};
use wasmtime::component::{Component, Linker, Val};
use wasmtime::{Store, StoreLimitsBuilder};
use wasmtime_wizer::Wizer;
use wit_component::{ComponentEncoder, DecodedWasm};

use super::bindings::PolicyModule;
use super::engine::{Runtime, ticks};
use super::instance::State;

/// Imports a policy may have.
const CONTRACT: [&str; 2] = ["postern:policy/types@0.1.0", "postern:policy/host@0.1.0"];
/// Milliseconds `configure` may take, compilation included.
const CONFIGURE_TIME: u64 = 120_000;

/// The component after `configure`: what every operation starts from.
pub(super) fn configured(runtime: &Runtime, file: &[u8], settings: &str, memory: usize) -> anyhow::Result<Vec<u8>> {
    if !file.starts_with(b"\0asm") {
        bail!("not a WebAssembly file");
    }
    // wit-component trusts that what it is given is valid, and panics where it is not: it is checked before, and guarded too.
    wasmparser::Validator::new().validate_all(file).map_err(|error| anyhow::anyhow!("not a valid WebAssembly file: {error}"))?;
    let component = std::panic::catch_unwind(|| -> anyhow::Result<_> {
        let component = component(file)?;
        check_imports(&component)?;
        Ok(component)
    })
    .map_err(|_| anyhow::anyhow!("the module is not a policy: it cannot be decoded"))??;
    configure(runtime, &component, settings, memory)
}

/// Makes a component of a core module; leaves a component as it is.
fn component(file: &[u8]) -> anyhow::Result<Vec<u8>> {
    // The fourth to eighth byte tell a core module (version 1, layer 0) from a component.
    match file.get(..8) {
        Some(b"\0asm\x01\0\0\0") => ComponentEncoder::default()
            .module(file)
            .and_then(|encoder| encoder.validate(true).encode())
            .map_err(|error| anyhow::anyhow!("the module is not a policy: {error:#}")),
        _ => Ok(file.to_vec()),
    }
}

/// A policy that imports nothing but the contract can do nothing else.
fn check_imports(component: &[u8]) -> anyhow::Result<()> {
    let (resolve, world) = match wit_component::decode(component).context("the component does not decode")? {
        DecodedWasm::Component(resolve, world) => (resolve, world),
        DecodedWasm::WitPackage(..) => bail!("the file is a WIT package and no policy"),
    };
    for key in resolve.worlds[world].imports.keys() {
        let name = resolve.name_world_key(key);
        if !CONTRACT.contains(&name.as_str()) {
            bail!("it imports {name}, which is not granted; a policy may import {} only", CONTRACT.join(" and "));
        }
    }
    Ok(())
}

fn configure(runtime: &Runtime, component: &[u8], settings: &str, memory: usize) -> anyhow::Result<Vec<u8>> {
    let engine = &runtime.configuring;
    let _running = runtime.running();
    let limits = StoreLimitsBuilder::new().memory_size(memory).build();
    let mut store = Store::new(engine, State::for_configure(limits));
    store.limiter(|state| &mut state.limits);
    store.set_epoch_deadline(ticks(CONFIGURE_TIME));
    let mut linker: Linker<State> = Linker::new(engine);
    PolicyModule::add_to_linker::<_, wasmtime::component::HasSelf<State>>(&mut linker, |state| state)?;
    let quoted = serde_json::to_string(settings)?;
    let mut wizer = Wizer::new();
    wizer.init_func(format!("postern:policy/policy.configure@0.1.0({quoted})")).keep_init_func(true);
    let instantiate = async |store: &mut Store<State>, component: &Component| linker.instantiate_async(store, component).await;
    let run = wizer.run_component(&mut store, component, instantiate);
    let (snapshot, answer) = futures_util::FutureExt::now_or_never(run)
        .context("configure waits for something, and a policy has nothing to wait for")?
        .map_err(|error| anyhow::anyhow!("configure failed: {:#}", super::instance::explain(&error)))?;
    match answer.first() {
        Some(Val::Result(Ok(_))) => Ok(snapshot),
        Some(Val::Result(Err(Some(message)))) => match &**message {
            Val::String(message) => bail!("the settings are not valid: {message}"),
            _ => bail!("the settings are not valid"),
        },
        _ => bail!("configure gave no result"),
    }
}
