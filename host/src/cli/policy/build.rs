//! `postern policy build`: a policy's folder becomes a module, with the toolchain that is there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::cli::program;
use crate::cli::terminal::say;

/// What a folder is written in, by a file that is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// `Cargo.toml`.
    Rust,
    /// `package.json`.
    Js,
    /// `policy.py`.
    Python,
    /// `policy.c`.
    C,
    /// `policy.zig`.
    Zig,
    /// `go.mod`.
    Go,
}

/// Bytes of a C or Zig policy's stack: Zig's own default of 16 MiB would be memory of every instance.
const STACK: &str = "131072";
/// A tool that takes longer is told of.
const SILENT: Duration = Duration::from_secs(2);
const WASM: &str = "wasm32-unknown-unknown";
/// The version of componentize-py that the templates were tried with.
const COMPONENTIZE_PY: &str = "componentize-py==0.25.1";
/// The version of Zig, as the Python package has it.
const ZIGLANG: &str = "ziglang==0.17.1";

impl Language {
    fn of(directory: &Path) -> anyhow::Result<Self> {
        let marks = [
            ("Cargo.toml", Self::Rust),
            ("package.json", Self::Js),
            ("policy.py", Self::Python),
            ("policy.c", Self::C),
            ("policy.zig", Self::Zig),
            ("go.mod", Self::Go),
        ];
        let found = marks.iter().find(|(file, _)| directory.join(file).is_file());
        found.map(|(_, language)| *language).with_context(|| {
            let names: Vec<&str> = marks.iter().map(|(file, _)| *file).collect();
            format!(
                "{} holds no policy: none of {} is in it; `postern policy new NAME --lang rust` makes one",
                directory.display(),
                names.join(", ")
            )
        })
    }
}

/// Builds a folder, and says where the module is.
pub(super) fn build_and_tell(directory: &Path) -> anyhow::Result<()> {
    say!("built {}", build(directory)?.display());
    Ok(())
}

/// Builds a folder; gives back the module, `NAME.wasm` in the folder.
pub(super) fn build(directory: &Path) -> anyhow::Result<PathBuf> {
    let directory = directory.canonicalize().with_context(|| format!("cannot read {}", directory.display()))?;
    let name = directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_else(|| "policy".into());
    let out = directory.join(format!("{name}.wasm"));
    match Language::of(&directory)? {
        Language::Rust => rust(&directory, &out)?,
        Language::Js => js(&directory, &out)?,
        Language::Python => python(&directory, &out)?,
        Language::C | Language::Zig => zig(&directory, &out)?,
        Language::Go => go(&directory, &out)?,
    }
    Ok(out)
}

