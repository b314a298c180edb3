//! What policies would say, told to who asks the API server what they may do: `kubectl auth can-i`.
//!
//! The API server answers by what it knows, which is RBAC. Where it says yes, the policies are asked as well, about the operation that the question is about. What they
//! say is told where it does not depend on a body or on the words of a command. Nothing is counted by being asked about.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};

use super::Cluster;
use super::exchange::Exchange;
use super::seal::Sealed;
use crate::body::RequestBody;
use crate::body::{Body, collect};
use crate::classify::{Operation, Shape, Target};
use crate::decide::Ruling;
use crate::forward::Way;
use crate::policy::{Hook, Surroundings};
use crate::respond::{self, Completion, Masking, Work};
use crate::status::Refusal;

/// How many operations policies are asked about for one list of rules, and how many reasons are told.
const MOST_ASKED: usize = 800;
const MOST_REASONS: usize = 20;
/// The longest question that is recorded, in bytes of JSON.
const LONGEST_ASKED: usize = 4 << 10;
/// How long policies are asked for one list.
const LONGEST: Duration = Duration::from_millis(500);
/// Commands that are as different as commands are: what is said of both does not depend on which it is.
const COMMANDS: [&[&str]; 2] = [&["true"], &["sh", "-c", "id"]];

/// What policies say of an operation.
enum Said {
    /// Nothing against it, or nothing that can be known yet.
    Nothing,
    /// It would be refused.
    Blocked(String),
    /// It would wait.
    Waits(String),
}

/// Whether an operation asks what its caller may do.
pub(super) fn is_review(operation: &Operation) -> bool {
    operation.method == Method::POST
        && operation.target.as_ref().is_some_and(|target| {
            target.api_group == "authorization.k8s.io"
                && target.subresource.is_none()
                && matches!(target.resource.as_str(), "selfsubjectaccessreviews" | "selfsubjectrulesreviews")
        })
}

