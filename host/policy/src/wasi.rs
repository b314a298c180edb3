//! A WASI that grants nothing, for toolchains that insist on one.
//!
//! Every function that a module imports from `wasi:` is there and gives the least its type allows: no arguments, no environment, no files, no input, a clock
//! that stands at zero, zeros for randomness, an error wherever an error can be given. Which of them were called is known.

use std::collections::BTreeSet;

use wasmtime::component::types::{Case, ComponentFunc, ComponentItem, Variant};
use wasmtime::component::{Component, Linker, Resource, ResourceAny, ResourceType, Type, Val};
use wasmtime::{AsContextMut, Result, StoreContextMut};

use crate::state::HostState;

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
/// The most that the default of a function's result may take in memory, by estimate: 64 bytes a part, and its names. WASI's own are far below.
const LARGEST_DEFAULT: usize = 4096;
/// Functions and types of one interface: WASI's own have fewer than a hundred.
const MOST_ITEMS: usize = 200;
/// The most that is given of randomness at a time: no module may have the host fill its memory.
const MOST_ZEROS: u64 = 64 << 10;

/// The host's side of every WASI resource: it has no functions that do anything.
struct InertResource;

/// Whether an import is an interface of WASI 0.2, which is there and grants nothing.
pub(super) fn is_known(import: &str) -> bool {
    import.split_once('@').is_some_and(|(name, version)| INTERFACES.contains(&name) && version.starts_with("0.2."))
}

/// Defines what a component imports from WASI.
pub(super) fn grant_nothing(linker: &mut Linker<HostState>, component: &Component) -> Result<()> {
    let engine = linker.engine().clone();
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
                ComponentItem::ComponentFunc(func) => {
                    let mut left = LARGEST_DEFAULT;
                    if !func.results().all(|ty| default_fits(&ty, &mut left)) {
                        return Err(wasmtime::Error::msg(format!("{interface} is not the one of WASI: what {name} answers is too large")));
                    }
                    let called = format!("{interface} {name}");
                    to.func_new(name, move |store, ty, params, results| answer_with_default(store, &called, &ty, params, results))?;
                }
                ComponentItem::Resource(_) => to.resource(name, ResourceType::host::<InertResource>(), |_, _| Ok(()))?,
                _ => {}
            }
        }
    }
    Ok(())
}

/// Answers a call of a WASI function with the default of its result type, and notes that it was called.
fn answer_with_default(
    mut store: StoreContextMut<'_, HostState>,
    called: &str,
    ty: &ComponentFunc,
    params: &[Val],
    results: &mut [Val],
) -> Result<()> {
    store.data_mut().wasi_calls.insert(called.to_owned());
    for (result, ty) in results.iter_mut().zip(ty.results()) {
        *result = match (&ty, params) {
            // wasi:random promises exactly as many bytes as are asked for: so many zeros are given, up to `MOST_ZEROS`.
            (Type::List(list), [Val::U64(count)]) if matches!(list.ty(), Type::U8) && called.contains("random") => {
                Val::List((0..(*count).min(MOST_ZEROS)).map(|_| Val::U8(0)).collect())
            }
            _ => default_value(&mut store, &ty, called)?,
        };
    }
    Ok(())
}

/// Whether the default value of a type takes no more than is left, which is looked at before any of it is made: types refer to types, and a few bytes of them can
/// stand for gigabytes.
fn default_fits(ty: &Type, left: &mut usize) -> bool {
    match ty {
        Type::Record(record) => {
            take(left, 64) && record.fields().all(|field| take(left, 64 + field.name.len()) && default_fits(&field.ty, left))
        }
        Type::Tuple(tuple) => take(left, 64) && tuple.types().all(|ty| default_fits(&ty, left)),
        Type::Enum(cases) => take(left, 64 + cases.names().next().map_or(0, str::len)),
        Type::Variant(variant) => {
            let case = simplest(variant);
            take(left, 64 + case.as_ref().map_or(0, |case| case.name.len()))
                && case.and_then(|case| case.ty).is_none_or(|ty| default_fits(&ty, left))
        }
        Type::Result(result) => take(left, 64) && result.err().is_none_or(|ty| default_fits(&ty, left)),
        _ => take(left, 64),
    }
}

/// Takes so many bytes of what is left; false when nothing is left after that.
fn take(left: &mut usize, bytes: usize) -> bool {
    *left = left.saturating_sub(bytes);
    *left > 0
}

/// The case that says nothing more, for example `closed` of a stream's error.
fn simplest(variant: &Variant) -> Option<Case<'_>> {
    variant.cases().find(|case| case.ty.is_none()).or_else(|| variant.cases().next())
}

