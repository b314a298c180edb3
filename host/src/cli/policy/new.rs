//! `postern policy new`: a folder with a policy that builds, tests and loads.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use super::build::Language;
use crate::cli::terminal::say;
use crate::rehearse::cases::CaseFile;

/// Makes a folder with a policy: its source, cases, settings, a page about it, and a CI workflow.
#[derive(Args)]
#[command(after_help = "Examples:
  postern policy new who-deletes --lang go
  postern policy new mask-db --lang python --template secrets")]
pub struct New {
    /// The policy's name, and the folder's.
    name: String,
    /// What it is written in.
    #[arg(long, default_value = "rust")]
    lang: Language,
    /// What it is about, to begin with.
    #[arg(long, default_value = "deletes")]
    template: Template,
    /// Where the folder is made.
    #[arg(long, default_value = ".")]
    directory: PathBuf,
}

/// What a new policy is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Template {
    /// Says who may delete: a verdict by who asks.
    Deletes,
    /// Hides the values of Secrets: masks.
    Secrets,
    /// Says which commands run in containers: approvals, and what containers write.
    Exec,
    /// Limits how many changes a caller makes: counters.
    Limits,
    /// Has each team see its own objects: bodies, and objects that come back.
    Objects,
}

/// A file of a template, by its path in the folder.
type File = (&'static str, &'static str);

/// The contract that the libraries are built for; Rust's has it where the repository has it.
const WIT: File = ("wit/policy.wit", include_str!("../../../../wit/0.2/policy.wit"));
const WIT_OF_RUST: File = ("wit/0.2/policy.wit", WIT.1);

const RUST: [File; 12] = [
    ("Cargo.toml", include_str!("../../../templates/rust/Cargo.toml.txt")),
    ("sdk/Cargo.toml", include_str!("../../../templates/rust/sdk.Cargo.toml.txt")),
    ("sdk/src/lib.rs", include_str!("../../../../policy-sdk/src/lib.rs")),
    ("sdk/src/document.rs", include_str!("../../../../policy-sdk/src/document.rs")),
    ("sdk/src/guest.rs", include_str!("../../../../policy-sdk/src/guest.rs")),
    ("sdk/src/kit.rs", include_str!("../../../../policy-sdk/src/kit.rs")),
    ("sdk/src/output.rs", include_str!("../../../../policy-sdk/src/output.rs")),
    ("sdk/src/request.rs", include_str!("../../../../policy-sdk/src/request.rs")),
    ("sdk/src/review.rs", include_str!("../../../../policy-sdk/src/review.rs")),
    ("sdk/src/shapes.rs", include_str!("../../../../policy-sdk/src/shapes.rs")),
    ("sdk/src/verdict.rs", include_str!("../../../../policy-sdk/src/verdict.rs")),
    (".gitignore", "target/\n*.wasm\n"),
];

const JS: [File; 4] = [
    ("package.json", include_str!("../../../templates/js/package.json")),
    ("postern.js", include_str!("../../../templates/js/postern.js")),
    ("build.mjs", include_str!("../../../templates/js/build.mjs")),
    (".gitignore", "node_modules/\n*.wasm\n"),
];

const PYTHON: [File; 2] =
    [("postern.py", include_str!("../../../templates/python/postern.py")), (".gitignore", ".venv/\n__pycache__/\n*.wasm\n")];

/// What C and Zig share: the contract in C, and what stands between it and a policy.
const C_SHARED: [File; 4] = [
    ("postern.h", include_str!("../../../templates/c/postern.h")),
    ("postern.c", include_str!("../../../templates/c/postern.c")),
    ("policy_module.h", include_str!("../../../templates/c/policy_module.h")),
    ("policy_module.c", include_str!("../../../templates/c/policy_module.c")),
];
/// The types of the contract, for the linker.
pub(super) const C_TYPES: &[u8] = include_bytes!("../../../templates/c/policy_module_component_type.o");

const C: [File; 1] = [(".gitignore", ".venv/\n*.wasm\n*.debug\n")];
const ZIG: [File; 1] = [(".gitignore", ".venv/\n.zig-cache/\npostern.zig\n*.wasm\n*.debug\n")];

const GO: [File; 6] = [
    ("go.mod", include_str!("../../../templates/go/go.mod.txt")),
    ("postern/postern.go", include_str!("../../../templates/go/postern/postern.go")),
    ("postern/policy.go", include_str!("../../../templates/go/postern/policy.go")),
    ("postern/abi_wasip1.go", include_str!("../../../templates/go/postern/abi_wasip1.go")),
    ("postern/native.go", include_str!("../../../templates/go/postern/native.go")),
    (".gitignore", "*.wasm\n"),
];

