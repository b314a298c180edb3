//! What is derived from the contract: the bindings of the C template, and a page of reference for each version.

use std::path::PathBuf;

use anyhow::Context;
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::{Docs, Function, Interface, Resolve, Type, TypeDefKind, TypeId, TypeOwner};

use crate::build::root;

/// Where each version is written, and its page.
const REFERENCES: [(&str, &str); 2] = [("wit", "docs/policy-contract.md"), ("wit/0.2", "docs/policy-contract-0.2.md")];

/// Writes them.
pub(crate) fn write() -> anyhow::Result<()> {
    for (path, bytes) in derived()? {
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// What they are, by their path.
fn derived() -> anyhow::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut derived = Vec::new();
    for (directory, page) in REFERENCES {
        let mut resolve = Resolve::default();
        resolve.push_path(root().join(directory))?;
        derived.push((root().join(page), reference(&resolve, directory).into_bytes()));
    }
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(root().join("wit/0.2"))?;
    let world = resolve.select_world(&[package], Some("policy-module"))?;
    let options = wit_bindgen_c::Opts { autodrop_borrows: wit_bindgen_c::Enabled::Yes, ..wit_bindgen_c::Opts::default() };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files)?;
    let place = root().join("host/templates/c");
    derived.extend(files.iter().map(|(name, bytes)| (place.join(name), bytes.to_vec())));
    Ok(derived)
}

/// The contract as a page.
fn reference(resolve: &Resolve, directory: &str) -> String {
    let mut page = format!("<!-- Made from {directory}/policy.wit by `cargo xtask bindings`. -->\n# The policy contract\n\n");
    let package = resolve.packages.iter().find(|(_, package)| package.name.name == "policy").map(|(_, package)| package);
    let Some(package) = package else { return page };
    page += &format!("`{}`\n\n{}\n", package.name, text(&package.docs));
    for (name, id) in &package.interfaces {
        let interface = &resolve.interfaces[*id];
        page += &format!("\n## {name}\n\n{}\n", text(&interface.docs));
        types(resolve, interface, &mut page);
        for function in interface.functions.values().filter(|function| function.name.find('[').is_none()) {
            page += &signature(resolve, function);
        }
    }
    page
}

fn types(resolve: &Resolve, interface: &Interface, page: &mut String) {
    for (name, id) in &interface.types {
        let ty = &resolve.types[*id];
        // What another interface defines is described there.
        if matches!(ty.kind, TypeDefKind::Type(_)) {
            continue;
        }
        let kind = match &ty.kind {
            TypeDefKind::Record(_) => "record",
            TypeDefKind::Variant(_) => "variant",
            TypeDefKind::Enum(_) => "enum",
            TypeDefKind::Flags(_) => "flags",
            TypeDefKind::Resource => "resource",
            _ => "type",
        };
        *page += &format!("\n### {kind} `{name}`\n\n{}\n", text(&ty.docs));
        let mut rows = Vec::new();
        match &ty.kind {
            TypeDefKind::Record(record) => {
                rows.extend(record.fields.iter().map(|field| (field.name.clone(), name_of(resolve, &field.ty), text(&field.docs))));
            }
            TypeDefKind::Variant(variant) => rows.extend(
                variant
                    .cases
                    .iter()
                    .map(|case| (case.name.clone(), case.ty.as_ref().map(|ty| name_of(resolve, ty)).unwrap_or_default(), text(&case.docs))),
            ),
            TypeDefKind::Enum(cases) => rows.extend(cases.cases.iter().map(|case| (case.name.clone(), String::new(), text(&case.docs)))),
            TypeDefKind::Flags(flags) => rows.extend(flags.flags.iter().map(|flag| (flag.name.clone(), String::new(), text(&flag.docs)))),
            _ => {}
        }
        if !rows.is_empty() {
            let typed = rows.iter().any(|(_, ty, _)| !ty.is_empty());
            *page += if typed { "\n| name | type | meaning |\n| --- | --- | --- |\n" } else { "\n| name | meaning |\n| --- | --- |\n" };
            for (name, ty, meaning) in rows {
                let meaning = meaning.replace('|', "\\|").replace('\n', " ");
                let ty = if ty.is_empty() { String::new() } else { format!("`{ty}`") };
                *page += &if typed { format!("| `{name}` | {ty} | {meaning} |\n") } else { format!("| `{name}` | {meaning} |\n") };
            }
        }
        let prefix = format!("]{name}.");
        for function in interface.functions.values().filter(|function| function.name.contains(&prefix)) {
            *page += &signature(resolve, function);
        }
    }
}

fn signature(resolve: &Resolve, function: &Function) -> String {
    let name = function.name.rsplit('.').next().unwrap_or(&function.name);
    let parameters = function.params.iter().filter(|parameter| parameter.name != "self");
    let parameters: Vec<String> = parameters.map(|parameter| format!("{}: {}", parameter.name, name_of(resolve, &parameter.ty))).collect();
    let result = function.result.as_ref().map(|ty| format!(" -> {}", name_of(resolve, ty))).unwrap_or_default();
    format!("\n**`{name}({}){result}`**\n\n{}\n", parameters.join(", "), text(&function.docs))
}

