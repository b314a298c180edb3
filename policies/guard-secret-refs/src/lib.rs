//! Says who may let a container have which Secrets: whoever may make a pod can have it print them, whatever is masked.

use std::collections::BTreeSet;

use postern_policy_sdk::*;
use serde_json::Value;

/// The settings.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Who may refer to which Secrets. What no entry lets is refused.
    allow: Vec<Entry>,
}

/// Who may refer to which Secrets.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Entry {
    /// Groups this is for; everybody when there are none.
    groups: Vec<String>,
    /// Namespaces this is for, with `*` for any characters; all when there are none.
    namespaces: Vec<String>,
    /// Names of Secrets, with `*` for any characters.
    secrets: Vec<String>,
}

/// The policy.
pub struct GuardSecretRefs(Settings);

/// What has containers, or a template of them.
const WORKLOADS: [&str; 10] = [
    "pods",
    "podtemplates",
    "replicationcontrollers",
    "deployments.apps",
    "daemonsets.apps",
    "replicasets.apps",
    "statefulsets.apps",
    "jobs.batch",
    "cronjobs.batch",
    "pods/ephemeralcontainers",
];

impl Policy for GuardSecretRefs {
    type Settings = Settings;
    const SUMMARY: &'static str = "Says who may let a container have which Secrets";

    fn new(settings: Settings) -> Result<Self, String> {
        match settings.allow.iter().any(|entry| entry.secrets.is_empty()) {
            true => Err("allow: an entry without secrets lets nothing; write secrets: ['*'] for all of them".into()),
            false => Ok(Self(settings)),
        }
    }

    fn rules(&self) -> Vec<Rule> {
        let resources = WORKLOADS.iter().map(|resource| resource.split('.').next().unwrap_or_default());
        vec![rule().verbs(["create", "update", "patch"]).resources(resources)]
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let Some(body) = request.body() else { return allow() };
        let entries: Vec<&Entry> = self
            .0
            .allow
            .iter()
            .filter(|entry| entry.groups.is_empty() || request.caller.is_in(&entry.groups))
            .filter(|entry| entry.namespaces.is_empty() || request.like(Text::Namespace, &entry.namespaces).is_some())
            .collect();
        let may = |name: &str| entries.iter().flat_map(|entry| &entry.secrets).any(|pattern| glob(pattern, name));
        match references(&body.json()).into_iter().find(|name| !may(name)) {
            Some(name) => block(format!("a container would have the Secret {name}, which you may not let it have"))
                .hint("ask for an entry in guard-secret-refs' allow"),
            None => allow(),
        }
    }
}

/// What a patch says that takes a reference from elsewhere in the object.
const FROM_ELSEWHERE: &str = "(from elsewhere in the object)";

/// The names of the Secrets that a body refers to: of an object, a merge patch, or a JSON patch.
fn references(body: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    match body {
        Value::Array(operations) => operations.iter().for_each(|operation| of_operation(operation, &mut names)),
        object => of_value("", object, &mut names),
    }
    names
}

/// By the names of fields, whatever volume, source or driver they belong to: `secretName`, `secretRef`, `secretKeyRef`, `nodePublishSecretRef`, `secret`,
/// `imagePullSecrets`.
fn of_value(key: &str, value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            let refers = key == "secret" || key.ends_with("ecretRef") || key.ends_with("ecretKeyRef");
            for (name, value) in members {
                match value {
                    Value::String(text) if name == "secretName" || refers && name == "name" => drop(names.insert(text.clone())),
                    value => of_value(name, value, names),
                }
            }
        }
        Value::Array(elements) => {
            for element in elements {
                match element["name"].as_str() {
                    Some(name) if key == "imagePullSecrets" => drop(names.insert(name.to_owned())),
                    _ => of_value(key, element, names),
                }
            }
        }
        _ => {}
    }
}

/// An operation of a JSON patch (RFC 6902) says by its path what its value is.
fn of_operation(operation: &Value, names: &mut BTreeSet<String>) {
    let text = |key: &str| operation[key].as_str().unwrap_or_default();
    let mut parts = text("path").rsplit('/');
    let (last, before) =
        (parts.next().unwrap_or_default(), parts.find(|part| part.parse::<u64>().is_err() && *part != "-").unwrap_or_default());
    let is_secret = |part: &str| part.to_ascii_lowercase().contains("secret");
    match text("op") {
        "add" | "replace" => match &operation["value"] {
            Value::String(name) if text("path").split('/').any(is_secret) && matches!(last, "name" | "secretName") => {
                names.insert(name.clone());
            }
            // An element of a list is called by the list.
            value => of_value(if last == "-" || last.parse::<u64>().is_ok() { before } else { last }, &wrapped(last, before, value), names),
        },
        "move" | "copy" if [text("from"), text("path")].iter().any(|path| path.split('/').any(is_secret)) => {
            names.insert(FROM_ELSEWHERE.into());
        }
        _ => {}
    }
}

