//! What a policy may see and do: what its manifest asks for, as far as the file beside it grants it.

use anyhow::bail;
use serde::{Deserialize, Serialize};

use crate::contract::{Hook, Manifest};

/// A capability, as files write it.
#[derive(Clone, Copy, Debug, Deserialize, schemars::JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// What is in objects, without the values of Secrets.
    Bodies,
    /// The values of Secrets, and tokens that are issued.
    SecretValues,
    /// What containers write.
    Streams,
    /// Counters.
    Counters,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Bodies, Self::SecretValues, Self::Streams, Self::Counters];
    /// What a policy is granted whose file says nothing: nothing that could hold a secret.
    pub const DEFAULT: [Self; 2] = [Self::Bodies, Self::Counters];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bodies => "bodies",
            Self::SecretValues => "secret-values",
            Self::Streams => "streams",
            Self::Counters => "counters",
        }
    }
}

/// What a policy asks for and is granted. `grants` is what its file says; none where it says nothing.
///
/// A policy that is not granted what it works with would decide about what it cannot see: it does not load. Secret values are the exception: it
/// reads placeholders in their place.
pub(super) fn granted(manifest: &Manifest, grants: Option<&[Capability]>) -> anyhow::Result<Vec<Capability>> {
    if manifest.hooks.contains(&Hook::OnChunk) && !manifest.capabilities.contains(&Capability::Streams) {
        bail!("it looks at what containers write (on-chunk), and its manifest does not name the capability streams");
    }
    let grants = grants.unwrap_or(&Capability::DEFAULT);
    let mut granted = Vec::new();
    for capability in &manifest.capabilities {
        if grants.contains(capability) {
            granted.push(*capability);
        } else if *capability != Capability::SecretValues {
            let all: Vec<&str> = grants.iter().chain([capability]).map(|c| c.name()).collect();
            bail!(
                "it asks for {}, which its file does not grant; if it may have that, write grants: [{}] into the .yaml beside it",
                capability.name(),
                all.join(", ")
            );
        }
    }
    Ok(granted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(capabilities: &[Capability], hook: Hook) -> Manifest {
        Manifest { capabilities: capabilities.to_vec(), hooks: vec![hook], ..Manifest::default() }
    }

    #[test]
    fn a_policy_has_what_it_asks_for_and_is_granted() {
        let all = &Capability::ALL;
        let of = |asks: &[Capability], grants: Option<&[Capability]>| {
            granted(&manifest(asks, Hook::OnRequest), grants).map_err(|e| e.to_string())
        };
        assert_eq!(of(&[], Some(all)), Ok(vec![]), "what it does not ask for it does not get");
        assert_eq!(of(all, Some(all)), Ok(all.to_vec()));
        assert_eq!(of(&[Capability::Bodies, Capability::SecretValues], None), Ok(vec![Capability::Bodies]));
        assert!(of(&[Capability::Streams], None).unwrap_err().contains("grants: [bodies, counters, streams]"));
        assert!(of(&[Capability::Counters], Some(&[])).unwrap_err().contains("grants: [counters]"));
        assert!(granted(&manifest(&[], Hook::OnChunk), Some(all)).is_err());
    }
}
