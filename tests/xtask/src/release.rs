//! The gateway as it is shipped: built once to count how often each of its functions runs while it serves, and which way it goes, and once more with what
//! was counted, so that what a request passes through lies together and what is rare lies apart.
//!
//! Its libraries are built anew as well, in a folder of their own: a request spends as much in them as in the gateway.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use testbed::cache;

use crate::build::{cargo, run_bench, run_end_to_end, step};

/// What it does most, and counts while it does.
const WORK: [&str; 9] =
    ["get-pod", "create-configmap", "list-secrets", "exec", "watch", "watch-masked", "exec-throughput", "logs-follow", "--rounds=1"];
/// What shows the rest of it, so that nothing that is used passes for rare.
const TESTS: [&str; 5] = ["encodings::", "writes::", "watches::", "streams::text_masks", "streams::port_forward"];

/// Builds it, and prints where it is.
pub(crate) fn run(profile: Option<PathBuf>, serves_only: bool) -> anyhow::Result<()> {
    let place = cache().join("release");
    std::fs::create_dir_all(&place)?;
    let profile = match profile {
        Some(profile) => profile,
        None => count(&place)?,
    };
    // Cargo knows flags, and nothing of what is in a file they name: another profile has another name.
    let bytes = std::fs::read(&profile).with_context(|| format!("cannot read {}", profile.display()))?;
    let mut hash = DefaultHasher::new();
    bytes.hash(&mut hash);
    let named = place.join(format!("target/{:016x}.profdata", hash.finish()));
    std::fs::create_dir_all(place.join("target"))?;
    std::fs::write(&named, bytes)?;
    // What was not used while it was counted is no mistake.
    let flags = format!("-Cprofile-use={} -Cllvm-args=-no-pgo-warn-mismatch", named.display());
    let (features, name) = if serves_only { (&["--no-default-features"][..], "postern-gateway") } else { (&[][..], "postern") };
    let program = compile(&place, "shipped", &flags, features)?;
    let shipped = place.join(name);
    replace(&program, &shipped)?;
    println!("{}", shipped.display());
    Ok(())
}

/// Has a gateway count while it works.
fn count(place: &Path) -> anyhow::Result<PathBuf> {
    let merge = profdata()?;
    let (counts, profile, counting) = (place.join("counts"), place.join("postern.profdata"), place.join("postern-counting"));
    replace(&compile(place, "counting", "-Cprofile-generate", &[])?, &counting)?;
    if counts.exists() {
        std::fs::remove_dir_all(&counts)?;
    }
    std::fs::create_dir_all(&counts)?;
    // A file for each process.
    let environment = [("LLVM_PROFILE_FILE", counts.join("%p.profraw"))];
    let mut work = WORK.map(str::to_owned).to_vec();
    work.push(format!("--against={}", counting.display()));
    run_bench(&work, &environment)?;
    run_end_to_end(&counting, &TESTS, &environment)?;
    let mut merging = Command::new(merge);
    merging.args(["merge", "-sparse", "-o"]).arg(&profile).arg(&counts);
    step("the profile", merging)?;
    Ok(profile)
}

/// Compiles the gateway and its libraries with further flags. What is compiled to be run by the compiler has none of them: a target is named.
fn compile(place: &Path, name: &str, flags: &str, features: &[&str]) -> anyhow::Result<PathBuf> {
    let host = said_by_rustc("host-tuple")?;
    let mut build = cargo();
    build.env("CARGO_TARGET_DIR", place.join("target")).env("RUSTFLAGS", flags);
    build.args(["build", "--release", "--locked", "-p", "postern-host", "--bin", "postern", "--target", &host]).args(features);
    step(&format!("the gateway, {name}"), build)?;
    Ok(place.join("target").join(host).join("release/postern"))
}

/// Puts a copy where there may be an older one that runs.
fn replace(program: &Path, at: &Path) -> anyhow::Result<()> {
    let partial = at.with_extension("partial");
    std::fs::copy(program, &partial).with_context(|| format!("cannot copy {}", program.display()))?;
    Ok(std::fs::rename(partial, at)?)
}

/// The program that merges what was counted: it must be that of the compiler's own LLVM.
fn profdata() -> anyhow::Result<PathBuf> {
    let program = PathBuf::from(said_by_rustc("target-libdir")?).with_file_name("bin").join("llvm-profdata");
    if !program.exists() {
        bail!("{} is needed and not there: rustup component add llvm-tools", program.display());
    }
    Ok(program)
}

fn said_by_rustc(what: &str) -> anyhow::Result<String> {
    let output = Command::new("rustc").args(["--print", what]).output().context("rustc is needed and not there")?;
    if !output.status.success() {
        bail!("rustc --print {what}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
