//! What a component calls of WASI is answered within it, by core modules that are put where its imports were lowered.
//!
//! Toolchains remember handles, of standard output for example, and a snapshot keeps what they remember but not the handles: in a fresh instance they would not exist,
//! and whoever writes there would trap. Answered within the component they are numbers that always hold. And what is answered there may be asked for at any time, also
//! where a component may not call its host: Go's collector reads the clock while the host has it allocate memory.
//!
//! Two functions of the host are imported instead: one that is told what a module writes, one that is told what else it called.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, bail};
use wasm_encoder::reencode::{self, Reencode, ReencodeComponent, component_utils};
use wasm_encoder::{
    Alias, CanonicalFunctionSection, CanonicalOption as Option_, Component, ComponentAliasSection, ComponentImportSection,
    ComponentSectionId, ComponentTypeRef, ComponentTypeSection, ExportKind, InstanceSection, ModuleArg, ModuleSection, PrimitiveValType,
    RawSection,
};
use wasmparser::{
    CanonicalFunction, CanonicalOption, ComponentAlias, ComponentExternalKind, Instance, Parser, Payload, ValidPayload, Validator,
};

use super::answer::{Answers, Wanted};
use super::stub::{Body, Function, Stub};
use super::{CALLED, WROTE, id_of, is_known};

/// How many types and functions the host's two take before the component's own.
const TYPES: u32 = 3;
const FUNCS: u32 = 2;

/// The handle of what is no stream.
const SOMETHING: u32 = 3;

/// The most functions that are answered, and the memories and allocators with which they are lowered: WASI 0.2 has some hundreds, and toolchains use one or two.
const MOST_FUNCTIONS: usize = 500;
const MOST_STUBS: usize = 8;

/// A function or type of an interface of WASI: the interface with its version, and the name.
type Known = Option<Arc<(String, String)>>;

/// The component with what it calls of WASI answered within; as it was where it calls nothing.
pub(in super::super) fn replace(component: &[u8]) -> anyhow::Result<Vec<u8>> {
    let survey = Survey::of(component)?;
    if survey.functions.is_empty() {
        return Ok(component.to_vec());
    }
    let mut rewriter = Rewriter::new(survey);
    let mut out = Component::new();
    rewriter
        .parse_component(&mut out, Parser::new(0), component)
        .map_err(|error| anyhow::anyhow!("what it calls of WASI cannot be answered: {error}"))?;
    let out = out.finish();
    Validator::new().validate_all(&out).context("what it calls of WASI cannot be answered")?;
    Ok(out)
}

/// Which core functions of a component are lowered from WASI.
struct Survey {
    /// Core functions by index: the stub that answers, and its function there.
    functions: HashMap<u32, (usize, usize)>,
    stubs: Vec<Stub>,
}

/// What is at each index of a component's spaces.
#[derive(Default)]
struct Spaces {
    instances: Vec<Option<String>>,
    funcs: Vec<Known>,
    types: Vec<Known>,
    /// Of each core function and memory the first that is the same export of the same instance: some toolchains alias one anew for each function that is lowered.
    core_funcs: Vec<u32>,
    memories: Vec<u32>,
    /// The first alias of each core instance's export, of a function or of a memory.
    aliased: HashMap<(bool, u32, String), u32>,
    /// Core functions that are lowered from WASI, or drop what is WASI's.
    lowered: Vec<Lowered>,
}

struct Lowered {
    core_func: u32,
    known: Arc<(String, String)>,
    /// The component function; none of a drop.
    func: Option<u32>,
    memory: Option<u32>,
    realloc: Option<u32>,
}

