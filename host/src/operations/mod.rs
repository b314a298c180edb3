//! A listener for those who run the gateway, apart from the paths of the cluster: metrics, and whether it lives and is ready. Nothing here reaches the cluster
//! for a caller, and nothing that is told has a label or a word that a caller chose.

mod checks;
mod sources;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};

use crate::body::Body;
use crate::gateway::Gateway;
use crate::listen::neighbourhood;
use crate::metrics::Metrics;
use crate::slots::Slots;
use checks::Checks;

/// Connections at a time, in all and from one address: a scraper and a few probes need no more, and none of them takes the others' places.
const CONNECTIONS: usize = 64;
const OF_ONE_ADDRESS: usize = 16;
/// How long one lasts: it carries one request.
const LIFE: Duration = Duration::from_secs(30);
/// The longest head of a request, and the longest a connection takes to send one.
const HEAD: usize = 16 << 10;
const HEAD_TIME: Duration = Duration::from_secs(10);
/// OpenMetrics 1.0, which Prometheus asks for first.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The listener, bound.
pub struct Operations {
    tcp: std::net::TcpListener,
    address: SocketAddr,
}

impl Operations {
    /// Binds an address.
    pub async fn bind(address: &str) -> anyhow::Result<Self> {
        let tcp = TcpListener::bind(address).await.with_context(|| format!("operations: cannot listen on {address}"))?;
        let address = tcp.local_addr()?;
        Ok(Self { tcp: tcp.into_std()?, address })
    }

    /// The address bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves for as long as the process lives, on a thread of its own: it answers while those that serve callers are busy.
    pub fn serve(self, gateway: Arc<Gateway>) -> anyhow::Result<()> {
        std::thread::Builder::new().name("operations".into()).spawn(move || {
            let Ok(runtime) = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) else { return };
            runtime.block_on(self.accept(gateway));
        })?;
        Ok(())
    }

    async fn accept(self, gateway: Arc<Gateway>) {
        let Ok(tcp) = TcpListener::from_std(self.tcp) else { return };
        let (places, checks) = (Slots::new(CONNECTIONS), Arc::new(Checks::new(Arc::clone(&gateway))));
        loop {
            let Ok((stream, from)) = tcp.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(place) = places.take(&[&neighbourhood(from.ip()).to_string()], OF_ONE_ADDRESS) else { continue };
            let (gateway, checks) = (Arc::clone(&gateway), Arc::clone(&checks));
            tokio::task::spawn_local(async move {
                let _place = place;
                let service = service_fn(move |request: Request<Incoming>| {
                    let (gateway, checks) = (Arc::clone(&gateway), Arc::clone(&checks));
                    async move { Ok::<_, std::convert::Infallible>(answer(&gateway, &checks, &request).await) }
                });
                let mut builder = hyper::server::conn::http1::Builder::new();
                builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD).keep_alive(false);
                let _ = tokio::time::timeout(LIFE, builder.serve_connection(TokioIo::new(stream), service)).await;
            });
        }
    }
}

/// What was counted, by cluster. What is for no cluster is told with an empty name, where there are several.
fn counted(gateway: &Gateway) -> Vec<(String, Arc<Metrics>)> {
    let table = gateway.clusters();
    let none = table.alone().is_none().then(|| (String::new(), Arc::clone(gateway.metrics())));
    none.into_iter().chain(table.ready().map(|cluster| (cluster.name().to_owned(), Arc::clone(cluster.metrics())))).collect()
}

async fn answer(gateway: &Arc<Gateway>, checks: &Checks, request: &Request<Incoming>) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n".into());
    }
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    if path == "/metrics" {
        let text = Metrics::text(counted(gateway), sources::of(gateway));
        let mut response = plain(StatusCode::OK, text);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS));
        return response;
    }
    match checks.answer(path, query).await {
        Some((true, text)) => plain(StatusCode::OK, text),
        Some((false, text)) => plain(StatusCode::SERVICE_UNAVAILABLE, text),
        None => plain(StatusCode::NOT_FOUND, "/metrics, /livez, /readyz and /healthz are answered here\n".into()),
    }
}

fn plain(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::full(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}
