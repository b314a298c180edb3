//! Refuses to list or watch Secrets or ConfigMaps beyond one namespace.

use postern_policy_sdk::*;
use serde::Deserialize;

/// The settings.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NoBulkExport {
    /// Resources guarded.
    resources: Vec<String>,
    /// Names, with `*`, that nobody outside the exempt groups may get, list or watch.
    names: Vec<String>,
    /// Groups this does not apply to.
    exempt_groups: Vec<String>,
}

impl Default for NoBulkExport {
    fn default() -> Self {
        Self { resources: vec!["secrets".into(), "configmaps".into()], names: Vec::new(), exempt_groups: Vec::new() }
    }
}

impl Policy for NoBulkExport {
    fn configure(settings: &str) -> Result<Self, String> {
        let this: Self = serde_json::from_str(settings).map_err(|e| format!("{e}; see policies/no-bulk-export/README.md"))?;
        if this.resources.is_empty() {
            return Err("resources: name at least one, or remove the policy".into());
        }
        Ok(this)
    }

    fn describe(&self) -> Manifest {
        // A get by name is nothing to this policy unless names are guarded: then it need not be asked.
        let get = (!self.names.is_empty()).then_some("get");
        let verbs = get.into_iter().chain(["list", "watch", "deletecollection"]);
        let rules = vec![rule().verbs(verbs).resources(self.resources.clone())];
        manifest("no-bulk-export", env!("CARGO_PKG_VERSION"), "Refuses lists and watches beyond one namespace", rules)
    }

    fn on_request(&self, operation: &Operation, _: Option<&Object>, _: &dyn Host) -> Verdict {
        let Some(target) = &operation.target else { return Verdict::Allow };
        if self.exempt_groups.iter().any(|g| operation.caller.groups.contains(g)) {
            return Verdict::Allow;
        }
        if target.namespace.is_none() && operation.verb != "get" {
            return block(
                format!("{} of {} over all namespaces is not allowed", operation.verb, target.resource),
                format!("name one namespace: kubectl get {} -n NAMESPACE", target.resource),
            );
        }
        match target.name.as_deref().and_then(|name| self.names.iter().find(|pattern| glob(pattern, name))) {
            Some(pattern) => block(format!("{} named {pattern} are not given out", target.resource), "ask the owners of the namespace"),
            None => Verdict::Allow,
        }
    }
}

/// Whether a name fits a pattern in which `*` stands for any text.
fn glob(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name
            .strip_prefix(head)
            .is_some_and(|name| (0..=name.len()).filter(|at| name.is_char_boundary(*at)).any(|at| glob(rest, &name[at..]))),
    }
}

export_policy!(NoBulkExport);

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(verb: &str, namespace: Option<&str>, name: Option<&str>) -> Operation {
        Operation {
            id: "1".into(),
            cluster: "c".into(),
            received_at: 0,
            caller: Caller { username: "ann".into(), groups: vec!["dev".into()], issuer: "i".into(), claims: vec![] },
            verb: verb.into(),
            target: Some(Target {
                api_group: String::new(),
                api_version: "v1".into(),
                resource: "secrets".into(),
                subresource: None,
                namespace: namespace.map(Into::into),
                name: name.map(Into::into),
            }),
            path: "/".into(),
            query: vec![],
            dry_run: false,
            command: None,
        }
    }

    fn answer(settings: &str, operation: &Operation) -> Verdict {
        NoBulkExport::configure(settings).unwrap().on_request(operation, None, &NoHost)
    }

    #[test]
    fn only_one_namespace_at_a_time() {
        for verb in ["list", "watch", "deletecollection"] {
            assert!(matches!(answer("{}", &operation(verb, None, None)), Verdict::Block(_)), "{verb}");
            assert!(matches!(answer("{}", &operation(verb, Some("a"), None)), Verdict::Allow), "{verb}");
        }
        assert!(matches!(answer(r#"{"exemptGroups":["dev"]}"#, &operation("list", None, None)), Verdict::Allow));
    }

    #[test]
    fn a_get_is_asked_only_where_names_are_guarded() {
        let verbs = |settings: &str| NoBulkExport::configure(settings).unwrap().describe().rules[0].verbs.clone();
        assert!(!verbs("{}").contains(&"get".to_owned()) && verbs(r#"{"names":["x"]}"#).contains(&"get".to_owned()));
    }

    #[test]
    fn names_are_patterns() {
        let settings = r#"{"names":["prod-*-key"]}"#;
        assert!(matches!(answer(settings, &operation("get", Some("a"), Some("prod-x-key"))), Verdict::Block(_)));
        assert!(matches!(answer(settings, &operation("get", Some("a"), Some("prod-x"))), Verdict::Allow));
    }

    #[test]
    fn wrong_settings_are_told() {
        assert!(NoBulkExport::configure(r#"{"resources":[]}"#).err().unwrap().contains("resources"));
        assert!(NoBulkExport::configure(r#"{"x":1}"#).err().unwrap().contains('x'));
    }
}
