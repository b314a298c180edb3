//! What a proxy used, by the kernel's account: its process and those it started.

use std::time::Duration;

/// The processes of a subject.
#[derive(Clone)]
pub(crate) struct Processes(pub(crate) Vec<u32>);

impl Processes {
    /// A process and its children.
    pub(crate) fn of(parent: u32) -> Self {
        let mut all = vec![parent];
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            if stat(pid).is_some_and(|fields| fields.get(1).is_some_and(|of| *of == parent.to_string())) {
                all.push(pid);
            }
        }
        Self(all)
    }

    /// CPU time used so far, user and system.
    pub(crate) fn cpu(&self) -> Duration {
        // In clock ticks of 10 ms, which is what Linux gives on every architecture.
        let ticks: u64 = self.0.iter().filter_map(|pid| stat(*pid)).map(|f| number(&f, 11) + number(&f, 12)).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Memory in MB: what the processes share is counted once.
    pub(crate) fn memory_mb(&self) -> f64 {
        let kilobytes: u64 = self
            .0
            .iter()
            .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok())
            .filter_map(|text| text.lines().find(|l| l.starts_with("Pss:"))?.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum();
        kilobytes as f64 / 1024.0
    }
}

/// The fields of `/proc/PID/stat` after the command: state, parent, ...
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(") ")?.1.split(' ').map(Into::into).collect())
}

fn number(fields: &[String], index: usize) -> u64 {
    fields.get(index).and_then(|field| field.parse().ok()).unwrap_or(0)
}
