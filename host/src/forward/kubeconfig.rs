//! The gateway's own way to the cluster: a kubeconfig, or the ServiceAccount of its pod.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use base64::Engine;
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::config::Cluster;
use crate::fetch::roots;

const IN_CLUSTER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Where the API server is, and how the gateway proves itself there.
pub struct Access {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// A path before every request's, empty as a rule.
    pub prefix: String,
    /// The CA of the API server, PEM.
    pub ca: Vec<u8>,
    /// TLS with the gateway's own client certificate, where it has one.
    pub own_tls: Arc<ClientConfig>,
    /// TLS without any client certificate, for credentials that are not the gateway's own. A certificate would go before a token.
    pub bare_tls: Arc<ClientConfig>,
    /// The same two for connections that watches share: HTTP/2 where the API server speaks it.
    pub own_shared_tls: Arc<ClientConfig>,
    /// See `own_shared_tls`.
    pub bare_shared_tls: Arc<ClientConfig>,
    /// Where the gateway's own token is, if it has one.
    pub token: OwnToken,
}

/// The gateway's own token.
pub enum OwnToken {
    /// It has none.
    None,
    /// Written in the kubeconfig.
    Fixed(Zeroizing<String>),
    /// In a file that is renewed by others.
    File(PathBuf),
}

/// What a kubeconfig's user is known by.
pub enum Presented {
    /// A bearer token.
    Token(Zeroizing<String>),
    /// A client certificate, as DER.
    Certificate(Vec<u8>),
}

impl Presented {
    /// That of a kubeconfig's current context.
    pub fn by(file: &Path) -> anyhow::Result<Self> {
        let read = || -> anyhow::Result<Self> {
            let text = std::fs::read_to_string(file).context("cannot be read")?;
            let config: Kubeconfig = crate::written::secret_yaml(&text)?;
            let base = file.parent().unwrap_or(Path::new("."));
            let context =
                find(&config.contexts, &config.current_context).with_context(|| format!("has no context {:?}", config.current_context))?;
            let user = find(&config.users, &context.user).with_context(|| format!("has no user {:?}", context.user))?;
            let token = match (&user.token_file, &user.token) {
                (Some(file), _) => {
                    Some(std::fs::read_to_string(base.join(file)).with_context(|| format!("cannot read {}", file.display()))?)
                }
                (None, token) => token.clone(),
            };
            if let Some(token) = token {
                return Ok(Self::Token(Zeroizing::new(token.trim().to_owned())));
            }
            let certificate = data_or_file(user.client_certificate_data.as_deref(), user.client_certificate.as_deref(), base)?
                .context("has neither a token nor a client certificate")?;
            let first = CertificateDer::pem_slice_iter(&certificate)
                .next()
                .context("client-certificate: is none")?
                .context("client-certificate")?;
            Ok(Self::Certificate(first.to_vec()))
        };
        read().with_context(|| format!("the kubeconfig {}", file.display()))
    }
}

#[derive(Deserialize)]
struct Kubeconfig {
    #[serde(rename = "current-context", default)]
    current_context: String,
    #[serde(default)]
    clusters: Vec<Named<ClusterEntry>>,
    #[serde(default)]
    users: Vec<Named<UserEntry>>,
    #[serde(default)]
    contexts: Vec<Named<ContextEntry>>,
}