/// One pull secret that is added to the list of them is that list.
fn wrapped(last: &str, before: &str, value: &Value) -> Value {
    match before == "imagePullSecrets" && (last == "-" || last.parse::<u64>().is_ok()) {
        true => Value::Array(vec![value.clone()]),
        false => value.clone(),
    }
}

export_policy!(GuardSecretRefs);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SETTINGS: &str = r#"{"allow":[{"groups":["team-shop"],"namespaces":["shop*"],"secrets":["shop-*"]},{"secrets":["registry"]}]}"#;

    fn ask(groups: &[&str], namespace: &str, verb: &str, resource: &str, body: Value) -> Verdict {
        let policy: GuardSecretRefs = kit::policy(SETTINGS).unwrap();
        kit::operation(verb, resource).named("x").in_namespace(namespace).by("ann", groups).body(body).ask(&policy)
    }

    #[test]
    fn every_way_to_a_secret_is_seen() {
        for spec in [
            json!({"containers": [{"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "db", "key": "k"}}}]}]}),
            json!({"initContainers": [{"envFrom": [{"secretRef": {"name": "db"}}]}]}),
            json!({"ephemeralContainers": [{"envFrom": [{"secretRef": {"name": "db"}}]}]}),
            json!({"volumes": [{"name": "v", "secret": {"secretName": "db"}}]}),
            json!({"volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "c"}}, {"secret": {"name": "db"}}]}}]}),
            json!({"volumes": [{"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "db"}}}]}),
            json!({"volumes": [{"name": "v", "azureFile": {"secretName": "db"}}]}),
            json!({"imagePullSecrets": [{"name": "db"}]}),
        ] {
            for (resource, body) in [
                ("pods", json!({"spec": spec})),
                ("deployments.apps", json!({"spec": {"template": {"spec": spec}}})),
                ("cronjobs.batch", json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": spec}}}}})),
            ] {
                let answer = ask(&[], "shop", "create", resource, body);
                assert!(answer.reason().is_some_and(|why| why.contains("the Secret db")), "{resource} {spec}");
            }
        }
        assert_eq!(ask(&[], "shop", "create", "pods", json!({"spec": {"containers": [{"name": "secret", "image": "i"}]}})), allow());
    }

    #[test]
    fn who_may_refer_to_what_is_a_matter_of_group_and_namespace() {
        let of = |name: &str| json!({"spec": {"volumes": [{"name": "v", "secret": {"secretName": name}}]}});
        assert_eq!(ask(&["team-shop"], "shop-1", "create", "pods", of("shop-db")), allow());
        assert!(ask(&["team-shop"], "shop-1", "create", "pods", of("other")).is_block());
        assert!(ask(&["team-shop"], "else", "create", "pods", of("shop-db")).is_block());
        assert!(ask(&[], "shop-1", "create", "pods", of("shop-db")).is_block());
        assert_eq!(ask(&[], "any", "patch", "pods", of("registry")), allow());
        assert!(kit::policy::<GuardSecretRefs>(r#"{"allow":[{"groups":["a"]}]}"#).is_err());
    }

    #[test]
    fn patches_are_read_as_what_they_do() {
        for patch in [
            json!([{"op": "add", "path": "/spec/volumes/-", "value": {"name": "v", "secret": {"secretName": "db"}}}]),
            json!([{"op": "replace", "path": "/spec/template/spec/volumes/0/secret/secretName", "value": "db"}]),
            json!([{"op": "replace", "path": "/spec/containers/0/env/0/valueFrom/secretKeyRef/name", "value": "db"}]),
            json!([{"op": "add", "path": "/spec/containers/0/env/0/valueFrom/secretKeyRef", "value": {"name": "db", "key": "k"}}]),
            json!([{"op": "add", "path": "/spec/imagePullSecrets/-", "value": {"name": "db"}}]),
            json!([{"op": "add", "path": "/spec/imagePullSecrets", "value": [{"name": "db"}]}]),
            json!([{"op": "copy", "from": "/spec/volumes/0/secret", "path": "/spec/volumes/1/secret"}]),
        ] {
            assert!(ask(&[], "shop", "patch", "deployments.apps", patch.clone()).is_block(), "{patch}");
        }
        assert_eq!(ask(&[], "shop", "patch", "pods", json!([{"op": "replace", "path": "/metadata/labels/name", "value": "db"}])), allow());
    }
}
