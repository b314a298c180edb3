//! Lets some callers look and change nothing.

use postern_policy_sdk::*;

/// The settings.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Groups this is for; empty means everybody.
    groups: Vec<String>,
    /// Groups it is not for.
    except_groups: Vec<String>,
}

/// The policy.
pub struct ReadOnly(Settings);

/// Verbs that change something, of resources and of other paths.
const CHANGES: [&str; 7] = ["create", "update", "patch", "delete", "deletecollection", "post", "put"];
/// What a client asks about itself is written as a create, and changes nothing.
const QUESTIONS: [&str; 4] = ["selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews", "localsubjectaccessreviews"];

impl Policy for ReadOnly {
    type Settings = Settings;
    const SUMMARY: &'static str = "Lets some callers look and change nothing";

    fn new(settings: Settings) -> Result<Self, String> {
        Ok(Self(settings))
    }

    fn rules(&self) -> Vec<Rule> {
        // What stands behind a proxy may change by a GET.
        vec![rule().verbs(CHANGES), rule().resources(["*/proxy"])]
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::empty()
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let Settings { groups, except_groups } = &self.0;
        let is_for = (groups.is_empty() || request.caller.is_in(groups)) && !request.caller.is_in(except_groups);
        let asks =
            || request.is(Text::Resource, &QUESTIONS) && request.is(Text::ApiGroup, &["authorization.k8s.io", "authentication.k8s.io"]);
        if !is_for || request.dry_run() || asks() {
            return allow();
        }
        let what = request.get(Text::Kind).unwrap_or_else(|| request.path());
        block(format!("you may look and change nothing, and {} of {what} changes something", request.verb()))
            .hint("try it with --dry-run=server, or ask somebody who may")
    }
}

export_policy!(ReadOnly);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_refused_and_questions_are_not() {
        let policy: ReadOnly = kit::policy(r#"{"groups":["auditors"]}"#).unwrap();
        for (verb, resource) in [
            ("create", "pods"),
            ("patch", "deployments.apps/scale"),
            ("create", "pods/exec"),
            ("get", "pods/proxy"),
            ("deletecollection", "secrets"),
        ] {
            let asked = kit::operation(verb, resource).named("web");
            assert!(asked.by("eve", &["auditors"]).ask(&policy).is_block(), "{verb} {resource}");
            assert_eq!(asked.by("ann", &["dev"]).ask(&policy), allow());
        }
        let auditor = |verb: &str, resource: &str| kit::operation(verb, resource).by("eve", &["auditors"]);
        assert_eq!(auditor("create", "selfsubjectaccessreviews.authorization.k8s.io").ask(&policy), allow());
        assert_eq!(auditor("delete", "pods").dry_run().ask(&policy), allow());
        assert!(auditor("create", "selfsubjectaccessreviews.example.com").ask(&policy).is_block());
    }

    #[test]
    fn exceptions_are_exceptions() {
        let policy: ReadOnly = kit::policy(r#"{"exceptGroups":["sre"]}"#).unwrap();
        let delete = kit::operation("delete", "pods").named("web");
        assert!(delete.ask(&policy).is_block());
        assert_eq!(delete.by("ann", &["sre"]).ask(&policy), allow());
    }
}
