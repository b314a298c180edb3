//! Modules that came from registries, kept in the data directory: a gateway starts and goes on without the registry.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use oci_client::manifest::OciImageManifest;
use serde::{Deserialize, Serialize};

use super::registry::{self, Access, Registry};
use super::signature::{self, Signature};
use super::{sha256, wait};
use crate::files;

/// Where they are kept.
pub struct ModuleStore {
    directory: PathBuf,
    access: Access,
}

/// A module that was fetched.
pub struct Fetched {
    /// The bytes of the module.
    pub module: Vec<u8>,
    /// SHA-256 of its manifest: what its signatures are about.
    pub manifest: String,
    /// The signatures the registry had.
    pub signatures: Vec<Signature>,
    /// `registry/repository`.
    pub repository: String,
}

/// What is kept beside a module.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Beside {
    manifest: String,
    signatures: Vec<Signature>,
}

impl ModuleStore {
    /// Opens or makes it.
    pub fn open(data_directory: &Path, access: Access) -> anyhow::Result<Self> {
        let directory = data_directory.join("modules");
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(Self { directory, access })
    }

    /// Gets a module: from here when it was fetched before, from the registry otherwise. It is pinned by digest, so that both are the same.
    pub fn fetch(&self, source: &str) -> anyhow::Result<Fetched> {
        let from = registry::reference(source)?;
        let Some(digest) = from.digest().map(str::to_owned) else {
            bail!(
                "source: {source} is not pinned; write oci://{}/{}@sha256:..., as `postern policy push` prints it",
                from.registry(),
                from.repository()
            );
        };
        let Some(hex) = digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit())) else {
            bail!("source: {digest} is no SHA-256 digest");
        };
        let repository = format!("{}/{}", from.registry(), from.repository());
        let (module_file, beside_file) = (self.directory.join(format!("{hex}.wasm")), self.directory.join(format!("{hex}.json")));
        if let Some((module, beside)) = kept(&module_file, &beside_file, &digest) {
            return Ok(Fetched { module, manifest: digest, signatures: beside.signatures, repository });
        }
        let access = self.access.clone();
        let (pulled, signatures) = wait(async {
            let registry = Registry::of(&from, &access)?;
            let pulled = registry.pull(&from).await?;
            let signatures = signature::of(&registry, &from, &pulled.digest).await?;
            Ok((pulled, signatures))
        })?;
        let beside = Beside { manifest: String::from_utf8(pulled.manifest).context("the manifest is not UTF-8")?, signatures };
        files::write_private(&module_file, &pulled.module)?;
        files::write_private(&beside_file, &serde_json::to_vec(&beside)?)?;
        Ok(Fetched { module: pulled.module, manifest: digest, signatures: beside.signatures, repository })
    }

    /// The signatures the registry has now: one may have been made since the module was fetched.
    pub fn signatures(&self, source: &str) -> anyhow::Result<Vec<Signature>> {
        let from = registry::reference(source)?;
        let digest = from.digest().unwrap_or_default().to_owned();
        let access = self.access.clone();
        let signatures = wait(async { signature::of(&Registry::of(&from, &access)?, &from, &digest).await })?;
        let hex = digest.trim_start_matches("sha256:");
        let beside_file = self.directory.join(format!("{hex}.json"));
        if let Ok(bytes) = std::fs::read(&beside_file)
            && let Ok(mut beside) = serde_json::from_slice::<Beside>(&bytes)
        {
            beside.signatures.clone_from(&signatures);
            files::write_private(&beside_file, &serde_json::to_vec(&beside)?)?;
        }
        Ok(signatures)
    }
}

/// What is kept, if it is what its digest says.
fn kept(module: &Path, beside: &Path, digest: &str) -> Option<(Vec<u8>, Beside)> {
    let beside: Beside = serde_json::from_slice(&std::fs::read(beside).ok()?).ok()?;
    if sha256(beside.manifest.as_bytes()) != digest {
        return None;
    }
    let manifest: OciImageManifest = serde_json::from_str(&beside.manifest).ok()?;
    let bytes = std::fs::read(module).ok()?;
    let module = sha256(&bytes);
    manifest.layers.iter().any(|layer| layer.digest == module).then_some((bytes, beside))
}
