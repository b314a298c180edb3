//! One HTTPS request on a connection of its own: discovery documents, keys, and the gateway's command line.
//!
//! Only who is named is asked: no redirect is followed, and no proxy of the environment is used.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use reqwest::redirect::Policy;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Sends a request and reads the whole answer, within a time and a size.
pub async fn fetch(
    tls: &Arc<ClientConfig>,
    request: Request<Bytes>,
    time: Duration,
    limit: usize,
) -> anyhow::Result<(StatusCode, HeaderMap, Bytes)> {
    let host = request.uri().host().unwrap_or_default().to_owned();
    let client = reqwest::Client::builder().tls_backend_preconfigured(ClientConfig::clone(tls)).http1_only().https_only(true);
    let client = client.redirect(Policy::none()).no_proxy().pool_max_idle_per_host(0).build()?;
    let send = async {
        let mut answer = client.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
        let (status, headers) = (answer.status(), std::mem::take(answer.headers_mut()));
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
            if body.len() + piece.len() > limit {
                bail!("the answer is over {limit} bytes");
            }
            body.extend_from_slice(&piece);
        }
        Ok((status, headers, Bytes::from(body)))
    };
    match tokio::time::timeout(time, send).await {
        Ok(answer) => answer.with_context(|| format!("cannot ask {host}")),
        Err(_) => bail!("{host} did not answer within {} seconds", time.as_secs()),
    }
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
