//! Where a module comes from, and whose it is: a file in the directory or an artifact in a registry, with a signature where the configuration asks for one.

use std::path::Path;

use anyhow::{Context, bail};

use super::loader::read_inside;
use crate::config::Policies;
use crate::share::keys::PublicKey;
use crate::share::registry::{Access, ca_file};
use crate::share::store::ModuleStore;
use crate::share::{LARGEST_MODULE, signature};

/// Largest signature read.
const LARGEST_SIGNATURE: u64 = 64 << 10;

/// Where modules come from.
pub(super) struct Origin {
    store: ModuleStore,
    trusted: Vec<Trusted>,
}

struct Trusted {
    name: String,
    key: PublicKey,
    repositories: Vec<String>,
}

/// A module, and whose signature it carries.
pub(super) struct Module {
    pub(super) bytes: Vec<u8>,
    pub(super) signer: Option<String>,
}

impl Origin {
    /// Reads the keys the configuration trusts.
    pub(super) fn new(config: &Policies, data_directory: &Path) -> anyhow::Result<Self> {
        let access = Access { plain_http: config.registries.plain_http.clone(), ca: ca_file(config.registries.ca_file.as_deref())? };
        let trusted = config.trusted.iter().map(|trusted| {
            let (name, repositories) = (trusted.name.clone(), trusted.repositories.clone());
            Ok(Trusted { name, key: PublicKey::read(&trusted.key_file)?, repositories })
        });
        Ok(Self { store: ModuleStore::open(data_directory, access)?, trusted: trusted.collect::<anyhow::Result<_>>()? })
    }

    /// Gets a module: the file, or what its settings name as source.
    pub(super) fn module(&self, file: &Path, source: Option<&str>) -> anyhow::Result<Module> {
        match (file.symlink_metadata().is_ok(), source) {
            (true, None) => self.beside(file),
            (false, Some(source)) => self.fetched(source),
            (true, Some(source)) => bail!("{} lies there, and its .yaml names the source {source}: remove one of the two", file.display()),
            (false, None) => bail!(
                "its settings are there, and its module {} is not, nor do they name a source; put it there, or remove the settings",
                file.display()
            ),
        }
    }

    fn beside(&self, file: &Path) -> anyhow::Result<Module> {
        let bytes = read_inside(file, LARGEST_MODULE)?;
        if self.trusted.is_empty() {
            return Ok(Module { bytes, signer: None });
        }
        let signature = file.with_extension("wasm.sig");
        if signature.symlink_metadata().is_err() {
            bail!(
                "it is not signed, and the gateway takes only what {} signed; `cosign sign-blob` makes {}",
                self.names(),
                signature.display()
            );
        }
        let text = String::from_utf8(read_inside(&signature, LARGEST_SIGNATURE)?).context("the signature is no text")?;
        let keys =
            self.trusted.iter().filter(|trusted| trusted.repositories.is_empty()).map(|trusted| (trusted.name.as_str(), &trusted.key));
        match signature::blob_signer(&bytes, &text, keys)? {
            Some(signer) => Ok(Module { signer: Some(signer.to_owned()), bytes }),
            None => bail!("its signature is not one of {} over this module", self.names()),
        }
    }

    fn fetched(&self, source: &str) -> anyhow::Result<Module> {
        let fetched = self.store.fetch(source)?;
        if self.trusted.is_empty() {
            return Ok(Module { bytes: fetched.module, signer: None });
        }
        let speaks_for = |trusted: &&Trusted| {
            trusted.repositories.is_empty() || trusted.repositories.iter().any(|pattern| fits(pattern, &fetched.repository))
        };
        let signer = |signatures: &[signature::Signature]| {
            let keys = self.trusted.iter().filter(speaks_for).map(|trusted| (trusted.name.as_str(), &trusted.key));
            signature::signer(signatures, &fetched.manifest, keys).map(str::to_owned)
        };
        // It may have been signed after it was fetched.
        let signer = signer(&fetched.signatures).or_else(|| self.store.signatures(source).ok().and_then(|now| signer(&now)));
        match signer {
            Some(signer) => Ok(Module { bytes: fetched.module, signer: Some(signer) }),
            None => bail!("{source} carries no signature of {} for {}", self.names(), fetched.repository),
        }
    }

    fn names(&self) -> String {
        self.trusted.iter().map(|trusted| trusted.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// Whether a repository fits a pattern: itself, or all below `.../*`.
fn fits(pattern: &str, repository: &str) -> bool {
    match pattern.strip_suffix("/*") {
        Some(above) => repository.strip_prefix(above).is_some_and(|rest| rest.starts_with('/')),
        None => pattern == repository,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_itself_or_below() {
        assert!(fits("ghcr.io/acme/guard", "ghcr.io/acme/guard") && fits("ghcr.io/acme/*", "ghcr.io/acme/a/b"));
        assert!(
            !fits("ghcr.io/acme/*", "ghcr.io/acme-evil/a")
                && !fits("ghcr.io/acme/*", "ghcr.io/acme")
                && !fits("ghcr.io/acme", "ghcr.io/acme/a")
        );
    }
}
