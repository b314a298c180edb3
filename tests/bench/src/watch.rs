//! Many open watches, and a change each second that all of them are told.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Method;
use serde_json::json;

use crate::Effort;
use crate::client::Connection;
use crate::report::{Report, Tally};
use crate::subject::{Bed, Subject};

/// Changes, of which there is one each second.
const CHANGES: u32 = 10;

/// Watches of ConfigMaps, which pass as they are.
pub(crate) async fn plain(bed: &Bed, effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "changes"}, "data": {"padding": "x".repeat(500)}});
    run(bed, effort, report, "watch", "configmaps", object).await
}

/// Watches of Secrets, in which every event is masked where there are policies.
pub(crate) async fn masked(bed: &Bed, effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    let data: serde_json::Map<_, _> =
        (0..8).map(|n| (format!("key-{n}"), json!("eHl6IHh5eiB4eXogeHl6IHh5eiB4eXogeHl6IHh5eiB4eXog"))).collect();
    run(
        bed,
        effort,
        report,
        "watch-masked",
        "secrets",
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "changes"}, "data": data}),
    )
    .await
}

async fn run(
    bed: &Bed,
    effort: Effort,
    report: &mut Report,
    case: &'static str,
    resource: &str,
    object: serde_json::Value,
) -> anyhow::Result<()> {
    let namespace = format!("bench-{case}");
    bed.namespace(&namespace).await?;
    let collection = format!("/api/v1/namespaces/{namespace}/{resource}");
    let mut admin = bed.admin.connect().await?;
    admin.call(Method::POST, &collection, Bytes::from(object.to_string())).await?;
    let changes = if effort.rounds == 1 { 2 } else { CHANGES };
    for subject in &bed.subjects {
        let memory = subject.processes.as_ref().map(|p| p.memory_mb());
        let tally = play(subject, &mut admin, effort.watches, changes, &collection).await?;
        let after = tally.memory_mb;
        let mut line = tally.line(case, subject.name);
        line.rss_growth_mb = after.zip(memory).map(|(after, before)| (after - before).max(0.0));
        if let Some(growth) = line.rss_growth_mb {
            eprintln!("    {}: {:.1} KB of memory for each watch", subject.name, growth * 1000.0 / effort.watches as f64);
        }
        report.add(line);
    }
    Ok(())
}

async fn play(subject: &Subject, admin: &mut Connection, watches: usize, changes: u32, collection: &str) -> anyhow::Result<Tally> {
    let latencies = Rc::new(RefCell::new(Vec::new()));
    let ready = Rc::new(Cell::new(0));
    let mut readers = Vec::new();
    for _ in 0..watches {
        let mut connection = subject.target.connect().await?;
        let response = connection.send(Method::GET, &format!("{collection}?watch=1&timeoutSeconds=600"), Bytes::new()).await?;
        anyhow::ensure!(response.status().is_success(), "a watch was answered {}", response.status());
        let (latencies, ready) = (Rc::clone(&latencies), Rc::clone(&ready));
        readers.push(tokio::task::spawn_local(async move {
            let _open = connection;
            let mut body = response.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(data) = frame.into_data() else { continue };
                match sent_at(&data) {
                    Some(sent) => latencies.borrow_mut().push(now().saturating_sub(sent)),
                    // The object as it is when the watch begins.
                    None => ready.set(ready.get() + 1),
                }
            }
        }));
    }
    let begin = Instant::now();
    while ready.get() < watches && begin.elapsed() < Duration::from_secs(30) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let before = subject.processes.as_ref().map(|p| p.cpu());
    let start = Instant::now();
    for _ in 0..changes {
        let patch = json!({"metadata": {"annotations": {"sent-at": now().as_micros().to_string()}}}).to_string();
        let response =
            admin.send_as("application/merge-patch+json", Method::PATCH, &format!("{collection}/changes"), Bytes::from(patch)).await?;
        anyhow::ensure!(response.status().is_success(), "the change was answered {}", response.status());
        response.into_body().collect().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let expected = watches * changes as usize;
    let waited = Instant::now();
    while latencies.borrow().len() < expected && waited.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut tally = Tally { elapsed: start.elapsed(), ..Tally::default() };
    tally.add_cpu(subject.processes.as_ref().zip(before).map(|(p, before)| p.cpu() - before));
    tally.memory_mb = subject.processes.as_ref().map(|p| p.memory_mb());
    tally.latencies = latencies.take();
    tally.requests = tally.latencies.len() as u64;
    anyhow::ensure!(tally.latencies.len() >= expected, "{}: {} of {expected} events arrived", subject.name, tally.latencies.len());
    readers.iter().for_each(|reader| reader.abort());
    // Forget the annotation, so that the next subject's watches begin without it.
    let patch = Bytes::from_static(br#"{"metadata":{"annotations":null}}"#);
    admin
        .send_as("application/merge-patch+json", Method::PATCH, &format!("{collection}/changes"), patch)
        .await?
        .into_body()
        .collect()
        .await?;
    Ok(tally)
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// When the change in an event was sent.
fn sent_at(event: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(event).ok()?;
    let digits = text.split_once("\"sent-at\":\"")?.1.split('"').next()?;
    Some(Duration::from_micros(digits.parse().ok()?))
}
