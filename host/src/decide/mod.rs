//! Decide: the policies that match an operation are asked, and their verdicts combined.
//!
//! Policies run in file-name order. block > require-approval > mask > allow; masks add up; every approval asked for must be given;
//! evaluation stops at the first block.

mod ruling;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::approve::Requirement;
use crate::classify::{Operation, Shape};
use crate::config::Unmatched;
use crate::identify::Caller;
use crate::json::RequestBody;
use crate::mask::{Condition, Mask, Plans, Selector, Transform};
use crate::policy::bindings::postern::policy::types;
use crate::policy::{Call, Mode, OnFailure, Policy, PolicySet, Runtime, Surroundings};
use crate::slots::Full;
use crate::status::Refusal;
pub use ruling::{Held, Passed, PolicyAnswer, Refused, Ruling, Terms, no_longer_covered};

/// The most groups of approvers one policy names, and the longest name of one: they are kept with each ticket.
const MOST_APPROVERS: usize = 50;
const LONGEST_GROUP: usize = 256;

/// What is gathered while policies are asked.
#[derive(Default)]
struct Gathered {
    terms: Terms,
    requirements: Vec<Requirement>,
    refusal: Option<Refusal>,
    masks: Vec<Mask>,
}

/// Whether one of these policies may hide an object from the caller: those that are observed do not.
pub fn may_hide(on_object: &[Arc<Policy>]) -> bool {
    on_object.iter().any(|policy| policy.mode == Mode::Enforce)
}

/// What decisions are made with.
pub struct Decider<'a> {
    /// The policies in force.
    pub policies: &'a PolicySet,
    /// What they run in; none when there are no policies.
    pub runtime: Option<&'a Arc<Runtime>>,
    /// What an operation no policy matches gets.
    pub unmatched: Unmatched,
    /// Where masks are compiled.
    pub plans: &'a Plans,
}

