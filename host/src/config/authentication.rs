//! Who is let in, written as Kubernetes' `AuthenticationConfiguration` writes it.
//!
//! Source: KEP-3331 and `k8s.io/apiserver/pkg/apis/apiserver/v1`. Of that type `jwt` is read here; `uid` and `extra` mappings
//! are taken too, so that a working text can be pasted.

use std::path::PathBuf;

use anyhow::bail;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Seconds;

/// Who is let in.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Authentication {
    /// Issuers of JSON Web Tokens, as in Kubernetes' `AuthenticationConfiguration`.
    pub jwt: Vec<JwtAuthenticator>,
    /// PEM file of the CA whose client certificates are let in: the common name is the user, organisations are groups.
    pub client_ca_file: Option<PathBuf>,
    /// Seconds two clocks may differ.
    pub clock_skew: Seconds,
    /// Signature algorithms let in. Symmetric ones and `none` never are.
    pub algorithms: Vec<String>,
}

impl Default for Authentication {
    fn default() -> Self {
        Self {
            jwt: Vec::new(),
            client_ca_file: None,
            clock_skew: Seconds(10),
            algorithms: ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"].map(String::from).into(),
        }
    }
}

/// One issuer and how its claims become a user.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtAuthenticator {
    /// The issuer.
    pub issuer: Issuer,
    /// Rules each token must satisfy.
    #[serde(default)]
    pub claim_validation_rules: Vec<ClaimValidationRule>,
    /// How claims become a user.
    pub claim_mappings: ClaimMappings,
    /// Rules the resulting user must satisfy.
    #[serde(default)]
    pub user_validation_rules: Vec<UserValidationRule>,
}

/// An issuer of tokens.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Issuer {
    /// The `iss` claim, exact; `https://`. Discovery is read at this address unless `discoveryURL` is set.
    pub url: String,
    /// Address of the discovery document when it is not `{url}/.well-known/openid-configuration`.
    #[serde(rename = "discoveryURL", default)]
    pub discovery_url: Option<String>,
    /// PEM certificates the issuer is checked against; the cluster's CA when absent.
    pub certificate_authority: Option<String>,
    /// The `aud` values let in. At least one.
    pub audiences: Vec<String>,
    /// `MatchAny`, the only policy Kubernetes knows.
    #[serde(default)]
    pub audience_match_policy: Option<String>,
}

/// A rule each token must satisfy: a claim with a value, or an expression with a message.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimValidationRule {
    /// A claim that must be there.
    pub claim: Option<String>,
    /// The value it must have.
    pub required_value: Option<String>,
    /// CEL over `claims`; true lets the token in.
    pub expression: Option<String>,
    /// What the caller is told when the expression is false.
    pub message: Option<String>,
}

/// How claims become a user.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimMappings {
    /// The user's name.
    pub username: PrefixedClaimOrExpression,
    /// The user's groups.
    pub groups: Option<PrefixedClaimOrExpression>,
    /// The user's uid. Read for compatibility; policies see all claims.
    pub uid: Option<PrefixedClaimOrExpression>,
    /// Extra attributes. Read for compatibility; policies see all claims.
    #[serde(default)]
    pub extra: Vec<ExtraMapping>,
}

/// A claim with a prefix, or an expression.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PrefixedClaimOrExpression {
    /// The claim.
    pub claim: Option<String>,
    /// What stands before its value.
    pub prefix: Option<String>,
    /// CEL over `claims`.
    pub expression: Option<String>,
}

/// One extra attribute.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExtraMapping {
    /// Its key.
    pub key: String,
    /// CEL over `claims`.
    pub value_expression: String,
}

/// A rule the resulting user must satisfy.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserValidationRule {
    /// CEL over `user.username` and `user.groups`; true lets the user in.
    pub expression: String,
    /// What the caller is told when it is false.
    pub message: Option<String>,
}

impl Authentication {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        const ASYMMETRIC: [&str; 9] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];
        for algorithm in &self.algorithms {
            if !ASYMMETRIC.contains(&algorithm.as_str()) {
                bail!("authentication.algorithms: {algorithm} is not let in; choose from {}", ASYMMETRIC.join(", "));
            }
        }
        if self.clock_skew.0 > 300 {
            bail!("authentication.clockSkew: more than 300 seconds is no skew but a longer token life");
        }
        let mut seen = std::collections::HashSet::new();
        for (index, authenticator) in self.jwt.iter().enumerate() {
            authenticator.check().map_err(|e| e.context(format!("authentication.jwt[{index}]")))?;
            if !seen.insert(&authenticator.issuer.url) {
                bail!("authentication.jwt[{index}].issuer.url: {} is there twice", authenticator.issuer.url);
            }
        }
        Ok(())
    }
}

impl JwtAuthenticator {
    fn check(&self) -> anyhow::Result<()> {
        let issuer = &self.issuer;
        for url in std::iter::once(&issuer.url).chain(&issuer.discovery_url) {
            if !url.starts_with("https://") {
                bail!("issuer: {url} does not begin with https://");
            }
        }
        if issuer.audiences.is_empty() {
            bail!("issuer.audiences: name at least one audience, or any token of the issuer would be let in");
        }
        if let Some(policy) = &issuer.audience_match_policy
            && !policy.is_empty()
            && policy != "MatchAny"
        {
            bail!("issuer.audienceMatchPolicy: {policy} is not known; write MatchAny");
        }
        self.claim_mappings.username.check("claimMappings.username", true)?;
        if let Some(groups) = &self.claim_mappings.groups {
            groups.check("claimMappings.groups", true)?;
        }
        if let Some(uid) = &self.claim_mappings.uid {
            uid.check("claimMappings.uid", false)?;
        }
        for (index, rule) in self.claim_validation_rules.iter().enumerate() {
            match (&rule.claim, &rule.expression) {
                (Some(_), None) => {}
                (None, Some(_)) if rule.required_value.is_none() => {}
                _ => bail!("claimValidationRules[{index}]: set claim and requiredValue, or expression and message"),
            }
        }
        Ok(())
    }
}

impl PrefixedClaimOrExpression {
    fn check(&self, name: &str, prefixed: bool) -> anyhow::Result<()> {
        match (&self.claim, &self.expression) {
            // KEP-3331: with a claim the prefix must be written, if only as the empty string.
            (Some(_), None) if self.prefix.is_none() && prefixed => {
                bail!("{name}.prefix: must be written with claim, if only as \"\"")
            }
            (Some(_), None) => Ok(()),
            (None, Some(_)) if self.prefix.is_none() => Ok(()),
            (None, Some(_)) => bail!("{name}: prefix goes with claim; write the prefix in the expression"),
            _ => bail!("{name}: set claim or expression, one of the two"),
        }
    }
}
