//! What a policy may see and do: what its manifest asks for, as far as the file beside it grants it.

use anyhow::bail;
use serde::{Deserialize, Serialize};

use super::bindings::postern::policy::types::{Capabilities, Hooks, Manifest};

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

    fn flag(self) -> Capabilities {
        match self {
            Self::Bodies => Capabilities::BODIES,
            Self::SecretValues => Capabilities::SECRET_VALUES,
            Self::Streams => Capabilities::STREAMS,
            Self::Counters => Capabilities::COUNTERS,
        }
    }

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bodies => "bodies",
            Self::SecretValues => "secret-values",
            Self::Streams => "streams",
            Self::Counters => "counters",
        }
    }

    /// Those of a set, in order.
    pub fn of(flags: Capabilities) -> Vec<Self> {
        Self::ALL.into_iter().filter(|capability| flags.contains(capability.flag())).collect()
    }
}

/// What a policy asks for and is granted. `grants` is what its file says; none where it says nothing.
///
/// A policy that is not granted what it works with would decide about what it cannot see: it does not load. Secret values are the exception: it
/// reads placeholders in their place.
pub(super) fn granted(manifest: &Manifest, grants: Option<&[Capability]>) -> anyhow::Result<Capabilities> {
    if manifest.hooks.contains(Hooks::CHUNK) && !manifest.capabilities.contains(Capabilities::STREAMS) {
        bail!("it looks at what containers write (on-chunk), and its manifest does not name the capability streams");
    }
    let grants = grants.unwrap_or(&Capability::DEFAULT);
    let mut granted = Capabilities::empty();
    for capability in Capability::of(manifest.capabilities) {
        if grants.contains(&capability) {
            granted |= capability.flag();
        } else if capability != Capability::SecretValues {
            let all: Vec<&str> = grants.iter().chain([&capability]).map(|c| c.name()).collect();
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

    fn manifest(capabilities: Capabilities, hooks: Hooks) -> Manifest {
        Manifest {
            name: "p".into(),
            version: "1.0.0".into(),
            summary: String::new(),
            rules: Vec::new(),
            hooks,
            needs: Vec::new(),
            capabilities,
            settings_schema: String::new(),
        }
    }

    #[test]
    fn a_policy_has_what_it_asks_for_and_is_granted() {
        let all = Capabilities::all();
        let none = Capabilities::empty();
        let of = |asks, grants: Option<&[Capability]>| granted(&manifest(asks, Hooks::REQUEST), grants).map_err(|e| e.to_string());
        assert_eq!(of(none, Some(&Capability::ALL)), Ok(none), "what it does not ask for it does not get");
        assert_eq!(of(all, Some(&Capability::ALL)), Ok(all));
        assert_eq!(of(Capabilities::BODIES | Capabilities::SECRET_VALUES, None), Ok(Capabilities::BODIES));
        assert!(of(Capabilities::STREAMS, None).unwrap_err().contains("grants: [bodies, counters, streams]"));
        assert!(of(Capabilities::COUNTERS, Some(&[])).unwrap_err().contains("grants: [counters]"));
        assert!(granted(&manifest(none, Hooks::CHUNK), Some(&Capability::ALL)).is_err());
    }
}
