//! What runs, and on what.

use std::path::Path;

use anyhow::Context;
use rustix::fs::statvfs;
use serde_json::{Value, json};

use super::secrets::variables_of_holder;
use crate::config::Config;
use crate::policy::contract::SPOKEN;

/// The version that made the bundle, and for what it was built.
pub(super) fn version() -> String {
    super::pretty(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "os": std::env::consts::OS,
        "architecture": std::env::consts::ARCH,
        "contracts": SPOKEN,
    }))
}

/// The machine, what of it this user may use, and the room where the gateway writes.
pub(super) fn about(config: Option<&Config>) -> anyhow::Result<Value> {
    let first_line = |file: &str| std::fs::read_to_string(file).ok().and_then(|text| text.lines().next().map(str::to_owned));
    let line = |file: &str, name: &str| -> Option<String> {
        let text = std::fs::read_to_string(file).ok()?;
        Some(text.lines().find_map(|line| line.strip_prefix(name))?.trim().to_owned())
    };
    let open_files = rlimit::Resource::NOFILE.get().map(|(soft, hard)| json!({"soft": soft, "hard": hard})).ok();
    let directories = config.map(|config| {
        let of = |directory: &Path| room(directory).unwrap_or_else(|error| json!({"error": format!("{error:#}")}));
        json!({
            "data": of(&config.data_directory),
            "sessions": of(&config.sessions_directory()),
            "audit": config.audit_file().parent().map(of),
        })
    });
    Ok(json!({
        "kernel": first_line("/proc/sys/kernel/osrelease"),
        "distribution": line("/etc/os-release", "PRETTY_NAME=").map(|name| name.trim_matches('"').to_owned()),
        "processors": std::thread::available_parallelism().map(usize::from).ok(),
        "memory": line("/proc/meminfo", "MemTotal:"),
        "memoryAvailable": line("/proc/meminfo", "MemAvailable:"),
        "load": first_line("/proc/loadavg"),
        "uptimeSeconds": first_line("/proc/uptime").and_then(|line| line.split('.').next()?.parse::<u64>().ok()),
        "memoryLimit": first_line("/sys/fs/cgroup/memory.max"),
        "processorLimit": first_line("/sys/fs/cgroup/cpu.max"),
        "openFiles": open_files,
        "inCluster": std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
        "directories": directories,
        // Names alone: what they say is nobody's but the gateway's.
        "variablesOfGateway": config.map(|config| variables_of_holder(&config.data_directory)).map(|variables| {
            let tells = |name: &String| ["OTEL_", "RUST_", "MIMALLOC_"].iter().any(|begin| name.starts_with(begin)) || name.to_uppercase().ends_with("_PROXY");
            variables.into_iter().map(|(name, _)| name).filter(tells).collect::<Vec<_>>()
        }),
    }))
}

/// How much room there is where a directory is, who may read it, and how long the files in it are: by their kind, as their names may be others'.
fn room(directory: &Path) -> anyhow::Result<Value> {
    use std::os::unix::fs::MetadataExt;
    let about = std::fs::metadata(directory).with_context(|| directory.display().to_string())?;
    let disk = statvfs(directory)?;
    let (mut files, mut bytes) = (0_u64, 0_u64);
    for entry in std::fs::read_dir(directory)?.flatten() {
        if let Ok(about) = entry.metadata() {
            files += 1;
            bytes += about.len();
        }
    }
    Ok(json!({
        "mode": format!("{:04o}", about.mode() & 0o7777),
        "owner": about.uid(),
        "entries": files,
        "bytesInFiles": bytes,
        "diskBytes": disk.f_blocks.saturating_mul(disk.f_frsize),
        "diskBytesFree": disk.f_bavail.saturating_mul(disk.f_frsize),
        "inodesFree": disk.f_favail,
    }))
}