/// The default value of a type: zero, empty, none, the simplest case, and `err` of a result.
fn default_value(store: &mut StoreContextMut<'_, HostState>, ty: &Type, called: &str) -> Result<Val> {
    Ok(match ty {
        Type::Bool => Val::Bool(false),
        Type::S8 => Val::S8(0),
        Type::U8 => Val::U8(0),
        Type::S16 => Val::S16(0),
        Type::U16 => Val::U16(0),
        Type::S32 => Val::S32(0),
        Type::U32 => Val::U32(0),
        Type::S64 => Val::S64(0),
        Type::U64 => Val::U64(0),
        Type::Float32 => Val::Float32(0.0),
        Type::Float64 => Val::Float64(0.0),
        Type::Char => Val::Char(' '),
        Type::String => Val::String(String::new()),
        Type::List(_) => Val::List(Vec::new()),
        Type::Option(_) => Val::Option(None),
        Type::Flags(_) => Val::Flags(Vec::new()),
        Type::Enum(cases) => Val::Enum(cases.names().next().unwrap_or_default().to_owned()),
        Type::Record(record) => {
            let mut fields = Vec::new();
            for field in record.fields() {
                fields.push((field.name.to_owned(), default_value(store, &field.ty, called)?));
            }
            Val::Record(fields)
        }
        Type::Tuple(tuple) => Val::Tuple(tuple.types().map(|ty| default_value(store, &ty, called)).collect::<Result<_>>()?),
        Type::Variant(variant) => match simplest(variant) {
            Some(case) => {
                let payload = case.ty.map(|ty| default_value(store, &ty, called)).transpose()?;
                Val::Variant(case.name.to_owned(), payload.map(Box::new))
            }
            None => return Err(impossible(called)),
        },
        Type::Result(result) => Val::Result(Err(result.err().map(|ty| default_value(store, &ty, called)).transpose()?.map(Box::new))),
        Type::Own(_) => Val::Resource(ResourceAny::try_from_resource(Resource::<InertResource>::new_own(0), store.as_context_mut())?),
        _ => return Err(impossible(called)),
    })
}

fn impossible(called: &str) -> wasmtime::Error {
    wasmtime::Error::msg(format!("it called {called}, which is not granted"))
}

/// What a module called of WASI, in words.
pub(super) fn list_of_calls(calls: &BTreeSet<String>) -> Option<String> {
    (!calls.is_empty()).then(|| calls.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component that imports a function from an interface; its answer is of the last of the types.
    fn importing(interface: &str, types: &str, answer: &str) -> Result<()> {
        let text = format!(r#"(component (import "{interface}" (instance {types} (export "get" (func (result {answer}))))))"#);
        let mut config = wasmtime::Config::new();
        config.wasm_component_model(true);
        let engine = wasmtime::Engine::new(&config)?;
        let component = Component::new(&engine, wat::parse_str(text).unwrap())?;
        grant_nothing(&mut Linker::new(&engine), &component)
    }

    /// Each type is twice the one before it: a few hundred bytes of module stand for gigabytes of an answer.
    fn doubling(times: usize) -> (String, String) {
        let types: String = (1..=times).map(|n| format!("(type $t{n} (tuple $t{} $t{}))", n - 1, n - 1)).collect();
        (format!("(type $t0 (tuple u64 u64)){types}"), format!("$t{times}"))
    }

    #[test]
    fn what_calls_itself_wasi_and_answers_without_bound_is_refused() {
        let (types, answer) = doubling(3);
        importing("wasi:cli/environment@0.2.0", &types, &answer).unwrap();
        for times in [8, 12, 16] {
            let (types, answer) = doubling(times);
            let why = importing("wasi:cli/environment@0.2.0", &types, &answer).unwrap_err().to_string();
            assert!(why.contains("what get answers is too large"), "{why}");
        }
        // Of more than a million parts the parser itself takes none.
        let (types, answer) = doubling(40);
        assert!(importing("wasi:cli/environment@0.2.0", &types, &answer).is_err());
        let long = "a".repeat(5000);
        let why = importing(
            "wasi:cli/environment@0.2.0",
            &format!("(type $r (record (field \"{long}\" u8))) (export \"r\" (type $e (eq $r)))"),
            "$e",
        );
        assert!(why.unwrap_err().to_string().contains("too large"), "the names of fields count");
        let many: String = (0..300).map(|n| format!(r#"(export "f{n}" (func))"#)).collect();
        let why = importing("wasi:cli/environment@0.2.0", &many, "u8").unwrap_err().to_string();
        assert!(why.contains("more than 200 items"), "{why}");
    }

    #[test]
    fn only_the_interfaces_of_wasi_are_there() {
        for known in ["wasi:cli/environment@0.2.0", "wasi:io/streams@0.2.6"] {
            assert!(is_known(known), "{known}");
        }
        for other in [
            "wasi:cli/blow@0.2.0",
            "wasi:cli/environment@0.3.0",
            "wasi:cli/environment",
            "wasi:evil/environment@0.2.0",
            "wasix:cli/environment@0.2.0",
        ] {
            assert!(!is_known(other), "{other}");
        }
    }
}
