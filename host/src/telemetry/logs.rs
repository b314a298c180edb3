//! The gateway's own log, sent to a collector too.

use std::sync::OnceLock;

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::logs::{SdkLogger, SdkLoggerProvider};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Where the log is sent; nowhere until a configuration was read that says so.
static BRIDGE: OnceLock<OpenTelemetryTracingBridge<SdkLoggerProvider, SdkLogger>> = OnceLock::new();

/// Sends the log from now on. A process has one log, and sends it to one place.
pub(super) fn begin(logs: &SdkLoggerProvider) {
    let _ = BRIDGE.set(OpenTelemetryTracingBridge::new(logs));
}

/// The part of the process's log that is sent to a collector, once there is one.
pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    Sent
}

struct Sent;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Sent {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        // What sending itself logs would be sent, and logged.
        if let Some(bridge) = BRIDGE.get().filter(|_| event.metadata().target().starts_with("postern")) {
            bridge.on_event(event, context);
        }
    }
}
