//! Fuzzing by libFuzzer, on a stable toolchain: only the project's own crates are instrumented, so that nothing else is built again.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use testbed::cache;

use crate::build::{cargo, forget_another_clone, require, root, step};

/// What rustc is told for each crate of the workspace: libFuzzer's counters, and what a debug build would check.
const INSTRUMENTED: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks";
/// An input that takes longer, or more memory, is a finding.
const LIMITS: [&str; 4] = ["-timeout=10", "-rss_limit_mb=2048", "-max_len=4096", "-print_final_stats=1"];

/// Runs targets, all when none is named, each for some seconds, from what is stored and what earlier runs found. `keep` then stores what
/// reaches new code.
pub(crate) fn run(targets: &[String], seconds: u64, keep: bool) -> anyhow::Result<()> {
    let program = build()?;
    let all = Corpus::all()?;
    if let Some(unknown) = targets.iter().find(|target| !all.iter().any(|corpus| corpus.target == **target)) {
        bail!("there is no target {unknown}; there are {}", all.iter().map(|c| c.target.as_str()).collect::<Vec<_>>().join(", "));
    }
    let mut failed = Vec::new();
    for corpus in all.iter().filter(|corpus| targets.is_empty() || targets.contains(&corpus.target)) {
        corpus.unpack()?;
        match fuzz(&program, corpus, seconds)? {
            Ok(line) => println!("fuzz {}: {line}", corpus.target),
            Err(why) => failed.push(why),
        }
        if keep {
            merge(&program, corpus)?;
        }
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("\n\n"));
    }
    Ok(())
}

/// The inputs of a target.
struct Corpus {
    target: String,
    /// The stored ones, a line of base64 each.
    file: PathBuf,
    /// The stored ones, a file each, as libFuzzer reads them.
    stored: PathBuf,
    /// What runs on this machine found.
    found: PathBuf,
}

impl Corpus {
    fn all() -> anyhow::Result<Vec<Self>> {
        let directory = root().join("fuzz/corpus");
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))? {
            let file = entry?.path();
            let target = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let place = cache().join("fuzz").join(&target);
            all.push(Self { target, file, stored: place.join("stored"), found: place.join("found") });
        }
        all.sort_by(|a, b| a.target.cmp(&b.target));
        Ok(all)
    }

    fn unpack(&self) -> anyhow::Result<()> {
        let _ = std::fs::remove_dir_all(&self.stored);
        std::fs::create_dir_all(&self.stored)?;
        std::fs::create_dir_all(&self.found)?;
        for (number, line) in std::fs::read_to_string(&self.file)?.lines().enumerate() {
            let input = STANDARD.decode(line).with_context(|| format!("{}, line {}", self.file.display(), number + 1))?;
            std::fs::write(self.stored.join(number.to_string()), input)?;
        }
        Ok(())
    }

    fn pack(&self) -> anyhow::Result<()> {
        let mut lines = BTreeSet::new();
        for entry in std::fs::read_dir(&self.stored)? {
            let line = STANDARD.encode(std::fs::read(entry?.path())?);
            lines.insert((line.len(), line));
        }
        let text: String = lines.into_iter().map(|(_, line)| line + "\n").collect();
        Ok(std::fs::write(&self.file, text)?)
    }
}

fn build() -> anyhow::Result<PathBuf> {
    forget_another_clone()?;
    require("g++", "libFuzzer is C++: apt-get install g++")?;
    let wrapper = cache().join("fuzz/rustc");
    std::fs::create_dir_all(cache().join("fuzz"))?;
    std::fs::write(&wrapper, format!("#!/bin/sh\nexec \"$@\" {INSTRUMENTED}\n"))?;
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755))?;
    let mut command = cargo();
    command.env("RUSTC_WORKSPACE_WRAPPER", &wrapper);
    command.args(["build", "--release", "--locked", "-p", "fuzz", "--features", "libfuzzer", "--bin", "fuzz"]);
    step("the fuzz targets", command)?;
    Ok(cache().join("target/release/fuzz"))
}

/// One target for some seconds: libFuzzer's last words, or how the finding is seen again.
fn fuzz(program: &Path, corpus: &Corpus, seconds: u64) -> anyhow::Result<Result<String, String>> {
    let target = &corpus.target;
    let findings = cache().join("fuzz").join(format!("finding-{target}-"));
    let output = of(program, target)
        .args(LIMITS)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}", findings.display()))
        .args([&corpus.found, &corpus.stored])
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let stat = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().last().map(str::to_owned));
    if output.status.success() {
        let runs = stat("stat::number_of_executed_units:").unwrap_or_default();
        return Ok(Ok(format!("{runs} inputs in {seconds} s, {} new", stat("stat::new_units_added:").unwrap_or_default())));
    }
    let file = text.lines().find_map(|line| line.split("Test unit written to ").nth(1)).unwrap_or("(none was written)");
    let noise = ["#", "stat::", "INFO:", "WARNING:", "NOTE:", "MS:", "artifact_prefix", "\t", " "];
    let lines = text.lines().filter(|line| !noise.iter().any(|noise| line.starts_with(noise)));
    let shown = lines.take(20).collect::<Vec<_>>().join("\n");
    let again = format!("POSTERN_FUZZ_TARGET={target} {} {file}", program.display());
    Ok(Err(format!("the target {target} found an input for which its property does not hold:\n{shown}\nsee it again: {again}")))
}

/// Stores what reaches code that nothing stored reaches.
fn merge(program: &Path, corpus: &Corpus) -> anyhow::Result<()> {
    let mut merge = of(program, &corpus.target);
    merge.args(["-set_cover_merge=1", "-use_counters=0"]).args([&corpus.stored, &corpus.found]).stderr(Stdio::null());
    if !merge.status()?.success() {
        bail!("what was found for {} cannot be merged", corpus.target);
    }
    corpus.pack()
}

fn of(program: &Path, target: &str) -> Command {
    let mut command = Command::new(program);
    command.env("POSTERN_FUZZ_TARGET", target).stdin(Stdio::null()).stdout(Stdio::null());
    command
}
