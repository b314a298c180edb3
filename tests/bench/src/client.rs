//! A cheap HTTP/1.1 client: one kept connection, one request at a time.

use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where requests go, and with what.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: String,
    tls: Arc<ClientConfig>,
    /// Its Authorization header; empty when a certificate says who it is.
    pub(crate) authorization: String,
}

impl Target {
    /// A server whose certificate a CA signed, and a token for it.
    pub(crate) fn with_token(address: &str, ca_pem: &str, token: &str) -> anyhow::Result<Self> {
        let tls = Arc::new(builder(ca_pem)?.with_no_client_auth());
        Ok(Self { address: address.into(), tls, authorization: format!("Bearer {token}") })
    }

    /// The same, with a client certificate.
    pub(crate) fn with_certificate(address: &str, ca_pem: &str, certificate: &str, key: &str) -> anyhow::Result<Self> {
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<_, _>>()?;
        let tls = builder(ca_pem)?.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes())?)?;
        Ok(Self { address: address.into(), tls: Arc::new(tls), authorization: String::new() })
    }

    /// A TLS connection.
    pub(crate) async fn dial(&self) -> anyhow::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(&self.address).await.with_context(|| self.address.clone())?;
        tcp.set_nodelay(true)?;
        Ok(TlsConnector::from(Arc::clone(&self.tls)).connect(ServerName::try_from("localhost")?, tcp).await?)
    }

    /// A connection that takes requests.
    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        let (sender, connection) = handshake(TokioIo::new(self.dial().await?)).await?;
        tokio::task::spawn_local(async move { drop(connection.await) });
        Ok(Connection { sender, target: self.clone() })
    }
}

fn builder(ca_pem: &str) -> anyhow::Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?.with_root_certificates(roots))
}

/// A kept connection.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    target: Target,
}

impl Connection {
    /// Sends a request; the body of the answer is still to be read.
    pub(crate) async fn send(&mut self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Response<Incoming>> {
        self.send_as("application/json", method, path, body).await
    }

    /// The same, with a body of another type.
    pub(crate) async fn send_as(
        &mut self,
        media_type: &str,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut request =
            Request::builder().method(method).uri(path).header("host", &self.target.address).header("accept", "application/json");
        if !self.target.authorization.is_empty() {
            request = request.header("authorization", &self.target.authorization);
        }
        if !body.is_empty() {
            request = request.header("content-type", media_type);
        }
        self.sender.ready().await?;
        Ok(self.sender.send_request(request.body(Full::new(body))?).await?)
    }

    /// Sends a request that must succeed, and reads the answer to its end; its size.
    pub(crate) async fn call(&mut self, method: Method, path: &str, body: Bytes) -> anyhow::Result<usize> {
        let mut response = self.send(method, path, body).await?;
        let status = response.status();
        let mut size = 0;
        let mut text = Vec::new();
        while let Some(frame) = response.frame().await {
            if let Ok(data) = frame?.into_data() {
                size += data.len();
                if !status.is_success() {
                    text.extend_from_slice(&data);
                }
            }
        }
        if !status.is_success() {
            bail!("{path} answered {status}: {}", String::from_utf8_lossy(&text));
        }
        Ok(size)
    }
}
