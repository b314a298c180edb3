//! policy-name: hides the values of Secrets.

use postern_policy_sdk::*;

/// What stands under `settings` in the file beside the module. What is not there is not taken.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Groups that see them.
    groups: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { groups: vec!["sre".into()] }
    }
}

/// The policy.
pub struct Secrets(Settings);

impl Policy for Secrets {
    type Settings = Settings;
    const SUMMARY: &'static str = "Hides the values of Secrets";

    fn new(settings: Settings) -> Result<Self, String> {
        Ok(Self(settings))
    }

    // Which operations it is asked about; an empty list means any.
    fn rules(&self) -> Vec<Rule> {
        vec![rule().resources(["secrets"])]
    }

    // What it must see beyond who asks for what: bodies, secret values, streams, counters.
    fn capabilities(&self) -> Capabilities {
        Capabilities::empty()
    }

    fn on_request(&self, request: &Request) -> Verdict {
        if request.is_in(&self.0.groups) {
            return allow();
        }
        // Equal values of a Secret are equal tokens. `.keep_last(4)`, `.remove()` and `.when("$.type", "Opaque")` are there too.
        mask([field("$.data.*").tokenize(), field("$.stringData.*").tokenize()])
    }
}

export_policy!(Secrets);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_groups_see_them() {
        let policy: Secrets = kit::policy("{}").unwrap();
        let get = kit::operation("get", "secrets").named("db");
        assert_eq!(get.by("bob", &["sre"]).ask(&policy), allow());
        assert!(matches!(get.by("ann", &["dev"]).ask(&policy), Verdict::Mask(masks) if masks.len() == 2));
    }
}
