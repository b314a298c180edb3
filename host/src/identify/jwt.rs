//! JSON Web Tokens of the configured issuers.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use aws_lc_rs::digest;
use base64::Engine;
use jsonwebtoken::{Algorithm, Validation};
use quick_cache::sync::Cache;
use serde_json::Value;

use super::claims::{Claims, Mappings};
use super::jwks::Jwks;
use super::{Caller, credential_id, now};
use crate::config::Authentication;
use crate::status::Refusal;
use crate::wire::json::{self, Unambiguous};

/// Verified tokens remembered, so that a signature is checked once and not with every request.
const REMEMBERED: usize = 10_000;
/// The end of the year 9999: what a token says beyond that is no time a clock can be asked about.
const END_OF_TIME: u64 = 253_402_300_799;
const REFRESH_EVERY: Duration = Duration::from_secs(300);

/// Verifies tokens.
pub(super) struct Authenticator {
    issuers: Vec<IssuerState>,
    algorithms: Vec<Algorithm>,
    leeway: u64,
    /// By the SHA-256 of the token.
    verified: Cache<[u8; 32], Verified>,
}

/// Who a token is of, and the key it was verified with: once its issuer takes that back, it is verified no longer.
#[derive(Clone)]
struct Verified {
    caller: Arc<Caller>,
    issuer: usize,
    key: u64,
}

struct IssuerState {
    url: String,
    audiences: Vec<String>,
    mappings: Mappings,
    jwks: Jwks,
}

impl Authenticator {
    pub(super) fn new(config: &Authentication, cluster_ca: &[u8]) -> anyhow::Result<Self> {
        let mut issuers = Vec::new();
        for (index, authenticator) in config.jwt.iter().enumerate() {
            let at = || format!("authentication.jwt[{index}]");
            issuers.push(IssuerState {
                url: authenticator.issuer.url.clone(),
                audiences: authenticator.issuer.audiences.clone(),
                mappings: Mappings::compile(authenticator).with_context(at)?,
                jwks: Jwks::new(&authenticator.issuer, cluster_ca).with_context(at)?,
            });
        }
        let algorithms = config
            .algorithms
            .iter()
            .map(|a| a.parse().with_context(|| format!("authentication.algorithms: {a}")))
            .collect::<Result<_, _>>()?;
        Ok(Self { issuers, algorithms, leeway: config.clock_skew.0, verified: Cache::new(REMEMBERED) })
    }

