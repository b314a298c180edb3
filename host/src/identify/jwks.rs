//! An issuer's keys: found by discovery, cached, refreshed on an unknown key, kept while the issuer is down.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::Request;
use jsonwebtoken::jwk::{Jwk, JwkSet, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use rustls::ClientConfig;
use tokio::sync::Mutex;

use crate::config::Issuer;
use crate::fetch::{fetch, trusting};

/// How long a fetch may take, and how large its answer may be.
const FETCH_TIME: Duration = Duration::from_secs(10);
const FETCH_LIMIT: usize = 1 << 20;
/// A key nobody knows is looked for once in this time, so that made-up tokens do not become load on the issuer.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Most keys tried for one token.
const MOST_TRIED: usize = 8;
/// What keys are known by.
static FINGERPRINTS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
/// Most keys taken from one issuer.
const MOST_KEYS: usize = 100;

/// The keys of one issuer.
pub(super) struct Jwks {
    issuer: String,
    discovery: String,
    tls: Arc<ClientConfig>,
    keys: ArcSwapOption<Keys>,
    last_attempt: Mutex<Option<Instant>>,
}

/// Keys in the order they are published in, and what they are.
pub(super) struct Keys {
    all: Vec<VerifyingKey>,
    /// The fingerprints of all: a token that was verified with another is verified no longer.
    published: HashSet<u64>,
    fetched: Instant,
}

/// A public key and the algorithms it may verify.
#[derive(Clone)]
pub(super) struct VerifyingKey {
    pub(super) key: DecodingKey,
    /// What tells it from every other, among those of this process.
    pub(super) fingerprint: u64,
    id: String,
    algorithm: Option<Algorithm>,
}

impl Jwks {
    pub(super) fn new(issuer: &Issuer, cluster_ca: &[u8]) -> anyhow::Result<Self> {
        let ca = issuer.certificate_authority.as_deref().filter(|ca| !ca.is_empty()).map_or(cluster_ca, str::as_bytes);
        let discovery = issuer.discovery_url.clone().filter(|u| !u.is_empty());
        Ok(Self {
            issuer: issuer.url.clone(),
            discovery: discovery.unwrap_or_else(|| format!("{}/.well-known/openid-configuration", issuer.url.trim_end_matches('/'))),
            tls: Arc::new(trusting(ca).context("issuer.certificateAuthority")?),
            keys: ArcSwapOption::empty(),
            last_attempt: Mutex::new(None),
        })
    }

    /// Whether a key is published still, as far as is known.
    pub(super) fn publishes(&self, fingerprint: u64) -> bool {
        self.keys.load().as_ref().is_some_and(|keys| keys.published.contains(&fingerprint))
    }

    /// How long ago its keys were fetched, if they were.
    pub(super) fn age(&self) -> Option<Duration> {
        self.keys.load().as_ref().map(|keys| keys.fetched.elapsed())
    }

    /// Whether keys were ever fetched.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.load().is_none()
    }

    /// The keys a token with this id and algorithm may be verified with. An unknown id makes the keys be fetched again.
    pub(super) async fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Vec<VerifyingKey> {
        if let Some(found) = self.known(kid, algorithm) {
            return found;
        }
        self.refresh(LOOK_AGAIN).await;
        self.known(kid, algorithm).unwrap_or_default()
    }

    /// Fetches the keys unless that was tried within `unless_within`. Old keys stay when it fails.
    pub(super) async fn refresh(&self, unless_within: Duration) {
        let mut last = self.last_attempt.lock().await;
        if last.is_some_and(|at| at.elapsed() < unless_within) {
            return;
        }
        let result = self.fetch_keys().await;
        *last = Some(Instant::now());
        match result {
            Ok(keys) => self.keys.store(Some(Arc::new(keys))),
            Err(error) => {
                tracing::warn!(issuer = %self.issuer, error = format!("{error:#}"), "the issuer's keys could not be fetched; known keys stay in use")
            }
        }
    }

    /// Asks the issuer, and says how many keys it publishes; known keys stay as they are.
    pub(super) async fn ask(&self) -> (String, anyhow::Result<usize>) {
        (self.issuer.clone(), self.fetch_keys().await.map(|keys| keys.all.len()))
    }

    fn known(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<Vec<VerifyingKey>> {
        let keys = self.keys.load();
        let fits = |key: &&VerifyingKey| key.algorithm.is_none_or(|a| a == algorithm) && key.key.family() == algorithm.family();
        // RFC 7515 lets a token name no key: each that fits is tried, the first that are published.
        let named = |key: &&VerifyingKey| kid.is_none_or(|kid| key.id == kid);
        let found: Vec<_> = keys.as_ref()?.all.iter().filter(named).filter(fits).take(MOST_TRIED).cloned().collect();
        (!found.is_empty()).then_some(found)
    }

    async fn fetch_keys(&self) -> anyhow::Result<Keys> {
        let document = self.get(&self.discovery).await.context("discovery")?;
        let document: serde_json::Value = serde_json::from_slice(&document).context("the discovery document is not JSON")?;
        // OpenID Connect Discovery 1.0, section 4.3: the issuer must be the very one asked for.
        if document.get("issuer").and_then(|i| i.as_str()) != Some(&self.issuer) {
            bail!("the discovery document names another issuer");
        }
        let uri = document.get("jwks_uri").and_then(|u| u.as_str()).context("the discovery document has no jwks_uri")?;
        let set: serde_json::Value =
            serde_json::from_slice(&self.get(uri).await.context("jwks_uri")?).context("the key set is not JSON")?;
        let keys = set.get("keys").and_then(|k| k.as_array()).context("the key set has no keys")?;
        // A key of a kind we do not know must not hide the others.
        let jwks = keys.iter().take(MOST_KEYS).filter_map(|k| serde_json::from_value(k.clone()).ok()).collect();
        Ok(Keys::new(&JwkSet { keys: jwks }))
    }

    async fn get(&self, uri: &str) -> anyhow::Result<Bytes> {
        let request = Request::get(uri).header("accept", "application/json, application/jwk-set+json, */*;q=0.5").body(Bytes::new())?;
        let (status, _, body) = fetch(&self.tls, request, FETCH_TIME, FETCH_LIMIT).await?;
        if !status.is_success() {
            bail!("{uri} answered {status}");
        }
        Ok(body)
    }
}

impl Keys {
    fn new(set: &JwkSet) -> Self {
        let mut all = Vec::new();
        for jwk in set.keys.iter().filter(|jwk| verifies(jwk)) {
            let Ok(key) = DecodingKey::from_jwk(jwk) else { continue };
            if key.family() == jsonwebtoken::AlgorithmFamily::Hmac {
                continue;
            }
            let algorithm = jwk.common.key_algorithm.and_then(|a| a.to_string().parse().ok());
            let id = jwk.common.key_id.clone().unwrap_or_default();
            // Under the same id another key may come.
            let fingerprint = FINGERPRINTS.hash_one(serde_json::to_string(jwk).unwrap_or_default());
            all.push(VerifyingKey { key, fingerprint, id, algorithm });
        }
        let published = all.iter().map(|key| key.fingerprint).collect();
        Self { all, published, fetched: Instant::now() }
    }
}

fn verifies(jwk: &Jwk) -> bool {
    jwk.common.public_key_use.as_ref().is_none_or(|u| *u == PublicKeyUse::Signature)
        && jwk.common.key_operations.as_ref().is_none_or(|ops| ops.contains(&KeyOperations::Verify))
}
