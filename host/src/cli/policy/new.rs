//! `postern policy new`: a folder with a policy that builds, tests and loads.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use super::build::Language;
use crate::cli::terminal::say;
use crate::rehearse::cases::CaseFile;

/// Makes a folder with a policy.
#[derive(Args)]
pub struct New {
    /// The policy's name, and the folder's.
    name: String,
    /// What it is written in.
    #[arg(long, default_value = "rust")]
    lang: Language,
    /// Where the folder is made.
    #[arg(long, default_value = ".")]
    directory: PathBuf,
}

/// A file of a template, by its path in the folder.
type File = (&'static str, &'static str);

const WIT: File = ("wit/policy.wit", include_str!("../../../../wit/policy.wit"));
const CASES: File = ("cases.yaml", include_str!("../../../templates/cases.yaml"));

const RUST: [File; 13] = [
    ("Cargo.toml", include_str!("../../../templates/rust/Cargo.toml.txt")),
    ("src/lib.rs", include_str!("../../../templates/rust/lib.rs")),
    ("sdk/Cargo.toml", include_str!("../../../templates/rust/sdk.Cargo.toml.txt")),
    ("sdk/src/lib.rs", include_str!("../../../../policy-sdk/src/lib.rs")),
    ("sdk/src/guest.rs", include_str!("../../../../policy-sdk/src/guest.rs")),
    ("sdk/src/kit.rs", include_str!("../../../../policy-sdk/src/kit.rs")),
    ("sdk/src/object.rs", include_str!("../../../../policy-sdk/src/object.rs")),
    ("sdk/src/output.rs", include_str!("../../../../policy-sdk/src/output.rs")),
    ("sdk/src/request.rs", include_str!("../../../../policy-sdk/src/request.rs")),
    ("sdk/src/review.rs", include_str!("../../../../policy-sdk/src/review.rs")),
    ("sdk/src/shapes.rs", include_str!("../../../../policy-sdk/src/shapes.rs")),
    ("sdk/src/verdict.rs", include_str!("../../../../policy-sdk/src/verdict.rs")),
    (".gitignore", "target/\n*.wasm\n"),
];

const JS: [File; 5] = [
    ("package.json", include_str!("../../../templates/js/package.json")),
    ("policy.js", include_str!("../../../templates/js/policy.js")),
    ("postern.js", include_str!("../../../templates/js/postern.js")),
    ("build.mjs", include_str!("../../../templates/js/build.mjs")),
    (".gitignore", "node_modules/\n*.wasm\n"),
];

const PYTHON: [File; 3] = [
    ("policy.py", include_str!("../../../templates/python/policy.py")),
    ("postern.py", include_str!("../../../templates/python/postern.py")),
    (".gitignore", ".venv/\n__pycache__/\n*.wasm\n"),
];

/// What C and Zig share: the contract in C, and what stands between it and a policy.
const C_SHARED: [File; 4] = [
    ("postern.h", include_str!("../../../templates/c/postern.h")),
    ("postern.c", include_str!("../../../templates/c/postern.c")),
    ("policy_module.h", include_str!("../../../templates/c/policy_module.h")),
    ("policy_module.c", include_str!("../../../templates/c/policy_module.c")),
];
/// The types of the contract, for the linker.
pub(super) const C_TYPES: &[u8] = include_bytes!("../../../templates/c/policy_module_component_type.o");

const C: [File; 2] = [("policy.c", include_str!("../../../templates/c/policy.c")), (".gitignore", ".venv/\n*.wasm\n*.debug\n")];
const ZIG: [File; 2] = [
    ("policy.zig", include_str!("../../../templates/zig/policy.zig")),
    (".gitignore", ".venv/\n.zig-cache/\npostern.zig\n*.wasm\n*.debug\n"),
];

const GO: [File; 8] = [
    ("go.mod", include_str!("../../../templates/go/go.mod.txt")),
    ("policy.go", include_str!("../../../templates/go/policy.go")),
    ("policy_test.go", include_str!("../../../templates/go/policy_test.go")),
    ("postern/postern.go", include_str!("../../../templates/go/postern/postern.go")),
    ("postern/policy.go", include_str!("../../../templates/go/postern/policy.go")),
    ("postern/abi_wasip1.go", include_str!("../../../templates/go/postern/abi_wasip1.go")),
    ("postern/native.go", include_str!("../../../templates/go/postern/native.go")),
    (".gitignore", "*.wasm\n"),
];

impl New {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty()
            || self.name.len() > 63
            || !self.name.chars().all(fits)
            || !self.name.starts_with(|c: char| c.is_ascii_lowercase())
        {
            bail!("{:?} is no name for a policy: write lower-case letters, digits and dashes, beginning with a letter", self.name);
        }
        let folder = self.directory.join(&self.name);
        std::fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let own: &[File] = match self.lang {
            Language::Rust => &RUST,
            Language::Js => &JS,
            Language::Python => &PYTHON,
            Language::C => &C,
            Language::Zig => &ZIG,
            Language::Go => &GO,
        };
        let is_c = matches!(self.lang, Language::C | Language::Zig);
        for (path, text) in own.iter().chain([&WIT, &CASES]).chain(C_SHARED.iter().filter(|_| is_c)) {
            write(&folder, path, text.replace("policy-name", &self.name).as_bytes())?;
        }
        write(&folder, "cases.schema.json", CaseFile::schema().as_bytes())?;
        if is_c {
            write(&folder, "policy_module_component_type.o", C_TYPES)?;
        }
        let at = folder.display();
        say!("made {at}. What comes next:");
        say!("  postern policy test {at}     builds it and tries cases.yaml");
        say!("  postern policy build {at}    builds {at}/{}.wasm: put that into a gateway's policy directory", self.name);
        Ok(())
    }
}

fn write(folder: &Path, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let file = folder.join(path);
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))
}