    pub(super) async fn keep_fresh(&self) {
        loop {
            for issuer in &self.issuers {
                issuer.jwks.refresh(Duration::from_secs(1)).await;
            }
            let wait = if self.issuers.iter().any(|i| i.jwks.is_empty()) { Duration::from_secs(5) } else { REFRESH_EVERY };
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks every issuer for its keys.
    pub(super) async fn ask_issuers(&self) -> Vec<(String, anyhow::Result<usize>)> {
        let mut told = Vec::new();
        for issuer in &self.issuers {
            told.push(issuer.jwks.ask().await);
        }
        told
    }

    /// The issuers, and how long ago their keys were fetched.
    pub(super) fn ages_of_keys(&self) -> impl Iterator<Item = (&str, Option<Duration>)> {
        self.issuers.iter().map(|issuer| (issuer.url.as_str(), issuer.jwks.age()))
    }

    pub(super) async fn authenticate(&self, token: &str) -> Result<Arc<Caller>, Refusal> {
        let mut key = [0; 32];
        key.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        if let Some(Verified { caller, issuer, key }) = self.verified.get(&key)
            && caller.expires + self.leeway > now()
            && self.issuers[issuer].jwks.publishes(key)
        {
            return Ok(caller);
        }
        let new = self.verify(token).await?;
        let caller = Arc::clone(&new.caller);
        self.verified.insert(key, new);
        Ok(caller)
    }

    async fn verify(&self, token: &str) -> Result<Verified, Refusal> {
        let garbled = || Refusal::unauthorized("the bearer token is not a JSON Web Token");
        let [header, payload] = unverified_parts(token).ok_or_else(garbled)?;
        // jsonwebtoken does not know `none` at all: such a header does not parse, and neither does an unknown algorithm.
        let algorithm = header.get("alg").and_then(|a| a.as_str()).unwrap_or_default();
        let algorithm = algorithm.parse::<Algorithm>().ok().filter(|a| self.algorithms.contains(a)).ok_or_else(|| {
            let shown: String = algorithm.chars().filter(|c| c.is_ascii_alphanumeric()).take(16).collect();
            Refusal::unauthorized(format!("the token's algorithm {shown:?} is not let in (authentication.algorithms)"))
        })?;
        if header.contains_key("crit") {
            return Err(Refusal::unauthorized("the token has critical header extensions, of which none is known"));
        }
        let iss = payload.get("iss").and_then(|i| i.as_str()).unwrap_or_default();
        let index =
            self.issuers.iter().position(|i| i.url == iss).ok_or_else(|| {
                Refusal::unauthorized("the token's issuer is not one of those configured (authentication.jwt[].issuer.url)")
            })?;
        let issuer = &self.issuers[index];
        let kid = header.get("kid").and_then(|k| k.as_str());
        let keys = issuer.jwks.find(kid, algorithm).await;
        if keys.is_empty() && issuer.jwks.is_empty() {
            return Err(Refusal::unavailable(format!("the keys of the issuer {} could not be fetched yet; try again", issuer.url)));
        }
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.leeway;
        validation.validate_nbf = true;
        validation.set_issuer(&[&issuer.url]);
        validation.set_audience(&issuer.audiences);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let mut why = "the token is signed with a key the issuer does not publish".to_owned();
        for candidate in keys {
            match jsonwebtoken::decode::<Unambiguous>(token, &candidate.key, &validation) {
                Ok(verified) => match verified.claims.0 {
                    Value::Object(claims) => {
                        let caller = Arc::new(issuer.caller(claims, token)?);
                        return Ok(Verified { caller, issuer: index, key: candidate.fingerprint });
                    }
                    _ => return Err(garbled()),
                },
                Err(error) => why = explain(error.kind()),
            }
        }
        Err(Refusal::unauthorized(why))
    }
}

impl IssuerState {
    fn caller(&self, claims: Claims, token: &str) -> Result<Caller, Refusal> {
        let (username, groups) = self.mappings.map(&claims).map_err(Refusal::unauthorized)?;
        let expires = claims.get("exp").and_then(|e| e.as_f64()).map_or(0, |e| e as u64).min(END_OF_TIME);
        let own = claims.get("jti").and_then(|id| id.as_str()).filter(|id| !id.is_empty()).unwrap_or(token);
        let credential = credential_id(&self.url, &username, own.as_bytes());
        let claims = claims.into_iter().map(|(name, value)| (name, value.to_string())).collect();
        Ok(Caller { username, groups, issuer: self.url.clone(), claims, expires, credential, cluster: Arc::default() })
    }
}

/// Header and payload before anything is verified: used to choose the issuer and key, and for nothing else.
pub fn unverified_parts(token: &str) -> Option<[Claims; 2]> {
    let mut parts = token.split('.');
    let (header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let decode = |text: &str| match json::read(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()?).ok()? {
        Value::Object(claims) => Some(claims),
        _ => None,
    };
    Some([decode(header)?, decode(payload)?])
}

fn explain(kind: &jsonwebtoken::errors::ErrorKind) -> String {
    use jsonwebtoken::errors::ErrorKind;
    match kind {
        ErrorKind::ExpiredSignature => "the token has expired; get a new one".into(),
        ErrorKind::ImmatureSignature => "the token is not valid yet; compare the clocks".into(),
        ErrorKind::InvalidAudience => "the token is for another audience (authentication.jwt[].issuer.audiences)".into(),
        ErrorKind::InvalidIssuer => "the token is of another issuer".into(),
        ErrorKind::InvalidSignature => "the token's signature is not valid".into(),
        ErrorKind::MissingRequiredClaim(claim) => format!("the token lacks the claim {claim}"),
        _ => "the token is not valid".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn no_token_panics(text in r"[A-Za-z0-9_.=+/-]{0,60}", json in r#"[{}":a-z0-9,\[\]]{0,30}"#) {
            let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&json);
            for token in [text.clone(), format!("{encoded}.{encoded}."), format!("{encoded}.{text}")] {
                let _ = unverified_parts(&token);
            }
        }
    }
}
