//! policy-name: says who may delete.

use postern_policy_sdk::*;

/// What stands under `settings` in the file beside the module. What is not there is not taken.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Groups that may delete.
    groups: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { groups: vec!["sre".into()] }
    }
}

/// The policy.
pub struct Deletes(Settings);

impl Policy for Deletes {
    type Settings = Settings;
    const SUMMARY: &'static str = "Says who may delete";

    fn new(settings: Settings) -> Result<Self, String> {
        Ok(Self(settings))
    }

    // Which operations it is asked about; an empty list means any.
    fn rules(&self) -> Vec<Rule> {
        vec![rule().verbs(["delete", "deletecollection"])]
    }

    // What it must see beyond who asks for what: bodies, secret values, streams, counters.
    fn capabilities(&self) -> Capabilities {
        Capabilities::empty()
    }

    fn on_request(&self, request: &Request) -> Verdict {
        if request.is_in(&self.0.groups) {
            return allow();
        }
        block(format!("{} may not delete", request.caller.username())).hint(format!("ask one of {}", self.0.groups.join(", ")))
    }
}

export_policy!(Deletes);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_groups_delete() {
        let policy: Deletes = kit::policy("{}").unwrap();
        let delete = kit::operation("delete", "pods").named("web");
        assert_eq!(delete.by("bob", &["sre"]).ask(&policy), allow());
        assert!(delete.by("ann", &["dev"]).ask(&policy).is_block());
    }
}
