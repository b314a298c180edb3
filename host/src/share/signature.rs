//! Signatures as cosign makes and checks them, with keys: a signed statement about the digest of a manifest.
//!
//! Two forms are known. The older one is a `simplesigning` payload under the tag `sha256-....sig`; it is the one that is written here, for every cosign reads it.
//! The newer one (cosign 3) is a Sigstore bundle with a DSSE envelope that refers to the manifest. Sources: `specs/SIGNATURE_SPEC.md` of sigstore/cosign,
//! `protocol.md` of secure-systems-lab/dsse.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oci_client::Reference;
use oci_client::client::{Config, ImageLayer};
use oci_client::manifest::OciImageManifest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::keys::{PublicKey, SigningKey};
use super::registry::Registry;

const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// Largest signature, and most of them looked at.
const LARGEST: usize = 1 << 20;
const MOST: usize = 32;

/// A signature: what was signed, and by what.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Signature {
    /// What was signed.
    form: Form,
    /// The statement.
    #[serde(with = "in_base64")]
    payload: Vec<u8>,
    /// The signature over it.
    #[serde(with = "in_base64")]
    signature: Vec<u8>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind", content = "payloadType")]
enum Form {
    Simple,
    Dsse(String),
}

mod in_base64 {
    use super::{Engine, STANDARD};
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

impl Signature {
    /// Whether a key made it, for a manifest.
    pub fn is_of(&self, key: &PublicKey, digest: &str) -> bool {
        let (message, says) = match &self.form {
            Form::Simple => (self.payload.clone(), simple_digest(&self.payload)),
            Form::Dsse(kind) => (pre_authentication(kind, &self.payload), statement_digests(&self.payload)),
        };
        says.iter().any(|known| known == digest) && key.signed(&message, &self.signature)
    }
}

/// Signs a manifest in a registry.
pub async fn sign(registry: &Registry, manifest: &Reference, digest: &str, key: &SigningKey) -> anyhow::Result<()> {
    let payload = json!({
        "critical": {
            "identity": {"docker-reference": format!("{}/{}", manifest.registry(), manifest.repository())},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        },
        "optional": null,
    });
    let payload = serde_json::to_vec(&payload)?;
    let signature = STANDARD.encode(key.sign(&payload)?);
    let layer = ImageLayer::new(payload, SIMPLE_SIGNING.into(), Some(BTreeMap::from([(SIGNATURE.to_owned(), signature)])));
    let config = |layers: &[String]| {
        let config = json!({
            "architecture": "", "created": "0001-01-01T00:00:00Z", "os": "", "config": {},
            "history": layers.iter().map(|_| json!({"created": "0001-01-01T00:00:00Z"})).collect::<Vec<_>>(),
            "rootfs": {"type": "layers", "diff_ids": layers},
        });
        Config::new(config.to_string(), "application/vnd.oci.image.config.v1+json".into(), None)
    };
    // Others may have signed it before.
    registry.append(&tagged(manifest, digest), layer, config).await
}

/// The signatures of a manifest that a registry has, in either form.
pub async fn of(registry: &Registry, manifest: &Reference, digest: &str) -> anyhow::Result<Vec<Signature>> {
    let mut found = Vec::new();
    let tag = tagged(manifest, digest);
    if let Ok((bytes, _)) = registry.manifest(&tag).await {
        let parsed: OciImageManifest = serde_json::from_slice(&bytes).with_context(|| format!("{tag} cannot be read"))?;
        for layer in parsed.layers.iter().filter(|layer| layer.media_type == SIMPLE_SIGNING).take(MOST) {
            let Some(signature) = layer.annotations.as_ref().and_then(|annotations| annotations.get(SIGNATURE)) else { continue };
            let Ok(signature) = STANDARD.decode(signature) else { continue };
            found.push(Signature { form: Form::Simple, payload: registry.blob(&tag, layer, LARGEST).await?, signature });
        }
    }
    let at = manifest.clone_with_digest(digest.to_owned());
    for referrer in registry.referrers(&at, BUNDLE).await.unwrap_or_default().into_iter().take(MOST) {
        let (bytes, _) = registry.manifest(&referrer).await?;
        let parsed: OciImageManifest = serde_json::from_slice(&bytes).with_context(|| format!("{referrer} cannot be read"))?;
        for layer in parsed.layers.iter().filter(|layer| layer.media_type == BUNDLE) {
            found.extend(bundled(&registry.blob(&referrer, layer, LARGEST).await?));
        }
    }
    Ok(found)
}

/// Whose signature a manifest carries: the name of the first trusted key that made one.
pub fn signer<'a>(signatures: &[Signature], digest: &str, trusted: impl IntoIterator<Item = (&'a str, &'a PublicKey)>) -> Option<&'a str> {
    trusted.into_iter().find(|(_, key)| signatures.iter().any(|signature| signature.is_of(key, digest))).map(|(name, _)| name)
}

/// Checks what `cosign sign-blob` wrote beside a file: a signature over its bytes, in base64.
pub fn blob_signer<'a>(
    bytes: &[u8],
    signature: &str,
    trusted: impl IntoIterator<Item = (&'a str, &'a PublicKey)>,
) -> anyhow::Result<Option<&'a str>> {
    let Ok(signature) = STANDARD.decode(signature.trim()) else { bail!("the signature is not base64, as `cosign sign-blob` writes it") };
    Ok(trusted.into_iter().find(|(_, key)| key.signed(bytes, &signature)).map(|(name, _)| name))
}

