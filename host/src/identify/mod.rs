//! Identify: headers and a client certificate become a [`Caller`], or 401.

mod certificate;
mod claims;
mod headers;
mod jwks;
mod jwt;
pub mod name;
mod within;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::HeaderMap;
use serde::Serialize;

pub use certificate::{CertificateCa, HandshakeOnly, Presented};
pub use claims::{Claims, Mappings};
pub use headers::{Credentials, strip, strip_websocket_token as strip_token};
pub use jwt::unverified_parts;
pub use within::Within;

use crate::clock::now;
use crate::config::Authentication;
use crate::digest;
use crate::status::Refusal;

/// The authenticated caller. The credential itself is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user's name.
    pub username: String,
    /// The user's groups.
    pub groups: Vec<String>,
    /// The verified issuer; `x509:` and the CA's subject for a client certificate.
    pub issuer: String,
    /// Verified claims, each value as JSON text.
    pub claims: Vec<(String, String)>,
    /// Unix seconds at which the credential ends.
    pub expires: u64,
    /// What names the credential without giving it away: 16 hexadecimal digits of a hash over its issuer, its user, and the token's `jti` or, where
    /// there is none, the token or certificate itself.
    pub credential: String,
    /// The cluster they call, where the gateway has several; empty otherwise. See [`Within`].
    pub cluster: Arc<str>,
}

/// Most of what an unverified token says that is recorded, in characters of each claim.
const LONGEST_UNVERIFIED: usize = 200;

/// See [`Caller::credential`].
fn credential_id(issuer: &str, username: &str, own: &[u8]) -> String {
    digest::hex(&digest::of_parts(&[issuer.as_bytes(), username.as_bytes(), own])[..8])
}

/// What of a token goes into the id of its session: its `jti`, or the token itself where it has none.
pub fn own_of_token(token: &str) -> Vec<u8> {
    let jti = unverified_parts(token).and_then(|[_, claims]| claims.get("jti")?.as_str().filter(|id| !id.is_empty()).map(str::to_owned));
    jti.unwrap_or_else(|| token.to_owned()).into_bytes()
}

/// What a token says of itself that nobody has verified: it may be anything.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Unverified {
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// Its `jti`.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

impl Unverified {
    /// What the token of a request says; none where it has none, or none that says anything.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let Ok(Credentials::Token(token)) = headers::credentials(headers) else { return None };
        let [_, claims] = unverified_parts(&token)?;
        let said = |name: &str| claims.get(name)?.as_str().map(|text| text.chars().take(LONGEST_UNVERIFIED).collect::<String>());
        Some(Self { issuer: said("iss"), subject: said("sub"), id: said("jti") })
            .filter(|said| *said != Self { issuer: None, subject: None, id: None })
    }
}

/// Whether a session is that of a credential, by what of it goes into the id, in the hands of a user of an issuer: of the gateway's only cluster, or of one of several.
pub fn is_session_of(session: &str, issuer: &str, username: &str, cluster: &str, own: &[u8]) -> bool {
    let alone = credential_id(issuer, username, own);
    alone == session || within::session(issuer, username, cluster, &alone) == session
}

/// Tells who is calling.
pub struct Identifier {
    tokens: jwt::Authenticator,
    certificates: Option<CertificateCa>,
}

impl Identifier {
    /// Compiles the configuration. `cluster_ca` is what issuers without a CA of their own are checked against.
    pub fn new(config: &Authentication, cluster_ca: &[u8]) -> anyhow::Result<Arc<Self>> {
        let certificates = match &config.client_ca_file {
            Some(file) => {
                let pem = std::fs::read(file).with_context(|| format!("cannot read authentication.clientCaFile {}", file.display()))?;
                Some(CertificateCa::from_pem(&pem).with_context(|| format!("authentication.clientCaFile {}", file.display()))?)
            }
            None => None,
        };
        Ok(Arc::new(Self { tokens: jwt::Authenticator::new(config, cluster_ca)?, certificates }))
    }

    /// Adds a CA whose client certificates are let in.
    pub fn with_client_ca(self: Arc<Self>, ca: CertificateCa) -> anyhow::Result<Arc<Self>> {
        let mut this = Arc::try_unwrap(self).map_err(|_| anyhow::anyhow!("the identifier is shared already"))?;
        this.certificates = Some(ca);
        Ok(Arc::new(this))
    }

    /// Whether client certificates are asked for.
    pub fn wants_certificates(&self) -> bool {
        self.certificates.is_some()
    }

    /// Keeps the issuers' keys fresh, for as long as the gateway runs.
    pub async fn keep_fresh(self: Arc<Self>) {
        self.tokens.keep_fresh().await;
    }

    /// Asks every issuer for its keys: how many there are, or why they cannot be had.
    pub async fn ask_issuers(&self) -> Vec<(String, anyhow::Result<usize>)> {
        self.tokens.ask_issuers().await
    }

    /// The issuers whose keys were never fetched.
    pub fn without_keys(&self) -> Vec<String> {
        self.tokens.ages_of_keys().filter(|(_, age)| age.is_none()).map(|(issuer, _)| issuer.to_owned()).collect()
    }

    /// How long ago the keys of each issuer were fetched, of those whose were.
    pub fn ages_of_keys(&self) -> Vec<(String, Duration)> {
        self.tokens.ages_of_keys().filter_map(|(issuer, age)| Some((issuer.to_owned(), age?))).collect()
    }

    /// Verifies a client certificate once for its connection.
    pub fn verify_certificate(&self, chain: &[rustls_pki_types::CertificateDer<'_>]) -> Presented {
        match &self.certificates {
            Some(ca) => ca.verify(chain),
            None => Presented::None,
        }
    }

    /// Tells who is calling, from the headers and the connection's certificate. A token goes before a certificate, and one
    /// that is not valid is not made up for by the other.
    pub async fn identify(&self, headers: &HeaderMap, presented: &Presented) -> Result<Arc<Caller>, Refusal> {
        match headers::credentials(headers)? {
            Credentials::Token(token) => self.tokens.authenticate(&token).await,
            Credentials::None => match presented {
                Presented::Valid(caller) if caller.expires > now() => Ok(Arc::clone(caller)),
                Presented::Valid(_) => Err(Refusal::unauthorized("the client certificate has expired; get a new one")),
                Presented::Invalid(why) => Err(Refusal::unauthorized(why.clone())),
                Presented::None => Err(Refusal::unauthorized(
                    "no credential: send a bearer token of a configured issuer, or a client certificate of the configured CA",
                )),
            },
        }
    }
}
