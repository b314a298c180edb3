//! A real OpenTelemetry collector, which writes what it takes to files.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use crate::binary;
use crate::certificates::Ca;
use crate::process::{Process, free_port};

/// A running collector that takes OTLP over HTTP, with TLS and without. Dropping it ends it.
pub struct Collector {
    directory: PathBuf,
    tls: u16,
    plain: u16,
    process: Option<Process>,
}

impl Collector {
    /// Starts one.
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let directory = directory.canonicalize()?;
        Ca::new("collector-ca", &directory)?.issue("collector", "collector", &[])?;
        let mut this = Self { directory, tls: free_port()?, plain: free_port()?, process: None };
        this.resume()?;
        Ok(this)
    }

    /// Starts it again after [`Self::stop`].
    pub fn resume(&mut self) -> anyhow::Result<()> {
        let file = |name: &str| self.directory.join(name).display().to_string();
        let (tls, plain) = (self.tls, self.plain);
        let config = format!(
            "receivers:
  otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:{tls}', tls: {{cert_file: '{}', key_file: '{}'}}}}}}}}
  otlp/plain: {{protocols: {{http: {{endpoint: '127.0.0.1:{plain}'}}}}}}
exporters:
  file/traces: {{path: '{}', append: true, flush_interval: 50ms}}
  file/logs: {{path: '{}', append: true, flush_interval: 50ms}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp, otlp/plain], exporters: [file/traces]}}
    logs: {{receivers: [otlp, otlp/plain], exporters: [file/logs]}}
",
            file("collector.crt"),
            file("collector.key"),
            file("traces.json"),
            file("logs.json")
        );
        std::fs::write(self.directory.join("collector.yaml"), config)?;
        let mut command = Command::new(binary("otelcol"));
        command.arg(format!("--config=file:{}", file("collector.yaml")));
        let log = self.directory.join("collector.log");
        let process = Process::start("otelcol", command, &log)?;
        self.process = Some(process.listening(tls, &log)?.listening(plain, &log)?);
        Ok(())
    }

    /// Ends it; what it wrote stays.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Where it takes OTLP with TLS, and the CA of its certificate, as settings of `telemetry`.
    pub fn over_tls(&self) -> String {
        format!("endpoint: 'https://127.0.0.1:{}', caFile: '{}'", self.tls, self.directory.join("collector-ca.crt").display())
    }

    /// The same without TLS.
    pub fn plain(&self) -> String {
        format!("endpoint: 'http://127.0.0.1:{}'", self.plain)
    }

    /// The spans it has taken, each with its resource's attributes as `resource`.
    pub fn spans(&self) -> anyhow::Result<Vec<Value>> {
        self.taken("traces.json", ["resourceSpans", "scopeSpans", "spans"])
    }

    /// The log records it has taken, in the same way.
    pub fn logs(&self) -> anyhow::Result<Vec<Value>> {
        self.taken("logs.json", ["resourceLogs", "scopeLogs", "logRecords"])
    }

    /// All that it wrote, as text.
    pub fn text(&self) -> String {
        ["traces.json", "logs.json"].map(|name| std::fs::read_to_string(self.directory.join(name)).unwrap_or_default()).concat()
    }

    fn taken(&self, file: &str, [resources, scopes, records]: [&str; 3]) -> anyhow::Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.directory.join(file)).unwrap_or_default();
        let mut taken = Vec::new();
        // The last line may be in the making.
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let batch: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            for resource in batch[resources].as_array().into_iter().flatten() {
                for record in resource[scopes].as_array().into_iter().flatten().flat_map(|scope| scope[records].as_array()).flatten() {
                    let mut record = record.clone();
                    record["resource"] = resource["resource"]["attributes"].clone();
                    taken.push(record);
                }
            }
        }
        Ok(taken)
    }
}