impl Spaces {
    fn take(&mut self, kind: ComponentExternalKind, known: Known, instance: Option<String>) {
        match kind {
            ComponentExternalKind::Func => self.funcs.push(known),
            ComponentExternalKind::Type => self.types.push(known),
            ComponentExternalKind::Instance => self.instances.push(instance),
            _ => {}
        }
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>) {
        match alias {
            ComponentAlias::InstanceExport { kind, instance_index, name } => {
                let of = self.instances.get(*instance_index as usize).cloned().flatten();
                self.take(*kind, of.map(|interface| Arc::new((interface, (*name).to_owned()))), None);
            }
            ComponentAlias::CoreInstanceExport { kind, instance_index, name } => {
                let space = match kind {
                    wasmparser::ExternalKind::Func => &mut self.core_funcs,
                    wasmparser::ExternalKind::Memory => &mut self.memories,
                    _ => return,
                };
                let export = (*kind == wasmparser::ExternalKind::Memory, *instance_index, (*name).to_owned());
                space.push(*self.aliased.entry(export).or_insert(space.len() as u32));
            }
            ComponentAlias::Outer { kind, .. } => {
                if matches!(kind, wasmparser::ComponentOuterAliasKind::Type) {
                    self.types.push(None);
                }
            }
        }
    }

    fn canonical(&mut self, function: &CanonicalFunction) {
        let core_func = self.core_funcs.len() as u32;
        match function {
            CanonicalFunction::Lift { .. } => {
                self.funcs.push(None);
                return;
            }
            CanonicalFunction::Lower { func_index, options } => {
                if let Some(Some(known)) = self.funcs.get(*func_index as usize)
                    && let Some((memory, realloc)) = plain(options)
                {
                    let first = |space: &[u32], index: u32| space.get(index as usize).copied().unwrap_or(index);
                    let (memory, realloc) = (memory.map(|at| first(&self.memories, at)), realloc.map(|at| first(&self.core_funcs, at)));
                    self.lowered.push(Lowered { core_func, known: Arc::clone(known), func: Some(*func_index), memory, realloc });
                }
            }
            CanonicalFunction::ResourceDrop { resource } => {
                if let Some(Some(known)) = self.types.get(*resource as usize) {
                    self.lowered.push(Lowered { core_func, known: Arc::clone(known), func: None, memory: None, realloc: None });
                }
            }
            _ => {}
        }
        self.core_funcs.push(core_func);
    }

    fn payload(&mut self, payload: &Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::ComponentTypeSection(section) => section.clone().into_iter().try_for_each(|_| {
                self.types.push(None);
                Ok(())
            }),
            Payload::ComponentInstanceSection(section) => section.clone().into_iter().try_for_each(|_| {
                self.instances.push(None);
                Ok(())
            }),
            Payload::ComponentImportSection(section) => section.clone().into_iter().try_for_each(|import| {
                let import = import?;
                let name = import.name.name;
                self.take(import.ty.kind(), None, is_known(name).then(|| name.to_owned()));
                Ok(())
            }),
            Payload::ComponentExportSection(section) => section.clone().into_iter().try_for_each(|export| {
                self.take(export?.kind, None, None);
                Ok(())
            }),
            Payload::ComponentAliasSection(section) => section.clone().into_iter().try_for_each(|alias| {
                self.alias(&alias?);
                Ok(())
            }),
            Payload::ComponentCanonicalSection(section) => section.clone().into_iter().try_for_each(|function| {
                self.canonical(&function?);
                Ok(())
            }),
            _ => Ok(()),
        }
    }
}

/// The memory and the allocator that a function is lowered with; none where it is lowered in a way that nobody has for WASI 0.2.
fn plain(options: &[CanonicalOption]) -> Option<(Option<u32>, Option<u32>)> {
    let (mut memory, mut realloc) = (None, None);
    for option in options {
        match option {
            CanonicalOption::UTF8 | CanonicalOption::UTF16 | CanonicalOption::CompactUTF16 => {}
            CanonicalOption::Memory(index) => memory = Some(*index),
            CanonicalOption::Realloc(index) => realloc = Some(*index),
            _ => return None,
        }
    }
    Some((memory, realloc))
}

