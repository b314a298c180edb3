//! The serving certificate: given and reloaded when its files change, or made by the gateway.

use std::collections::HashMap;
use std::net::IpAddr;
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
    /// Those of clusters' hosts, where the gateway makes them: none of them tells of another.
    of_hosts: ArcSwap<HashMap<String, Arc<CertifiedKey>>>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let of_host = |name: &str| self.of_hosts.load().get(&name.to_ascii_lowercase()).cloned();
        Some(hello.server_name().and_then(of_host).unwrap_or_else(|| self.current.load_full()))
    }
}

impl Certificates {
    /// Reads the configured certificate and follows its files, or makes one under the gateway's own CA, which is good for these hosts as well.
    pub fn load(listen: &Listen, hosts: &[String], ca: &Ca) -> anyhow::Result<Arc<Self>> {
        if let (Some(certificate), Some(key)) = (listen.certificate_file.clone(), listen.key_file.clone()) {
            let this = Arc::new(Self { current: ArcSwap::from_pointee(read(&certificate, &key)?), of_hosts: ArcSwap::default() });
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
        let (current, of_hosts) = made(listen, hosts, ca)?;
        Ok(Arc::new(Self { current: ArcSwap::from_pointee(current), of_hosts: ArcSwap::from_pointee(of_hosts) }))
    }

    /// Makes another for other hosts, where the gateway makes it.
    pub fn renew(&self, listen: &Listen, hosts: &[String], ca: &Ca) -> anyhow::Result<()> {
        if listen.certificate_file.is_none() {
            let (current, of_hosts) = made(listen, hosts, ca)?;
            self.current.store(Arc::new(current));
            self.of_hosts.store(Arc::new(of_hosts));
        }
        Ok(())
    }
}

/// The gateway's certificate, which is good for addresses too, and one for each further host that has a name.
fn made(listen: &Listen, hosts: &[String], ca: &Ca) -> anyhow::Result<(CertifiedKey, HashMap<String, Arc<CertifiedKey>>)> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".into(), "::1".into()];
    names.extend(listen.names.iter().cloned());
    let (addresses, hosts): (Vec<&String>, Vec<&String>) = hosts.iter().partition(|host| host.parse::<IpAddr>().is_ok());
    names.extend(addresses.into_iter().cloned());
    let of_hosts = hosts.into_iter().map(|host| Ok((host.clone(), Arc::new(signed(vec![host.clone()], ca)?))));
    Ok((signed(names, ca)?, of_hosts.collect::<anyhow::Result<_>>()?))
}

/// A certificate for some names under the gateway's own CA.
fn signed(names: Vec<String>, ca: &Ca) -> anyhow::Result<CertifiedKey> {
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
