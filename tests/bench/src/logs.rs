//! Many who follow the log of a container, which says something five times a second.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Method;

use crate::Effort;
use crate::report::{Report, Tally};
use crate::subject::{Bed, Subject};

const PATH: &str = "/api/v1/namespaces/default/pods/web/log?follow=true";

pub(crate) async fn run(bed: &Bed, effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    let time = if effort.rounds == 1 { Duration::from_secs(2) } else { Duration::from_secs(10) };
    for subject in &bed.subjects {
        report.add(play(subject, effort.watches / 5, time).await?.line("logs-follow", subject.name));
    }
    Ok(())
}

async fn play(subject: &Subject, followers: usize, time: Duration) -> anyhow::Result<Tally> {
    let lines = Rc::new(Cell::new(0u64));
    let mut readers = Vec::new();
    for _ in 0..followers {
        let mut connection = subject.target.connect().await?;
        let response = connection.send(Method::GET, PATH, Bytes::new()).await?;
        anyhow::ensure!(response.status().is_success(), "a log was answered {}", response.status());
        let lines = Rc::clone(&lines);
        readers.push(tokio::task::spawn_local(async move {
            let _open = connection;
            let mut body = response.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                let read = frame.data_ref().map_or(0, |data| data.iter().filter(|byte| **byte == b'\n').count());
                lines.set(lines.get() + read as u64);
            }
        }));
    }
    let (begin, before, start) = (lines.get(), subject.processes.as_ref().map(|p| p.cpu()), Instant::now());
    tokio::time::sleep(time).await;
    let mut tally = Tally { elapsed: start.elapsed(), requests: lines.get() - begin, ..Tally::default() };
    tally.add_cpu(subject.processes.as_ref().zip(before).map(|(p, before)| p.cpu() - before));
    tally.memory_mb = subject.processes.as_ref().map(|p| p.memory_mb());
    readers.iter().for_each(|reader| reader.abort());
    let expected = followers as f64 * 4.0 * time.as_secs_f64();
    anyhow::ensure!(tally.requests as f64 >= expected, "{}: {} lines of some {expected} came", subject.name, tally.requests);
    tally.latencies = vec![Duration::ZERO];
    Ok(tally)
}