impl Survey {
    fn of(component: &[u8]) -> anyhow::Result<Self> {
        let (mut spaces, mut validator, mut depth) = (Spaces::default(), Validator::new(), 0u32);
        for payload in Parser::new(0).parse_all(component) {
            let payload = payload?;
            match &payload {
                Payload::Version { .. } => depth += 1,
                Payload::End(_) => depth -= 1,
                payload if depth == 1 => spaces.payload(payload)?,
                _ => {}
            }
            if let ValidPayload::End(types) = validator.payload(&payload)?
                && depth == 0
            {
                return Self::stubs(&spaces, types.as_ref());
            }
        }
        bail!("it ends before its end")
    }

    fn stubs(spaces: &Spaces, types: wasmparser::types::TypesRef<'_>) -> anyhow::Result<Self> {
        let mut survey = Self { functions: HashMap::new(), stubs: Vec::new() };
        // Whatever is lowered again and again is answered by one function.
        let (mut known_stubs, mut known_functions) = (HashMap::new(), HashMap::new());
        for lowered in &spaces.lowered {
            let ordinary = |memory: u32| {
                let memory = types.memory_at(memory);
                !memory.memory64 && !memory.shared && memory.page_size_log2.is_none()
            };
            if lowered.memory.is_some_and(|memory| !ordinary(memory)) {
                bail!("it has a memory that WASI 0.2 does not know");
            }
            let stub = *known_stubs.entry((lowered.memory, lowered.realloc)).or_insert_with(|| {
                survey.stubs.push(Stub::new(lowered.memory, lowered.realloc));
                survey.stubs.len() - 1
            });
            let place = match known_functions.get(&(stub, Arc::clone(&lowered.known), lowered.func.is_some())) {
                Some(place) => *place,
                None => {
                    if survey.stubs.len() > MOST_STUBS || known_functions.len() >= MOST_FUNCTIONS {
                        bail!(
                            "it calls more of WASI, or in more ways, than there are: {MOST_FUNCTIONS} functions with {MOST_STUBS} memories and allocators"
                        );
                    }
                    let function = function(lowered, types)
                        .with_context(|| format!("{} is not the one of WASI: {}", lowered.known.0, lowered.known.1))?;
                    let functions = &mut survey.stubs[stub].functions;
                    functions.push(function);
                    known_functions.insert((stub, Arc::clone(&lowered.known), lowered.func.is_some()), functions.len() - 1);
                    functions.len() - 1
                }
            };
            survey.functions.insert(lowered.core_func, (stub, place));
        }
        Ok(survey)
    }
}

/// The function that answers instead of one that is lowered.
fn function(lowered: &Lowered, types: wasmparser::types::TypesRef<'_>) -> anyhow::Result<Function> {
    let core = types[types.core_function_at(lowered.core_func)].unwrap_func();
    let (params, results) = (core.params().to_vec(), core.results().to_vec());
    let (interface, name) = (lowered.known.0.split('@').next().unwrap_or_default(), lowered.known.1.as_str());
    let Some(func) = lowered.func else {
        return Ok(Function { params, results, body: Body::Nothing, called: None });
    };
    let handle = match (interface, name) {
        ("wasi:cli/stdout", _) => super::STDOUT,
        ("wasi:cli/stderr", _) => super::STDERR,
        _ => SOMETHING,
    };
    let wanted = match (interface, name) {
        ("wasi:io/streams", "[method]output-stream.check-write") => Wanted::OkToWrite,
        ("wasi:io/streams", name) if name.contains("output-stream.") && (name.contains("write") || name.contains("flush")) => Wanted::Ok,
        ("wasi:io/poll", "[method]pollable.ready") | ("wasi:clocks/monotonic-clock", "now") => Wanted::One,
        _ => Wanted::Least,
    };
    let answer = match types[types.component_function_at(func)].result {
        Some(ty) => Answers::new(types, handle).bytes(&ty, wanted)?,
        None => Vec::new(),
    };
    let body = match (interface, name) {
        ("wasi:io/streams", "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush") => Body::Write(answer),
        ("wasi:random/random" | "wasi:random/insecure", _) if name.contains("bytes") => Body::Zeros(answer),
        ("wasi:io/poll", "poll") => Body::First(answer),
        _ => Body::Answer(answer),
    };
    // What every program asks for when it begins, and what may be asked for while the host may not be called, is not worth a word.
    let quiet = [
        "wasi:cli/std",
        "wasi:cli/terminal",
        "wasi:cli/environment",
        "wasi:filesystem/preopens",
        "wasi:clocks/",
        "wasi:io/",
        "wasi:random/",
    ];
    let called = (!quiet.iter().any(|quiet| interface.starts_with(quiet))).then(|| id_of(&lowered.known.0, name));
    Ok(Function { params, results, body, called })
}

