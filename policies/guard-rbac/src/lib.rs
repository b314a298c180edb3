//! Refuses roles and bindings that give more than anybody meant to give.

use postern_policy_sdk::*;
use serde_json::Value;

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Groups this is not for.
    except_groups: Vec<String>,
    /// Roles and ClusterRoles nobody may be bound to.
    roles: Vec<String>,
    /// Verbs no role may have.
    verbs: Vec<String>,
    /// Users and groups no role may be given to.
    subjects: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Self {
            except_groups: Vec::new(),
            roles: texts(&["cluster-admin", "admin", "system:masters"]),
            verbs: texts(&["*", "escalate", "bind", "impersonate"]),
            subjects: texts(&[
                "system:anonymous",
                "system:unauthenticated",
                "system:authenticated",
                "system:masters",
                "system:serviceaccounts",
            ]),
        }
    }
}

/// The policy.
pub struct GuardRbac(Settings);

impl Policy for GuardRbac {
    type Settings = Settings;
    const SUMMARY: &'static str = "Refuses roles and bindings that give too much";

    fn new(settings: Settings) -> Result<Self, String> {
        Ok(Self(settings))
    }

    fn rules(&self) -> Vec<Rule> {
        let kinds = ["roles", "clusterroles", "rolebindings", "clusterrolebindings"];
        vec![rule().verbs(["create", "update", "patch"]).api_groups(["rbac.authorization.k8s.io"]).resources(kinds)]
    }

    fn on_request(&self, request: &Request) -> Verdict {
        if request.caller.is_in(&self.0.except_groups) {
            return allow();
        }
        let Some(body) = request.body() else { return allow() };
        if let Some(why) = unclear(&body.json()) {
            return block(why).hint("write the rules and subjects themselves");
        }
        let why = if request.resource().ends_with("bindings") { self.binding(&body.json()) } else { self.role(&body.json()) };
        match why {
            Some(why) => block(why).hint("name the verbs, resources and subjects that are needed, or ask the platform team"),
            None => allow(),
        }
    }
}

impl GuardRbac {
    /// What is wrong with a role, or with a patch of one: of a JSON patch every text it brings counts.
    fn role(&self, body: &Value) -> Option<String> {
        let mut wrong = None;
        texts(body, "", &mut |key, text| {
            let is_patch = body.is_array();
            if (is_patch || key == "verbs") && self.0.verbs.iter().any(|verb| verb == text) {
                wrong = Some(format!("a role with the verb {text} gives too much"));
            } else if (is_patch || matches!(key, "resources" | "apiGroups" | "nonResourceURLs")) && text == "*" {
                wrong = Some("a role for * gives too much".to_owned());
            }
        });
        wrong
    }

    /// What is wrong with a binding.
    fn binding(&self, body: &Value) -> Option<String> {
        let mut wrong = None;
        texts(body, "", &mut |key, text| {
            let is_patch = body.is_array();
            if (is_patch || key == "name")
                && (self.0.roles.iter().any(|role| role == text) || self.0.subjects.iter().any(|name| name == text))
            {
                wrong = Some(format!("a binding with {text} gives too much"));
            }
        });
        wrong
    }
}

/// What gives rights that do not stand in the body.
fn unclear(body: &Value) -> Option<&'static str> {
    const GATHERS: &str = "a role that gathers others gives what they will have";
    let Value::Array(operations) = body else { return body.get("aggregationRule").filter(|rule| !rule.is_null()).map(|_| GATHERS) };
    // RFC 6902; the empty path is the whole role.
    operations.iter().find_map(|operation| match (operation["op"].as_str(), operation["path"].as_str().unwrap_or_default()) {
        (Some("move" | "copy"), _) => Some("what a patch moves or copies cannot be told from it"),
        (Some("add" | "replace"), "") => unclear(&operation["value"]),
        (Some("add" | "replace"), path) if path.starts_with("/aggregationRule") => Some(GATHERS),
        _ => None,
    })
}

/// Every text of a value, with the key it stands under.
fn texts<'a>(value: &'a Value, key: &'a str, visit: &mut dyn FnMut(&str, &str)) {
    match value {
        Value::String(text) => visit(key, text),
        Value::Array(list) => list.iter().for_each(|value| texts(value, key, visit)),
        // What an object is called and noted with gives nothing.
        Value::Object(map) => map.iter().filter(|(key, _)| *key != "metadata").for_each(|(key, value)| texts(value, key, visit)),
        _ => {}
    }
}

export_policy!(GuardRbac);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ask(verb: &str, resource: &str, body: Value) -> Verdict {
        let policy: GuardRbac = kit::policy("{}").unwrap();
        kit::operation(verb, &format!("{resource}.rbac.authorization.k8s.io")).body(body).ask(&policy)
    }

    #[test]
    fn wildcards_and_ways_to_more_are_refused() {
        let role = |verbs: &[&str], resources: &[&str]| json!({"metadata": {"name": "*"}, "rules": [{"apiGroups": [""], "verbs": verbs, "resources": resources}]});
        assert_eq!(ask("create", "roles", role(&["get", "list"], &["pods"])), allow());
        for verbs in [["get", "*"], ["get", "escalate"], ["get", "bind"], ["get", "impersonate"]] {
            assert!(ask("create", "clusterroles", role(&verbs, &["pods"])).is_block(), "{verbs:?}");
        }
        assert!(ask("update", "roles", role(&["get"], &["*"])).is_block());
        assert!(ask("patch", "roles", json!([{"op": "add", "path": "/rules/0/verbs/-", "value": "escalate"}])).is_block());
        assert_eq!(ask("patch", "roles", json!([{"op": "add", "path": "/rules/0/verbs/-", "value": "get"}])), allow());
    }

    #[test]
    fn rights_that_do_not_stand_in_the_body_are_refused() {
        let gathers = json!({"metadata": {"name": "x"}, "aggregationRule": {"clusterRoleSelectors": [{}]}});
        assert!(ask("create", "clusterroles", gathers.clone()).is_block());
        for operation in [
            json!({"op": "add", "path": "/aggregationRule", "value": {"clusterRoleSelectors": [{}]}}),
            json!({"op": "replace", "path": "", "value": gathers}),
            json!({"op": "copy", "from": "/metadata/annotations/x", "path": "/rules/0/verbs/0"}),
        ] {
            assert!(ask("patch", "clusterroles", json!([operation])).is_block(), "{operation}");
        }
        assert_eq!(ask("update", "clusterroles", json!({"aggregationRule": null, "rules": []})), allow());
    }

    #[test]
    fn powerful_roles_and_open_groups_are_bound_by_nobody() {
        let binding = |role: &str, subject: &str| json!({"metadata": {"name": "admin"}, "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [{"kind": "Group", "name": subject}]});
        assert_eq!(ask("create", "rolebindings", binding("view", "dev")), allow());
        assert!(ask("create", "clusterrolebindings", binding("cluster-admin", "dev")).is_block());
        assert!(ask("create", "rolebindings", binding("view", "system:unauthenticated")).is_block());
        assert!(ask("patch", "rolebindings", json!({"subjects": [{"kind": "Group", "name": "system:authenticated"}]})).is_block());
        let policy: GuardRbac = kit::policy(r#"{"exceptGroups":["sre"]}"#).unwrap();
        let create = kit::operation("create", "clusterrolebindings.rbac.authorization.k8s.io").body(binding("cluster-admin", "dev"));
        assert_eq!(create.by("ann", &["sre"]).ask(&policy), allow());
    }
}