fn text(docs: &Docs) -> String {
    docs.contents.clone().unwrap_or_default().trim().to_owned()
}

fn name_of(resolve: &Resolve, ty: &Type) -> String {
    let of = |ty: &Option<Type>| ty.as_ref().map_or("_".to_owned(), |ty| name_of(resolve, ty));
    match ty {
        Type::Id(id) => match &resolve.types[*id] {
            named if named.name.is_some() && matches!(named.owner, TypeOwner::Interface(_)) => named.name.clone().unwrap_or_default(),
            anonymous => match &anonymous.kind {
                TypeDefKind::List(ty) => format!("list<{}>", name_of(resolve, ty)),
                TypeDefKind::Option(ty) => format!("option<{}>", name_of(resolve, ty)),
                TypeDefKind::Tuple(tuple) => {
                    format!("tuple<{}>", tuple.types.iter().map(|ty| name_of(resolve, ty)).collect::<Vec<_>>().join(", "))
                }
                TypeDefKind::Result(result) => format!("result<{}, {}>", of(&result.ok), of(&result.err)),
                TypeDefKind::Handle(handle) => handle_of(resolve, handle),
                _ => String::new(),
            },
        },
        other => format!("{other:?}").to_lowercase(),
    }
}

fn handle_of(resolve: &Resolve, handle: &wit_bindgen_core::wit_parser::Handle) -> String {
    use wit_bindgen_core::wit_parser::Handle;
    let named = |id: &TypeId| resolve.types[*id].name.clone().unwrap_or_default();
    match handle {
        Handle::Own(id) => named(id),
        Handle::Borrow(id) => format!("borrow<{}>", named(id)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// What a contract consists of, without its words: of each interface its types and functions.
    fn shape(directory: &str) -> BTreeMap<String, BTreeSet<String>> {
        let mut resolve = Resolve::default();
        resolve.push_path(root().join(directory)).unwrap();
        let undocumented = |page: &str| -> Vec<String> {
            page.split("\n### ").map(|part| part.lines().filter(|line| line.starts_with("**`")).collect::<Vec<_>>().join("\n")).collect()
        };
        let shape = |interface: &Interface| {
            let mut lines = BTreeSet::new();
            for (name, id) in &interface.types {
                let ty = &resolve.types[*id];
                let parts: Vec<String> = match &ty.kind {
                    TypeDefKind::Record(record) => {
                        record.fields.iter().map(|f| format!("{}: {}", f.name, name_of(&resolve, &f.ty))).collect()
                    }
                    TypeDefKind::Variant(variant) => variant
                        .cases
                        .iter()
                        .map(|c| format!("{}({})", c.name, c.ty.as_ref().map(|ty| name_of(&resolve, ty)).unwrap_or_default()))
                        .collect(),
                    TypeDefKind::Enum(cases) => cases.cases.iter().map(|case| case.name.clone()).collect(),
                    TypeDefKind::Flags(flags) => flags.flags.iter().map(|flag| flag.name.clone()).collect(),
                    _ => Vec::new(),
                };
                lines.insert(format!("{name}: {}", parts.join(", ")));
            }
            lines.extend(interface.functions.values().flat_map(|f| undocumented(&format!("{}{}", f.name, signature(&resolve, f)))));
            lines.extend(interface.functions.values().map(|f| f.name.clone()));
            lines
        };
        let package = resolve.packages.iter().find(|(_, package)| package.name.name == "policy").unwrap().1;
        package.interfaces.iter().map(|(name, id)| (name.clone(), shape(&resolve.interfaces[*id]))).collect()
    }

    #[test]
    fn the_contract_keeps_what_was_released() {
        for (kept, now) in [("tests/contract/0.1.0", "wit"), ("tests/contract/0.2.0", "wit/0.2")] {
            let (released, today) = (shape(kept), shape(now));
            assert!(released["types"].len() > 20 && released["host"].len() >= 6, "{released:?}");
            for (interface, lines) in released {
                let gone: Vec<_> = lines.difference(&today[&interface]).collect();
                assert!(gone.is_empty(), "modules in use elsewhere would break: {interface} no longer has {gone:?}");
                let added: Vec<_> = today[&interface].difference(&lines).collect();
                // Only what the host offers beside may grow: what a module exports or is handed must be what it was built against.
                assert!(
                    interface == "host" || added.is_empty(),
                    "older modules do not know {added:?} in {interface}: that is another version of the contract"
                );
            }
        }
    }

    #[test]
    fn what_is_derived_from_the_contract_is_as_the_contract_is() {
        for (path, bytes) in derived().unwrap() {
            let kept = std::fs::read(&path).unwrap_or_default();
            assert!(kept == bytes, "{} is out of date: run `cargo xtask bindings`", path.display());
        }
    }
}
