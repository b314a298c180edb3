//! What has changed of the policies in force, by name and digest: against what was told last, by this gateway or by the one that ran here before.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{Mode, PolicySet};
use crate::files;

/// A policy that is in force.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct InForce {
    /// Its name.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub version: Version,
}

/// What is in force under a name.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Version {
    /// SHA-256 of its module and its settings.
    pub digest: String,
    /// SHA-256 of its module alone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub module: String,
    /// SHA-256 of the file beside it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub settings: String,
    /// Whether its answers are carried out.
    pub mode: Mode,
}

/// A policy that is another than it was, or new, or no more.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// What it was; nothing where it was not in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Version>,
    /// What it is; nothing where it is in force no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Version>,
}

impl Change {
    /// What has changed, in a word or two.
    pub fn what(&self) -> &'static str {
        match (&self.before, &self.after) {
            (None, _) => "added",
            (_, None) => "removed",
            // Gateways of before did not tell them apart.
            (Some(before), Some(after)) if before.module.is_empty() || after.module.is_empty() => "changed",
            (Some(before), Some(after)) => match (before.module != after.module, before.settings != after.settings) {
                (true, true) => "module and settings",
                (true, false) => "module",
                (false, true) => "settings",
                (false, false) => "changed",
            },
        }
    }
}

/// The policies of a set.
pub fn in_force(set: &PolicySet) -> Vec<InForce> {
    let of = |policy: &std::sync::Arc<super::Policy>| InForce {
        name: policy.name.clone(),
        version: Version {
            digest: policy.digest.clone(),
            module: policy.locked.as_ref().map(|locked| locked.module.clone()).unwrap_or_default(),
            settings: policy.locked.as_ref().map(|locked| locked.file.clone()).unwrap_or_default(),
            mode: policy.mode,
        },
    };
    set.policies.iter().map(of).collect()
}

/// What differs, by name.
pub fn changes(before: &[InForce], after: &[InForce]) -> Vec<Change> {
    let version = |of: &[InForce], name: &str| of.iter().find(|policy| policy.name == name).map(|policy| policy.version.clone());
    let mut names: Vec<&str> = before.iter().chain(after).map(|policy| policy.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let change = |name: &str| Change { name: name.to_owned(), before: version(before, name), after: version(after, name) };
    let is_same = |change: &Change| match (&change.before, &change.after) {
        (Some(before), Some(after)) => before.digest == after.digest && before.mode == after.mode,
        (before, after) => before.is_none() && after.is_none(),
    };
    names.into_iter().map(change).filter(|change| !is_same(change)).collect()
}

/// What was told last of a directory. It outlives the gateway: what is changed while none runs is told by the next.
pub struct Told(PathBuf);

impl Told {
    /// That of a data directory.
    pub fn of(data_directory: &Path) -> Self {
        Self(data_directory.join("in-force.json"))
    }

    /// What it was; none where nothing was told yet.
    pub fn last(&self) -> anyhow::Result<Option<Vec<InForce>>> {
        match std::fs::read(&self.0) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text).with_context(|| format!("{} is not readable", self.0.display()))?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", self.0.display())),
        }
    }

    /// This is told now.
    pub fn tell(&self, now: &[InForce]) -> anyhow::Result<()> {
        files::write_private(&self.0, &serde_json::to_vec(now)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_by_name() {
        let policy = |name: &str, module: &str, settings: &str| InForce {
            name: name.into(),
            version: Version {
                digest: format!("{module}{settings}"),
                module: module.into(),
                settings: settings.into(),
                mode: Mode::default(),
            },
        };
        let before = [policy("a", "1", "1"), policy("b", "1", "1"), policy("c", "1", "1"), policy("d", "1", "1"), policy("e", "1", "1")];
        let after = [policy("b", "2", "1"), policy("c", "1", "2"), policy("d", "2", "2"), policy("e", "1", "1"), policy("f", "1", "1")];
        let told: Vec<_> = changes(&before, &after).iter().map(|change| (change.name.clone(), change.what())).collect();
        let expected = [("a", "removed"), ("b", "module"), ("c", "settings"), ("d", "module and settings"), ("f", "added")];
        assert_eq!(told, expected.map(|(name, what)| (name.to_owned(), what)));
        assert!(changes(&after, &after).is_empty());
        // As a gateway of before told it.
        let mut old = policy("b", "2", "1");
        (old.version.module, old.version.settings) = (String::new(), String::new());
        assert!(changes(&[old.clone()], &after[..1]).is_empty());
        old.version.digest = "other".into();
        assert_eq!(changes(&[old], &after[..1])[0].what(), "changed");
        let directory = tempfile::tempdir().unwrap();
        let told = Told::of(directory.path());
        assert_eq!(told.last().unwrap(), None);
        told.tell(&after).unwrap();
        assert_eq!(told.last().unwrap().as_deref(), Some(after.as_slice()));
    }
}
