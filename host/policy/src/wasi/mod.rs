//! A WASI that grants nothing, for toolchains that insist on one.
//!
//! Every function that a module imports from `wasi:` is there and gives the least its type allows: no arguments, no environment, no files, no input, a clock
//! that stands still, zeros for randomness, an error wherever an error can be given. What is written to standard output and error is kept, for the policy's author and
//! the gateway's log. Which of the others were called is known.
//!
//! [`replace`] has a component answer all of that itself.

mod answer;
mod output;
mod replace;
mod stub;

use std::collections::{BTreeSet, HashMap};

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, ResourceType, WasmList};
use wasmtime::{Result, StoreContextMut};

use crate::state::HostState;
use postern_ground::digest;

pub(super) use output::Output;
pub(super) use replace::replace;

/// The interfaces of WASI 0.2, without their version: what toolchains of today import, and nothing else that calls itself by its name.
const INTERFACES: [&str; 29] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];
/// Functions and types of one interface: WASI's own have fewer than a hundred.
const MOST_ITEMS: usize = 200;

/// The import that is told which function was called, by its number.
const CALLED: &str = "postern-called";
/// The import that is told what was written to which handle.
const WROTE: &str = "postern-wrote";
/// The handle of standard output.
const STDOUT: u32 = 1;
/// The handle of standard error.
const STDERR: u32 = 2;

/// The host's side of every WASI resource: it has no functions that do anything.
struct InertResource;

/// Whether an import is an interface of WASI 0.2, which is there and grants nothing.
pub(super) fn is_known(import: &str) -> bool {
    import.split_once('@').is_some_and(|(name, version)| INTERFACES.contains(&name) && version.starts_with("0.2."))
}

/// Defines what a component imports from WASI, and what it calls instead since it was replaced.
pub(super) fn grant_nothing(linker: &mut Linker<HostState>, component: &Component) -> Result<()> {
    let engine = linker.engine().clone();
    let mut names = HashMap::new();
    for (interface, item) in component.component_type().imports(&engine) {
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        if !is_known(interface) {
            continue;
        }
        let mut to = linker.instance(interface)?;
        for (number, (name, item)) in instance.exports(&engine).enumerate() {
            if number >= MOST_ITEMS {
                return Err(wasmtime::Error::msg(format!("{interface} is not the one of WASI: it has more than {MOST_ITEMS} items")));
            }
            match item.ty {
                ComponentItem::ComponentFunc(_) => {
                    let called = format!("{interface} {name}");
                    names.insert(id_of(interface, name), called.clone());
                    to.func_new(name, move |_, _, _, _| Err(impossible(&called)))?;
                }
                ComponentItem::Resource(_) => to.resource(name, ResourceType::host::<InertResource>(), |_, _| Ok(()))?,
                _ => {}
            }
        }
    }
    let mut root = linker.root();
    root.func_wrap(CALLED, move |mut store: StoreContextMut<'_, HostState>, (id,): (u64,)| {
        if let Some(name) = names.get(&id) {
            store.data_mut().wasi_calls.insert(name.clone());
        }
        Ok(())
    })?;
    root.func_wrap(WROTE, |mut store: StoreContextMut<'_, HostState>, (handle, text): (u64, WasmList<u8>)| {
        if [STDOUT, STDERR].map(u64::from).contains(&handle) {
            let (text, mut kept) = (text, std::mem::take(&mut store.data_mut().output));
            kept.add(text.as_le_slice(&store));
            store.data_mut().output = kept;
        }
        Ok(())
    })
}

/// The number of a function of WASI.
fn id_of(interface: &str, name: &str) -> u64 {
    let digest = digest::of_parts(&[interface.as_bytes(), name.as_bytes()]);
    digest.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}

fn impossible(called: &str) -> wasmtime::Error {
    wasmtime::Error::msg(format!("it called {called}, which is not granted"))
}

/// What a module called of WASI, in words.
pub(super) fn list_of_calls(calls: &BTreeSet<String>) -> Option<String> {
    (!calls.is_empty()).then(|| calls.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests;
