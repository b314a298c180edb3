//! One policy: its module and the file beside it become something that can be asked.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::LONGEST_DEADLINE;
use crate::contract::v0_1::Prepared;
use crate::grants::{Capability, granted};
use crate::ready::Ready;
use crate::rules::Rule;
use crate::{Cache, CallLimits, Mode, OnFailure, Policy, Runtime, Stats, instance, module, wasi};
use postern_ground::digest;
use postern_ground::digest::of_blob;
use postern_ground::quantity::ByteSize;

/// Largest settings file read.
pub const LARGEST_SETTINGS: u64 = 1 << 20;

/// What policies are loaded with.
pub struct Loader {
    /// What they run in.
    pub runtime: Arc<Runtime>,
    /// Where their machine code is kept.
    pub cache: Cache,
    /// Milliseconds a call may take, and the memory it may use, unless a policy's file says less.
    pub limits: CallLimits,
}

/// `NAME.yaml` beside `NAME.wasm`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PolicyFile {
    /// The policy's own settings.
    pub settings: Option<serde_json::Value>,
    /// Whether its answers are carried out.
    pub mode: Mode,
    /// What becomes of an operation when it fails.
    pub on_failure: OnFailure,
    /// Whether callers are warned of what it hides: unless it says no.
    pub warnings: Option<bool>,
    /// Narrower rules.
    pub rules: Vec<Rule>,
    /// What one call may use.
    pub limits: Limits,
    /// What it may see and do.
    pub grants: Option<Vec<Capability>>,
    /// Where its module is, when it does not lie beside: `oci://registry/repository@sha256:...`.
    pub source: Option<String>,
}

/// Limits in a policy's file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    deadline_milliseconds: Option<u64>,
    memory: Option<ByteSize>,
}

impl PolicyFile {
    /// Reads the text of a file.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        postern_ground::written::yaml(text)
    }

    /// The text of the file beside a module; empty where there is none.
    pub fn text_beside(module: &Path) -> anyhow::Result<String> {
        let file = module.with_extension("yaml");
        match file.symlink_metadata() {
            Ok(_) => String::from_utf8(read_inside(&file, LARGEST_SETTINGS)?).context("the settings file is not UTF-8"),
            Err(_) => Ok(String::new()),
        }
    }

    /// Reads the file beside a module; the default where there is none.
    pub fn beside(module: &Path) -> anyhow::Result<Self> {
        Self::parse(&Self::text_beside(module)?).with_context(|| module.with_extension("yaml").display().to_string())
    }
}

impl Loader {
    /// Loads a module with its file.
    pub fn load(&self, name: &str, module: &[u8], file: PolicyFile) -> anyhow::Result<Policy> {
        let limits = CallLimits {
            deadline: file.limits.deadline_milliseconds.unwrap_or(self.limits.deadline).max(1),
            memory: file.limits.memory.unwrap_or(self.limits.memory),
        };
        if limits.deadline > LONGEST_DEADLINE {
            bail!("limits.deadlineMilliseconds is over {LONGEST_DEADLINE}: a call holds up the thread it is made on");
        }
        if limits.memory.0 > self.limits.memory.0 {
            bail!("limits.memory is over the gateway's own policies.memory of {} bytes", self.limits.memory.0);
        }
        let text = file.settings.as_ref().map_or_else(|| "{}".to_owned(), ToString::to_string);
        let digest = digest::hex(&digest::of_parts(&[env!("CARGO_PKG_VERSION").as_bytes(), module, text.as_bytes()]));
        let component = self.cache.component(&self.runtime, &digest, || {
            let configured = module::configured(&self.runtime, module, &text, limits.memory.0)?;
            if let Some(calls) = wasi::told(&configured.refused) {
                tracing::info!(policy = name, calls, "while it was configured the policy called what is not granted, and got nothing");
            }
            Ok(configured.component)
        })?;
        let prepared = Prepared::new(&self.runtime.engine, &component)?;
        let manifest = instance::describe(&self.runtime, &prepared, limits)?;
        let granted = granted(&manifest, file.grants.as_deref())?;
        let ready = Ready::new(&self.runtime, prepared.module().clone(), limits)?;
        Ok(Policy {
            name: name.to_owned(),
            manifest,
            digest,
            module_digest: of_blob(module),
            locked: None,
            signer: None,
            mode: file.mode,
            on_failure: file.on_failure,
            warns: file.warnings.unwrap_or(true),
            granted,
            narrowed: file.rules,
            limits,
            component: prepared,
            ready: Arc::new(ready),
            stats: Stats::default(),
        })
    }
}

/// Reads a file that lies in the directory itself: a symbolic link may lead within it and nowhere else (a ConfigMap volume has
/// such links). What grew or shrank while it was read is not taken.
pub fn read_inside(file: &Path, largest: u64) -> anyhow::Result<Vec<u8>> {
    let at = || format!("cannot read {}", file.display());
    // A name alone lies in the directory one is in.
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = parent.canonicalize().with_context(at)?;
    let real = file.canonicalize().with_context(at)?;
    if !real.starts_with(&directory) {
        bail!("{} is a link out of the policy directory", file.display());
    }
    let before = std::fs::metadata(&real).with_context(at)?;
    if !before.is_file() {
        bail!("{} is not a file", file.display());
    }
    if before.len() > largest {
        bail!("{} is over {largest} bytes long", file.display());
    }
    let bytes = std::fs::read(&real).with_context(at)?;
    let after = std::fs::metadata(&real).with_context(at)?;
    if after.len() != bytes.len() as u64 || after.modified().ok() != before.modified().ok() {
        bail!("{} is still being written", file.display());
    }
    Ok(bytes)
}
