//! One HTTPS request on a connection of its own: discovery documents, keys, and the gateway's command line.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::body::collect;

/// Sends a request and reads the whole answer, within a time and a size. Redirects are not followed.
pub async fn fetch(
    tls: &Arc<ClientConfig>,
    request: Request<Full<Bytes>>,
    time: Duration,
    limit: usize,
) -> anyhow::Result<(StatusCode, HeaderMap, Bytes)> {
    let host = request.uri().host().unwrap_or_default().to_owned();
    tokio::time::timeout(time, send(tls, request, limit))
        .await
        .unwrap_or_else(|_| bail!("{host} did not answer within {} seconds", time.as_secs()))
}

async fn send(tls: &Arc<ClientConfig>, mut request: Request<Full<Bytes>>, limit: usize) -> anyhow::Result<(StatusCode, HeaderMap, Bytes)> {
    let uri: Uri = request.uri().clone();
    if uri.scheme_str() != Some("https") {
        bail!("{uri} does not begin with https://");
    }
    let host = uri.host().context("the address has no host")?.trim_matches(['[', ']']).to_owned();
    let tcp =
        TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443))).await.with_context(|| format!("cannot connect to {uri}"))?;
    let stream = TlsConnector::from(Arc::clone(tls))
        .connect(ServerName::try_from(host)?, tcp)
        .await
        .with_context(|| format!("no TLS with {uri}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    if let Some(authority) = uri.authority() {
        request.headers_mut().insert(header::HOST, authority.as_str().parse()?);
    }
    *request.uri_mut() = uri.path_and_query().map_or("/", |p| p.as_str()).parse()?;
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = collect(body, limit).await?.with_context(|| format!("the answer is over {limit} bytes"))?;
    driver.abort();
    Ok((parts.status, parts.headers, body))
}

/// A client's TLS settings that trust the certificates in a PEM text and nothing else.
pub fn trusting(pem: &[u8]) -> anyhow::Result<ClientConfig> {
    Ok(ClientConfig::builder().with_root_certificates(roots(pem)?).with_no_client_auth())
}

/// The certificates of a PEM text.
pub fn roots(pem: &[u8]) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.context("not a PEM certificate")?).context("not a CA certificate")?;
    }
    if roots.is_empty() {
        bail!("no certificate to trust");
    }
    Ok(roots)
}
