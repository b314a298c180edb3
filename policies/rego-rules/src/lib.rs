//! Rules without programming: Rego, as OPA and Gatekeeper have it, over every request.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use postern_policy_sdk::*;
use regorus::{Engine, Value};
use serde_json::{Value as Json, json};

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Which operations the rules are about; all when there are none.
    #[serde(default, rename = "match")]
    matches: Vec<Match>,
    /// Modules of Rego. Asked are the rules `deny` and `violation` (texts, or objects with `msg`), `approve` (the same), `mask` (JSONPaths) and `allow` of each
    /// package.
    rego: Vec<String>,
    /// What Gatekeeper's rules find under `input.parameters`.
    #[serde(default)]
    parameters: Json,
    /// What rules find under `data`.
    #[serde(default)]
    data: Json,
    /// Groups whose members may approve what `approve` names.
    #[serde(default)]
    approvers: Vec<String>,
    /// Modules are written in Rego v0, as they were before OPA 1.0.
    #[serde(default)]
    v0: bool,
}

/// Operations, as RBAC writes them.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Match {
    /// Verbs.
    verbs: Vec<String>,
    /// API groups.
    api_groups: Vec<String>,
    /// Resources: `pods`, `pods/exec`.
    resources: Vec<String>,
    /// Namespaces.
    namespaces: Vec<String>,
}

/// The policy.
pub struct RegoRules {
    settings: Settings,
    // Each operation has an instance of its own, in which nothing runs beside it.
    engine: Mutex<Engine>,
    /// Rules that are there, by what they mean.
    asked: Vec<(Means, String)>,
    reads_old: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Means {
    Deny,
    Approve,
    Mask,
    Allow,
}

const RULES: [(&str, Means); 5] =
    [("deny", Means::Deny), ("violation", Means::Deny), ("approve", Means::Approve), ("mask", Means::Mask), ("allow", Means::Allow)];

impl Policy for RegoRules {
    type Settings = Settings;
    const SUMMARY: &'static str = "Decides by rules in Rego";

    fn new(settings: Settings) -> Result<Self, String> {
        let mut engine = Engine::new();
        engine.set_rego_v0(settings.v0);
        engine.set_strict_builtin_errors(true);
        if !settings.data.is_null() {
            engine.add_data_json(&settings.data.to_string()).map_err(|error| format!("data: {error}"))?;
        }
        let mut asked = BTreeSet::new();
        for (at, module) in settings.rego.iter().enumerate() {
            let file = format!("rego[{at}]");
            let package = engine.add_policy(file.clone(), module.clone()).map_err(|error| format!("{file}: {error}"))?;
            for (name, means) in RULES {
                // By its head, wherever it stands: a rule that is not seen would let everything pass.
                if engine.has_declared_rule_rooted_at(&file, name).map_err(|error| format!("{file}: {name}: {error}"))? {
                    asked.insert((means, format!("{package}.{name}")));
                }
            }
        }
        // What cannot be asked is told now, and not with the first request.
        for (_, path) in &asked {
            engine.clone().eval_rule(path.clone()).map_err(|error| format!("{path}: {}", first_line(&error.to_string())))?;
        }
        let asked: Vec<_> = asked.into_iter().collect();
        if asked.is_empty() {
            return Err("rego: no package has a rule deny, violation, approve, mask or allow".into());
        }
        if asked.iter().any(|(means, _)| *means == Means::Approve) && settings.approvers.is_empty() {
            return Err("approvers: name a group, for a rule approve is there".into());
        }
        let reads_old = settings.rego.iter().any(|module| module.contains("oldObject"));
        Ok(Self { settings, engine: Mutex::new(engine), asked, reads_old })
    }

    fn rules(&self) -> Vec<Rule> {
        let rules = self.settings.matches.iter().cloned();
        rules.map(|m| rule().verbs(m.verbs).api_groups(m.api_groups).resources(m.resources).namespaces(m.namespaces)).collect()
    }

    fn needs(&self) -> Vec<Surrounding> {
        if self.reads_old { vec![Surrounding::Stored] } else { Vec::new() }
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let review = Review::new(request);
        let mut described = review.request();
        described["object"] = review.object();
        if self.reads_old {
            described["oldObject"] = review.old_object();
        }
        described["kind"] = json!({"kind": described["object"]["kind"], "group": described["resource"]["group"], "version": described["resource"]["version"]});
        let input = json!({"request": described, "review": described, "parameters": self.settings.parameters});
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = engine.set_input_json(&input.to_string()) {
            return block(format!("the request cannot be given to the rules: {error}"));
        }
        let (mut approve, mut paths) = (None, Vec::new());
        for (means, path) in &self.asked {
            let value = match engine.eval_rule(path.clone()) {
                Ok(value) => value,
                // What cannot be evaluated is refused.
                Err(error) => return block(format!("{path} cannot be evaluated: {}", first_line(&error.to_string()))),
            };
            match means {
                Means::Allow if value != Value::from(true) => return block(format!("{path} is not true")),
                Means::Allow => {}
                Means::Deny => {
                    if let Some(reason) = messages(&value).into_iter().next() {
                        return block(reason);
                    }
                }
                Means::Approve => approve = approve.or_else(|| messages(&value).into_iter().next()),
                Means::Mask => paths.extend(messages(&value)),
            }
        }
        match approve {
            // What is approved would pass unmasked: one policy says one of the two.
            Some(_) if !paths.is_empty() => block("its rules ask for an approval and hide fields, and one policy says one of the two")
                .hint("write them into two files, each with a copy of the module"),
            Some(reason) => require_approval(reason, self.settings.approvers.clone()).into(),
            None => mask(paths.iter().map(field)),
        }
    }
}

/// What a rule says: a text for each thing it gives. Whatever it gives but false, nothing, and what is empty, says something: what has no `msg` is told as it is.
fn messages(value: &Value) -> Vec<String> {
    if *value == Value::Undefined {
        return Vec::new();
    }
    let text = value.to_string();
    let said = |value: &Json| match value {
        Json::String(text) => text.clone(),
        other => other.get("msg").or_else(|| other.get("message")).and_then(Json::as_str).map_or_else(|| other.to_string(), str::to_owned),
    };
    match serde_json::from_str::<Json>(&text) {
        Ok(Json::Null | Json::Bool(false)) => Vec::new(),
        Ok(Json::Bool(true)) => vec!["a rule says so".into()],
        Ok(Json::Array(list)) => list.iter().map(said).collect(),
        Ok(Json::Object(map)) if map.is_empty() => Vec::new(),
        Ok(one) => vec![said(&one)],
        Err(_) => vec![text],
    }
}

fn first_line(text: &str) -> String {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().chars().take(160).collect()
}

export_policy!(RegoRules);

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(settings: Json) -> RegoRules {
        kit::policy(&settings.to_string()).unwrap()
    }

