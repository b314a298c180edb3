//! A WASI that grants nothing, for toolchains that insist on one.
//!
//! Every function that a module imports from `wasi:` is there and gives the least its type allows: no arguments, no environment, no files, no input, a clock
//! that stands at zero, zeros for randomness, an error wherever an error can be given. Which of them were called is known.

use std::collections::BTreeSet;

use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, Linker, Resource, ResourceAny, ResourceType, Type, Val};
use wasmtime::{AsContextMut, Result, StoreContextMut};

use super::instance::State;

/// What a module imports that asks for an operating system begins with this.
pub(super) const NAMESPACE: &str = "wasi:";
/// The most that is given of randomness at a time: no module may have the host fill its memory.
const MOST_ZEROS: u64 = 64 << 10;

/// A thing that WASI would hand out: it can do nothing.
struct Nothing;

/// Defines what a component imports from WASI.
pub(super) fn grant_nothing(linker: &mut Linker<State>, component: &Component) -> Result<()> {
    let engine = linker.engine().clone();
    for (interface, item) in component.component_type().imports(&engine) {
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        if !interface.starts_with(NAMESPACE) {
            continue;
        }
        let mut to = linker.instance(interface)?;
        for (name, item) in instance.exports(&engine) {
            match item.ty {
                ComponentItem::ComponentFunc(_) => {
                    let called = format!("{interface} {name}");
                    to.func_new(name, move |store, ty, params, results| refuse(store, &called, &ty, params, results))?;
                }
                ComponentItem::Resource(_) => to.resource(name, ResourceType::host::<Nothing>(), |_, _| Ok(()))?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn refuse(mut store: StoreContextMut<'_, State>, called: &str, ty: &ComponentFunc, params: &[Val], results: &mut [Val]) -> Result<()> {
    store.data_mut().refused.insert(called.to_owned());
    for (result, ty) in results.iter_mut().zip(ty.results()) {
        *result = match (&ty, params) {
            // Whoever asks for so many bytes of randomness takes fewer for a broken promise.
            (Type::List(list), [Val::U64(count)]) if matches!(list.ty(), Type::U8) && called.contains("random") => {
                Val::List((0..(*count).min(MOST_ZEROS)).map(|_| Val::U8(0)).collect())
            }
            _ => least(&mut store, &ty, called)?,
        };
    }
    Ok(())
}

/// The least of a type.
fn least(store: &mut StoreContextMut<'_, State>, ty: &Type, called: &str) -> Result<Val> {
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
                fields.push((field.name.to_owned(), least(store, &field.ty, called)?));
            }
            Val::Record(fields)
        }
        Type::Tuple(tuple) => Val::Tuple(tuple.types().map(|ty| least(store, &ty, called)).collect::<Result<_>>()?),
        // The case that says nothing more, for example `closed` of a stream's error.
        Type::Variant(variant) => match variant.cases().find(|case| case.ty.is_none()).or_else(|| variant.cases().next()) {
            Some(case) => {
                let payload = case.ty.map(|ty| least(store, &ty, called)).transpose()?;
                Val::Variant(case.name.to_owned(), payload.map(Box::new))
            }
            None => return Err(impossible(called)),
        },
        Type::Result(result) => Val::Result(Err(result.err().map(|ty| least(store, &ty, called)).transpose()?.map(Box::new))),
        Type::Own(_) => Val::Resource(ResourceAny::try_from_resource(Resource::<Nothing>::new_own(0), store.as_context_mut())?),
        _ => return Err(impossible(called)),
    })
}

fn impossible(called: &str) -> wasmtime::Error {
    wasmtime::Error::msg(format!("it called {called}, which is not granted"))
}

/// What a module called of WASI, in words.
pub(super) fn told(refused: &BTreeSet<String>) -> Option<String> {
    (!refused.is_empty()).then(|| refused.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
}
