//! What was measured, as a table, as ratios, and as JSON lines.

use std::time::Duration;

use serde::Serialize;

/// One case of one subject.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) case: &'static str,
    pub(crate) subject: &'static str,
    pub(crate) requests_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// None for the API server alone.
    pub(crate) cpu_us_per_request: Option<f64>,
    pub(crate) rss_mb: Option<f64>,
    /// How much memory grew while the case ran, where that is the question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rss_growth_mb: Option<f64>,
    /// How long a policy took to load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) load_ms: Option<f64>,
}

/// What was counted of one case and subject, added up over the rounds.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    pub(crate) cpu: Option<Duration>,
    pub(crate) latencies: Vec<Duration>,
    pub(crate) memory_mb: Option<f64>,
}

impl Tally {
    /// Adds CPU time.
    pub(crate) fn add_cpu(&mut self, used: Option<Duration>) {
        if let Some(used) = used {
            *self.cpu.get_or_insert_default() += used;
        }
    }

    pub(crate) fn line(mut self, case: &'static str, subject: &'static str) -> Line {
        self.latencies.sort_unstable();
        let at = |share: f64| {
            let index = ((self.latencies.len() as f64 * share) as usize).min(self.latencies.len().saturating_sub(1));
            self.latencies.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
        };
        let requests = self.requests.max(1) as f64;
        Line {
            case,
            subject,
            requests_per_second: self.requests as f64 / self.elapsed.as_secs_f64(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            cpu_us_per_request: self.cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / requests),
            rss_mb: self.memory_mb,
            rss_growth_mb: None,
            load_ms: None,
        }
    }
}

/// All lines of a run.
#[derive(Default)]
pub(crate) struct Report(Vec<Line>);

impl Report {
    pub(crate) fn add(&mut self, line: Line) {
        self.0.push(line);
    }

    /// JSON lines.
    pub(crate) fn lines(&self) -> String {
        self.0.iter().map(|line| serde_json::to_string(line).unwrap_or_default() + "\n").collect()
    }

    /// A table, and what everything is against nginx.
    pub(crate) fn print(&self) {
        println!(
            "{:<17} {:<18} {:>9} {:>9} {:>9} {:>10} {:>8} {:>9} {:>9}",
            "CASE", "SUBJECT", "req/s", "p50 ms", "p99 ms", "CPU us/req", "MB", "growth MB", "load ms"
        );
        for l in &self.0 {
            let or_dash = |value: Option<f64>| value.map_or_else(|| "-".into(), |v| format!("{v:.1}"));
            println!(
                "{:<17} {:<18} {:>9.1} {:>9.3} {:>9.3} {:>10} {:>8} {:>9} {:>9}",
                l.case,
                l.subject,
                l.requests_per_second,
                l.p50_ms,
                l.p99_ms,
                or_dash(l.cpu_us_per_request),
                or_dash(l.rss_mb),
                or_dash(l.rss_growth_mb),
                or_dash(l.load_ms)
            );
        }
        println!("\n{:<17} {:<18} {:>12} {:>12}", "AGAINST NGINX", "", "CPU/request", "throughput");
        for l in self.0.iter().filter(|l| l.subject.starts_with("postern")) {
            let Some(nginx) = self.0.iter().find(|n| n.case == l.case && n.subject == "nginx") else { continue };
            let cpu = l.cpu_us_per_request.zip(nginx.cpu_us_per_request).map_or(f64::NAN, |(ours, theirs)| ours / theirs);
            println!("{:<17} {:<18} {cpu:>12.2} {:>12.2}", l.case, l.subject, l.requests_per_second / nginx.requests_per_second);
        }
        println!();
    }
}