/// Where cosign keeps the signatures of a manifest.
fn tagged(manifest: &Reference, digest: &str) -> Reference {
    Reference::with_tag(manifest.registry().into(), manifest.repository().into(), format!("{}.sig", digest.replace(':', "-")))
}

fn simple_digest(payload: &[u8]) -> Vec<String> {
    let payload: Value = serde_json::from_slice(payload).unwrap_or_default();
    payload.pointer("/critical/image/docker-manifest-digest").and_then(Value::as_str).map(str::to_owned).into_iter().collect()
}

/// The subjects of an in-toto statement that says that something was signed.
fn statement_digests(payload: &[u8]) -> Vec<String> {
    let statement: Value = serde_json::from_slice(payload).unwrap_or_default();
    // Other statements (a list of parts, a scan) are signed too, and say something else.
    if !statement["predicateType"].as_str().is_some_and(|kind| kind.starts_with("https://sigstore.dev/cosign/sign/")) {
        return Vec::new();
    }
    let subjects = statement["subject"].as_array().into_iter().flatten();
    subjects.filter_map(|subject| Some(format!("sha256:{}", subject["digest"]["sha256"].as_str()?))).collect()
}

/// The signatures in a Sigstore bundle.
fn bundled(bundle: &[u8]) -> Vec<Signature> {
    let bundle: Value = serde_json::from_slice(bundle).unwrap_or_default();
    let envelope = &bundle["dsseEnvelope"];
    let Some(kind) = envelope["payloadType"].as_str() else { return Vec::new() };
    let decode = |value: &Value| STANDARD.decode(value.as_str()?).ok();
    let Some(payload) = decode(&envelope["payload"]) else { return Vec::new() };
    let signatures = envelope["signatures"].as_array().into_iter().flatten().take(MOST);
    let made = |signature: &Value| {
        Some(Signature { form: Form::Dsse(kind.to_owned()), payload: payload.clone(), signature: decode(&signature["sig"])? })
    };
    signatures.filter_map(made).collect()
}

/// What a DSSE signature is over.
fn pre_authentication(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_counts_for_what_it_names_and_no_other_statement_does() {
        let simple = br#"{"critical":{"image":{"docker-manifest-digest":"sha256:aa"}}}"#;
        assert_eq!(simple_digest(simple), ["sha256:aa"]);
        let statement = |kind: &str| format!(r#"{{"predicateType":"{kind}","subject":[{{"digest":{{"sha256":"aa"}}}}]}}"#).into_bytes();
        assert_eq!(statement_digests(&statement("https://sigstore.dev/cosign/sign/v1")), ["sha256:aa"]);
        assert!(statement_digests(&statement("https://spdx.dev/Document")).is_empty());
        assert_eq!(
            pre_authentication("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }
}
