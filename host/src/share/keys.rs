//! Keys: ECDSA on P-256, as cosign makes them, and as OpenSSL writes them in PKCS #8.

use std::path::Path;

use anyhow::{Context, bail};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::Aead;
use crypto_secretbox::{KeyInit, XSalsa20Poly1305};
use serde::Deserialize;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};
use zeroize::Zeroizing;

/// What cosign's private keys are called in PEM.
const COSIGN: [&str; 2] = ["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"];
/// The most work a key file may ask for: cosign's own is 2^16.
const MOST_SCRYPT: u64 = 1 << 20;

/// A key that signs.
pub struct SigningKey(EcdsaKeyPair);

/// A key that signatures are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

#[derive(Deserialize)]
struct Encrypted {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Deserialize)]
struct Kdf {
    name: String,
    params: Params,
    salt: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
struct Params {
    n: u64,
    #[serde(rename = "r")]
    r: u32,
    #[serde(rename = "p")]
    p: u32,
}

#[derive(Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

impl SigningKey {
    /// Reads a private key. One that cosign made is opened with a password.
    pub fn read(file: &Path, password: Option<&str>) -> anyhow::Result<Self> {
        let text = Zeroizing::new(std::fs::read_to_string(file).with_context(|| format!("cannot read the key {}", file.display()))?);
        let (label, der) = pem(&text).with_context(|| format!("{} is no key in PEM", file.display()))?;
        let der = Zeroizing::new(der);
        let pkcs8 = match label.as_str() {
            label if COSIGN.contains(&label) => {
                let password = password.context("the key is encrypted: put its password into COSIGN_PASSWORD")?;
                opened(&der, password).with_context(|| file.display().to_string())?
            }
            "PRIVATE KEY" => der,
            other => bail!("{}: a {other} is not read; make one with `cosign generate-key-pair`, or write it as PKCS #8", file.display()),
        };
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8)
            .map_err(|_| anyhow::anyhow!("{} is no ECDSA key on P-256", file.display()))?;
        Ok(Self(pair))
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let signature = self.0.sign(&SystemRandom::new(), message).map_err(|_| anyhow::anyhow!("the key does not sign"))?;
        Ok(signature.as_ref().to_vec())
    }

    /// The key its signatures are checked with.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.public_key().as_ref().to_vec())
    }
}

impl PublicKey {
    /// Reads a public key.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read the key {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("{} is no public key", file.display()))
    }

    /// Reads a public key in PEM.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let (label, der) = pem(text).context("it is not PEM")?;
        if label != "PUBLIC KEY" {
            bail!("a {label} is not taken; PUBLIC KEY is, as cosign writes it into cosign.pub");
        }
        let (_, info) = SubjectPublicKeyInfo::from_der(&der).map_err(|_| anyhow::anyhow!("it is not X.509"))?;
        let point = info.subject_public_key.data.to_vec();
        // An uncompressed point of P-256.
        if point.len() != 65 || point[0] != 4 {
            bail!("only ECDSA keys on P-256 are taken, as cosign makes them");
        }
        Ok(Self(point))
    }

    /// Whether a signature is of this key.
    pub fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.0).verify(message, signature).is_ok()
    }
}

/// The label and the bytes of the first block of PEM.
fn pem(text: &str) -> Option<(String, Vec<u8>)> {
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once("-----END ")?;
    let body: String = body.chars().filter(|c| !c.is_whitespace()).collect();
    Some((label.to_owned(), STANDARD.decode(body).ok()?))
}

/// Opens what cosign encrypted (`sigstore/sigstore/pkg/cryptoutils` and `go-securesystemslib/encrypted`): scrypt, and NaCl's secretbox.
fn opened(json: &[u8], password: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let Encrypted { kdf, cipher, ciphertext } = serde_json::from_slice(json).context("it is not what cosign writes")?;
    if kdf.name != "scrypt" || cipher.name != "nacl/secretbox" {
        bail!("it is encrypted by {} and {}, which are not known", kdf.name, cipher.name);
    }
    let Params { n, r, p } = kdf.params;
    if !n.is_power_of_two() || n.saturating_mul(u64::from(r)).saturating_mul(u64::from(p)) > MOST_SCRYPT {
        bail!("it asks for more work than is done");
    }
    let decode = |text: &str| STANDARD.decode(text).context("it is not what cosign writes");
    let params = scrypt::Params::new(n.trailing_zeros() as u8, r, p).map_err(|_| anyhow::anyhow!("it is not what cosign writes"))?;
    let mut key = Zeroizing::new([0; 32]);
    scrypt::scrypt(password.as_bytes(), &decode(&kdf.salt)?, &params, &mut *key)
        .map_err(|_| anyhow::anyhow!("it is not what cosign writes"))?;
    let nonce: [u8; 24] = decode(&cipher.nonce)?.try_into().map_err(|_| anyhow::anyhow!("it is not what cosign writes"))?;
    let plain = XSalsa20Poly1305::new((&*key).into()).decrypt((&nonce).into(), decode(&ciphertext)?.as_slice());
    Ok(Zeroizing::new(plain.map_err(|_| anyhow::anyhow!("the password is wrong (COSIGN_PASSWORD)"))?))
}