impl Cluster {
    /// Answers a review, with what the policies would say.
    pub(super) async fn review(&self, sealed: Sealed) -> Result<Response<Body>, Refusal> {
        let Sealed { mut exchange, mut entry, seal, .. } = sealed;
        let asked = exchange.body.read().ok().and_then(|body| body.get("spec"));
        // A question is short; one that is not fills no log.
        if let Some(asked) = asked.filter(|asked| asked.to_string().len() <= LONGEST_ASKED) {
            entry.set("asked", asked);
        }
        let mut completion = Completion::new(entry, std::mem::take(&mut exchange.held));
        let mut headers = std::mem::take(&mut exchange.headers);
        respond::rewrite(&mut headers);
        let outgoing = exchange.outgoing(&exchange.operation.path_and_query, headers, Way::Plain(exchange.body_to_send()));
        let answer = match self.upstream.send(&seal, outgoing).await {
            Ok(answer) => answer,
            Err(refusal) => return Ok(completion.failed(refusal)),
        };
        completion.begins();
        if !answer.status().is_success() {
            return respond::respond(answer, Work::Pass, Masking::none(), None, Shape::Answer, completion).await;
        }
        let (parts, body) = answer.into_parts();
        let read = collect(body, self.config.limits.object.0).await.ok().flatten();
        let review = read.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let Some(mut review) = review.filter(|review| review["status"].is_object()) else {
            return Ok(
                completion.failed(Refusal::bad_gateway("the API server's review cannot be read, so what policies say cannot be told"))
            );
        };
        let warning = match review["kind"] == "SelfSubjectRulesReview" {
            true => {
                self.of_rules(&exchange, &mut review).await;
                None
            }
            false => self.of_access(&exchange, &mut review).await,
        };
        let kept = self.keep_response(&exchange);
        let mut response = respond::told(parts, review.to_string(), completion);
        let quiet = self.config.without_warnings.contains(&exchange.caller.username, &exchange.caller.groups);
        if let Some(warning) = warning.filter(|_| !quiet) {
            let plain: String = warning.chars().filter(|c| *c != '"' && *c != '\\' && c.is_ascii() && !c.is_control()).collect();
            if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{plain}\"")) {
                response.headers_mut().append(http::header::WARNING, value);
            }
        }
        Ok(match kept {
            Some(kept) => response.map(|body| kept.of(body)),
            None => response,
        })
    }

    /// One question: a yes that a policy would refuse is a no, with the policy's words. What would wait is a yes, and its caller is warned.
    async fn of_access(&self, exchange: &Exchange, review: &mut Value) -> Option<String> {
        let (verb, target) = review.pointer("/spec/resourceAttributes").filter(|_| review["status"]["allowed"] == true).map(target_of)?;
        match self.would_say(exchange, &verb, target, true).await {
            Said::Nothing => None,
            Said::Blocked(why) => {
                review["status"] = json!({"allowed": false, "denied": true, "reason": why});
                None
            }
            Said::Waits(why) => {
                review["status"]["reason"] = why.clone().into();
                Some(why)
            }
        }
    }

    /// All rules of a namespace: what would be refused is taken out of them.
    async fn of_rules(&self, exchange: &Exchange, review: &mut Value) {
        let namespace = review.pointer("/spec/namespace").and_then(Value::as_str).unwrap_or_default().to_owned();
        let rules = review.pointer_mut("/status/resourceRules").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
        let (mut kept, mut reasons, mut asked, mut is_all) = (Vec::new(), Vec::new(), 0, true);
        let began = Instant::now();
        for rule in rules {
            let list = |key: &str| -> Vec<String> {
                rule[key].as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
            };
            let (verbs, groups, resources, names) = (list("verbs"), list("apiGroups"), list("resources"), list("resourceNames"));
            // An exec is asked about twice.
            let sizes = [verbs.len(), groups.len(), resources.len(), names.len(), COMMANDS.len()];
            let cost = sizes.into_iter().map(|size| size.max(1)).fold(1, usize::saturating_mul);
            let has_several = [&verbs, &groups, &resources].into_iter().flatten().any(|text| text.contains('*'));
            if has_several || cost > MOST_ASKED - asked || began.elapsed() > LONGEST {
                is_all = false;
                kept.push(rule);
                continue;
            }
            asked += cost;
            for (group, resource) in groups.iter().flat_map(|group| resources.iter().map(move |resource| (group, resource))) {
                let mut left = Vec::new();
                for verb in &verbs {
                    let mut is_left = false;
                    for name in names.iter().map(String::as_str).chain(names.is_empty().then_some("")) {
                        let target = target(group, resource, &namespace, name);
                        // Others on this thread have their turn between two questions.
                        tokio::task::yield_now().await;
                        match self.would_say(exchange, verb, target, false).await {
                            Said::Blocked(why) => remember(&mut reasons, format!("{verb} {resource}: {why}")),
                            Said::Waits(why) => {
                                is_left = true;
                                remember(&mut reasons, format!("{verb} {resource}: {why}"));
                            }
                            Said::Nothing => is_left = true,
                        }
                    }
                    if is_left {
                        left.push(verb.clone());
                    }
                }
                if !left.is_empty() {
                    let mut rule = json!({"verbs": left, "apiGroups": [group], "resources": [resource]});
                    if !names.is_empty() {
                        rule["resourceNames"] = json!(names);
                    }
                    kept.push(rule);
                }
            }
        }
        review["status"]["resourceRules"] = json!(kept);
        if !is_all && self.in_force().policies.iter().any(|policy| policy.has(Hook::OnRequest)) {
            reasons.push("policies may refuse more of what stands with *; ask for it by name: kubectl auth can-i VERB RESOURCE".into());
        }
        if !reasons.is_empty() {
            // What kubectl shows of a list.
            let before = review.pointer("/status/evaluationError").and_then(Value::as_str).filter(|text| !text.is_empty());
            let told = before.map(str::to_owned).into_iter().chain(reasons).collect::<Vec<_>>().join("; ");
            review["status"]["incomplete"] = true.into();
            review["status"]["evaluationError"] = told.into();
        }
    }

    /// What the policies would say. What they want to know beside the operation is looked up only for one that is asked about by itself.
    async fn would_say(&self, exchange: &Exchange, verb: &str, target: Target, looks: bool) -> Said {
        let Some(operation) = Operation::would_be(&self.name, verb, target) else { return Said::Nothing };
        let set = self.in_force();
        let decider = self.decider(&set);
        let needs = decider.needs(&operation);
        if !needs.is_empty() && !looks {
            return Said::Nothing;
        }
        let Ok(around) = self.look_around(&operation, &needs).await else { return Said::Nothing };
        let around = Surroundings { only_asks: true, ..around };
        let has_body = operation.shape == Shape::Proxy || matches!(operation.verb.as_str(), "create" | "update" | "patch");
        let body = (has_body && operation.shape != Shape::Stream).then(|| Arc::new(RequestBody::not_there()));
        let ask = |operation: &Operation| said(&decider.decide(&|| exchange.subject_of(operation), operation, body.as_ref(), &around));
        if operation.command.is_none() {
            return ask(&operation);
        }
        let mut of_each = COMMANDS.iter().map(|words| {
            let mut operation = operation.clone();
            if let Some(command) = &mut operation.command {
                command.argv = words.iter().map(|word| (*word).to_owned()).collect();
            }
            ask(&operation)
        });
        let first = of_each.next().unwrap_or(Said::Nothing);
        if of_each.all(|other| std::mem::discriminant(&other) == std::mem::discriminant(&first)) { first } else { Said::Nothing }
    }
}

fn said(ruling: &Ruling) -> Said {
    if let Some(refusal) = ruling.refusal() {
        // What is wrong with a policy is no answer to what somebody may do.
        return if refusal.code == StatusCode::FORBIDDEN { Said::Blocked(refusal.message.clone()) } else { Said::Nothing };
    }
    match ruling.requirements().first() {
        Some(asked) => {
            // What a policy names is text of its own.
            let groups: String = asked.approvers.join(", ").chars().filter(|c| !c.is_control()).take(300).collect();
            Said::Waits(format!("policy {} has it wait for an approval by {groups}: {}", asked.policy, asked.reason))
        }
        None => Said::Nothing,
    }
}

/// The verb and the target of a question.
fn target_of(attributes: &Value) -> (String, Target) {
    let text = |key: &str| attributes[key].as_str().unwrap_or_default();
    let resource = match text("subresource") {
        "" => text("resource").to_owned(),
        subresource => format!("{}/{subresource}", text("resource")),
    };
    let mut target = target(text("group"), &resource, text("namespace"), text("name"));
    if !matches!(text("version"), "" | "*") {
        target.api_version = text("version").to_owned();
    }
    (text("verb").to_owned(), target)
}

/// A target as RBAC names it; of which version is not said.
fn target(group: &str, resource: &str, namespace: &str, name: &str) -> Target {
    let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Target {
        api_group: group.to_owned(),
        api_version: "v1".into(),
        resource: resource.to_owned(),
        subresource: filled(subresource),
        // Of a Namespace it is its own name.
        namespace: filled(if group.is_empty() && resource == "namespaces" { name } else { namespace }),
        name: filled(name),
    }
}

fn remember(reasons: &mut Vec<String>, reason: String) {
    if reasons.len() < MOST_REASONS && !reasons.contains(&reason) {
        reasons.push(reason);
    }
}
