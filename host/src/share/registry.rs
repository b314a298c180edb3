//! OCI registries: a policy is an OCI artifact of one Wasm layer.
//!
//! Media types are those of the CNCF's Wasm artifact layout (tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact); layers as Kubewarden and older tools
//! write them are read too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use docker_credential::{CredentialRetrievalError, DockerCredential};
use futures_util::StreamExt;
use http::HeaderValue;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::manifest::{IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

use super::{LARGEST_MODULE, sha256};

const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const LAYER: &str = "application/wasm";
/// What others call a layer that is a Wasm module.
const OTHER_LAYERS: [&str; 2] = ["application/vnd.wasm.content.layer.v1+wasm", "application/vnd.module.wasm.content.layer.v1+wasm"];
/// Largest manifest and largest signature read.
const LARGEST_MANIFEST: usize = 1 << 20;
/// How long a registry may say nothing.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to give what is short. The client reads it whole, so that this is also what bounds it.
const SHORT: Duration = Duration::from_secs(60);
/// How long it may take to give a module.
const LONG: Duration = Duration::from_secs(600);

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Registries (host and port) that are spoken to without TLS.
    pub plain_http: Vec<String>,
    /// PEM of further CAs.
    pub ca: Option<Vec<u8>>,
}

/// A client of one registry.
pub struct Registry {
    client: Client,
    auth: RegistryAuth,
}

/// A policy that came from a registry.
#[derive(Debug)]
pub struct Pulled {
    /// The module.
    pub module: Vec<u8>,
    /// The manifest, as it is stored there.
    pub manifest: Vec<u8>,
    /// SHA-256 of the manifest: what pins it.
    pub digest: String,
}

/// Reads `oci://registry/repository@sha256:...` or `:tag`.
pub fn reference(text: &str) -> anyhow::Result<Reference> {
    let plain = text.strip_prefix("oci://").unwrap_or(text);
    plain
        .parse()
        .with_context(|| format!("{text:?} names nothing in a registry; write oci://ghcr.io/acme/policy:1.0 or oci://...@sha256:..."))
}

impl Registry {
    /// Sets a client up for the registry of a reference.
    pub fn of(reference: &Reference, access: &Access) -> anyhow::Result<Self> {
        // Where a provider is installed already it is the same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let certificate = |data: &Vec<u8>| Certificate { encoding: CertificateEncoding::Pem, data: data.clone() };
        let config = ClientConfig {
            protocol: ClientProtocol::HttpsExcept(access.plain_http.clone()),
            extra_root_certificates: access.ca.iter().map(certificate).collect(),
            read_timeout: Some(PATIENCE),
            connect_timeout: Some(PATIENCE),
            user_agent: concat!("postern/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        // Asked once: a credential helper is a program of its own.
        Ok(Self { client: Client::try_from(config).context("a client of registries cannot be set up")?, auth: credential(reference)? })
    }

    /// Puts a module there; gives back the digest of its manifest.
    pub async fn push(
        &self,
        to: &Reference,
        module: &[u8],
        annotations: BTreeMap<String, String>,
        contract: &[String],
    ) -> anyhow::Result<String> {
        let layer = ImageLayer::new(module.to_vec(), LAYER.into(), None);
        let config = serde_json::json!({
            "architecture": "wasm", "os": "wasip2", "layerDigests": [layer.sha256_digest()],
            "component": {"exports": contract, "imports": [], "target": null},
        });
        let config = Config::new(serde_json::to_vec(&config)?, CONFIG.into(), None);
        let mut manifest = OciImageManifest::build(std::slice::from_ref(&layer), &config, Some(annotations));
        manifest.artifact_type = Some(CONFIG.into());
        let body = serde_json::to_vec(&manifest)?;
        let digest = sha256(&body);
        let pushing = || format!("cannot push to {to}");
        self.client.store_auth_if_needed(to.resolve_registry(), &self.auth).await;
        for (data, digest) in [(layer.data.clone(), layer.sha256_digest()), (config.data.clone(), config.sha256_digest())] {
            self.client.push_blob(to, data, &digest).await.with_context(pushing)?;
        }
        // As it is written here and not as the client would write it: its digest is what is signed.
        self.client.push_manifest_raw(to, body, HeaderValue::from_static(OCI_IMAGE_MEDIA_TYPE)).await.with_context(pushing)?;
        let (stored, _) = self.manifest(&to.clone_with_digest(digest.clone())).await?;
        if sha256(&stored) != digest {
            bail!("{to}: the registry stored another manifest than was sent");
        }
        Ok(digest)
    }

    /// Gets a module.
    pub async fn pull(&self, from: &Reference) -> anyhow::Result<Pulled> {
        let (manifest, digest) = self.manifest(from).await?;
        let parsed: OciImageManifest =
            serde_json::from_slice(&manifest).with_context(|| format!("{from} has a manifest that cannot be read"))?;
        let is_module = |layer: &&OciDescriptor| layer.media_type == LAYER || OTHER_LAYERS.contains(&layer.media_type.as_str());
        let [layer] = parsed.layers.iter().filter(is_module).collect::<Vec<_>>()[..] else {
            let kinds: Vec<&str> = parsed.layers.iter().map(|layer| layer.media_type.as_str()).collect();
            bail!("{from} is no policy: it has the layers {}, and a policy has one of {LAYER}", kinds.join(", "));
        };
        let module = self.blob(from, layer, LARGEST_MODULE as usize).await?;
        Ok(Pulled { module, manifest, digest })
    }

    /// A manifest and its digest, which is what the reference says where it says one.
    pub(super) async fn manifest(&self, of: &Reference) -> anyhow::Result<(Vec<u8>, String)> {
        let accepted = [OCI_IMAGE_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE];
        let pulled = self.client.pull_manifest_raw(of, &self.auth, &accepted);
        let (bytes, _) = within(SHORT, pulled).await?.with_context(|| format!("cannot pull {of}"))?;
        if bytes.len() > LARGEST_MANIFEST {
            bail!("{of}: its manifest is over {LARGEST_MANIFEST} bytes long");
        }
        let digest = sha256(&bytes);
        if of.digest().is_some_and(|wanted| wanted != digest) {
            bail!("{of}: the registry gave {digest} instead");
        }
        Ok((bytes.to_vec(), digest))
    }

    /// A layer, up to a size, and what its digest says.
    pub(super) async fn blob(&self, of: &Reference, layer: &OciDescriptor, largest: usize) -> anyhow::Result<Vec<u8>> {
        within(LONG, self.whole_blob(of, layer, largest)).await?
    }

    async fn whole_blob(&self, of: &Reference, layer: &OciDescriptor, largest: usize) -> anyhow::Result<Vec<u8>> {
        // Where else a layer may be had is not asked: a manifest would send the gateway to any host.
        let here = OciDescriptor { urls: None, ..layer.clone() };
        let mut stream =
            self.client.pull_blob_stream(of, &here).await.with_context(|| format!("cannot pull {} of {of}", layer.digest))?.stream;
        let mut bytes = Vec::new();
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece.with_context(|| format!("{of}: {} broke off", layer.digest))?);
            if bytes.len() > largest {
                bail!("{of}: {} is over {largest} bytes long", layer.digest);
            }
        }
        if sha256(&bytes) != layer.digest {
            bail!("{of}: what came is not {}", layer.digest);
        }
        Ok(bytes)
    }

