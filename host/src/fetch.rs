//! HTTP to others than API servers: one HTTPS request on a connection of its own (discovery documents, keys, the gateway's command line), for which no proxy of the
//! environment is used; and the client that collectors and witnesses are told by. Only who is named is asked: no redirect is followed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use reqwest::redirect::Policy;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Headers that are of the request as it is sent, and no credential.
const OF_THE_REQUEST: [&str; 5] = ["connection", "content-length", "content-type", "host", "transfer-encoding"];

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

/// A client for somebody who is told things again and again: whose certificate is checked against the CAs of a file, of the machine where none is named. That a file of
/// headers can be read is checked. What is for this machine does not leave it by a proxy.
pub fn client(ca_file: Option<&Path>, headers_file: Option<&Path>, is_near: bool) -> anyhow::Result<reqwest::ClientBuilder> {
    let mut builder = reqwest::Client::builder().redirect(Policy::none());
    if is_near {
        builder = builder.no_proxy();
    }
    if let Some(file) = ca_file {
        let pem = std::fs::read(file).with_context(|| format!("caFile: cannot read {}", file.display()))?;
        let trusted = reqwest::Certificate::from_pem_bundle(&pem).with_context(|| format!("caFile: {}", file.display()))?;
        ensure!(!trusted.is_empty(), "caFile: {} has no certificate", file.display());
        builder = builder.tls_certs_only(trusted);
    }
    if let Some(file) = headers_file {
        ensure!(std::fs::metadata(file).is_ok_and(|about| about.is_file()), "headersFile: there is no file {}", file.display());
        let text = std::fs::read_to_string(file).with_context(|| format!("headersFile: cannot read {}", file.display()))?;
        headers_of(&text).with_context(|| format!("headersFile: {}", file.display()))?;
    }
    Ok(builder)
}

/// The headers in a text. What is wrong with a line is said by its number: it may hold a secret.
pub fn headers_of(text: &str) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (name, value) = line
            .split_once(':')
            .with_context(|| format!("line {} is not `Name: value`, such as `Authorization: Bearer TOKEN`", number + 1))?;
        let name: HeaderName = name.trim().parse().with_context(|| format!("line {}: its name is no header's", number + 1))?;
        ensure!(!OF_THE_REQUEST.contains(&name.as_str()), "line {}: {name} is the request's own", number + 1);
        ensure!(!value.trim().is_empty(), "line {}: {name} has no value", number + 1);
        let mut value =
            HeaderValue::from_str(value.trim()).ok().with_context(|| format!("line {}: its value is no header's", number + 1))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    ensure!(!headers.is_empty(), "it has no header; write one as `Authorization: Bearer TOKEN`");
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_what_is_wrong_is_said_without_them() {
        let headers = headers_of("Authorization: Bearer s3cr3t\n\nX-Scope-OrgID:  one:two \n").unwrap();
        assert_eq!((headers["authorization"].to_str().unwrap(), headers["x-scope-orgid"].to_str().unwrap()), ("Bearer s3cr3t", "one:two"));
        assert!(!format!("{headers:?}").contains("s3cr3t"));
        for (text, expected) in [
            ("A: b\ns3cr3t", "line 2 is not `Name: value`, such as"),
            ("Host: s3cr3t", "line 1: host is the request's own"),
            ("A: ", "line 1: a has no value"),
            ("\n", "it has no header"),
            ("s3 cr3t: b", "line 1: its name is no header's"),
            ("A: s3cr3t\u{7f}", "line 1: its value is no header's"),
        ] {
            let error = format!("{:#}", headers_of(text).unwrap_err());
            assert!(error.starts_with(expected) && !error.contains("s3cr3t"), "{error}");
        }
    }
}