impl Decider<'_> {
    /// Whether a matching policy wants to know the objects beside the operation, and which.
    pub fn needs(&self, operation: &Operation) -> Vec<types::Surrounding> {
        let mut needs = Vec::new();
        for need in self.policies.policies.iter().filter(|p| p.matches(operation)).flat_map(|p| p.needs()) {
            if !needs.contains(need) {
                needs.push(*need);
            }
        }
        needs
    }

    /// Asks every policy that matches.
    pub fn decide(
        &self,
        describe: &dyn Fn() -> Arc<types::Operation>,
        operation: &Operation,
        body: Option<&Arc<RequestBody>>,
        around: &Surroundings,
    ) -> Ruling {
        let mut gathered = Gathered::default();
        if let Some(missing) = self.policies.missing.first() {
            let why = format!("the required policy {missing} is missing or broken; nothing passes until it is back");
            return Ruling::refuse(Refusal::unavailable(why), gathered.terms);
        }
        let mut matched = false;
        for policy in self.policies.policies.iter().filter(|p| p.matches(operation)) {
            matched = true;
            let Some(runtime) = self.runtime else { continue };
            if policy.on_object() {
                gathered.terms.on_object.push(Arc::clone(policy));
            }
            let stays = policy.on_chunk() && matches!(operation.shape, Shape::Stream | Shape::Log) && !around.only_asks;
            if !policy.on_request() && !stays {
                continue;
            }
            let call = Call { operation: &describe(), body, surroundings: around };
            let answer = if stays {
                let place = match runtime.stay(call.operation) {
                    Ok(place) => place,
                    Err(full) => {
                        let refusal = crowded(full);
                        gathered.record(policy, "failed", Some(refusal.message.clone()), Vec::new(), (Instant::now(), Duration::ZERO));
                        if policy.mode == Mode::Observe {
                            continue;
                        }
                        return Ruling::refuse(refusal, gathered.terms);
                    }
                };
                let (answer, live) = policy.call_and_stay(runtime, &call, place);
                gathered.terms.live.extend(live);
                answer
            } else {
                policy.call_on_request(runtime, &call)
            };
            let asked = (answer.began, answer.took);
            // What the policy could not read it cannot have decided about.
            if let Some(refusal) = body.and_then(|b| b.refusal()) {
                if around.only_asks {
                    continue;
                }
                gathered.record(policy, "failed", Some(refusal.message.clone()), answer.annotations, asked);
                if policy.mode == Mode::Observe {
                    continue;
                }
                return Ruling::refuse(refusal.clone(), gathered.terms);
            }
            let verdict = answer.verdict.and_then(|verdict| self.check(policy, call.operation, verdict));
            match verdict {
                Ok(verdict) => {
                    gathered.record(policy, verdict.name(), verdict.reason(), answer.annotations, asked);
                    if policy.mode == Mode::Enforce {
                        gathered.take(policy, verdict);
                    }
                }
                Err(why) => {
                    if !around.only_asks {
                        tracing::warn!(policy = %policy.name, %why, "the policy failed");
                    }
                    gathered.record(policy, "failed", Some(why.clone()), answer.annotations, asked);
                    if policy.mode == Mode::Enforce && (policy.on_failure == OnFailure::Refuse || answer.exhausted) {
                        gathered.refusal = Some(Refusal::internal(format!("the policy {} failed, so nothing passed: {why}", policy.name)));
                    }
                }
            }
            if let Some(refusal) = gathered.refusal.take() {
                return Ruling::refuse(refusal, gathered.terms);
            }
        }
        let Gathered { mut terms, requirements, masks, .. } = gathered;
        if !matched && self.unmatched == Unmatched::Block {
            return Ruling::refuse(Refusal::forbidden("no policy speaks for this operation, and policies.unmatched is block"), terms);
        }
        if !masks.is_empty() {
            match self.plans.of(&masks) {
                Ok(plan) => terms.masks = Some(plan),
                Err(error) => {
                    let why = format!("the masks of {} do not go together: {error}", terms.masked_by.join(", "));
                    return Ruling::refuse(Refusal::internal(why), terms);
                }
            }
        }
        Ruling::unless(requirements, terms)
    }

    /// An answer that makes no sense is a failure of the policy that gave it.
    fn check(&self, policy: &Policy, operation: &types::Operation, verdict: types::Verdict) -> Result<Checked, String> {
        Ok(match verdict {
            types::Verdict::Allow => Checked::Allow,
            types::Verdict::Block(denial) => Checked::Block(limited(denial.reason), denial.hint.map(limited)),
            types::Verdict::Terminate(_) => {
                return Err("it ended an answer before there was one: terminate is valid from on-object only".into());
            }
            types::Verdict::RequireApproval(approval) => {
                if approval.approvers.len() > MOST_APPROVERS || approval.approvers.iter().any(|group| group.len() > LONGEST_GROUP) {
                    return Err(format!(
                        "it named more than {MOST_APPROVERS} groups that may approve, or one of more than {LONGEST_GROUP} bytes"
                    ));
                }
                if approval.approvers.is_empty() || approval.required == 0 || approval.required > 20 || approval.valid_seconds == 0 {
                    return Err("it asked for an approval without naming who may give it, how many, or for how long".into());
                }
                Checked::Approval(Requirement {
                    policy: policy.name.clone(),
                    reason: limited(approval.reason),
                    approvers: approval.approvers,
                    required: approval.required,
                    valid_seconds: approval.valid_seconds.min(7 * 86_400),
                })
            }
            types::Verdict::Mask(masks) => {
                let masks = masks.into_iter().map(mask).collect::<Result<Vec<_>, _>>()?;
                check_conditions(policy, operation, &masks)?;
                self.plans.of_policy(&policy.name, &masks).map_err(|e| format!("it returned a mask that is none: {e}"))?;
                if masks.is_empty() { Checked::Allow } else { Checked::Mask(masks) }
            }
        })
    }
}

/// Why no policy can look at one more stream. That a policy's file lets pass what it fails on does not change it: it was not asked.
fn crowded(full: Full) -> Refusal {
    match full {
        Full::Owner => {
            Refusal::too_many_requests("policies look at as many of your streams and logs as they may at a time; end one, then try again")
        }
        Full::All => Refusal::unavailable("policies look at as many streams and logs as the gateway has room for; try again later"),
    }
}

enum Checked {
    Allow,
    Mask(Vec<Mask>),
    Block(String, Option<String>),
    Approval(Requirement),
}

