//! A core module that answers instead of WASI.

use wasm_encoder::{
    CodeSection, EntityType, ExportKind, ExportSection, Function as Code, FunctionSection, ImportSection, InstructionSink, MemArg,
    MemoryType, Module, TypeSection, ValType,
};
use wasmparser::ValType as Given;

/// The most that is given of randomness at a time: no module may have the host fill its memory.
const MOST_ZEROS: i64 = 64 << 10;

/// The functions that are lowered with one memory and one allocator.
pub(super) struct Stub {
    pub(super) memory: Option<u32>,
    pub(super) realloc: Option<u32>,
    pub(super) functions: Vec<Function>,
}

/// One of them.
pub(super) struct Function {
    pub(super) params: Vec<Given>,
    pub(super) results: Vec<Given>,
    pub(super) body: Body,
    /// The number under which the host is told that it was called.
    pub(super) called: Option<u64>,
}

/// What it does. With each goes what is answered, as it lies in memory.
pub(super) enum Body {
    /// It takes a handle that is none.
    Nothing,
    /// It answers.
    Answer(Vec<u8>),
    /// It tells the host what was written, and answers.
    Write(Vec<u8>),
    /// It gives as many zeros as were asked for.
    Zeros(Vec<u8>),
    /// It says that the first of what is waited for is ready.
    First(Vec<u8>),
}

/// Indices of what a stub imports; what it has no use for is not there.
#[derive(Default)]
struct Imports {
    called: u32,
    wrote: Option<u32>,
    realloc: Option<u32>,
}

impl Stub {
    pub(super) fn new(memory: Option<u32>, realloc: Option<u32>) -> Self {
        Self { memory, realloc, functions: Vec::new() }
    }

    /// The module: its functions are exported by their numbers.
    pub(super) fn module(&self) -> Module {
        let (mut types, mut imports, mut functions, mut exports, mut code) =
            (TypeSection::new(), ImportSection::new(), FunctionSection::new(), ExportSection::new(), CodeSection::new());
        let mut import = |name: &str, params: &[ValType], results: &[ValType]| {
            types.ty().function(params.iter().copied(), results.iter().copied());
            imports.import("host", name, EntityType::Function(types.len() - 1));
            types.len() - 1
        };
        let mut given = Imports { called: import("called", &[ValType::I64], &[]), ..Imports::default() };
        if self.memory.is_some() {
            given.wrote = Some(import("wrote", &[ValType::I64, ValType::I32, ValType::I32], &[]));
        }
        if self.realloc.is_some() {
            given.realloc = Some(import("realloc", &[ValType::I32; 4], &[ValType::I32]));
        }
        if self.memory.is_some() {
            let memory = MemoryType { minimum: 0, maximum: None, memory64: false, shared: false, page_size_log2: None };
            imports.import("host", "memory", EntityType::Memory(memory));
        }
        let imported = types.len();
        for (number, function) in self.functions.iter().enumerate() {
            types.ty().function(function.params.iter().map(own), function.results.iter().map(own));
            functions.function(imported + number as u32);
            exports.export(&number.to_string(), ExportKind::Func, imported + number as u32);
            code.function(&function.code(&given));
        }
        let mut module = Module::new();
        module.section(&types).section(&imports).section(&functions).section(&exports).section(&code);
        module
    }
}

impl Function {
    fn code(&self, given: &Imports) -> Code {
        let parameters = self.params.len() as u32;
        // One for what is allocated.
        let mut code = Code::new([(1, ValType::I32)]);
        let mut to = code.instructions();
        if let Some(called) = self.called {
            to.i64_const(called.cast_signed()).call(given.called);
        }
        match &self.body {
            Body::Nothing => {}
            Body::Answer(answer) => self.answer(answer, &mut to),
            Body::Write(answer) => {
                if let ([Given::I32, Given::I32, Given::I32, ..], Some(wrote)) = (self.params.as_slice(), given.wrote) {
                    to.local_get(0).i64_extend_i32_u().local_get(1).local_get(2).call(wrote);
                }
                self.answer(answer, &mut to);
            }
            Body::Zeros(answer) => {
                self.answer(answer, &mut to);
                if let ([Given::I64, Given::I32], Some(realloc), 8) = (self.params.as_slice(), given.realloc, answer.len()) {
                    // As many as were asked for, and no more than may be.
                    let most = |to: &mut InstructionSink<'_>| {
                        to.local_get(0).i64_const(MOST_ZEROS).local_get(0).i64_const(MOST_ZEROS).i64_lt_u().select().i32_wrap_i64();
                    };
                    to.i32_const(0).i32_const(0).i32_const(1);
                    most(&mut to);
                    to.call(realloc).local_set(parameters);
                    to.local_get(parameters).i32_const(0);
                    most(&mut to);
                    to.memory_fill(0);
                    to.local_get(1).local_get(parameters).i32_store(at(0));
                    to.local_get(1);
                    most(&mut to);
                    to.i32_store(at(4));
                }
            }
            Body::First(answer) => {
                self.answer(answer, &mut to);
                if let ([Given::I32, Given::I32, Given::I32], Some(realloc), 8) = (self.params.as_slice(), given.realloc, answer.len()) {
                    to.i32_const(0).i32_const(0).i32_const(4).i32_const(4).call(realloc).local_set(parameters);
                    to.local_get(parameters).i32_const(0).i32_store(at(0));
                    to.local_get(2).local_get(parameters).i32_store(at(0));
                    to.local_get(2).i32_const(1).i32_store(at(4));
                }
            }
        }
        to.end();
        code
    }

    /// An answer that is one value is returned; a larger one is written to where the last parameter says.
    fn answer(&self, answer: &[u8], to: &mut InstructionSink<'_>) {
        let mut bytes = [0; 8];
        let length = answer.len().min(8);
        bytes[..length].copy_from_slice(&answer[..length]);
        let value = u64::from_le_bytes(bytes);
        match self.results.first() {
            Some(Given::I32) => drop(to.i32_const((value as u32).cast_signed())),
            Some(Given::I64) => drop(to.i64_const(value.cast_signed())),
            Some(Given::F32) => drop(to.f32_const(f32::from_bits(value as u32).into())),
            Some(Given::F64) => drop(to.f64_const(f64::from_bits(value).into())),
            Some(_) => drop(to.unreachable()),
            None if answer.is_empty() => {}
            None => {
                let place = self.params.len() as u32 - 1;
                to.local_get(place).i32_const(0).i32_const(answer.len() as i32).memory_fill(0);
                for (index, byte) in answer.iter().enumerate().filter(|(_, byte)| **byte != 0) {
                    let there = MemArg { offset: index as u64, align: 0, memory_index: 0 };
                    to.local_get(place).i32_const((*byte).into()).i32_store8(there);
                }
            }
        }
    }
}

fn at(offset: u64) -> MemArg {
    MemArg { offset, align: 2, memory_index: 0 }
}

/// A type of one crate in another's words. What the canonical ABI passes is one of four.
fn own(ty: &Given) -> ValType {
    match ty {
        Given::I64 => ValType::I64,
        Given::F32 => ValType::F32,
        Given::F64 => ValType::F64,
        _ => ValType::I32,
    }
}
