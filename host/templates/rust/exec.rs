//! policy-name: says which commands run in containers.

use postern_policy_sdk::*;

/// What stands under `settings` in the file beside the module. What is not there is not taken.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Commands that run without an approval, by their first word.
    commands: Vec<String>,
    /// Groups that approve the others.
    approvers: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { commands: vec!["ls".into(), "ps".into()], approvers: vec!["sre".into()] }
    }
}

/// The policy.
pub struct Commands(Settings);

impl Policy for Commands {
    type Settings = Settings;
    const SUMMARY: &'static str = "Says which commands run in containers";

    fn new(settings: Settings) -> Result<Self, String> {
        Ok(Self(settings))
    }

    // Which operations it is asked about; an empty list means any.
    fn rules(&self) -> Vec<Rule> {
        vec![rule().verbs(["create"]).resources(["pods/exec", "pods/attach"])]
    }

    // What it must see beyond who asks for what: bodies, secret values, streams, counters.
    fn capabilities(&self) -> Capabilities {
        Capabilities::empty()
    }

    fn on_request(&self, request: &Request) -> Verdict {
        // attach has no words: what it reaches runs already.
        let command = request.command().and_then(|command| command.argv.into_iter().next());
        if command.as_ref().is_some_and(|command| self.0.commands.contains(command)) {
            // And what it writes shows no value of the Secrets that the pod uses.
            return mask([pod_secrets()]);
        }
        let what = command.map_or("attaches to".into(), |command| format!("runs {command} in"));
        let reason = format!("{} {what} {}", request.caller.username(), request.object_name().unwrap_or_default());
        require_approval(reason, self.0.approvers.clone()).into()
    }
}

export_policy!(Commands);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_needs_an_approval() {
        let policy: Commands = kit::policy("{}").unwrap();
        assert_eq!(kit::exec(&["ls", "/"]).ask(&policy), mask([pod_secrets()]));
        assert_eq!(kit::exec(&["sh"]).ask(&policy).reason(), Some("ann runs sh in web"));
    }
}