impl Checked {
    fn name(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Mask(_) => "mask",
            Self::Block(..) => "block",
            Self::Approval(_) => "require-approval",
        }
    }

    fn reason(&self) -> Option<String> {
        match self {
            Self::Block(reason, _) => Some(reason.clone()),
            Self::Approval(requirement) => Some(requirement.reason.clone()),
            _ => None,
        }
    }
}

impl Gathered {
    fn record(
        &mut self,
        policy: &Policy,
        verdict: &'static str,
        reason: Option<String>,
        annotations: Vec<(String, String)>,
        (began, took): (Instant, Duration),
    ) {
        let (name, digest) = (policy.name.clone(), policy.digest.clone());
        self.terms.answers.push(PolicyAnswer {
            policy: name,
            digest,
            verdict,
            observed: policy.mode == Mode::Observe,
            reason,
            annotations,
            began,
            took,
        });
    }

    fn take(&mut self, policy: &Policy, verdict: Checked) {
        match verdict {
            Checked::Allow => {}
            Checked::Mask(more) => {
                self.masks.extend(more);
                self.terms.masked_by.push(policy.name.clone());
                if policy.warns {
                    self.terms.warned_of.push(policy.name.clone());
                }
            }
            Checked::Approval(requirement) => self.requirements.push(requirement),
            Checked::Block(reason, hint) => {
                self.refusal = Some(Refusal::forbidden(blocked_by(&policy.name, &reason, hint.as_deref())));
            }
        }
    }
}

/// Whether the conditions of masks are on what their policy sees.
pub fn check_conditions(policy: &Policy, operation: &types::Operation, masks: &[Mask]) -> Result<(), String> {
    match policy.unseen_condition(operation, masks) {
        Some(path) => Err(format!("it returned a mask with a condition on {path}, which it may not see; its file must grant that")),
        None => Ok(()),
    }
}

/// What a caller is told of a denial.
pub fn denied(policy: &str, denial: types::Denial) -> String {
    blocked_by(policy, &limited(denial.reason), denial.hint.map(limited).as_deref())
}

fn blocked_by(policy: &str, reason: &str, hint: Option<&str>) -> String {
    let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("blocked by policy {policy}: {reason}{hint}")
}

/// A mask of the contract as the masker takes it.
pub fn mask(mask: types::Mask) -> Result<Mask, String> {
    Ok(Mask {
        what: match mask.what {
            types::Selector::Field(path) => Selector::Field(path),
            types::Selector::Text(pattern) => Selector::Text(pattern),
            types::Selector::PodSecrets => Selector::PodSecrets,
        },
        how: match mask.how {
            types::Transform::Redact => Transform::Redact,
            types::Transform::Tokenize => Transform::Tokenize,
            types::Transform::KeepLast(n) => Transform::KeepLast(n.min(16)),
            types::Transform::Remove => Transform::Remove,
        },
        when: mask
            .when
            .into_iter()
            .map(|c| Condition { path: c.path, equal: matches!(c.is, types::Comparison::Equal), value: c.value })
            .collect(),
    })
}

/// An operation as the contract spells it.
pub fn describe(operation: &Operation, caller: &Caller, id: &str, received_at: u64) -> types::Operation {
    types::Operation {
        id: id.to_owned(),
        cluster: operation.cluster.as_ref().to_owned(),
        received_at,
        caller: types::Caller {
            username: caller.username.clone(),
            groups: caller.groups.clone(),
            issuer: caller.issuer.clone(),
            claims: caller.claims.clone(),
        },
        verb: operation.verb.clone(),
        target: operation.target.as_ref().map(|t| types::Target {
            api_group: t.api_group.clone(),
            api_version: t.api_version.clone(),
            resource: t.resource.clone(),
            subresource: t.subresource.clone(),
            namespace: t.namespace.clone(),
            name: t.name.clone(),
        }),
        path: operation.path.clone(),
        query: operation.query.clone(),
        dry_run: operation.dry_run,
        command: operation.command.as_ref().map(|c| types::Command {
            container: c.container.clone(),
            argv: c.argv.clone(),
            stdin: c.stdin,
            tty: c.tty,
        }),
        approved: false,
    }
}

/// A policy's text goes into messages and headers: one line, and not too long.
fn limited(text: String) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}
