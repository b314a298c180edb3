//! Closed loops: so many connections, each with the next request as soon as the answer is there.

use std::borrow::Borrow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;
use serde_json::json;

use crate::Effort;
use crate::report::{Report, Tally};
use crate::subject::{Bed, Subject};

/// What is asked again and again: the number of the request gives it.
pub(crate) type Ask = dyn Fn(u64) -> (Method, String, Bytes);

pub(crate) async fn get_pod(bed: &Bed, effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    let ask = |_| (Method::GET, "/api/v1/namespaces/default/pods/web".to_owned(), Bytes::new());
    case(bed, effort, report, "get-pod", 8, Rc::new(ask)).await
}

pub(crate) async fn create_configmap(bed: &Bed, effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    bed.namespace("bench-create").await?;
    let number = Cell::new(0u64);
    let ask = move |_| {
        number.set(number.get() + 1);
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("c{}", number.get())}, "data": {"key": "x".repeat(1000)}});
        (Method::POST, "/api/v1/namespaces/bench-create/configmaps".to_owned(), Bytes::from(object.to_string()))
    };
    case(bed, effort, report, "create-configmap", 8, Rc::new(ask)).await
}

pub(crate) async fn list_secrets(bed: &Bed, effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    bed.secrets("bench-list", effort.secrets).await?;
    let ask = |_| (Method::GET, "/api/v1/namespaces/bench-list/secrets".to_owned(), Bytes::new());
    case(bed, effort, report, "list-secrets", 2, Rc::new(ask)).await
}

async fn case(bed: &Bed, effort: Effort, report: &mut Report, name: &'static str, connections: usize, ask: Rc<Ask>) -> anyhow::Result<()> {
    let mut subjects: Vec<&Subject> = bed.subjects.iter().collect();
    subjects.insert(2, &bed.bare);
    compare(&subjects, effort, report, name, connections, ask).await
}

/// Has subjects do the same in turns.
pub(crate) async fn compare(
    subjects: &[impl Borrow<Subject>],
    effort: Effort,
    report: &mut Report,
    name: &'static str,
    connections: usize,
    ask: Rc<Ask>,
) -> anyhow::Result<()> {
    let mut tallies: Vec<Tally> = subjects.iter().map(|_| Tally::default()).collect();
    let subjects: Vec<&Subject> = subjects.iter().map(Borrow::borrow).collect();
    for subject in &subjects {
        // Tokens asked for, certificates verified, connections opened: what happens once is not measured.
        play(subject, connections, Duration::from_millis(500), &ask, &mut Tally::default(), None).await?;
    }
    for round in 0..effort.rounds as usize {
        for subject in turns(subjects.len(), round) {
            play(subjects[subject], connections, effort.round, &ask, &mut tallies[subject], None).await?;
        }
    }
    for (subject, tally) in subjects.iter().zip(tallies) {
        report.add(tally.line(name, subject.name));
    }
    Ok(())
}

/// Who comes when in a round. Whoever comes after the same one each time is measured with what that one left: each round begins with another, and every second
/// goes the other way round.
fn turns(count: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |turn| (round + if round.is_multiple_of(2) { turn } else { count - turn }) % count)
}

/// Has a subject asked for a time, on so many connections: each with the next request as soon as the answer is there, or one in every so long, evenly.
pub(crate) async fn play(
    subject: &Subject,
    connections: usize,
    time: Duration,
    ask: &Rc<Ask>,
    tally: &mut Tally,
    every: Option<Duration>,
) -> anyhow::Result<()> {
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(subject.target.connect().await?);
    }
    let latencies = Rc::new(RefCell::new(Vec::new()));
    let before = subject.processes.as_ref().map(|p| p.cpu());
    let start = Instant::now();
    let mut loops = Vec::new();
    for (at, mut connection) in open.into_iter().enumerate() {
        let (ask, latencies) = (Rc::clone(ask), Rc::clone(&latencies));
        loops.push(tokio::task::spawn_local(async move {
            let mut number = 0;
            let shift = every.unwrap_or_default() * at as u32 / connections as u32;
            let mut beat = every.map(|every| tokio::time::interval_at(tokio::time::Instant::now() + shift, every));
            while start.elapsed() < time {
                let (method, path, body) = ask(number);
                number += 1;
                let sent = match &mut beat {
                    None => Instant::now(),
                    // From when it was to be sent: what waits for one that takes long has waited too.
                    Some(beat) => beat.tick().await.into_std(),
                };
                connection.call(method, &path, body).await?;
                latencies.borrow_mut().push(sent.elapsed());
            }
            anyhow::Ok(())
        }));
    }
    for one in loops {
        one.await??;
    }
    tally.elapsed += start.elapsed();
    tally.add_cpu(subject.processes.as_ref().zip(before).map(|(p, before)| p.cpu() - before));
    tally.memory_mb = subject.processes.as_ref().map(|p| p.memory_mb());
    let mut latencies = latencies.borrow_mut();
    tally.requests += latencies.len() as u64;
    tally.latencies.append(&mut latencies);
    Ok(())
}
