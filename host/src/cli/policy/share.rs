//! `postern policy push`, `pull`, `verify` and `lock`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use super::list::sees;
use super::{load, read};
use crate::cli::terminal::say;
use crate::config::{Config, Policies};
use crate::files;
use crate::policy::module;
use crate::rehearse::Stage;
use crate::share::keys::{PublicKey, SigningKey};
use crate::share::lock::{FILE, Lock};
use crate::share::registry::{Access, Registry, ca_file, reference};
use crate::share::{signature, wait};

/// How registries are reached.
#[derive(Args)]
pub struct Reach {
    /// A registry (host:port) that is spoken to without TLS.
    #[arg(long, value_name = "REGISTRY")]
    plain_http: Vec<String>,
    /// PEM file with further CAs.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl Reach {
    fn access(&self) -> anyhow::Result<Access> {
        Ok(Access { plain_http: self.plain_http.clone(), ca: ca_file(self.ca_file.as_deref())? })
    }
}

/// Asks a registry. Where it is its certificate that is not trusted, or TLS that it does not speak, the option is named that says so.
fn ask<T: Send>(work: impl Future<Output = anyhow::Result<T>> + Send) -> anyhow::Result<T> {
    wait(work).map_err(|error| {
        let why = format!("{error:#}");
        let hint = match () {
            () if why.contains("invalid peer certificate") => Some("--ca-file FILE names a CA that is not one of this machine's"),
            () if why.contains("InvalidContentType") => Some("a registry without TLS is named by --plain-http"),
            () => None,
        };
        hint.map_or(error, |hint| anyhow::anyhow!("{why}; {hint}"))
    })
}

/// Puts a module into an OCI registry.
#[derive(Args)]
pub struct Push {
    /// The module, `NAME.wasm`.
    file: PathBuf,
    /// Where: `oci://ghcr.io/acme/guard:1.0.0`.
    reference: String,
    /// Signs it with this private key, as cosign makes them; the password is taken from COSIGN_PASSWORD.
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    #[command(flatten)]
    reach: Reach,
}

impl Push {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let bytes = read(&self.file)?;
        // What would not load is not shared.
        let policy = load(&Stage::open()?, &self.file)?;
        let inspected = module::inspect(&bytes)?;
        let to = reference(&self.reference)?;
        if to.digest().is_some() {
            bail!("{} has a digest, which is made by what is pushed; name a tag, for example :{}", self.reference, policy.manifest.version);
        }
        let key = self.sign.as_ref().map(|file| SigningKey::read(file, std::env::var("COSIGN_PASSWORD").ok().as_deref())).transpose()?;
        let manifest = &policy.manifest;
        let annotations = BTreeMap::from([
            ("org.opencontainers.image.title".to_owned(), manifest.name.clone()),
            ("org.opencontainers.image.version".to_owned(), manifest.version.clone()),
            ("org.opencontainers.image.description".to_owned(), manifest.summary.clone()),
            ("dev.postern.policy.contract".to_owned(), inspected.exports.join(" ")),
            ("dev.postern.policy.sees".to_owned(), sees(&manifest.capabilities)),
        ]);
        let access = self.reach.access()?;
        let digest = ask(async {
            let registry = Registry::of(&to, &access)?;
            let digest = registry.push(&to, &bytes, annotations, &inspected.exports).await?;
            if let Some(key) = &key {
                signature::sign(&registry, &to, &digest, key).await?;
            }
            Ok(digest)
        })?;
        let signed = if key.is_some() { " and signed it" } else { "" };
        say!("pushed {} {}{signed}", manifest.name, manifest.version);
        say!("oci://{}/{}@{digest}", to.registry(), to.repository());
        Ok(())
    }
}

/// Gets a module from an OCI registry.
#[derive(Args)]
pub struct Pull {
    /// Which: `oci://ghcr.io/acme/guard:1.0.0` or `oci://...@sha256:...`.
    reference: String,
    /// The file it is written to; `NAME.wasm` by its manifest when absent.
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// Takes it only if this public key signed it.
    #[arg(long, value_name = "KEY")]
    key: Option<PathBuf>,
    #[command(flatten)]
    reach: Reach,
}

impl Pull {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let from = reference(&self.reference)?;
        let key = self.key.as_deref().map(PublicKey::read).transpose()?;
        let access = self.reach.access()?;
        let (pulled, signatures) = ask(async {
            let registry = Registry::of(&from, &access)?;
            let pulled = registry.pull(&from).await?;
            let signatures = match key {
                Some(_) => signature::of(&registry, &from, &pulled.digest).await?,
                None => Vec::new(),
            };
            Ok((pulled, signatures))
        })?;
        if let Some(key) = &key
            && signature::signer(&signatures, &pulled.digest, [("", key)]).is_none()
        {
            bail!("{from} carries no signature of {}", self.key.as_deref().unwrap_or(Path::new("")).display());
        }
        let stage = Stage::open()?;
        let name = from.repository().rsplit('/').next().unwrap_or("policy").to_owned();
        let file = self.output.unwrap_or_else(|| PathBuf::from(format!("{name}.wasm")));
        std::fs::write(&file, &pulled.module).with_context(|| format!("cannot write {}", file.display()))?;
        let policy = load(&stage, &file);
        say!("pulled {}{}", file.display(), if key.is_some() { ", signed by that key" } else { "" });
        say!("oci://{}/{}@{}", from.registry(), from.repository(), pulled.digest);
        match policy {
            Ok(policy) => {
                say!("it is {} {} and sees {}", policy.manifest.name, policy.manifest.version, sees(&policy.manifest.capabilities))
            }
            Err(error) => say!("as it is, without settings, it does not load: {error:#}"),
        }
        Ok(())
    }
}

/// Pins what a policy directory holds, or says whether it still holds that.
#[derive(Args)]
pub struct LockCommand {
    /// The directory.
    directory: PathBuf,
    /// Writes nothing; fails where the directory differs from its lock.
    #[arg(long)]
    check: bool,
    /// The gateway's configuration, where policies come from registries or must be signed.
    #[arg(long)]
    config: Option<PathBuf>,
}

impl LockCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let scratch = std::env::temp_dir().join(format!("postern-lock-{}", std::process::id()));
        std::fs::create_dir_all(&scratch)?;
        let done = self.lock(&scratch);
        let _ = std::fs::remove_dir_all(scratch);
        done
    }

    fn lock(&self, scratch: &Path) -> anyhow::Result<()> {
        let file = self.directory.join(FILE);
        let (mut policies, data) = match &self.config {
            Some(config) => {
                let config = Config::load(config)?;
                (config.policies, config.data_directory)
            }
            None => (Policies::default(), scratch.to_owned()),
        };
        policies.directory = Some(self.directory.clone());
        let directory = Stage::with(&policies)?.directory(&policies, &data, self.check)?;
        let lock = Lock::of(directory.locked());
        if self.check {
            let Some(before) = Lock::read(&self.directory)? else {
                bail!("{} is not there; `postern policy lock` makes it", file.display())
            };
            if before != lock {
                bail!("{} pins {}, and the directory is {}", file.display(), before.bundle, lock.bundle);
            }
            say!("{} policies are as {} pins them: {}", lock.policies.len(), file.display(), lock.bundle);
            return Ok(());
        }
        files::write(&file, lock.text()?.as_bytes())?;
        say!("pinned {} policies in {}: {}", lock.policies.len(), file.display(), lock.bundle);
        Ok(())
    }
}
