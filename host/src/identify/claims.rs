//! Claims become a user, by CEL, as KEP-3331 says.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{anyhow, bail};
use cel::{Context, Env, Program, Value};
use serde_json::Value as Json;

use super::name;
use crate::config::{JwtAuthenticator, PrefixedClaimOrExpression};

/// The compiled mappings and rules of one issuer.
pub struct Mappings {
    env: Arc<Env>,
    username: Mapping,
    groups: Option<Mapping>,
    claim_rules: Vec<ClaimRule>,
    user_rules: Vec<(Program, String)>,
}

enum Mapping {
    Claim { claim: String, prefix: String },
    Expression(Program),
}

enum ClaimRule {
    Required { claim: String, value: String },
    Expression(Program, String),
}

/// Claims; the payload of a token.
pub type Claims = serde_json::Map<String, Json>;

impl Mappings {
    /// Compiles what the configuration says of an issuer.
    pub fn compile(config: &JwtAuthenticator) -> anyhow::Result<Self> {
        let env = Arc::new(Env::stdlib());
        let compile = |what: &str, text: &str| env.compile(text).map_err(|e| anyhow!("{what}: `{text}` is not valid CEL: {e}"));
        let mapping = |what: &str, from: &PrefixedClaimOrExpression| -> anyhow::Result<Mapping> {
            Ok(match (&from.claim, &from.expression) {
                (Some(claim), _) => Mapping::Claim { claim: claim.clone(), prefix: from.prefix.clone().unwrap_or_default() },
                (None, Some(text)) => Mapping::Expression(compile(what, text)?),
                (None, None) => bail!("{what}: set claim or expression"),
            })
        };
        check_email_verified(config)?;
        let mut claim_rules = Vec::new();
        for rule in &config.claim_validation_rules {
            claim_rules.push(match (&rule.claim, &rule.expression) {
                (Some(claim), _) => ClaimRule::Required { claim: claim.clone(), value: rule.required_value.clone().unwrap_or_default() },
                (None, Some(text)) => ClaimRule::Expression(
                    compile("claimValidationRules", text)?,
                    rule.message.clone().unwrap_or_else(|| format!("the token does not satisfy {text}")),
                ),
                (None, None) => bail!("claimValidationRules: set claim or expression"),
            });
        }
        let mut user_rules = Vec::new();
        for rule in &config.user_validation_rules {
            let message = rule.message.clone().unwrap_or_else(|| format!("the user does not satisfy {}", rule.expression));
            user_rules.push((compile("userValidationRules", &rule.expression)?, message));
        }
        Ok(Self {
            username: mapping("claimMappings.username", &config.claim_mappings.username)?,
            groups: config.claim_mappings.groups.as_ref().map(|g| mapping("claimMappings.groups", g)).transpose()?,
            claim_rules,
            user_rules,
            env,
        })
    }

    /// The user's name and groups, or why the token is not let in.
    pub fn map(&self, claims: &Claims) -> Result<(String, Vec<String>), String> {
        let mut context = Context::with_env(Arc::clone(&self.env));
        context.add_variable_from_value("claims", to_cel(&Json::Object(claims.clone())));
        for rule in &self.claim_rules {
            match rule {
                ClaimRule::Required { claim, value } => {
                    if claims.get(claim).and_then(Json::as_str) != Some(value) {
                        return Err(format!("the claim {claim} does not have the required value"));
                    }
                }
                ClaimRule::Expression(program, message) => holds(program, &context, message)?,
            }
        }
        let username = match self.username.values(claims, &context, "username")?.as_slice() {
            [one] if !one.is_empty() => one.clone(),
            _ => return Err("the token's claims give no user name".into()),
        };
        if matches!(&self.username, Mapping::Claim { claim, .. } if claim == "email")
            && claims.get("email_verified").is_some_and(|v| *v != Json::Bool(true))
        {
            return Err("the token's email is not verified".into());
        }
        let groups = match &self.groups {
            Some(mapping) => mapping.values(claims, &context, "groups")?,
            None => Vec::new(),
        };
        name::check(&username, &groups)?;
        if !self.user_rules.is_empty() {
            let user = HashMap::from([
                ("username".to_owned(), Value::from(username.as_str())),
                ("groups".to_owned(), Value::from(groups.clone())),
            ]);
            context.add_variable_from_value("user", user);
            for (program, message) in &self.user_rules {
                holds(program, &context, message)?;
            }
        }
        Ok((username, groups))
    }
}

impl Mapping {
    fn values(&self, claims: &Claims, context: &Context, what: &str) -> Result<Vec<String>, String> {
        match self {
            Self::Claim { claim, prefix } => match claims.get(claim) {
                None | Some(Json::Null) => Ok(Vec::new()),
                Some(Json::String(text)) => Ok(vec![format!("{prefix}{text}")]),
                Some(Json::Array(list)) if what == "groups" => list
                    .iter()
                    .map(|v| {
                        v.as_str()
                            .map(|text| format!("{prefix}{text}"))
                            .ok_or_else(|| format!("the claim {claim} holds something other than text"))
                    })
                    .collect(),
                Some(_) => Err(format!("the claim {claim} is not text")),
            },
            Self::Expression(program) => {
                let not_text = || format!("the {what} expression does not give text");
                match program.execute(context).map_err(|e| format!("the {what} expression failed: {}", short(&e.to_string())))? {
                    Value::String(text) => Ok(if what == "groups" && text.is_empty() { Vec::new() } else { vec![text.to_string()] }),
                    Value::List(list) if what == "groups" => list
                        .iter()
                        .map(|value| match value {
                            Value::String(text) => Ok(text.to_string()),
                            _ => Err(not_text()),
                        })
                        .collect(),
                    Value::Null if what == "groups" => Ok(Vec::new()),
                    _ => Err(not_text()),
                }
            }
        }
    }
}

