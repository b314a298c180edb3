//! `postern policy list`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::super::remote::Remote;
use super::super::table::{self, printable, row};
use crate::api::{Policies, PolicyDirectory};
use crate::cli::terminal::say;
use crate::config::Config;
use crate::policy::grants::Capability;
use crate::policy::report::{Line, PolicyReport, PolicyState};
use crate::policy::{Locked, PolicyFile};

/// How often it is looked whether what is waited for is there.
const LOOK: Duration = Duration::from_millis(200);
/// A directory that was changed is read after this long at the latest: what is told of it before is told of what was there.
const SETTLED: Duration = Duration::from_millis(1500);

/// The same at a gateway.
pub(super) fn list_of(remote: &Remote, wait: Option<u64>, as_json: bool) -> anyhow::Result<()> {
    let mut policies: Policies = remote.get("/postern/v1/policies", &[])?;
    if wait.is_some() {
        // What was put there a moment ago is taken up by then, or compiled.
        std::thread::sleep(SETTLED);
    }
    waited(wait, || {
        policies = remote.get("/postern/v1/policies", &[])?;
        Ok(policies.directories.iter().find_map(|directory| compiling(&directory.report)))
    })?;
    if as_json {
        say!("{}", serde_json::to_string_pretty(&policies)?);
        return Ok(());
    }
    for PolicyDirectory { cluster, report } in policies.directories {
        if let Some(cluster) = cluster {
            say!("of the cluster {}:", printable(&cluster));
        }
        show(&report);
    }
    Ok(())
}

pub(super) fn list(config: &Config, cluster: Option<&str>, wait: Option<u64>, as_json: bool) -> anyhow::Result<()> {
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
    if as_json {
        say!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    show(&report);
    Ok(())
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

fn show(report: &PolicyReport) {
    say!("as the gateway told at {}; all together {}", report.time, report.bundle);
    print(&report.policies);
    if let Some(missing) = report.missing.first() {
        say!("nothing passes: the required policy {missing} is missing or broken");
    }
}

/// A table of policies; below it why some do not load.
pub(super) fn print(lines: &[Line]) {
    let mut rows = vec![row([
        "NAME",
        "STATE",
        "VERSION",
        "DIGEST",
        "SIGNER",
        "MODE",
        "ON-FAILURE",
        "SEES",
        "CALLS",
        "MASK",
        "BLOCK",
        "APPROVAL",
        "FAILED",
        "P99",
        "SUMMARY",
    ])];
    for line in lines {
        let (mode, on_failure) = (format!("{:?}", line.mode).to_lowercase(), format!("{:?}", line.on_failure).to_lowercase());
        let digest = table::short(&line.digest);
        let [calls, mask, block, approval, failed] = [
            line.counts.calls,
            line.counts.mask,
            line.counts.block + line.counts.terminate,
            line.counts.require_approval,
            line.counts.failed,
        ]
        .map(|count| count.to_string());
        let signer = line.signer.as_deref().unwrap_or("-");
        rows.push(row([
            &line.name,
            line.state.name(),
            &line.version,
            &digest,
            signer,
            &mode,
            &on_failure,
            &sees(&line.granted),
            &calls,
            &mask,
            &block,
            &approval,
            &failed,
            &duration(line.counts.p99),
            &line.summary,
        ]));
    }
    table::print(&rows);
    for line in lines {
        if let Some(since) = &line.compiling_since {
            say!("{} is being compiled since {}", line.name, printable(since));
        } else if let Some(error) = &line.error {
            say!("{} does not load: {}", line.name, printable(error));
        }
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
