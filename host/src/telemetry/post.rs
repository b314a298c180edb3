//! How batches of telemetry are posted: on a thread of its own, which no request waits for.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::{Builder, Handle};

use crate::config::Telemetry;
use crate::fetch::{self, headers_of};

/// Variables with headers that are sent along, as OpenTelemetry has them.
const HEADERS: [&str; 3] = ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_LOGS_HEADERS"];
/// The longest answer of a collector that is read.
const LONGEST_ANSWER: usize = 64 << 10;

/// Posts to a collector.
pub(super) struct Post {
    client: reqwest::Client,
    /// Credentials, read anew for each post.
    headers_file: Option<PathBuf>,
    runtime: Handle,
    patience: Duration,
    /// Whether the last post of one kind failed, which is said once.
    has_failed: AtomicBool,
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post").finish_non_exhaustive()
    }
}

impl Post {
    pub(super) fn new(config: &Telemetry, patience: Duration) -> anyhow::Result<Self> {
        let client = client_of(config)?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        std::thread::Builder::new().name("telemetry".into()).spawn(move || runtime.block_on(std::future::pending::<()>()))?;
        Ok(Self { client, headers_file: config.headers_file.clone(), runtime: handle, patience, has_failed: AtomicBool::default() })
    }
}

/// What posts as the configuration says, whose files are read for it.
pub(super) fn client_of(config: &Telemetry) -> anyhow::Result<reqwest::Client> {
    let client = fetch::client(config.ca_file.as_deref(), config.headers_file.as_deref(), config.is_near())?;
    if let Some(name) = HEADERS.into_iter().find(|name| std::env::var_os(name).is_some()).filter(|_| !config.is_private()) {
        bail!("{name}: its credentials would cross the network in clear; use https:// for telemetry.endpoint");
    }
    Ok(client.build()?)
}

#[async_trait::async_trait]
impl HttpClient for Post {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (client, file, path) = (self.client.clone(), self.headers_file.clone(), request.uri().path().to_owned());
        // Whoever asks may be on a thread without a runtime.
        let patience = self.patience;
        let posted = self.runtime.spawn(async move {
            let answer = tokio::time::timeout(patience, post(&client, file, request)).await;
            answer.unwrap_or_else(|_| bail!("it did not answer within {} seconds", patience.as_secs()))
        });
        let answer = posted.await;
        let answer = answer.map_err(anyhow::Error::from).flatten();
        let why = match &answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answered {}", answer.status())),
            Err(error) => Some(format!("{error:#}")),
        };
        match (why, self.has_failed.load(Ordering::Relaxed)) {
            (Some(why), false) => {
                self.has_failed.store(true, Ordering::Relaxed);
                tracing::warn!(%why, %path, "the collector does not take telemetry; what it does not take is dropped");
            }
            (None, true) => {
                self.has_failed.store(false, Ordering::Relaxed);
                tracing::info!(%path, "the collector takes telemetry again");
            }
            _ => {}
        }
        Ok(answer?)
    }
}

async fn post(client: &reqwest::Client, headers_file: Option<PathBuf>, mut request: Request<Bytes>) -> anyhow::Result<Response<Bytes>> {
    if let Some(file) = headers_file {
        let text = tokio::fs::read_to_string(&file).await.with_context(|| format!("cannot read {}", file.display()))?;
        request.headers_mut().extend(headers_of(&text).with_context(|| file.display().to_string())?);
    }
    request.headers_mut().values_mut().for_each(|value| value.set_sensitive(true));
    let mut answer = client.execute(request.try_into()?).await?;
    let (status, headers, mut body) = (answer.status(), std::mem::take(answer.headers_mut()), BytesMut::new());
    while let Some(piece) = answer.chunk().await? {
        if body.len() + piece.len() > LONGEST_ANSWER {
            bail!("its answer is over {LONGEST_ANSWER} bytes");
        }
        body.extend_from_slice(&piece);
    }
    let mut response = Response::new(body.freeze());
    *response.status_mut() = status;
    // It may say when to come again.
    *response.headers_mut() = headers;
    Ok(response)
}
