//! A lock file: what a directory holds, by digest, so that two gateways can be shown to run the same.

use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

pub use postern_policy::Locked;

use super::sha256;

/// Its name in a policy directory.
pub const FILE: &str = "postern.lock";

/// What a directory holds.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lock {
    /// One digest for all of it.
    pub bundle: String,
    /// The policies, in order of their names.
    pub policies: Vec<Locked>,
}

impl Lock {
    /// Pins policies.
    pub fn of(mut policies: Vec<Locked>) -> Self {
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        Self { bundle: bundle(&policies), policies }
    }

    /// Reads the lock of a directory; none where there is none.
    pub fn read(directory: &Path) -> anyhow::Result<Option<Self>> {
        let file = directory.join(FILE);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        let lock: Self = crate::written::yaml(&text).with_context(|| format!("{} is not readable", file.display()))?;
        if lock.bundle != bundle(&lock.policies) {
            bail!(
                "{} was changed by hand: its bundle is not the digest of its policies; `postern policy lock` makes it anew",
                file.display()
            );
        }
        Ok(Some(lock))
    }

    /// As it is written.
    pub fn text(&self) -> anyhow::Result<String> {
        Ok(format!(
            "# Made by `postern policy lock`: what this directory holds. A gateway takes nothing else from it.\n{}",
            serde_saphyr::to_string(self)?
        ))
    }

    /// Whether a policy is as it was pinned.
    pub fn check(&self, is: &Locked) -> anyhow::Result<()> {
        let Some(pinned) = self.policies.iter().find(|pinned| pinned.name == is.name) else {
            bail!("{FILE} does not name it; `postern policy lock` pins what is in the directory now");
        };
        for (what, pinned, is) in [("module", &pinned.module, &is.module), ("file", &pinned.file, &is.file)] {
            if pinned != is {
                bail!("its {what} is {is}, and {FILE} pins {pinned}; `postern policy lock` pins what is in the directory now");
            }
        }
        Ok(())
    }
}

/// One digest for several policies.
pub fn bundle(policies: &[Locked]) -> String {
    let lines: Vec<String> = policies.iter().map(|policy| format!("{} {} {}\n", policy.name, policy.module, policy.file)).collect();
    sha256(lines.concat().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_the_lock_is_named() {
        let lock = Lock::of(vec![Locked::new("b", b"module", ""), Locked::new("a", b"other", "mode: observe\n")]);
        assert_eq!(lock.policies[0].name, "a");
        assert!(lock.check(&Locked::new("b", b"module", "")).is_ok());
        let why = |locked| lock.check(&locked).unwrap_err().to_string();
        assert!(why(Locked::new("b", b"changed", "")).contains("its module is"));
        assert!(why(Locked::new("b", b"module", "mode: observe\n")).contains("its file is"));
        assert!(why(Locked::new("c", b"module", "")).contains("does not name it"));
        let directory = std::env::temp_dir().join(format!("postern-lock-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        assert_eq!(Lock::read(&directory).unwrap(), None);
        std::fs::write(directory.join(FILE), lock.text().unwrap()).unwrap();
        assert_eq!(Lock::read(&directory).unwrap(), Some(lock.clone()));
        std::fs::write(directory.join(FILE), lock.text().unwrap().replace("name: b", "name: d")).unwrap();
        assert!(Lock::read(&directory).unwrap_err().to_string().contains("changed by hand"));
        std::fs::remove_dir_all(directory).unwrap();
    }
}
