//! `postern policy list`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::super::remote::Remote;
use super::super::table::{self, printable};
use crate::api::{Policies, PolicyDirectory};
use crate::cli::listing::{Form, Heads, Listed, Output};
use crate::cli::terminal::say;
use crate::config::Config;
use crate::policy::grants::Capability;
use crate::policy::report::{Line, PolicyReport, PolicyState};
use crate::policy::{Locked, PolicyFile, Remembering};

/// How often it is looked whether what is waited for is there.
const LOOK: Duration = Duration::from_millis(200);
/// A directory that was changed is read after this long at the latest: what is told of it before is told of what was there.
const SETTLED: Duration = Duration::from_millis(1500);

/// The same at a gateway.
pub(super) fn list_of(remote: &Remote, wait: Option<u64>, output: Output) -> anyhow::Result<()> {
    let mut policies: Policies = remote.get("/postern/v1/policies", &[])?;
    if wait.is_some() {
        // What was put there a moment ago is taken up by then, or compiled.
        std::thread::sleep(SETTLED);
    }
    waited(wait, || {
        policies = remote.get("/postern/v1/policies", &[])?;
        Ok(policies.directories.iter().find_map(|directory| compiling(&directory.report)))
    })?;
    if output.whole(&policies)? {
        return Ok(());
    }
    for PolicyDirectory { cluster, report } in policies.directories {
        if let Some(cluster) = cluster.filter(|_| output.is_for_people()) {
            say!("of the cluster {}:", printable(&cluster));
        }
        show(&report, output)?;
    }
    Ok(())
}

pub(super) fn list(config: &Config, cluster: Option<&str>, wait: Option<u64>, output: Output) -> anyhow::Result<()> {
    let (policies, data) = config.policies_of(cluster)?;
    let file = PolicyReport::file(&data);
    let read = || {
        PolicyReport::read(&file)?.with_context(|| {
            format!("{} is not there: the gateway of this configuration does not run, or has no policies.directory", file.display())
        })
    };
    waited(wait, || match &policies.directory {
        Some(directory) => lacking(&read()?, directory),
        None => Ok(None),
    })?;
    let report = read()?;
    if output.whole(&report)? {
        return Ok(());
    }
    show(&report, output)
}

