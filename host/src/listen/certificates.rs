//! The serving certificate: given and reloaded when its files change, or made by the gateway.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use arc_swap::ArcSwap;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Listen;
use crate::files;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// The certificate served now.
#[derive(Debug)]
pub struct Certificates {
    current: ArcSwap<CertifiedKey>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl Certificates {
    /// Reads the configured certificate and follows its files, or makes one under the gateway's own CA, which is good for these hosts as well.
    pub fn load(listen: &Listen, hosts: &[String], ca: &Ca) -> anyhow::Result<Arc<Self>> {
        if let (Some(certificate), Some(key)) = (listen.certificate_file.clone(), listen.key_file.clone()) {
            let this = Arc::new(Self { current: ArcSwap::from_pointee(read(&certificate, &key)?) });
            let weak = Arc::downgrade(&this);
            std::thread::Builder::new().name("certificates".into()).spawn(move || {
                let mut seen = changed(&certificate, &key);
                while let Some(this) = weak.upgrade() {
                    let now = changed(&certificate, &key);
                    if now != seen {
                        match read(&certificate, &key) {
                            Ok(new) => {
                                this.current.store(Arc::new(new));
                                seen = now;
                                tracing::info!("the serving certificate was reloaded");
                            }
                            // Halfway through a renewal the two files do not fit; the old pair goes on.
                            Err(error) => tracing::warn!(error = format!("{error:#}"), "the serving certificate could not be reloaded"),
                        }
                    }
                    drop(this);
                    std::thread::sleep(LOOK);
                }
            })?;
            return Ok(this);
        }
        Ok(Arc::new(Self { current: ArcSwap::from_pointee(made(listen, hosts, ca)?) }))
    }

    /// Makes another for other hosts, where the gateway makes it.
    pub fn renew(&self, listen: &Listen, hosts: &[String], ca: &Ca) -> anyhow::Result<()> {
        if listen.certificate_file.is_none() {
            self.current.store(Arc::new(made(listen, hosts, ca)?));
        }
        Ok(())
    }
}

/// A certificate under the gateway's own CA.
fn made(listen: &Listen, hosts: &[String], ca: &Ca) -> anyhow::Result<CertifiedKey> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".into(), "::1".into()];
    names.extend(listen.names.iter().chain(hosts).cloned());
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "postern");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, &ca.issuer()?)?;
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes())?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

fn read(certificate: &Path, key: &Path) -> anyhow::Result<CertifiedKey> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("listen.certificateFile {}", certificate.display()))?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("listen.keyFile {}", key.display()))?;
    let certified = CertifiedKey::new(chain, rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?);
    certified.keys_match().context("listen: the certificate and the key do not belong together")?;
    Ok(certified)
}

fn changed(certificate: &Path, key: &Path) -> [Option<SystemTime>; 2] {
    [certificate, key].map(|file| std::fs::metadata(file).and_then(|m| m.modified()).ok())
}

/// The gateway's own CA, kept in its data directory: for its serving certificate and for the kubeconfig it hands out.
pub struct Ca {
    certificate: String,
    key: PathBuf,
}

impl Ca {
    /// Reads the CA, or makes it.
    pub fn open(data_directory: &Path) -> anyhow::Result<Self> {
        let (certificate_file, key_file) = (data_directory.join("ca.crt"), data_directory.join("ca.key"));
        if let Ok(certificate) = std::fs::read_to_string(&certificate_file)
            && key_file.exists()
        {
            return Ok(Self { certificate, key: key_file });
        }
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "postern gateway CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.pem();
        files::write_private(&key_file, key.serialize_pem().as_bytes())?;
        std::fs::write(&certificate_file, &certificate)?;
        Ok(Self { certificate, key: key_file })
    }

    /// The certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.certificate
    }

    /// A client certificate and its key, PEM.
    pub fn client(&self, username: &str) -> anyhow::Result<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, username);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok((params.signed_by(&key, &self.issuer()?)?.pem(), key.serialize_pem()))
    }

    fn issuer(&self) -> anyhow::Result<Issuer<'static, KeyPair>> {
        let key = KeyPair::from_pem(&std::fs::read_to_string(&self.key)?)?;
        Ok(Issuer::from_ca_cert_pem(&self.certificate, key)?)
    }
}
