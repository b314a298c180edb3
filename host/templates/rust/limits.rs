//! policy-name: limits how many changes a caller makes.

use postern_policy_sdk::*;

/// What stands under `settings` in the file beside the module. What is not there is not taken.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Changes that a caller may make in a minute.
    per_minute: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { per_minute: 60 }
    }
}

/// The policy.
pub struct Limits(Settings);

impl Policy for Limits {
    type Settings = Settings;
    const SUMMARY: &'static str = "Limits how many changes a caller makes";

    fn new(settings: Settings) -> Result<Self, String> {
        Ok(Self(settings))
    }

    // Which operations it is asked about; an empty list means any.
    fn rules(&self) -> Vec<Rule> {
        vec![rule().verbs(["create", "update", "patch", "delete", "deletecollection"])]
    }

    // What it must see beyond who asks for what: bodies, secret values, streams, counters.
    fn capabilities(&self) -> Capabilities {
        Capabilities::COUNTERS
    }

    fn on_request(&self, request: &Request) -> Verdict {
        if request.dry_run() {
            return allow();
        }
        let so_far = request.count(&request.caller.username(), 1, 60);
        if so_far <= self.0.per_minute {
            return allow();
        }
        block(format!("{so_far} changes in a minute are over the limit of {}", self.0.per_minute)).hint("wait a minute")
    }
}

export_policy!(Limits);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_over_the_limit_is_refused() {
        let policy: Limits = kit::policy(r#"{"perMinute": 1}"#).unwrap();
        let delete = kit::operation("delete", "pods").named("web");
        assert_eq!(delete.ask(&policy), allow());
        assert!(delete.ask(&policy).is_block());
    }
}
