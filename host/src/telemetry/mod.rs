//! Telemetry: traces and the gateway's own log, sent to an OpenTelemetry collector by OTLP over HTTP.
//!
//! A request's spans are made of times that were taken anyway: a [`Trace`] travels in the request's audit event, and where none is made nothing is done. What
//! cannot be sent is dropped: no request waits for a collector.

mod lines;
mod logs;
mod post;
pub mod recent;
mod trace;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::trace::TracerProvider;
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter};

use crate::config;
pub use lines::fields;
pub use logs::layer;
use post::Post;
pub use trace::{RequestSpan, Trace, Tracer};

/// How long one batch may take to be sent.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long what is left may take to be sent at the end.
const LAST: Duration = Duration::from_secs(5);

/// What becomes of spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They were made.
    Made,
    /// The collector took them.
    Sent,
    /// The collector did not, or could not be reached.
    Failed,
}

impl Fate {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Made, Self::Sent, Self::Failed];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Sent => "sent",
            Self::Failed => "failed",
        }
    }
}

/// How many spans there were, by what became of them. Those that were made and neither sent nor refused wait, or were dropped because too many waited.
#[derive(Debug, Default)]
pub struct Spans([AtomicU64; Fate::ALL.len()]);

impl Spans {
    fn add(&self, fate: Fate, number: u64) {
        self.0[fate as usize].fetch_add(number, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn count(&self, fate: Fate) -> u64 {
        self.0[fate as usize].load(Ordering::Relaxed)
    }
}

/// What sends traces and logs, for as long as it lives.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
    spans: Arc<Spans>,
}

impl Telemetry {
    /// Begins to send what the configuration says. It is not asked whether the collector is there: one that is not holds up no start.
    pub fn open(config: &config::Telemetry) -> anyhow::Result<Self> {
        // One for each kind: a collector may take one and not the other.
        let post = || anyhow::Ok(Arc::new(Post::new(config, PATIENCE).context("telemetry")?));
        let resource = resource();
        let endpoint = |signal: &str| format!("{}/v1/{signal}", config.endpoint.trim_end_matches('/'));
        let spans = Arc::<Spans>::default();
        let traces = config.traces.then(|| {
            let exporter = opentelemetry_otlp::SpanExporter::builder()
                .with_http()
                .with_shared_http_client(post()?)
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(endpoint("traces"))
                .with_timeout(PATIENCE)
                .build()?;
            let ratio = f64::from(config.sampling_rate_per_million) / 1_000_000.0;
            anyhow::Ok(
                SdkTracerProvider::builder()
                    .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
                    .with_resource(resource.clone())
                    .with_batch_exporter(Counted { exporter, spans: Arc::clone(&spans) })
                    .build(),
            )
        });
        let logs = config.logs.then(|| {
            let exporter = opentelemetry_otlp::LogExporter::builder()
                .with_http()
                .with_shared_http_client(post()?)
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(endpoint("logs"))
                .with_timeout(PATIENCE)
                .build()?;
            anyhow::Ok(SdkLoggerProvider::builder().with_resource(resource.clone()).with_batch_exporter(exporter).build())
        });
        let (traces, logs) = (traces.transpose().context("telemetry")?, logs.transpose().context("telemetry")?);
        if let Some(logs) = &logs {
            logs::begin(logs);
        }
        Ok(Self { traces, logs, spans })
    }

    /// What makes the traces of requests.
    pub fn tracer(&self) -> Tracer {
        self.traces.as_ref().map_or_else(Tracer::default, |traces| Tracer::new(traces.tracer("postern"), Arc::clone(&self.spans)))
    }

    /// What became of the spans so far.
    pub fn spans(&self) -> &Spans {
        &self.spans
    }

    /// Sends what is left. It blocks for some seconds at most.
    pub fn close(&self) {
        std::thread::scope(|scope| {
            if let Some(traces) = &self.traces {
                scope.spawn(|| traces.shutdown_with_timeout(LAST));
            }
            if let Some(logs) = &self.logs {
                scope.spawn(|| logs.shutdown_with_timeout(LAST));
            }
        });
    }
}

/// Whether what is configured could be opened: its files are read.
pub fn check(config: &config::Telemetry) -> anyhow::Result<()> {
    post::client_of(config).map(drop).context("telemetry")
}

/// What spans and logs are of: `postern`, unless the environment names it.
fn resource() -> Resource {
    let named =
        Resource::builder().build().get(&Key::new("service.name")).is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let builder = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if named { builder.build() } else { builder.with_service_name("postern").build() }
}

/// Counts what is exported.
#[derive(Debug)]
struct Counted<E> {
    exporter: E,
    spans: Arc<Spans>,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let number = batch.len() as u64;
        let sent = self.exporter.export(batch).await;
        self.spans.add(if sent.is_ok() { Fate::Sent } else { Fate::Failed }, number);
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests;
