//! `postern policy list`.

use anyhow::bail;

use super::super::remote::Remote;
use super::super::table::{self, printable, row};
use crate::api::{Policies, PolicyDirectory};
use crate::cli::terminal::say;
use crate::config::Config;
use crate::policy::grants::Capability;
use crate::policy::report::{Line, PolicyReport};

/// The same at a gateway.
pub(super) fn list_of(remote: &Remote, as_json: bool) -> anyhow::Result<()> {
    let policies: Policies = remote.get("/postern/v1/policies", &[])?;
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

pub(super) fn list(config: &Config, cluster: Option<&str>, as_json: bool) -> anyhow::Result<()> {
    let file = PolicyReport::file(&config.policies_of(cluster)?.1);
    let Some(report) = PolicyReport::read(&file)? else {
        bail!("{} is not there: the gateway of this configuration does not run, or has no policies.directory", file.display());
    };
    if as_json {
        say!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    show(&report);
    Ok(())
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
        let digest = line.digest.trim_start_matches("sha256:").get(..12).unwrap_or_default();
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
            digest,
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
        if let Some(error) = &line.error {
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
