//! Rules without programming: expressions in CEL, as ValidatingAdmissionPolicy writes them, over every request.

use std::collections::BTreeSet;
use std::sync::Arc;

use cel::{Context, Env, Program, Value};
use postern_policy_sdk::*;

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Which operations the rules are about; all when there are none.
    #[serde(default, rename = "match")]
    matches: Vec<Match>,
    /// What the expressions find under `params`.
    #[serde(default)]
    params: serde_json::Value,
    /// What must hold: where an expression is false the operation is refused. Written as in a ValidatingAdmissionPolicy.
    #[serde(default)]
    validations: Vec<Validation>,
    /// What follows where an expression is true.
    #[serde(default)]
    rules: Vec<RuleText>,
}

/// Operations, as RBAC writes them.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
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

/// An expression that must hold.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Validation {
    /// It gives true or false.
    expression: String,
    /// What the caller is told.
    message: Option<String>,
    /// The same as an expression that gives text.
    message_expression: Option<String>,
}

/// An expression, and what follows where it is true.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RuleText {
    /// It gives true or false.
    when: String,
    /// What follows.
    then: Then,
    /// What the caller is told.
    message: Option<String>,
    /// The same as an expression that gives text.
    message_expression: Option<String>,
    /// Groups whose members may approve, for require-approval.
    #[serde(default)]
    approvers: Vec<String>,
    /// Fields to hide, as JSONPath, for mask.
    #[serde(default)]
    paths: Vec<String>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Then {
    Block,
    RequireApproval,
    Mask,
}

/// The policy.
pub struct CelRules {
    settings: Settings,
    env: Arc<Env>,
    validations: Vec<Compiled>,
    rules: Vec<Compiled>,
    reads: Reads,
    /// Which fields of the request; none where that cannot be told from the expressions.
    fields: Option<BTreeSet<String>>,
}

struct Compiled {
    expression: Program,
    message: Option<Program>,
}

/// What expressions name: only that is fetched and read.
#[derive(Clone, Copy)]
struct Reads {
    object: bool,
    old_object: bool,
    namespace: bool,
}

/// Which group of the settings an expression is of.
fn compile(env: &Env, what: &str, expression: &str, message: Option<&str>) -> Result<Compiled, String> {
    let program = |text: &str| env.compile(text).map_err(|error| format!("{what}: `{text}` is not valid CEL: {error}"));
    Ok(Compiled { expression: program(expression)?, message: message.map(program).transpose()? })
}

impl Policy for CelRules {
    type Settings = Settings;
    const SUMMARY: &'static str = "Decides by expressions in CEL";

    fn new(settings: Settings) -> Result<Self, String> {
        if settings.validations.is_empty() && settings.rules.is_empty() {
            return Err("validations, rules: write at least one, or remove the policy".into());
        }
        let env = Arc::new(Env::stdlib());
        let (mut validations, mut rules) = (Vec::new(), Vec::new());
        for (at, validation) in settings.validations.iter().enumerate() {
            let what = format!("validations[{at}]");
            validations.push(compile(&env, &what, &validation.expression, validation.message_expression.as_deref())?);
        }
        for (at, rule) in settings.rules.iter().enumerate() {
            let what = format!("rules[{at}]");
            if rule.then == Then::RequireApproval && rule.approvers.is_empty() {
                return Err(format!("{what}: require-approval needs approvers"));
            }
            if rule.then == Then::Mask && rule.paths.is_empty() {
                return Err(format!("{what}: mask needs paths"));
            }
            rules.push(compile(&env, &what, &rule.when, rule.message_expression.as_deref())?);
        }
        let names = |variable: &str| {
            validations.iter().chain(&rules).any(|c| {
                c.expression.references().has_variable(variable)
                    || c.message.as_ref().is_some_and(|m| m.references().has_variable(variable))
            })
        };
        let reads = Reads { object: names("object"), old_object: names("oldObject"), namespace: names("namespaceObject") };
        let texts = settings.validations.iter().flat_map(|v| [Some(&v.expression), v.message_expression.as_ref()]);
        let texts = texts.chain(settings.rules.iter().flat_map(|r| [Some(&r.when), r.message_expression.as_ref()]));
        let fields = texts.flatten().map(|text| fields_of_request(text)).collect::<Option<Vec<_>>>();
        let fields = fields.map(|fields| fields.into_iter().flatten().collect());
        Ok(Self { settings, env, validations, rules, reads, fields })
    }

    fn rules(&self) -> Vec<Rule> {
        let rules = self.settings.matches.iter().cloned();
        rules.map(|m| rule().verbs(m.verbs).api_groups(m.api_groups).resources(m.resources).namespaces(m.namespaces)).collect()
    }