/// Writes a component anew with the stubs in it: what is before them stays, and what comes after has other indices.
struct Rewriter {
    survey: Survey,
    depth: u32,
    /// The instance of each stub, once there is one.
    instances_of_stubs: Vec<Option<u32>>,
    /// The new index of each of the old.
    core_funcs: Vec<u32>,
    core_modules: Vec<u32>,
    core_instances: Vec<u32>,
    /// How many there are by now.
    count: Count,
}

#[derive(Default)]
struct Count {
    core_funcs: u32,
    core_modules: u32,
    core_instances: u32,
}

fn next(count: &mut u32) -> u32 {
    *count += 1;
    *count - 1
}

type Result<T, E = reencode::Error<std::convert::Infallible>> = std::result::Result<T, E>;

impl Rewriter {
    fn new(survey: Survey) -> Self {
        let instances_of_stubs = vec![None; survey.stubs.len()];
        Self {
            survey,
            depth: 0,
            instances_of_stubs,
            core_funcs: Vec::new(),
            core_modules: Vec::new(),
            core_instances: Vec::new(),
            count: Count::default(),
        }
    }

    /// The new index of an old one, in the component itself.
    fn new_index(&self, of: &[u32], old: u32) -> u32 {
        if self.depth == 0 { of.get(old as usize).copied().unwrap_or(old) } else { old }
    }

    /// Imports the host's two functions.
    fn import(component: &mut Component) {
        let mut types = ComponentTypeSection::new();
        types.defined_type().list(wasm_encoder::ComponentValType::Primitive(PrimitiveValType::U8));
        let number = |name| (name, wasm_encoder::ComponentValType::Primitive(PrimitiveValType::U64));
        types.function().params([number("id")]).result(None);
        types.function().params([number("handle"), ("text", wasm_encoder::ComponentValType::Type(0))]).result(None);
        component.section(&types);
        let mut imports = ComponentImportSection::new();
        imports.import(CALLED, ComponentTypeRef::Func(1));
        imports.import(WROTE, ComponentTypeRef::Func(2));
        component.section(&imports);
    }

    fn canonicals(&mut self, component: &mut Component, section: wasmparser::ComponentCanonicalSectionReader<'_>) -> Result<()> {
        let mut kept = CanonicalFunctionSection::new();
        for function in section {
            let function = function?;
            if matches!(function, CanonicalFunction::Lift { .. }) {
                self.parse_component_canonical(&mut kept, function)?;
                continue;
            }
            let Some((stub, name)) = self.survey.functions.get(&(self.core_funcs.len() as u32)).copied() else {
                self.parse_component_canonical(&mut kept, function)?;
                self.core_funcs.push(next(&mut self.count.core_funcs));
                continue;
            };
            if !kept.is_empty() {
                component.section(&std::mem::take(&mut kept));
            }
            let instance = match self.instances_of_stubs[stub] {
                Some(instance) => instance,
                None => self.instantiate(component, stub),
            };
            let mut alias = ComponentAliasSection::new();
            alias.alias(Alias::CoreInstanceExport { instance, kind: ExportKind::Func, name: &name.to_string() });
            component.section(&alias);
            self.core_funcs.push(next(&mut self.count.core_funcs));
        }
        if !kept.is_empty() {
            component.section(&kept);
        }
        Ok(())
    }