    /// What refers to a manifest.
    pub(super) async fn referrers(&self, of: &Reference, kind: &str) -> anyhow::Result<Vec<Reference>> {
        let asking = || format!("cannot ask what refers to {of}");
        let index = within(SHORT, self.client.pull_referrers(of, None)).await.and_then(|index| Ok(index?)).with_context(asking)?;
        let fits = index.manifests.into_iter().filter(|entry| may_be(entry.artifact_type.as_deref(), kind));
        Ok(fits.map(|entry| of.clone_with_digest(entry.digest)).collect())
    }

    /// Adds a layer to the manifest under a tag, and makes the manifest where there is none.
    pub(super) async fn append(&self, to: &Reference, layer: ImageLayer, config: impl FnOnce(&[String]) -> Config) -> anyhow::Result<()> {
        let there = self.manifest(to).await.ok().and_then(|(bytes, _)| serde_json::from_slice::<OciImageManifest>(&bytes).ok());
        let mut layers = there.map(|manifest| manifest.layers).unwrap_or_default();
        let digest = layer.sha256_digest();
        layers.retain(|known| known.digest != digest || known.annotations != layer.annotations);
        let digests: Vec<String> = layers.iter().map(|layer| layer.digest.clone()).chain([digest]).collect();
        let config = config(&digests);
        let mut manifest = OciImageManifest::build(std::slice::from_ref(&layer), &config, None);
        manifest.layers.splice(0..0, layers);
        self.client.push(to, &[layer], config, &self.auth, Some(manifest)).await.with_context(|| format!("cannot push to {to}"))?;
        Ok(())
    }
}

/// Whether an entry of an index may be of a kind. One without a kind, and one of the empty configuration's (cosign 3.0 wrote that into the fallback tag of registries
/// without the referrers API), are looked into.
fn may_be(artifact_type: Option<&str>, kind: &str) -> bool {
    artifact_type.is_none_or(|own| own == kind || own == "application/vnd.oci.empty.v1+json")
}

async fn within<T>(time: Duration, work: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(time, work).await.with_context(|| format!("the registry did not finish its answer in {} seconds", time.as_secs()))
}

/// Where `docker login` and its kin leave credentials for registries, whether or not any did.
pub fn docker_configuration() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker"));
    std::env::var_os("DOCKER_CONFIG").map(PathBuf::from).or_else(home).map(|directory| directory.join("config.json"))
}

/// The credential for a registry: what `docker login` and its kin left in `~/.docker/config.json` or in `$DOCKER_CONFIG`.
fn credential(of: &Reference) -> anyhow::Result<RegistryAuth> {
    if !docker_configuration().is_some_and(|file| file.exists()) {
        return Ok(RegistryAuth::Anonymous);
    }
    // Docker's own registry goes by an older name there.
    let server = if of.registry() == "docker.io" { "https://index.docker.io/v1/" } else { of.registry() };
    match docker_credential::get_credential(server) {
        Ok(DockerCredential::UsernamePassword(user, password)) => Ok(RegistryAuth::Basic(user, password)),
        Ok(DockerCredential::IdentityToken(token)) => Ok(RegistryAuth::Bearer(token)),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(RegistryAuth::Anonymous),
        // What a helper printed may hold the secret.
        Err(CredentialRetrievalError::HelperFailure { helper, .. }) => bail!("the credential helper {helper} failed for {server}"),
        Err(error) => bail!("the docker configuration has no usable credential for {server}: {error}"),
    }
}

/// Reads a file of CAs.
pub fn ca_file(file: Option<&Path>) -> anyhow::Result<Option<Vec<u8>>> {
    file.map(|file| std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))).transpose()
}

#[cfg(test)]
mod tests {
    #[test]
    fn entries_that_do_not_say_what_they_are_are_looked_into() {
        let kind = "application/vnd.dev.sigstore.bundle.v0.3+json";
        for own in [None, Some(kind), Some("application/vnd.oci.empty.v1+json")] {
            assert!(super::may_be(own, kind), "{own:?}");
        }
        assert!(!super::may_be(Some("application/spdx+json"), kind));
    }
}