    #[test]
    fn a_rule_of_opa_is_pasted_in() {
        let rego = "package kubernetes.admission\n\nimport rego.v1\n\ndeny contains msg if {\n    input.request.kind.kind == \"Pod\"\n    some container in input.request.object.spec.containers\n    not startswith(container.image, \"hooli.com/\")\n    msg := sprintf(\"image '%v' comes from untrusted registry\", [container.image])\n}\n";
        let policy = policy(json!({"rego": [rego], "match": [{"verbs": ["create"], "resources": ["pods"]}]}));
        let create = |image: &str| {
            kit::operation("create", "pods").body(json!({"kind": "Pod", "spec": {"containers": [{"image": image}]}})).ask(&policy)
        };
        assert_eq!(create("hooli.com/a:1"), allow());
        assert_eq!(create("nginx").reason(), Some("image 'nginx' comes from untrusted registry"));
    }

    #[test]
    fn a_template_of_gatekeeper_is_pasted_in() {
        // K8sRequiredLabels, as Gatekeeper's library has it.
        let rego = "package k8srequiredlabels\n\nviolation[{\"msg\": msg, \"details\": {\"missing_labels\": missing}}] {\n  provided := {label | input.review.object.metadata.labels[label]}\n  required := {label | label := input.parameters.labels[_]}\n  missing := required - provided\n  count(missing) > 0\n  msg := sprintf(\"you must provide labels: %v\", [missing])\n}\n";
        let policy = policy(json!({"rego": [rego], "v0": true, "parameters": {"labels": ["owner"]}}));
        let create = |labels: Json| {
            kit::operation("create", "namespaces").body(json!({"kind": "Namespace", "metadata": {"labels": labels}})).ask(&policy)
        };
        assert_eq!(create(json!({"owner": "ann"})), allow());
        assert!(create(json!({"x": "y"})).reason().unwrap().contains("you must provide labels"));
    }

    #[test]
    fn rules_approve_mask_and_allow() {
        let rego = "package postern\nimport rego.v1\nallow if input.request.userInfo.username != \"eve\"\napprove contains \"somebody must look\" if input.request.operation == \"CONNECT\"\nmask contains path if {\n input.request.resource.resource == \"secrets\"\n path := data.paths[_]\n}\n";
        let policy = policy(json!({"rego": [rego], "approvers": ["leads"], "data": {"paths": ["$.data.*"]}}));
        assert!(kit::operation("get", "pods").by("eve", &[]).ask(&policy).is_block());
        assert_eq!(kit::exec(&["id"]).ask(&policy).reason(), Some("somebody must look"));
        assert_eq!(kit::operation("get", "secrets").ask(&policy), mask([field("$.data.*")]));
        assert_eq!(kit::operation("get", "pods").ask(&policy), allow());
    }

    #[test]
    fn whatever_a_rule_gives_is_heard_and_wherever_it_stands() {
        let says = |rule: &str| {
            let rego = format!("package a\nimport rego.v1\n{rule}\n");
            kit::operation("get", "pods").ask(&policy(json!({"rego": [rego], "approvers": ["leads"]})))
        };
        for rule in [
            "    deny contains \"indented\" if true",
            "deny contains {\"reason\": \"no msg\"} if true",
            "deny := true",
            "deny := \"one text\"",
            "deny := {\"msg\": \"one object\"}",
            "deny := 7",
            "allow := false",
            "allow if input.request.verb == \"list\"",
            "approve contains \"x\" if true\nmask contains \"$.data\" if true",
        ] {
            assert!(says(rule).is_block(), "{rule}");
        }
        for rule in
            ["deny contains \"never\" if false", "deny := false", "deny := []", "deny := {}", "default deny := false", "allow := true"]
        {
            assert_eq!(says(rule), allow(), "{rule}");
        }
    }

    #[test]
    fn wrong_settings_are_told() {
        let why = |settings: Json| kit::policy::<RegoRules>(&settings.to_string()).err().unwrap();
        assert!(why(json!({"rego": ["package a\nimport rego.v1\nnothing if true"]})).contains("no package has a rule"));
        assert!(why(json!({"rego": ["package a\nimport rego.v1\ndeny contains if {"]})).contains("rego[0]"));
        for rule in ["deny.nested contains \"x\" if true", "deny[\"a\"] := \"b\""] {
            assert!(why(json!({"rego": [format!("package a\nimport rego.v1\n{rule}\n")]})).contains("data.a.deny"), "{rule}");
        }
        assert!(why(json!({"rego": ["package a\nimport rego.v1\napprove contains \"x\" if true"]})).contains("approvers"));
    }
}