fn rust(directory: &Path, out: &Path) -> anyhow::Result<()> {
    let cargo = tool("cargo", "install Rust from https://rustup.rs")?;
    let mut build = rust_for_wasm(&cargo)?;
    // Where it is put is asked, not guessed: a workspace or the environment may say.
    build.current_dir(directory).args(["build", "--release", "--target", WASM, "--message-format", "json-render-diagnostics"]);
    let output = build.stderr(Stdio::inherit()).output().context("cargo cannot be run")?;
    if !output.status.success() {
        bail!("cargo did not build the policy; what it said is above");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let built = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .filter_map(|message| {
            message["filenames"].as_array()?.iter().filter_map(|name| name.as_str()).find(|name| name.ends_with(".wasm")).map(PathBuf::from)
        })
        .next_back();
    let built = built.context("cargo built no .wasm file: Cargo.toml needs [lib] crate-type = [\"cdylib\"]")?;
    std::fs::copy(&built, out).with_context(|| format!("cannot copy {} to {}", built.display(), out.display()))?;
    Ok(())
}

/// A cargo that builds for WebAssembly: rustup's, or Debian's packages where rustup cannot download.
fn rust_for_wasm(cargo: &Path) -> anyhow::Result<Command> {
    let installed = || {
        let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output();
        sysroot.is_ok_and(|o| Path::new(String::from_utf8_lossy(&o.stdout).trim()).join("lib/rustlib").join(WASM).exists())
    };
    let add = || Command::new("rustup").args(["target", "add", WASM]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if installed() || add().is_ok_and(|status| status.success()) && installed() {
        return Ok(Command::new(cargo));
    }
    if ["/usr/bin/cargo", "/usr/bin/rustc", "/usr/bin/wasm-ld-19", "/usr/lib/rustlib/src"].iter().all(|file| Path::new(file).exists()) {
        let mut command = Command::new("/usr/bin/cargo");
        command
            .env("PATH", format!("/usr/bin:{}", std::env::var("PATH").unwrap_or_default()))
            .env("RUSTC", "/usr/bin/rustc")
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld-19")
            .env_remove("RUSTUP_TOOLCHAIN")
            .arg("-Zbuild-std=std,panic_abort");
        return Ok(command);
    }
    bail!(
        "Rust cannot build for WebAssembly yet: run `rustup target add {WASM}`, or on Debian `apt-get install rustc-web cargo-web rust-web-src lld-19`"
    );
}

fn js(directory: &Path, out: &Path) -> anyhow::Result<()> {
    let node = tool("node", "install Node.js 20 or newer from https://nodejs.org")?;
    let has_it = |place: &Path| place.join("node_modules/@bytecodealliance/componentize-js").is_dir();
    if !directory.ancestors().any(has_it) {
        let tools = tools(directory)?;
        if !has_it(&tools) {
            let npm = tool("npm", "it comes with Node.js from https://nodejs.org")?;
            if tools != directory {
                std::fs::copy(directory.join("package.json"), tools.join("package.json"))?;
            }
            run(Command::new(npm).current_dir(&tools).args(["install", "--no-fund", "--no-audit", "--loglevel", "error"]), "npm install")?;
        }
        if tools != directory {
            std::os::unix::fs::symlink(tools.join("node_modules"), directory.join("node_modules"))
                .context("node_modules of the folder lacks componentize-js; remove it and build again")?;
        }
    }
    run(Command::new(node).current_dir(directory).arg("build.mjs").arg(out), "node build.mjs")
}

fn python(directory: &Path, out: &Path) -> anyhow::Result<()> {
    let componentize = match program::find("componentize-py") {
        Some(found) => found,
        None => environment(directory, COMPONENTIZE_PY)?.join("componentize-py"),
    };
    let mut build = Command::new(componentize);
    build.current_dir(directory).args(["-d", "wit", "-w", "policy-module", "componentize", "policy", "-o"]).arg(out);
    run(&mut build, "componentize-py")
}

/// The standard compiler makes a module for WASI, which lacks only what says that it is of the contract.
fn go(directory: &Path, out: &Path) -> anyhow::Result<()> {
    let go = tool("go", "install Go 1.24 or newer from https://go.dev/dl")?;
    let made = out.with_extension("partial");
    let mut build = Command::new(go);
    build.current_dir(directory).env("GOOS", "wasip1").env("GOARCH", "wasm").env("CGO_ENABLED", "0");
    // Where it was built is nobody's business, and what it is does not depend on it.
    run(build.args(["build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o"]).arg(&made).arg("."), "go build")?;
    let module = std::fs::read(&made).with_context(|| format!("cannot read {}", made.display()))?;
    let _ = std::fs::remove_file(&made);
    std::fs::write(out, of_contract(module)?).with_context(|| format!("cannot write {}", out.display()))
}

/// A module that says of which contract it is: with the types that the linker puts into modules in C.
fn of_contract(mut module: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    for payload in wasmparser::Parser::new(0).parse_all(super::new::C_TYPES) {
        if let wasmparser::Payload::CustomSection(section) = payload?
            && section.name().starts_with("component-type:")
        {
            let types = wasm_encoder::CustomSection { name: section.name().into(), data: section.data().into() };
            wasm_encoder::Section::append_to(&types, &mut module);
        }
    }
    Ok(module)
}

/// C and Zig are built by one compiler: Zig's has clang in it, and a libc for WebAssembly.
fn zig(directory: &Path, out: &Path) -> anyhow::Result<()> {
    let mut build = match program::find("zig") {
        Some(zig) => Command::new(zig),
        None => {
            let mut python = Command::new(environment(directory, ZIGLANG)?.join("python"));
            python.args(["-m", "ziglang"]);
            python
        }
    };
    build.current_dir(directory);
    let traced = traced(out);
    let target = ["-target", "wasm32-wasi"];
    if directory.join("policy.zig").is_file() {
        // Zig no longer reads C headers itself: they are translated before.
        let translated = output(again(&build).args(["translate-c", "-lc", "-I.", "postern.h"]).args(target), "zig translate-c")?;
        std::fs::write(directory.join("postern.zig"), translated)?;
        let emit = format!("-femit-bin={}", traced.display());
        build.args([
            "build-exe",
            "policy.zig",
            "-mexec-model=reactor",
            "-rdynamic",
            "-OReleaseSmall",
            "-fno-strip",
            "-lc",
            "-I.",
            "--stack",
            STACK,
            &emit,
        ]);
    } else {
        let stack = format!("-Wl,-z,stack-size={STACK}");
        build.args(["cc", "policy.c", "-mexec-model=reactor", "-Oz", "-g", "-UNDEBUG", "-Wall", "-Wextra", &stack, "-o"]).arg(&traced);
    }
    run(build.args(target).args(["postern.c", "policy_module.c", "policy_module_component_type.o"]), "zig")?;
    let module = std::fs::read(&traced).with_context(|| format!("cannot read {}", traced.display()))?;
    std::fs::write(out, without_lines(&module)?).with_context(|| format!("cannot write {}", out.display()))
}

/// The module beside another that says of which lines it was made: the same code, many times as large.
pub(super) fn traced(module: &Path) -> PathBuf {
    module.with_extension("debug")
}

/// A module without what it says of the lines it was made of (DWARF, as `wasm-ld` writes it).
fn without_lines(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut kept = wasm_encoder::Module::new();
    for payload in wasmparser::Parser::new(0).parse_all(module) {
        let payload = payload?;
        let is_of_lines = matches!(&payload, wasmparser::Payload::CustomSection(section) if section.name().starts_with(".debug"));
        if let Some((id, range)) = payload.as_section()
            && !is_of_lines
        {
            kept.section(&wasm_encoder::RawSection { id, data: &module[range] });
        }
    }
    Ok(kept.finish())
}

/// The same program with the same first arguments.
fn again(command: &Command) -> Command {
    let mut same = Command::new(command.get_program());
    same.args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        same.current_dir(directory);
    }
    same
}

/// Where what a toolchain consists of is installed: `POSTERN_TOOLS`, shared by all policies, or the policy's own folder.
fn tools(directory: &Path) -> anyhow::Result<PathBuf> {
    let Some(place) = std::env::var_os("POSTERN_TOOLS").filter(|place| !place.is_empty()) else { return Ok(directory.to_owned()) };
    std::fs::create_dir_all(&place)
        .and_then(|()| Path::new(&place).canonicalize())
        .with_context(|| format!("POSTERN_TOOLS: {}", Path::new(&place).display()))
}

/// A Python environment that has a package; where its programs are.
fn environment(directory: &Path, package: &str) -> anyhow::Result<PathBuf> {
    let place = tools(directory)?.join(".venv");
    let done = place.join(format!(".{}", package.replace('=', "-")));
    if !done.exists() {
        let python = tool("python3", "install Python 3.10 or newer from https://python.org, or on Debian `apt-get install python3-venv`")?;
        if !place.join("bin/python").exists() {
            run(Command::new(python).args(["-m", "venv"]).arg(&place), "python3 -m venv")?;
        }
        run(
            Command::new(place.join("bin/python")).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]),
            "pip install",
        )?;
        std::fs::write(&done, "")?;
    }
    Ok(place.join("bin"))
}

fn run(command: &mut Command, what: &str) -> anyhow::Result<()> {
    output(command, what).map(|_| ())
}

/// What a tool prints; when it fails all that it said is the error.
fn output(command: &mut Command, what: &str) -> anyhow::Result<Vec<u8>> {
    let (ends, ended) = mpsc::channel::<()>();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            if ended.recv_timeout(SILENT) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("{what} ... (the first time takes the longest)");
            }
        });
        let output = command.stdin(Stdio::null()).output();
        drop(ends);
        output
    });
    let output = output.with_context(|| format!("{what} cannot be run"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    bail!("{what} failed:\n{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

fn tool(name: &str, how: &str) -> anyhow::Result<PathBuf> {
    program::find(name).with_context(|| format!("{name} is needed to build this policy and is not there: {how}"))
}