/// What stands in one folder for each template.
macro_rules! each_template {
    ($template:expr, $before:literal, $after:literal) => {
        match $template {
            Template::Deletes => include_str!(concat!("../../../templates/", $before, "deletes", $after)),
            Template::Secrets => include_str!(concat!("../../../templates/", $before, "secrets", $after)),
            Template::Exec => include_str!(concat!("../../../templates/", $before, "exec", $after)),
            Template::Limits => include_str!(concat!("../../../templates/", $before, "limits", $after)),
            Template::Objects => include_str!(concat!("../../../templates/", $before, "objects", $after)),
        }
    };
}

/// How a policy in one language begins.
struct Beginning {
    /// What is the same for each template.
    shared: Vec<File>,
    /// What is of this one.
    own: Vec<File>,
    /// How it is tried without WebAssembly; nothing where it is not.
    native: &'static str,
    /// What a CI job sets up, as steps of a workflow.
    setup: &'static str,
}

const C_SETUP: &str =
    "    - uses: actions/setup-python@v5 # Zig, which compiles it, comes as a Python package\n      with: {python-version: '3.12'}";

impl Language {
    /// The contract that its library is built for.
    fn contract(self) -> File {
        if self == Self::Rust { WIT_OF_RUST } else { WIT }
    }

    fn beginning(self, template: Template) -> Beginning {
        let with_c = |own: &[File]| own.iter().chain(&C_SHARED).copied().collect();
        match self {
            Self::Rust => Beginning {
                shared: RUST.into(),
                own: vec![("src/lib.rs", each_template!(template, "rust/", ".rs"))],
                native: "cargo test",
                setup: "    - run: rustup target add wasm32-unknown-unknown",
            },
            Self::Js => Beginning {
                shared: JS.into(),
                own: vec![("policy.js", each_template!(template, "js/", ".js"))],
                native: "",
                setup: "    - uses: actions/setup-node@v4\n      with: {node-version: '22'}",
            },
            Self::Python => Beginning {
                shared: PYTHON.into(),
                own: vec![("policy.py", each_template!(template, "python/", ".py"))],
                native: "",
                setup: "    - uses: actions/setup-python@v5\n      with: {python-version: '3.12'}",
            },
            Self::C => {
                Beginning { shared: with_c(&C), own: vec![("policy.c", each_template!(template, "c/", ".c"))], native: "", setup: C_SETUP }
            }
            Self::Zig => Beginning {
                shared: with_c(&ZIG),
                own: vec![("policy.zig", each_template!(template, "zig/", ".zig"))],
                native: "",
                setup: C_SETUP,
            },
            Self::Go => Beginning {
                shared: GO.into(),
                own: vec![
                    ("policy.go", each_template!(template, "go/", ".go")),
                    ("policy_test.go", each_template!(template, "go/", "_test.go")),
                ],
                native: "go test ./...",
                setup: "    - uses: actions/setup-go@v5\n      with: {go-version: '1.24'}",
            },
        }
    }
}

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
        let begins = self.lang.beginning(self.template);
        let source = begins.own[0].0;
        let native = match begins.native {
            "" => String::new(),
            command => format!("\nWhat it says can be tried without WebAssembly too: `{command}`.\n\n"),
        };
        let page =
            include_str!("../../../templates/about/folder.md").replace("policy-native\n", if native.is_empty() { "\n" } else { &native });
        let page = format!("{}{}", each_template!(self.template, "about/", ".md"), page).replace("policy-source", source);
        let workflow = include_str!("../../../templates/about/policy.yml").replace("policy-setup", begins.setup);
        let made: [(&str, &str); 6] = [
            self.lang.contract(),
            ("cases.yaml", each_template!(self.template, "about/", ".cases.yaml")),
            ("cases.schema.json", &CaseFile::schema()),
            (&format!("{}.yaml", self.name), each_template!(self.template, "about/", ".yaml")),
            ("README.md", &page),
            (".github/workflows/policy.yml", &workflow),
        ];
        for (path, text) in begins.shared.iter().chain(&begins.own).chain(&made) {
            write(&folder, path, text.replace("policy-name", &self.name).as_bytes())?;
        }
        if matches!(self.lang, Language::C | Language::Zig) {
            write(&folder, "policy_module_component_type.o", C_TYPES)?;
        }
        let at = folder.display();
        say!("made {at}: {source} says it, README.md what it is. What comes next:");
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