fn holds(program: &Program, context: &Context, message: &str) -> Result<(), String> {
    match program.execute(context) {
        Ok(Value::Bool(true)) => Ok(()),
        Ok(_) => Err(message.to_owned()),
        Err(error) => Err(format!("{message} ({})", short(&error.to_string()))),
    }
}

/// An evaluation error may quote claims at length; what a log needs of it is its beginning.
fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

/// KEP-3331: an expression that uses `claims.email` must look at `claims.email_verified` somewhere.
fn check_email_verified(config: &JwtAuthenticator) -> anyhow::Result<()> {
    let uses_email = |text: &str| {
        text.match_indices("claims.email")
            .any(|(at, found)| !text[at + found.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
    };
    let expressions = || {
        let mappings = &config.claim_mappings;
        mappings
            .username
            .expression
            .iter()
            .chain(config.claim_validation_rules.iter().filter_map(|r| r.expression.as_ref()))
            .chain(mappings.extra.iter().map(|e| &e.value_expression))
    };
    if config.claim_mappings.username.expression.as_deref().is_some_and(uses_email)
        && !expressions().any(|e| e.contains("claims.email_verified"))
    {
        bail!("claimMappings.username.expression: uses claims.email, but nothing looks at claims.email_verified");
    }
    Ok(())
}

fn to_cel(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => n.as_i64().map(Value::Int).unwrap_or_else(|| Value::Float(n.as_f64().unwrap_or(f64::NAN))),
        Json::String(s) => Value::from(s.as_str()),
        Json::Array(list) => Value::from(list.iter().map(to_cel).collect::<Vec<_>>()),
        Json::Object(map) => Value::from(map.iter().map(|(k, v)| (k.clone(), to_cel(v))).collect::<HashMap<String, Value>>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mappings(yaml: &str) -> Mappings {
        let text = format!("issuer: {{url: 'https://i', audiences: [a]}}\n{yaml}");
        Mappings::compile(&serde_saphyr::from_str(&text).unwrap()).unwrap()
    }

    fn claims(json: Json) -> Claims {
        json.as_object().unwrap().clone()
    }

    #[test]
    fn claims_and_expressions_give_the_same_user() {
        let ours = claims(serde_json::json!({"sub": "ann", "roles": ["dev", "ops"], "tenant": {"id": 7}}));
        for yaml in [
            "claimMappings: {username: {claim: sub, prefix: 'oidc:'}, groups: {claim: roles, prefix: 'g:'}}",
            "claimMappings: {username: {expression: '\"oidc:\" + claims.sub'}, groups: {expression: 'claims.roles.map(r, \"g:\" + r)'}}",
        ] {
            assert_eq!(mappings(yaml).map(&ours), Ok(("oidc:ann".into(), vec!["g:dev".into(), "g:ops".into()])), "{yaml}");
        }
    }

    #[test]
    fn rules_are_enforced_with_their_message() {
        let yaml = "claimMappings: {username: {claim: sub, prefix: ''}}\nclaimValidationRules: [{expression: 'claims.tenant.id == 7', message: wrong tenant}]\nuserValidationRules: [{expression: \"!user.username.startsWith('system:')\", message: reserved}]";
        let map = |json| mappings(yaml).map(&claims(json));
        assert!(map(serde_json::json!({"sub": "ann", "tenant": {"id": 7}})).is_ok());
        assert!(map(serde_json::json!({"sub": "ann", "tenant": {"id": 8}})).unwrap_err().contains("wrong tenant"));
        assert!(map(serde_json::json!({"sub": "ann"})).unwrap_err().contains("wrong tenant"), "an error is a refusal");
        assert!(map(serde_json::json!({"sub": "system:admin", "tenant": {"id": 7}})).unwrap_err().contains("reserved"));
        assert!(map(serde_json::json!({"tenant": {"id": 7}})).is_err());
    }

    #[test]
    fn an_unverified_email_names_nobody() {
        let by_claim = mappings("claimMappings: {username: {claim: email, prefix: ''}}");
        assert!(by_claim.map(&claims(serde_json::json!({"email": "a@b", "email_verified": true}))).is_ok());
        assert!(by_claim.map(&claims(serde_json::json!({"email": "a@b", "email_verified": false}))).is_err());
        let text = "issuer: {url: 'https://i', audiences: [a]}\nclaimMappings: {username: {expression: claims.email}}";
        assert!(Mappings::compile(&serde_saphyr::from_str(text).unwrap()).is_err());
    }
}
