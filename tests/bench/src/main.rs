//! `cargo xtask bench`: the API server alone, nginx before it, and Postern before it, on the same work in one run.
//!
//! Every case is played in rounds, the subjects in turn in each, so that a machine that slows down slows all of them. What counts is
//! the ratio of one run; the figures themselves are of the machine.

mod asked;
mod bare;
mod client;
mod closed;
mod exec;
mod large;
mod logs;
mod observed;
mod policies;
mod report;
mod subject;
mod usage;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use report::Report;
use subject::Bed;

/// How long and how much.
#[derive(Clone, Copy)]
struct Effort {
    /// One round of a closed loop.
    round: Duration,
    rounds: u32,
    secrets: usize,
    watches: usize,
    /// Secrets of 800 KB in the list that is larger than memory may grow.
    large: usize,
    /// What one exec writes.
    megabytes: usize,
    /// Events of an audit log that is asked.
    events: u64,
    /// Pods that are asked for by name.
    names: u64,
}

/// That of the gateway: a bare proxy is compared with it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == bare::ARGUMENT) {
        return bare::serve(&arguments[1..]);
    }
    let quick = arguments.iter().any(|a| a == "--quick");
    let only: Vec<&String> = arguments.iter().filter(|a| !a.starts_with("--")).collect();
    let against = arguments.iter().find_map(|a| a.strip_prefix("--against=")).map(PathBuf::from);
    let policies_from = arguments.iter().find_map(|a| a.strip_prefix("--against-policies=")).map(PathBuf::from);
    let mut effort = if quick {
        Effort {
            round: Duration::from_secs(1),
            rounds: 1,
            secrets: 200,
            watches: 50,
            large: 10,
            megabytes: 10,
            events: 100_000,
            names: 100,
        }
    } else {
        Effort {
            round: Duration::from_secs(4),
            rounds: 3,
            secrets: 2000,
            watches: 1000,
            large: 1250,
            megabytes: 100,
            events: 10_000_000,
            names: 5_000,
        }
    };
    if let Some(rounds) = arguments.iter().find_map(|a| a.strip_prefix("--rounds=")) {
        effort.rounds = rounds.parse().context("--rounds: a number is expected")?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(tokio::runtime::LocalOptions::default())?;
    let report = runtime.block_on(run(effort, (against, policies_from), |case| only.is_empty() || only.iter().any(|o| *o == case)))?;
    report.print();
    let file = results_file()?;
    std::fs::write(&file, report.lines()).with_context(|| file.display().to_string())?;
    println!("{}", file.display());
    Ok(())
}

/// What a case leaves to be cleaned up, a thousand connections or 300 MB on their way to the disk, is no part of the next.
const SETTLE: Duration = Duration::from_secs(5);

async fn run(
    effort: Effort,
    (against, policies_from): (Option<PathBuf>, Option<PathBuf>),
    wanted: impl Fn(&str) -> bool,
) -> anyhow::Result<Report> {
    let bed = Bed::start(against, policies_from).await?;
    let mut report = Report::default();
    if wanted("get-pod") {
        progress("get-pod");
        closed::get_pod(&bed, effort, &mut report).await?;
    }
    if wanted("create-configmap") {
        progress("create-configmap");
        closed::create_configmap(&bed, effort, &mut report).await?;
    }
    if wanted("list-secrets") {
        progress("list-secrets");
        closed::list_secrets(&bed, effort, &mut report).await?;
    }
    if wanted("exec") {
        progress("exec");
        exec::run(&bed, effort, &mut report).await?;
    }
    if wanted("watch") {
        progress("watch");
        watch::plain(&bed, effort, &mut report).await?;
    }
    if wanted("watch-masked") {
        tokio::time::sleep(SETTLE).await;
        progress("watch-masked");
        watch::masked(&bed, effort, &mut report).await?;
    }
    if wanted("exec-throughput") {
        tokio::time::sleep(SETTLE).await;
        progress("exec-throughput");
        exec::throughput(&bed, effort, &mut report).await?;
    }
    if wanted("logs-follow") {
        tokio::time::sleep(SETTLE).await;
        progress("logs-follow");
        logs::run(&bed, effort, &mut report).await?;
    }
    if wanted("list-large") {
        progress("list-large");
        large::run(&bed, effort, &mut report).await?;
    }
    if wanted("loaded") {
        progress("loaded");
        policies::loaded(&bed, effort, &mut report).await?;
    }
    if wanted("remembered") {
        progress("remembered");
        policies::remembered(&bed, effort, &mut report).await?;
    }
    if wanted("objects") {
        progress("objects");
        policies::objects(&bed, effort, &mut report).await?;
    }
    if wanted("observed") {
        progress("observed");
        observed::run(&bed, effort, &mut report).await?;
    }
    if wanted("audit-list") {
        tokio::time::sleep(SETTLE).await;
        progress("audit-list");
        asked::run(&bed, effort, &mut report).await?;
    }
    if wanted("languages") {
        progress("languages");
        policies::languages(effort, &mut report)?;
    }
    Ok(report)
}

fn progress(case: &str) {
    eprintln!("  measuring {case}");
}

fn results_file() -> anyhow::Result<PathBuf> {
    let directory = testbed::cache().join("bench");
    std::fs::create_dir_all(&directory)?;
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    Ok(directory.join(format!("{seconds}.jsonl")))
}
