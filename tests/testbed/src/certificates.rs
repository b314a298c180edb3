//! The cluster's certificates.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// A CA and the files it issues into.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, PEM.
    pub pem: String,
    directory: PathBuf,
}

impl Ca {
    /// Makes a CA whose certificate is `NAME.crt` in a directory.
    pub fn new(name: &str, directory: &Path) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key)?.pem();
        std::fs::write(directory.join(format!("{name}.crt")), &pem)?;
        Ok(Self { issuer: Issuer::new(params, key), pem, directory: directory.to_owned() })
    }

    /// Issues a certificate for servers and clients; its files are `NAME.crt` and `NAME.key`.
    pub fn issue(&self, name: &str, common_name: &str, organisations: &[&str]) -> anyhow::Result<(String, String)> {
        let organisations = organisations.iter().map(|organisation| (DnType::OrganizationName, DnValue::from(*organisation)));
        let subject: Vec<_> = std::iter::once((DnType::CommonName, DnValue::from(common_name))).chain(organisations).collect();
        self.issue_for(name, &subject)
    }

    /// The same for a subject of any attributes.
    pub fn issue_for(&self, name: &str, subject: &[(DnType, DnValue)]) -> anyhow::Result<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(["localhost", "127.0.0.1"].map(String::from).to_vec())?;
        for (attribute, value) in subject {
            params.distinguished_name.push(attribute.clone(), value.clone());
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        std::fs::write(self.directory.join(format!("{name}.crt")), &certificate)?;
        std::fs::write(self.directory.join(format!("{name}.key")), key.serialize_pem())?;
        Ok((certificate, key.serialize_pem()))
    }
}
