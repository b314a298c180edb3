//! A list that is larger than the gateway's memory may grow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;
use serde_json::json;

use crate::Effort;
use crate::report::{Report, Tally};
use crate::subject::{Bed, Subject};

const PATH: &str = "/api/v1/namespaces/bench-large/secrets";

pub(crate) async fn run(bed: &Bed, effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    bed.namespace("bench-large").await?;
    let mut admin = bed.admin.connect().await?;
    let value = "eHl6IHh5eiB4eXog".repeat(50_000);
    for n in 0..effort.large {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("s{n}")}, "data": {"key": value}});
        admin.call(Method::POST, PATH, Bytes::from(secret.to_string())).await?;
    }
    for subject in bed.subjects.iter().filter(|s| s.processes.is_some()) {
        play(subject, report).await?;
    }
    Ok(())
}

async fn play(subject: &Subject, report: &mut Report) -> anyhow::Result<()> {
    let Some(processes) = subject.processes.clone() else { return Ok(()) };
    let mut connection = subject.target.connect().await?;
    connection.call(Method::GET, "/version", Bytes::new()).await?;
    let (memory, cpu, start) = (processes.memory_mb(), processes.cpu(), Instant::now());
    let done = Arc::new(AtomicBool::new(false));
    let watching = std::thread::spawn({
        let (done, processes) = (Arc::clone(&done), processes.clone());
        move || {
            let mut most: f64 = 0.0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(processes.memory_mb());
                std::thread::sleep(Duration::from_millis(10));
            }
            most
        }
    });
    let size = connection.call(Method::GET, PATH, Bytes::new()).await?;
    let elapsed = start.elapsed();
    done.store(true, Ordering::Relaxed);
    let most = watching.join().map_err(|_| anyhow::anyhow!("the memory could not be read"))?;
    let mut tally = Tally { requests: 1, elapsed, latencies: vec![elapsed], memory_mb: Some(most), ..Tally::default() };
    tally.add_cpu(Some(processes.cpu() - cpu));
    let mut line = tally.line("list-large", subject.name);
    line.rss_growth_mb = Some((most - memory).max(0.0));
    eprintln!("    {}: {} MB received, memory grew by {:.1} MB", subject.name, size / 1_000_000, most - memory);
    report.add(line);
    Ok(())
}
