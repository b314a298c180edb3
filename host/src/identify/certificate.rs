//! Client certificates.
//!
//! The handshake only checks that the peer holds the certificate's key. Whether the chain is one we let in is told by
//! [`CertificateCa::verify`] afterwards, so that a stranger's certificate is answered 401 and recorded instead of ending in a
//! broken connection that nobody understands.

use std::fmt;
use std::sync::Arc;

use anyhow::{Context, bail};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, X509Certificate};

use super::{Caller, credential_id, name};

/// What the client's certificate says.
#[derive(Clone, Debug)]
pub enum Presented {
    /// There is none.
    None,
    /// It is one we let in.
    Valid(Arc<Caller>),
    /// It is not, and why.
    Invalid(String),
}

/// The CA whose client certificates are let in.
pub struct CertificateCa {
    verifier: Arc<dyn ClientCertVerifier>,
}

impl CertificateCa {
    /// Reads the CA's certificates.
    pub fn from_pem(pem: &[u8]) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.context("not a PEM certificate")?).context("not a CA certificate")?;
        }
        if roots.is_empty() {
            bail!("holds no certificate");
        }
        Ok(Self { verifier: WebPkiClientVerifier::builder(Arc::new(roots)).build()? })
    }

    pub(super) fn verify(&self, chain: &[CertificateDer<'_>]) -> Presented {
        let Some((end_entity, intermediates)) = chain.split_first() else { return Presented::None };
        if let Err(error) = self.verifier.verify_client_cert(end_entity, intermediates, UnixTime::now()) {
            return Presented::Invalid(format!("the client certificate is not let in: {error}; use one the gateway's client CA signed"));
        }
        match caller(end_entity) {
            Ok(caller) => Presented::Valid(Arc::new(caller)),
            Err(why) => Presented::Invalid(format!("the client certificate is not let in: {why}")),
        }
    }
}

/// As Kubernetes reads a client certificate: the common name is the user, organisations are groups. Where Go would read another one of several, or a text
/// in an encoding that is not read here, nothing is guessed.
fn caller(certificate: &CertificateDer<'_>) -> Result<Caller, String> {
    let der = certificate.as_ref();
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| "it cannot be read")?;
    let subject = certificate.subject();
    let texts = |attributes: &mut dyn Iterator<Item = &AttributeTypeAndValue<'_>>, what: &str| -> Result<Vec<String>, String> {
        let unread =
            || format!("its subject has {what} in an encoding that is not read; have it issued with UTF8String or PrintableString");
        attributes.map(|attribute| attribute.as_str().map(str::to_owned).map_err(|_| unread())).collect()
    };
    let names = texts(&mut subject.iter_common_name(), "a common name")?;
    let groups = texts(&mut subject.iter_organization(), "an organisation")?;
    let [username] = names.as_slice() else {
        return Err(match names.len() {
            0 => "it names no user: its subject has no common name".into(),
            _ => "its subject has several common names; have it issued with one".to_owned(),
        });
    };
    name::check(username, &groups)?;
    let issuer = format!("x509:{}", certificate.issuer());
    Ok(Caller {
        credential: credential_id(&issuer, username, der),
        cluster: Arc::default(),
        username: username.clone(),
        groups,
        issuer,
        claims: Vec::new(),
        expires: u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0),
    })
}

/// Lets every certificate through the handshake whose key the peer holds. See the module's text for who decides.
pub struct HandshakeOnly(pub Arc<CryptoProvider>);

impl fmt::Debug for HandshakeOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandshakeOnly")
    }
}

impl ClientCertVerifier for HandshakeOnly {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
