//! What the gateway says of its policies: a file in its data directory, which `postern policy list` reads.

use std::path::{Path, PathBuf};

use anyhow::Context;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::grants::Capability;
use super::{Counts, Locked, Mode, OnFailure, PolicySet, Remembering};
use crate::clock::timestamp;
use crate::files;
use crate::share::lock;

/// The state of a policy directory.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
pub struct PolicyReport {
    /// When the directory was last read, RFC 3339.
    pub time: String,
    /// One digest for all that serves: two gateways that show the same run the same.
    #[serde(default)]
    pub bundle: String,
    /// Its policies, in file-name order.
    pub policies: Vec<Line>,
    /// Required policies that are missing or broken: while there is one, nothing passes.
    pub missing: Vec<String>,
}

/// One policy.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Whether it serves, and which version.
    pub state: PolicyState,
    /// Its version, as it says itself.
    pub version: String,
    /// SHA-256 of the module, as OCI registries and lock files write it.
    pub digest: String,
    /// Whether its answers are carried out.
    pub mode: Mode,
    /// What becomes of an operation when it fails.
    pub on_failure: OnFailure,
    /// What it may see and do beyond the operation itself.
    #[serde(default)]
    pub granted: Vec<Capability>,
    /// What it has done since it was loaded.
    #[serde(default)]
    pub counts: Counts,
    /// Whether its verdicts are remembered, and why not.
    #[serde(default)]
    pub remember: Remembering,
    /// Whose signature its module carries; none where none was asked for.
    #[serde(default)]
    pub signer: Option<String>,
    /// What it says of itself.
    pub summary: String,
    /// Why its file does not load.
    pub error: Option<String>,
    /// Since when what is in the directory now is compiled, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compiling_since: Option<String>,
    /// What is in force or being compiled, as a lock file has it: SHA-256 of the module and of the file beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked: Option<Locked>,
}

/// Whether a policy serves.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyState {
    /// The version on disk serves.
    Serving,
    /// The version on disk is broken; the one before it serves.
    LastGood,
    /// It is broken, and there was no version before it.
    NotLoaded,
    /// It served since the gateway started, and is in the directory no more.
    Gone,
    /// What is in the directory now is being compiled; until then what was there before serves, or nothing.
    Compiling,
}

impl PolicyState {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::LastGood => "last-good",
            Self::NotLoaded => "not-loaded",
            Self::Gone => "gone",
            Self::Compiling => "compiling",
        }
    }
}

impl Line {
    /// What is to be said of one that is not in force.
    fn without_policy(name: &str, state: PolicyState, digest: &str, error: String) -> Self {
        Self {
            name: name.to_owned(),
            state,
            version: String::new(),
            digest: digest.to_owned(),
            mode: Mode::default(),
            on_failure: OnFailure::default(),
            granted: Vec::new(),
            counts: Counts::default(),
            remember: Remembering::default(),
            signer: None,
            summary: String::new(),
            error: Some(error),
            compiling_since: None,
            locked: None,
        }
    }
}

impl PolicyReport {
    /// What is to be said of a set.
    pub fn of(set: &PolicySet) -> Self {
        let error = |name: &str| set.broken.iter().find(|b| b.name == name).map(|b| b.error.clone());
        let mut policies: Vec<Line> = set
            .policies
            .iter()
            .map(|policy| Line {
                name: policy.name.clone(),
                state: if error(&policy.name).is_some() { PolicyState::LastGood } else { PolicyState::Serving },
                version: policy.manifest.version.clone(),
                digest: policy.module_digest.clone(),
                mode: policy.mode,
                on_failure: policy.on_failure,
                granted: policy.granted.clone(),
                counts: policy.stats.counts(),
                remember: policy.remembering(),
                signer: policy.signer.clone(),
                summary: policy.manifest.summary.clone(),
                error: error(&policy.name),
                compiling_since: None,
                locked: policy.locked.clone(),
            })
            .collect();
        policies.extend(set.broken.iter().filter(|b| !set.policies.iter().any(|p| p.name == b.name)).map(|broken| {
            let state = if broken.serving_last_good { PolicyState::LastGood } else { PolicyState::NotLoaded };
            Line::without_policy(&broken.name, state, "", broken.error.clone())
        }));
        policies.extend(set.gone.iter().map(|gone| {
            let why = "it is in the directory no more".to_owned();
            Line::without_policy(&gone.name, PolicyState::Gone, &gone.digest, why)
        }));
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        let locked: Vec<_> = set.policies.iter().filter_map(|policy| policy.locked.clone()).collect();
        Self { time: timestamp(), bundle: lock::bundle(&locked), policies, missing: set.missing.clone() }
    }

    /// The same while a policy is compiled, since a time.
    pub fn with_compiling(mut self, locked: &Locked, since: &str) -> Self {
        let at = self.policies.iter().position(|line| line.name == locked.name);
        let mut line = match at {
            Some(at) => self.policies.remove(at),
            None => Line { error: None, ..Line::without_policy(&locked.name, PolicyState::Compiling, &locked.module, String::new()) },
        };
        line.state = PolicyState::Compiling;
        line.compiling_since = Some(since.to_owned());
        line.locked = Some(locked.clone());
        self.policies.push(line);
        self.policies.sort_by(|a, b| a.name.cmp(&b.name));
        self
    }

    /// Where a data directory has it.
    pub fn file(data_directory: &Path) -> PathBuf {
        data_directory.join("policies.json")
    }

    /// Writes it whole.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        files::write_private(file, &serde_json::to_vec(self)?)
    }

    /// Reads what a gateway wrote; none when there is no such file.
    pub fn read(file: &Path) -> anyhow::Result<Option<Self>> {
        match std::fs::read(file) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).with_context(|| format!("{} is not readable", file.display()))?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
    }
}