#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "cluster", alias = "user", alias = "context")]
    entry: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterEntry {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
struct UserEntry {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    exec: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct ContextEntry {
    cluster: String,
    user: String,
}

impl Access {
    /// Reads what the configuration names.
    pub fn load(cluster: &Cluster) -> anyhow::Result<Self> {
        match &cluster.kubeconfig {
            Some(file) => {
                Self::from_kubeconfig(file, cluster.context.as_deref()).with_context(|| format!("the kubeconfig {}", file.display()))
            }
            None => Self::in_cluster(),
        }
    }

    fn in_cluster() -> anyhow::Result<Self> {
        let env = |name| std::env::var(name).with_context(|| format!("{name} is not set; outside a pod, give the cluster a kubeconfig"));
        let server = format!("https://{}:{}", env("KUBERNETES_SERVICE_HOST")?, env("KUBERNETES_SERVICE_PORT")?);
        let ca = std::fs::read(Path::new(IN_CLUSTER).join("ca.crt")).context("the pod's ServiceAccount has no ca.crt")?;
        Self::new(&server, ca, None, OwnToken::File(Path::new(IN_CLUSTER).join("token")))
    }

    fn from_kubeconfig(file: &Path, context: Option<&str>) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file).context("cannot be read")?;
        let config: Kubeconfig = crate::written::secret_yaml(&text)?;
        let base = file.parent().unwrap_or(Path::new("."));
        let context = context.unwrap_or(&config.current_context);
        let context = find(&config.contexts, context).with_context(|| format!("has no context {context:?}"))?;
        let cluster = find(&config.clusters, &context.cluster).with_context(|| format!("has no cluster {:?}", context.cluster))?;
        let user = find(&config.users, &context.user).with_context(|| format!("has no user {:?}", context.user))?;
        if cluster.insecure_skip_tls_verify {
            bail!("sets insecure-skip-tls-verify; the gateway does not talk to an API server it cannot verify");
        }
        if user.exec.is_some() {
            bail!("uses an exec plugin; give the gateway a token or a client certificate of its own");
        }
        let ca = data_or_file(cluster.certificate_authority_data.as_deref(), cluster.certificate_authority.as_deref(), base)?
            .context("names no certificate-authority")?;
        let certificate = data_or_file(user.client_certificate_data.as_deref(), user.client_certificate.as_deref(), base)?;
        let key = data_or_file(user.client_key_data.as_deref(), user.client_key.as_deref(), base)?.map(Zeroizing::new);
        let token = match (&user.token_file, &user.token) {
            (Some(file), _) => OwnToken::File(base.join(file)),
            (None, Some(token)) => OwnToken::Fixed(Zeroizing::new(token.clone())),
            (None, None) => OwnToken::None,
        };
        Self::new(&cluster.server, ca, certificate.zip(key), token)
    }

    fn new(server: &str, ca: Vec<u8>, identity: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>, token: OwnToken) -> anyhow::Result<Self> {
        let uri: http::Uri = server.parse().with_context(|| format!("{server} is not an address"))?;
        if uri.scheme_str() != Some("https") {
            bail!("{server} does not begin with https://");
        }
        let builder = || -> anyhow::Result<_> { Ok(ClientConfig::builder().with_root_certificates(roots(&ca)?)) };
        let bare = builder()?.with_no_client_auth();
        let own = match identity {
            Some((certificate, key)) => {
                let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<Vec<_>, _>>().context("client-certificate")?;
                builder()?
                    .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&key).context("client-key")?)
                    .context("client-certificate")?
            }
            None => bare.clone(),
        };
        Ok(Self {
            host: uri.host().context("the server has no host")?.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(443),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            ca,
            own_shared_tls: shared(&own),
            bare_shared_tls: shared(&bare),
            own_tls: Arc::new(own),
            bare_tls: Arc::new(bare),
            token,
        })
    }
}

fn shared(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

fn find<'a, T>(list: &'a [Named<T>], name: &str) -> Option<&'a T> {
    list.iter().find(|named| named.name == name).map(|named| &named.entry)
}

fn data_or_file(data: Option<&str>, file: Option<&Path>, base: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match (data, file) {
        (Some(data), _) if !data.is_empty() => {
            Ok(Some(base64::engine::general_purpose::STANDARD.decode(data.trim()).context("has data that is not base64")?))
        }
        (_, Some(file)) => Ok(Some(std::fs::read(base.join(file)).with_context(|| format!("cannot read {}", file.display()))?)),
        _ => Ok(None),
    }
}