/// Waits as long as is said for what lacks not to lack any more.
fn waited(seconds: Option<u64>, mut lacks: impl FnMut() -> anyhow::Result<Option<String>>) -> anyhow::Result<()> {
    let Some(seconds) = seconds else { return Ok(()) };
    let began = Instant::now();
    while let Some(why) = lacks()? {
        if began.elapsed() >= Duration::from_secs(seconds) {
            bail!("after {seconds} seconds {why}");
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// What is being compiled, in words.
fn compiling(report: &PolicyReport) -> Option<String> {
    let line = report.policies.iter().find(|line| line.state == PolicyState::Compiling)?;
    let since = line.compiling_since.as_deref().unwrap_or_default();
    Some(format!("{} is still being compiled, since {}", printable(&line.name), printable(since)))
}

/// What is in a directory and neither in force nor known not to load, or the other way round.
fn lacking(report: &PolicyReport, directory: &Path) -> anyhow::Result<Option<String>> {
    if let Some(why) = compiling(report) {
        return Ok(Some(why));
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let path = entry?.path();
        let is_policy = path.extension().is_some_and(|end| end == "wasm" || end == "yaml");
        let Some(name) = path.file_stem().and_then(|name| name.to_str()).filter(|name| is_policy && !name.starts_with('.')) else {
            continue;
        };
        names.push(name.to_owned());
        let line = report.policies.iter().find(|line| line.name == name);
        let is_told = match line {
            Some(line) if line.error.is_none() => line.locked.as_ref().is_some_and(|locked| is_there(locked, &path)),
            // Why it does not load is told of what was read last.
            Some(_) => path.metadata()?.modified()?.elapsed().unwrap_or_default() > SETTLED,
            None => false,
        };
        if !is_told {
            return Ok(Some(format!("the gateway has not taken up {}", printable(name))));
        }
    }
    let serves = report.policies.iter().find(|line| line.state == PolicyState::Serving && !names.contains(&line.name));
    Ok(serves.map(|line| format!("the gateway has not noticed that {} is gone", printable(&line.name))))
}

/// Whether what is in force is what lies in the directory. A module that comes from elsewhere is told by the file that names it.
fn is_there(locked: &Locked, path: &Path) -> bool {
    let Ok(text) = PolicyFile::text_beside(path) else { return false };
    match std::fs::read(path.with_extension("wasm")) {
        Ok(module) => Locked::new(&locked.name, &module, &text) == *locked,
        Err(_) => Locked::new(&locked.name, b"", &text).file == locked.file,
    }
}

fn show(report: &PolicyReport, output: Output) -> anyhow::Result<()> {
    if output.is_for_people() {
        let bundle = if output.form() == Form::Wide { report.bundle.clone() } else { table::short(&report.bundle) };
        say!("as the gateway told at {}; all together {bundle}", report.time);
    }
    print(&report.policies, output)?;
    if let Some(missing) = report.missing.first().filter(|_| output.is_for_people()) {
        say!("nothing passes: the required policy {missing} is missing or broken");
    }
    Ok(())
}

/// What is told of each policy.
const COLUMNS: [&str; 9] = ["NAME", "STATE", "VERSION", "MODE", "CALLS", "MASK", "BLOCK", "FAILED", "SUMMARY"];
const MORE_COLUMNS: [&str; 7] = ["MODULE", "SIGNER", "ON-FAILURE", "SEES", "APPROVAL", "REMEMBERED", "P99"];

/// Lists policies; below them why some do not load.
pub(super) fn print(lines: &[Line], output: Output) -> anyhow::Result<()> {
    let items = lines.iter().map(listed).collect::<anyhow::Result<Vec<_>>>()?;
    output.list(&Heads(&COLUMNS, &MORE_COLUMNS), &items)?;
    for line in lines.iter().filter(|_| output.is_for_people()) {
        if let Some(since) = &line.compiling_since {
            say!("{} is being compiled since {}", line.name, printable(since));
        } else if let Some(error) = &line.error {
            say!("{} does not load: {}", line.name, printable(error));
        }
        if line.remember == Remembering::NotDeterministic {
            say!("{} is not deterministic: it said two things of the same answers, and nothing of it is remembered", line.name);
        }
    }
    Ok(())
}

fn listed(line: &Line) -> anyhow::Result<Listed> {
    let counts = &line.counts;
    let [calls, mask, block, approval, failed] =
        [counts.calls, counts.mask, counts.block + counts.terminate, counts.require_approval, counts.failed].map(|count| count.to_string());
    let mode = format!("{:?}", line.mode).to_lowercase();
    Ok(Listed {
        name: line.name.clone(),
        whole: serde_json::to_value(line)?,
        cells: vec![
            line.name.clone(),
            line.state.name().to_owned(),
            line.version.clone(),
            mode,
            calls,
            mask,
            block,
            failed,
            line.summary.clone(),
        ],
        wide: vec![
            table::short(&line.digest),
            line.signer.clone().unwrap_or_else(|| "-".to_owned()),
            format!("{:?}", line.on_failure).to_lowercase(),
            sees(&line.granted),
            approval,
            remembered(line),
            duration(line.counts.p99),
        ],
    })
}

/// How many of a hundred calls of on-request were answered from memory, or why none are.
fn remembered(line: &Line) -> String {
    match line.remember {
        Remembering::On | Remembering::PerCaller => {
            (line.counts.remembered * 100).checked_div(line.counts.requests).map_or_else(|| "-".into(), |percent| format!("{percent}%"))
        }
        Remembering::Off => "off".into(),
        Remembering::Contract => "contract".into(),
        Remembering::NotDeterministic => "never".into(),
    }
}

/// What a policy may see and do, in a word or two.
pub(super) fn sees(granted: &[Capability]) -> String {
    match granted {
        [] => "metadata".into(),
        some => some.iter().map(|capability| capability.name()).collect::<Vec<_>>().join(","),
    }
}

/// Nanoseconds in the unit that fits.
pub(super) fn duration(nanoseconds: u64) -> String {
    match nanoseconds {
        0 => "-".into(),
        1..10_000_000 => format!("{:.1}us", nanoseconds as f64 / 1e3),
        _ => format!("{:.1}ms", nanoseconds as f64 / 1e6),
    }
}
