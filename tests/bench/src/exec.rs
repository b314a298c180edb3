//! exec round trips: a connection, an upgrade to WebSocket, a command, its output, its end.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Effort;
use crate::report::{Report, Tally};
use crate::subject::{Bed, Subject};

const CALLERS: usize = 2;

pub(crate) async fn run(bed: &Bed, effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    let mut tallies: Vec<Tally> = bed.subjects.iter().map(|_| Tally::default()).collect();
    for subject in &bed.subjects {
        exec(subject).await.with_context(|| format!("exec through {}", subject.name))?;
    }
    for _ in 0..effort.rounds {
        for (subject, tally) in bed.subjects.iter().zip(&mut tallies) {
            play(subject, effort.round, tally).await?;
        }
    }
    for (subject, tally) in bed.subjects.iter().zip(tallies) {
        report.add(tally.line("exec", subject.name));
    }
    Ok(())
}

async fn play(subject: &Subject, time: Duration, tally: &mut Tally) -> anyhow::Result<()> {
    let before = subject.processes.as_ref().map(|p| p.cpu());
    let start = Instant::now();
    let caller = || async {
        let mut latencies = Vec::new();
        while start.elapsed() < time {
            let sent = Instant::now();
            exec(subject).await?;
            latencies.push(sent.elapsed());
        }
        anyhow::Ok(latencies)
    };
    for latencies in futures_util::future::join_all((0..CALLERS).map(|_| caller())).await {
        let mut latencies = latencies?;
        tally.requests += latencies.len() as u64;
        tally.latencies.append(&mut latencies);
    }
    tally.elapsed += start.elapsed();
    tally.add_cpu(subject.processes.as_ref().zip(before).map(|(p, before)| p.cpu() - before));
    tally.memory_mb = subject.processes.as_ref().map(|p| p.memory_mb());
    Ok(())
}

/// Much output of one exec: bytes a second, and CPU for a megabyte.
pub(crate) async fn throughput(bed: &Bed, effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    let file = std::env::temp_dir().join(format!("postern-bench-{}", std::process::id()));
    let line = "what a program writes, line after line, is text like this\n";
    std::fs::write(&file, line.repeat((effort.megabytes << 20) / line.len()))?;
    let command = ["cat", file.to_str().context("a path that is no text")?];
    let mut tallies: Vec<Tally> = bed.subjects.iter().map(|_| Tally::default()).collect();
    // A round is one command of half a second: three of them are too few to say anything by.
    for _ in 0..effort.rounds * 3 {
        for (subject, tally) in bed.subjects.iter().zip(&mut tallies) {
            let before = subject.processes.as_ref().map(|p| p.cpu());
            let start = Instant::now();
            let read = run_command(subject, &command, "").await?;
            ensure!(read >= (effort.megabytes << 20) - line.len(), "{} bytes came of {} MiB", read, effort.megabytes);
            tally.elapsed += start.elapsed();
            tally.requests += effort.megabytes as u64;
            tally.latencies.push(start.elapsed());
            tally.add_cpu(subject.processes.as_ref().zip(before).map(|(p, before)| p.cpu() - before));
            tally.memory_mb = subject.processes.as_ref().map(|p| p.memory_mb());
        }
    }
    for (subject, tally) in bed.subjects.iter().zip(tallies) {
        report.add(tally.line("exec-throughput", subject.name));
    }
    Ok(std::fs::remove_file(file)?)
}

async fn exec(subject: &Subject) -> anyhow::Result<()> {
    run_command(subject, &["echo", "hello-from-exec"], "hello-from-exec").await.map(drop)
}

/// Runs a command to its end, which must be a good one; how many bytes came.
async fn run_command(subject: &Subject, command: &[&str], expected: &str) -> anyhow::Result<usize> {
    let mut stream = subject.target.dial().await?;
    let words: String = command.iter().map(|word| format!("command={word}&")).collect();
    let path = format!("/api/v1/namespaces/default/pods/web/exec?{words}stdout=true&stderr=true");
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n",
        subject.target.address, subject.target.authorization
    );
    stream.write_all(head.as_bytes()).await?;
    let (mut tail, mut sum, mut seen) = (Vec::new(), 0, expected.is_empty());
    let mut buffer = vec![0; 64 << 10];
    // The Status on the last channel says that the command ended well.
    while !contains(&tail, b"\"status\":\"Success\"") {
        let read = stream.read(&mut buffer).await?;
        ensure!(read > 0, "the stream ended early: {}", String::from_utf8_lossy(&tail));
        sum += read;
        tail.extend_from_slice(&buffer[..read]);
        seen |= !seen && contains(&tail, expected.as_bytes());
        // The end is looked for in what came last.
        tail.drain(..tail.len().saturating_sub(1024));
    }
    ensure!(seen, "the output is not there");
    // A close frame, masked as a client's must be.
    let _ = stream.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await;
    let _ = stream.shutdown().await;
    Ok(sum)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
