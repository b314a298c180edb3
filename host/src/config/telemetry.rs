//! Telemetry: where traces and the gateway's own log are sent.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use http::Uri;
use schemars::JsonSchema;
use serde::Deserialize;

/// Spans out of a million requests, when the caller says nothing about it.
const SAMPLED: u32 = 10_000;

/// Traces and the gateway's own log, sent to an OpenTelemetry collector by OTLP over HTTP. The variables `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SERVICE_NAME`,
/// `OTEL_BSP_*` and `OTEL_BLRP_*` of OpenTelemetry's specification hold.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Telemetry {
    /// The collector, for example `http://127.0.0.1:4318`. `/v1/traces` and `/v1/logs` are added to it.
    pub endpoint: String,
    /// PEM file with the CAs that the collector's certificate is checked against; those of the machine when absent.
    pub ca_file: Option<PathBuf>,
    /// A file of headers that are sent along, `Name: value` in a line each: credentials of the collector. It is read anew each time.
    pub headers_file: Option<PathBuf>,
    /// Whether traces are sent.
    #[serde(default = "yes")]
    pub traces: bool,
    /// Whether the gateway's own log is sent, beside what it writes to standard error. It is not the audit log.
    #[serde(default = "yes")]
    pub logs: bool,
    /// Of how many out of a million requests a trace is made, where a known caller's `traceparent` does not say whether one is.
    #[serde(default = "sampled")]
    pub sampling_rate_per_million: u32,
}

fn yes() -> bool {
    true
}

fn sampled() -> u32 {
    SAMPLED
}

impl Telemetry {
    /// Whether the collector is on this machine: `localhost`, an address of 127.0.0.0/8, or `::1`.
    pub fn is_near(&self) -> bool {
        is_near(&self.endpoint)
    }

    /// Whether what is sent there is nobody else's to read.
    pub fn is_private(&self) -> bool {
        is_private(&self.endpoint)
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        let uri: Uri = self.endpoint.parse().context("telemetry.endpoint: is no URL such as http://127.0.0.1:4318")?;
        let (scheme, host) = (uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default());
        ensure!(matches!(scheme, "http" | "https") && !host.is_empty(), "telemetry.endpoint: begins with neither http:// nor https://");
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        ensure!(
            uri.query().is_none() && !authority.contains('@'),
            "telemetry.endpoint: has a query or a user name; credentials go into telemetry.headersFile"
        );
        ensure!(authority.len() == host.len() || uri.port_u16().is_some(), "telemetry.endpoint: its port is no number up to 65535");
        ensure!(
            !["/v1/traces", "/v1/logs"].iter().any(|end| uri.path().trim_end_matches('/').ends_with(end)),
            "telemetry.endpoint: /v1/traces and /v1/logs are added to it; leave them out"
        );
        ensure!(self.traces || self.logs, "telemetry: neither traces nor logs are sent; leave the section out");
        ensure!(
            self.ca_file.is_none() || scheme == "https",
            "telemetry.caFile: says how a certificate is checked, and {} has none; use https://",
            self.endpoint
        );
        ensure!(
            self.headers_file.is_none() || self.is_private(),
            "telemetry.headersFile: its credentials would cross the network in clear to {host}; use https://, or a collector at localhost, 127.0.0.0/8 or ::1"
        );
        ensure!(self.sampling_rate_per_million <= 1_000_000, "telemetry.samplingRatePerMillion: is over a million");
        Ok(())
    }
}

/// Whether a URL leads to this machine: `localhost`, an address of 127.0.0.0/8, or `::1`.
pub(super) fn is_near(url: &str) -> bool {
    let host = url.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_ascii_lowercase)).unwrap_or_default();
    host == "localhost" || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether what is sent to a URL is nobody else's to read on its way.
pub(super) fn is_private(url: &str) -> bool {
    is_near(url) || url.parse::<Uri>().is_ok_and(|uri| uri.scheme_str() == Some("https"))
}