    /// Puts a stub where the first of its functions is needed: the memory it writes to is there by then.
    fn instantiate(&mut self, component: &mut Component, stub: usize) -> u32 {
        let (memory, realloc) = (self.survey.stubs[stub].memory, self.survey.stubs[stub].realloc);
        let mut given = vec![("called", ExportKind::Func, next(&mut self.count.core_funcs))];
        let mut lower = CanonicalFunctionSection::new();
        lower.lower(0, []);
        if let Some(memory) = memory {
            lower.lower(1, [Option_::Memory(memory)]);
            given.push(("wrote", ExportKind::Func, next(&mut self.count.core_funcs)));
            given.push(("memory", ExportKind::Memory, memory));
        }
        if let Some(realloc) = realloc {
            given.push(("realloc", ExportKind::Func, self.new_index(&self.core_funcs, realloc)));
        }
        component.section(&lower);
        component.section(&ModuleSection(&self.survey.stubs[stub].module()));
        let module = next(&mut self.count.core_modules);
        let mut instances = InstanceSection::new();
        instances.export_items(given);
        let given = next(&mut self.count.core_instances);
        instances.instantiate(module, [("host", ModuleArg::Instance(given))]);
        let instance = next(&mut self.count.core_instances);
        component.section(&instances);
        self.instances_of_stubs[stub] = Some(instance);
        instance
    }
}

impl Reencode for Rewriter {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, func: u32) -> Result<u32> {
        Ok(self.new_index(&self.core_funcs, func))
    }
}

impl ReencodeComponent for Rewriter {
    fn component_type_index(&mut self, ty: u32) -> u32 {
        if self.depth == 0 { ty + TYPES } else { ty }
    }

    fn component_func_index(&mut self, func: u32) -> u32 {
        if self.depth == 0 { func + FUNCS } else { func }
    }

    fn module_index(&mut self, module: u32) -> u32 {
        self.new_index(&self.core_modules, module)
    }

    fn instance_index(&mut self, instance: u32) -> u32 {
        self.new_index(&self.core_instances, instance)
    }

    fn outer_component_type_index(&mut self, count: u32, ty: u32) -> u32 {
        if count == self.depth { ty + TYPES } else { ty }
    }

    fn outer_module_index(&mut self, count: u32, module: u32) -> u32 {
        if count == self.depth { self.core_modules.get(module as usize).copied().unwrap_or(module) } else { module }
    }

    fn push_depth(&mut self) {
        self.depth += 1;
    }

    fn pop_depth(&mut self) {
        self.depth -= 1;
    }

    fn parse_component_payload(&mut self, component: &mut Component, payload: Payload<'_>, whole: &[u8]) -> Result<()> {
        match payload {
            Payload::Version { .. } if self.depth == 0 => {
                Self::import(component);
                Ok(())
            }
            Payload::ComponentCanonicalSection(section) if self.depth == 0 => self.canonicals(component, section),
            // Names of what has other indices now.
            Payload::CustomSection(_) if self.depth == 0 => Ok(()),
            payload => component_utils::parse_component_payload(self, component, payload, whole),
        }
    }

    fn parse_component_submodule(&mut self, component: &mut Component, _: Parser, module: &[u8]) -> Result<()> {
        component.section(&RawSection { id: ComponentSectionId::CoreModule as u8, data: module });
        if self.depth == 0 {
            self.core_modules.push(next(&mut self.count.core_modules));
        }
        Ok(())
    }

    fn parse_component_alias_section(
        &mut self,
        aliases: &mut ComponentAliasSection,
        section: wasmparser::ComponentAliasSectionReader<'_>,
    ) -> Result<()> {
        for alias in section {
            let alias = alias?;
            let is_core_func = matches!(alias, ComponentAlias::CoreInstanceExport { kind: wasmparser::ExternalKind::Func, .. });
            aliases.alias(self.component_alias(alias)?);
            if self.depth == 0 && is_core_func {
                self.core_funcs.push(next(&mut self.count.core_funcs));
            }
        }
        Ok(())
    }

    fn parse_instance(&mut self, instances: &mut InstanceSection, instance: Instance<'_>) -> Result<()> {
        component_utils::parse_instance(self, instances, instance)?;
        if self.depth == 0 {
            self.core_instances.push(next(&mut self.count.core_instances));
        }
        Ok(())
    }
}
