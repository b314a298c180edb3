//! Whether a gateway notices that its audit log is asked: 500 requests a second, alone and beside `postern audit list` over ten million events.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use bytes::Bytes;
use hyper::Method;
use postern_ground::clock::timestamp_of;
use testbed::GatewayOptions;

use crate::Effort;
use crate::closed::{Ask, play};
use crate::report::{Report, Tally};
use crate::subject::Bed;

const CONNECTIONS: u32 = 8;
const PER_SECOND: u32 = 500;
/// One event in a hundred was refused, over a day.
const DAY: u64 = 24 * 3600;

pub(crate) async fn run(bed: &Bed, effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    let (gateway, subject) = bed.gateway("postern-asked", GatewayOptions::default())?;
    let ask: Rc<Ask> = Rc::new(|_| (Method::GET, "/api/v1/namespaces/default/pods/web".to_owned(), Bytes::new()));
    let pause = Some(Duration::from_secs(1) * CONNECTIONS / PER_SECOND);
    play(&subject, CONNECTIONS as usize, Duration::from_millis(500), &ask, &mut Tally::default(), pause).await?;
    let log = bed.directory().join("asked").join("audit.jsonl");
    fill(&log, &event(&gateway.directory.join("data/audit.jsonl"))?, effort.events)?;
    let (mut alone, mut beside, mut took) = (Tally::default(), Tally::default(), Vec::new());
    for round in 0..effort.rounds {
        for is_beside in [round % 2 == 1, round % 2 == 0] {
            match is_beside {
                false => play(&subject, CONNECTIONS as usize, effort.round, &ask, &mut alone, pause).await?,
                true => {
                    let asks = Asks::begin(log.clone());
                    play(&subject, CONNECTIONS as usize, effort.round, &ask, &mut beside, pause).await?;
                    took.append(&mut asks.end()?);
                }
            }
        }
    }
    took.sort_unstable();
    report.add(alone.line("audit-list", "postern-alone"));
    let mut line = beside.line("audit-list", "postern-asked");
    line.load_ms = took.get(took.len() / 2).map(|took| took.as_secs_f64() * 1e3);
    report.add(line);
    Ok(())
}

/// Somebody who asks again and again what was refused in the last hour.
struct Asks {
    ends: Arc<AtomicBool>,
    asking: std::thread::JoinHandle<anyhow::Result<Vec<Duration>>>,
}

impl Asks {
    fn begin(log: PathBuf) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&ends);
        let asking = std::thread::spawn(move || {
            let mut took = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let began = Instant::now();
                let mut ask = Command::new(testbed::postern());
                ask.args(["audit", "list", "--since", "1h", "--verdict", "block", "--file"]).arg(&log);
                let asked = ask.stdin(Stdio::null()).output().context("postern audit list")?;
                took.push(began.elapsed());
                let lines = asked.stdout.iter().filter(|byte| **byte == b'\n').count();
                ensure!(asked.status.success() && lines > 1, "{}", String::from_utf8_lossy(&asked.stderr));
            }
            Ok(took)
        });
        Self { ends, asking }
    }

    fn end(self) -> anyhow::Result<Vec<Duration>> {
        self.ends.store(true, Ordering::Relaxed);
        self.asking.join().map_err(|_| anyhow::anyhow!("who asks the log panicked"))?
    }
}

/// An event as the gateway writes it: of a GET that was answered.
fn event(log: &Path) -> anyhow::Result<String> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        if let Some(line) = text.lines().find(|line| line.contains("\"verb\":\"get\"") && line.contains("\"stage\":\"completed\"")) {
            return Ok(line.to_owned());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    anyhow::bail!("{} has no event of a GET", log.display())
}

/// A log of so many events of the last day, copies of one at other times. It is there to be searched; its chain does not hold.
fn fill(log: &Path, event: &str, events: u64) -> anyhow::Result<()> {
    std::fs::create_dir_all(log.parent().unwrap_or(Path::new(".")))?;
    let (before, rest) = event.split_once("\"time\":\"").context("the event has no time")?;
    let (_, after) = rest.split_once('"').context("the event has no time")?;
    let refused = [before, after].map(|text| {
        text.replace("\"stage\":\"completed\"", "\"stage\":\"refused\"").replace("\"verdict\":\"allow\"", "\"verdict\":\"block\"")
    });
    ensure!(refused[0] != before || refused[1] != after, "the event was not let through: {event}");
    let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(log)?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    for number in 0..events {
        let micros = (now - DAY) * 1_000_000 + DAY * 1_000_000 / events * number;
        let (before, after) = if number.is_multiple_of(100) { (refused[0].as_str(), refused[1].as_str()) } else { (before, after) };
        writeln!(out, "{before}\"time\":\"{}\"{after}", timestamp_of(Duration::from_micros(micros)))?;
    }
    Ok(out.flush()?)
}
