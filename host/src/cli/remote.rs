//! A gateway that is asked over its own API, with the credential of a kubeconfig.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::classify::escape;
use crate::config::Cluster;
use crate::fetch::fetch;
use crate::forward::{Access, OwnToken};

/// How long an answer may take, and how large one in JSON may be.
const PATIENCE: Duration = Duration::from_secs(120);
const LARGEST: usize = 64 << 20;
/// The largest recording that is fetched.
const LARGEST_RECORDING: usize = 4 << 30;

/// The first file that `KUBECONFIG` names and that is there, as kubectl passes over what is not; none where it is empty.
pub(super) fn kubeconfig() -> Option<PathBuf> {
    let list = std::env::var_os("KUBECONFIG")?;
    let mut named = std::env::split_paths(&list).filter(|file| !file.as_os_str().is_empty()).peekable();
    let first = named.peek().cloned();
    named.find(|file| file.exists()).or(first)
}

/// The one that kubectl reads where nothing is said.
fn usual() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty())?;
    Some(PathBuf::from(home).join(".kube/config")).filter(|file| file.exists())
}

/// A gateway.
pub(super) struct Remote(Access);

impl Remote {
    /// That of a kubeconfig's current context.
    pub(super) fn open(kubeconfig: Option<PathBuf>) -> anyhow::Result<Self> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let kubeconfig = kubeconfig.or_else(self::kubeconfig).or_else(usual).context("give --kubeconfig FILE, or set KUBECONFIG")?;
        let cluster = Cluster { name: String::new(), kubeconfig: Some(kubeconfig), context: None, service_account_issuers: Vec::new() };
        Ok(Self(Access::load(&cluster)?))
    }

    /// What is at a path, with parameters.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<T> {
        let pairs: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
        let target = if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) };
        self.call(Method::GET, &target, String::new())
    }

    /// What is at a path, if it is there within a time.
    pub(super) fn get_within<T: DeserializeOwned>(&self, time: Duration, path: &str) -> anyhow::Result<T> {
        let (status, _, answer) = self.ask(Method::GET, path, String::new(), LARGEST, time)?;
        serde_json::from_slice(&answer).with_context(|| format!("the gateway answered {status} and not what it should"))
    }

    /// Sends a body to a path.
    pub(super) fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: String) -> anyhow::Result<T> {
        let (status, _, answer) = self.ask(method, path, body, LARGEST, PATIENCE)?;
        serde_json::from_slice(&answer).with_context(|| format!("the gateway answered {status} and not what it should"))
    }

    /// A file, and its name.
    pub(super) fn file(&self, path: &str) -> anyhow::Result<(String, Vec<u8>)> {
        let (_, headers, bytes) = self.ask(Method::GET, path, String::new(), LARGEST_RECORDING, PATIENCE * 30)?;
        let disposition = headers.get(header::CONTENT_DISPOSITION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let name = disposition.split_once("filename=\"").and_then(|(_, rest)| rest.strip_suffix('"'));
        Ok((name.context("the gateway does not say what the file is called")?.to_owned(), bytes.to_vec()))
    }

    fn ask(
        &self,
        method: Method,
        path: &str,
        body: String,
        largest: usize,
        patience: Duration,
    ) -> anyhow::Result<(StatusCode, HeaderMap, Bytes)> {
        let access = &self.0;
        let host = if access.host.contains(':') { format!("[{}]", access.host) } else { access.host.clone() };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://{host}:{}{}{path}", access.port, access.prefix))
            .header(header::CONTENT_TYPE, "application/json");
        let token = match &access.token {
            OwnToken::Fixed(token) => Some(token.to_string()),
            OwnToken::File(file) => Some(std::fs::read_to_string(file)?.trim().to_owned()),
            OwnToken::None => None,
        };
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let (tls, request) = (Arc::clone(&access.own_tls), request.body(Bytes::from(body))?);
        let asked = async { fetch(&tls, request, patience, largest).await };
        let (status, headers, answer) = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(asked)?;
        if !status.is_success() {
            let told: Value = serde_json::from_slice(&answer).unwrap_or_default();
            bail!("{}", super::terminal::visible(told["message"].as_str().unwrap_or(&format!("the gateway answered {status}"))));
        }
        Ok((status, headers, answer))
    }
}
