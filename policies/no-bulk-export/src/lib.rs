//! Refuses to list or watch Secrets or ConfigMaps beyond one namespace.

use postern_policy_sdk::*;

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Resources guarded.
    resources: Vec<String>,
    /// Names, with `*`, that nobody outside the exempt groups may get, list or watch.
    names: Vec<String>,
    /// Groups this does not apply to.
    exempt_groups: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { resources: vec!["secrets".into(), "configmaps".into()], names: Vec::new(), exempt_groups: Vec::new() }
    }
}

/// The policy.
pub struct NoBulkExport(Settings);

impl Policy for NoBulkExport {
    type Settings = Settings;
    const SUMMARY: &'static str = "Refuses lists and watches beyond one namespace";

    fn new(settings: Settings) -> Result<Self, String> {
        if settings.resources.is_empty() {
            return Err("resources: name at least one, or remove the policy".into());
        }
        Ok(Self(settings))
    }

    fn rules(&self) -> Vec<Rule> {
        // A get by name is nothing to this policy unless names are guarded: then it need not be asked.
        let get = (!self.0.names.is_empty()).then_some("get");
        let verbs = get.into_iter().chain(["list", "watch", "deletecollection"]);
        vec![rule().verbs(verbs).resources(self.0.resources.clone())]
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::empty()
    }

    fn on_request(&self, request: &Request) -> Verdict {
        if request.caller.is_in(&self.0.exempt_groups) {
            return allow();
        }
        if !request.has(Text::Namespace) && !request.is(Text::Verb, &["get"]) {
            let resource = request.resource();
            return block(format!("{} of {resource} over all namespaces is not allowed", request.verb()))
                .hint(format!("name one namespace: kubectl get {resource} -n NAMESPACE"));
        }
        match request.like(Text::Name, &self.0.names) {
            Some(at) => block(format!("{} named {} are not given out", request.resource(), self.0.names[at]))
                .hint("ask the owners of the namespace"),
            None => allow(),
        }
    }
}

export_policy!(NoBulkExport);

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(settings: &str) -> NoBulkExport {
        kit::policy(settings).unwrap()
    }

    #[test]
    fn only_one_namespace_at_a_time() {
        for verb in ["list", "watch", "deletecollection"] {
            let listed = kit::operation(verb, "secrets").by("ann", &["dev"]);
            assert!(listed.everywhere().ask(&policy("{}")).is_block(), "{verb}");
            assert_eq!(listed.ask(&policy("{}")), allow(), "{verb}");
            assert_eq!(listed.everywhere().ask(&policy(r#"{"exemptGroups":["dev"]}"#)), allow());
        }
    }

    #[test]
    fn a_get_is_asked_only_where_names_are_guarded() {
        let verbs = |settings: &str| policy(settings).rules()[0].verbs.clone();
        assert!(!verbs("{}").contains(&"get".to_owned()) && verbs(r#"{"names":["x"]}"#).contains(&"get".to_owned()));
    }

    #[test]
    fn names_are_patterns() {
        let policy = policy(r#"{"names":["prod-*-key"]}"#);
        let get = |name: &str| kit::operation("get", "secrets").named(name).ask(&policy);
        assert!(get("prod-x-key").is_block());
        assert_eq!(get("prod-x"), allow());
    }

    #[test]
    fn wrong_settings_are_told() {
        let why = |settings: &str| kit::policy::<NoBulkExport>(settings).err().unwrap();
        assert!(why(r#"{"resources":[]}"#).contains("resources"));
        assert!(why(r#"{"x":1}"#).contains('x'));
    }
}