    fn needs(&self) -> Vec<Surrounding> {
        let needs = [(self.reads.old_object, Surrounding::Stored), (self.reads.namespace, Surrounding::Namespace)];
        needs.into_iter().filter(|(reads, _)| *reads).map(|(_, need)| need).collect()
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let mut context = Context::with_env(Arc::clone(&self.env));
        let review = Review::new(request);
        let mut set = |name: &str, value: serde_json::Value| context.add_variable_from_value(name, to_cel(&value));
        set("request", review.request_with(|name| self.fields.as_ref().is_none_or(|fields| fields.contains(name))));
        set("params", self.settings.params.clone());
        if self.reads.object {
            set("object", review.object());
        }
        if self.reads.old_object {
            set("oldObject", review.old_object());
        }
        if self.reads.namespace {
            set("namespaceObject", request.around(Surrounding::Namespace).map(|namespace| namespace.json()).unwrap_or_default());
        }
        for (at, (text, compiled)) in self.settings.validations.iter().zip(&self.validations).enumerate() {
            match compiled.expression.execute(&context) {
                Ok(Value::Bool(true)) => {}
                Ok(Value::Bool(false)) => {
                    return block(compiled.say(&context, text.message.as_deref(), &format!("failed expression: {}", text.expression)));
                }
                other => return block(cannot(&format!("validations[{at}]"), other)),
            }
        }
        let (mut approvals, mut masks) = (Vec::new(), Vec::new());
        for (at, (text, compiled)) in self.settings.rules.iter().zip(&self.rules).enumerate() {
            match compiled.expression.execute(&context) {
                Ok(Value::Bool(false)) => continue,
                Ok(Value::Bool(true)) => {}
                other => return block(cannot(&format!("rules[{at}]"), other)),
            }
            let say = || compiled.say(&context, text.message.as_deref(), &text.when);
            match text.then {
                Then::Block => return block(say()),
                Then::RequireApproval => approvals.push(require_approval(say(), text.approvers.clone())),
                Then::Mask => masks.extend(text.paths.iter().map(field)),
            }
        }
        together(approvals, masks)
    }
}

/// The fields of `request` that an expression names; none where it may read others: where what follows is not a dot and a name.
fn fields_of_request(expression: &str) -> Option<Vec<String>> {
    const VARIABLE: &str = "request";
    let is_of_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut fields = Vec::new();
    for (at, _) in expression.match_indices(VARIABLE) {
        let (before, after) = (&expression[..at], &expression[at + VARIABLE.len()..]);
        // A part of another name.
        if before.ends_with(is_of_name) || after.starts_with(is_of_name) {
            continue;
        }
        let field = after.trim_start().strip_prefix('.')?.trim_start();
        let end = field.find(|c| !is_of_name(c)).unwrap_or(field.len());
        // What is called on it may look at all of it.
        let is_called = field[end..].trim_start().starts_with('(');
        (end > 0 && !is_called).then(|| fields.push(field[..end].to_owned()))?;
    }
    Some(fields)
}

/// One verdict for what several rules ask. A policy gives one: what cannot be said in one is refused, and never left out.
fn together(approvals: Vec<Approval>, masks: Vec<Mask>) -> Verdict {
    let mut approvals = approvals.into_iter();
    let Some(mut all) = approvals.next() else { return masks.into() };
    let hint = "write them into two files, each with a copy of the module";
    if !masks.is_empty() {
        return block("its rules ask for an approval and hide fields, and one policy says one of the two").hint(hint);
    }
    for more in approvals {
        // Whoever may approve must be one who may approve each.
        all.approvers.retain(|group| more.approvers.contains(group));
        all.reason = format!("{}; {}", all.reason, more.reason);
    }
    match all.approvers.is_empty() {
        true => block(format!("its rules ask for approvals that no group may give together: {}", all.reason)).hint(hint),
        false => all.into(),
    }
}

impl Compiled {
    fn say(&self, context: &Context, message: Option<&str>, otherwise: &str) -> String {
        match self.message.as_ref().map(|program| program.execute(context)) {
            Some(Ok(Value::String(text))) if !text.trim().is_empty() => text.to_string(),
            _ => message.unwrap_or(otherwise).to_owned(),
        }
    }
}

/// What cannot be evaluated is refused, as `failurePolicy: Fail` does.
fn cannot(what: &str, result: Result<Value, cel::ExecutionError>) -> String {
    match result {
        Ok(_) => format!("{what} gives neither true nor false"),
        Err(error) => format!("{what} cannot be evaluated: {}", error.to_string().chars().take(120).collect::<String>()),
    }
}

/// JSON's numbers are int where they are whole, as Kubernetes gives them to CEL.
fn to_cel(value: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(number) => number.as_i64().map_or_else(|| Value::Float(number.as_f64().unwrap_or_default()), Value::Int),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(list) => Value::from(list.iter().map(to_cel).collect::<Vec<_>>()),
        Json::Object(map) => {
            Value::from(map.iter().map(|(key, value)| (key.clone(), to_cel(value))).collect::<std::collections::HashMap<_, _>>())
        }
    }
}

export_policy!(CelRules);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy(settings: serde_json::Value) -> CelRules {
        kit::policy(&settings.to_string()).unwrap()
    }

    #[test]
    fn only_the_fields_that_expressions_name_are_asked_about() {
        let fields = |expression: &str| fields_of_request(expression).map(|fields| fields.join(" "));
        for (expression, named) in [
            ("request.name == 'x' && request . userInfo.username != 'eve'", Some("name userInfo")),
            ("has(request.subResource) ? my_request : requests.size()", Some("subResource")),
            ("object.spec.replicas < 5", Some("")),
            ("request['na' + 'me'] == 'x'", None),
            ("size(request) > 0", None),
            ("request.?name == 'x'", None),
            ("request.all(k, k != 'command')", None),
            ("request.size () > 0", None),
            ("request.`name` == 'x'", None),
            ("'what a request says'", None),
        ] {
            assert_eq!(fields(expression).as_deref(), named, "{expression}");
        }
    }

    #[test]
    fn a_validation_of_kubernetes_own_kind_is_pasted_in() {
        let policy = policy(json!({"match": [{"verbs": ["create"], "resources": ["deployments"]}],
            "validations": [{"expression": "object.spec.replicas <= params.most", "messageExpression": "'at most ' + string(params.most) + ' replicas'"}],
            "params": {"most": 5}}));
        let create =
            |replicas: u32| kit::operation("create", "deployments.apps").body(json!({"spec": {"replicas": replicas}})).ask(&policy);
        assert_eq!(create(5), allow());
        assert_eq!(create(6).reason(), Some("at most 5 replicas"));
        let broken = kit::operation("create", "deployments.apps").body(json!({"spec": {}})).ask(&policy);
        assert!(broken.reason().unwrap().contains("cannot be evaluated"), "{broken:?}");
    }

    #[test]
    fn rules_know_who_asks_for_what() {
        let policy = policy(json!({"rules": [
            {"when": "request.verb == 'delete' && !('sre' in request.userInfo.groups)", "then": "block", "message": "only sre deletes"},
            {"when": "request.resource.resource == 'pods' && request.subResource == 'exec'", "then": "require-approval", "approvers": ["leads"],
                "messageExpression": "request.userInfo.username + ' runs ' + request.command[0]"},
            {"when": "request.resource.resource == 'secrets'", "then": "mask", "paths": ["$.data.*"]},
        ]}));
        assert_eq!(kit::operation("delete", "pods").ask(&policy).reason(), Some("only sre deletes"));
        assert_eq!(kit::operation("delete", "pods").by("bob", &["sre"]).ask(&policy), allow());
        assert_eq!(kit::exec(&["id"]).ask(&policy).reason(), Some("ann runs id"));
        assert_eq!(kit::operation("get", "secrets").ask(&policy), mask([field("$.data.*")]));
        assert!(policy.needs().is_empty());
    }

    #[test]
    fn what_several_rules_ask_is_asked_in_one_or_refused() {
        let ask = |rules: serde_json::Value| kit::operation("get", "secrets").ask(&policy(json!({"rules": rules})));
        let approval =
            |approvers: &[&str]| json!({"when": "true", "then": "require-approval", "approvers": approvers, "message": approvers[0]});
        let both = ask(json!([approval(&["leads", "security"]), approval(&["security", "owners"])]));
        assert!(matches!(&both, Verdict::RequireApproval(a) if a.approvers == ["security"] && a.reason == "leads; security"), "{both:?}");
        assert!(ask(json!([approval(&["leads"]), approval(&["owners"])])).is_block());
        // What is approved would pass unmasked.
        assert!(ask(json!([approval(&["leads"]), {"when": "true", "then": "mask", "paths": ["$.data.*"]}])).is_block());
    }

    #[test]
    fn what_is_named_is_needed() {
        let policy = policy(
            json!({"validations": [{"expression": "oldObject == null || !has(oldObject.metadata.labels) || namespaceObject != null"}]}),
        );
        assert_eq!(policy.needs(), [Surrounding::Stored, Surrounding::Namespace]);
    }

    #[test]
    fn wrong_settings_are_told() {
        let why = |settings: serde_json::Value| kit::policy::<CelRules>(&settings.to_string()).err().unwrap();
        assert!(why(json!({})).contains("at least one"));
        assert!(why(json!({"validations": [{"expression": "1 +"}]})).contains("validations[0]"));
        assert!(why(json!({"rules": [{"when": "true", "then": "mask"}]})).contains("paths"));
        assert!(why(json!({"rules": [{"when": "true", "then": "require-approval"}]})).contains("approvers"));
    }
}
