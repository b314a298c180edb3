//! Decide: the policies that match an operation are asked, and their verdicts combined.
//!
//! Policies run in file-name order. block > require-approval > mask > allow; masks add up; every approval asked for must be given;
//! evaluation stops at the first block.

mod ruling;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;

use crate::approve::Requirement;
use crate::body::RequestBody;
use crate::classify::{Command, Operation, Shape, Target};
use crate::config::Unmatched;
use crate::identify::Caller;
use crate::mask::{Plan, PlanCache};
use crate::policy::contract::{self, Denial, Surrounding, Verdict};
use crate::policy::{Basis, Body, Call, Hook, HookOutcome, Mode, Policy, PolicyOperation, PolicySet, Runtime, Surroundings};
use crate::slots::Full;
use crate::status::Refusal;
pub use ruling::{Passed, Pending, PolicyAnswer, Refused, Ruling, Terms, no_longer_covered};

/// What is gathered while policies are asked.
#[derive(Default)]
struct Gathered {
    terms: Terms,
    requirements: Vec<Requirement>,
    refusal: Option<Refusal>,
    plans: Vec<Arc<Plan>>,
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
    pub plans: &'a PlanCache,
}

impl Decider<'_> {
    /// Whether a matching policy wants to know the objects beside the operation, and which.
    pub fn needs(&self, operation: &Operation) -> Vec<Surrounding> {
        let mut needs = Vec::new();
        for need in self.policies.policies.iter().filter(|p| p.matches(operation)).flat_map(|p| &p.manifest.needs) {
            if !needs.contains(need) {
                needs.push(*need);
            }
        }
        needs
    }

    /// Asks every policy that matches.
    pub fn decide(
        &self,
        describe: &dyn Fn() -> Arc<PolicyOperation>,
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
            // One that is observed does not speak for an operation, nor one that is shown what comes of it when it is done, or is never asked about it.
            matched |= policy.mode == Mode::Enforce && (policy.has(Hook::OnRequest) || looks_on(policy, operation));
            let stays = policy.has(Hook::OnChunk) && operation.writes_text() && !around.only_asks;
            let Some(runtime) = self.runtime else { continue };
            if policy.has(Hook::OnObject) {
                gathered.terms.on_object.push(Arc::clone(policy));
            }
            if !policy.has(Hook::OnRequest) && !stays {
                continue;
            }
            let shown = body.map(|body| Arc::clone(body) as Arc<dyn Body>);
            let call = Call { subject: &describe(), body: shown, object: None, surroundings: around, plans: self.plans };
            let answer = if stays {
                let place = match runtime.stay(call.subject) {
                    Ok(place) => place,
                    Err(full) => {
                        let refusal = crowded(full);
                        gathered.record(
                            policy,
                            HookOutcome::Failed,
                            Some(refusal.message.clone()),
                            Vec::new(),
                            Basis::Unknown,
                            (Instant::now(), Duration::ZERO),
                        );
                        if policy.mode == Mode::Observe {
                            continue;
                        }
                        return Ruling::refuse(refusal, gathered.terms);
                    }
                };
                let (answer, live) = policy.call_and_stay(runtime, &call, place);
                gathered.terms.stream_instances.extend(live);
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
                gathered.record(policy, HookOutcome::Failed, Some(refusal.message.clone()), answer.annotations, answer.basis, asked);
                if policy.mode == Mode::Observe {
                    continue;
                }
                return Ruling::refuse(refusal.clone(), gathered.terms);
            }
            let verdict = answer.verdict;
            let said = match &verdict {
                Ok(verdict) => verdict.reason().map(str::to_owned),
                Err(why) => Some(why.clone()),
            };
            gathered.record(policy, HookOutcome::of(&verdict), said, answer.annotations, answer.basis, asked);
            match policy.in_force(verdict, answer.exhausted) {
                Ok(verdict) => gathered.take(policy, verdict.as_deref().unwrap_or(&Verdict::Allow), answer.plan),
                Err(why) => {
                    let why = format!("the policy {} failed, so nothing passed: {why}", policy.name);
                    return Ruling::refuse(Refusal::internal(why), gathered.terms);
                }
            }
            if let Some(refusal) = gathered.refusal.take() {
                return Ruling::refuse(refusal, gathered.terms);
            }
        }
        let Gathered { mut terms, requirements, plans, .. } = gathered;
        if !matched && self.unmatched == Unmatched::Block {
            return Ruling::refuse(Refusal::forbidden("no policy speaks for this operation, and policies.unmatched is block"), terms);
        }
        if !plans.is_empty() {
            match self.plans.combined(&plans) {
                Ok(plan) => terms.masks = Some(plan),
                Err(error) => {
                    let why = format!("the masks of {} do not go together: {error}", terms.masked_by.join(", "));
                    return Ruling::refuse(Refusal::internal(why), terms);
                }
            }
        }
        Ruling::unless(requirements, terms)
    }
}

/// Whether a policy is shown all that an operation reads, which does nothing else: objects, or a log.
fn looks_on(policy: &Policy, operation: &Operation) -> bool {
    let is_read = operation.method == Method::GET && operation.target.is_some();
    match operation.shape {
        Shape::Answer | Shape::Watch => is_read && policy.has(Hook::OnObject),
        Shape::Log => is_read && policy.has(Hook::OnChunk),
        Shape::Stream | Shape::Proxy => false,
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

impl Gathered {
    fn record(
        &mut self,
        policy: &Policy,
        verdict: HookOutcome,
        reason: Option<String>,
        annotations: Vec<(String, String)>,
        basis: Basis,
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
            basis,
            began,
            took,
        });
    }

    fn take(&mut self, policy: &Policy, verdict: &Verdict, plan: Option<Arc<Plan>>) {
        match verdict {
            Verdict::Allow => {}
            Verdict::Mask(_) => {
                self.plans.extend(plan);
                self.terms.masked_by.push(policy.name.clone());
                if policy.warns {
                    self.terms.warned_of.push(policy.name.clone());
                }
            }
            Verdict::RequireApproval(approval) => self.requirements.push(Requirement {
                policy: policy.name.clone(),
                reason: approval.reason.clone(),
                approvers: approval.approvers.clone(),
                required: approval.required,
                valid_seconds: approval.valid_seconds,
            }),
            Verdict::Block(denial) | Verdict::Terminate(denial) => {
                self.refusal = Some(Refusal::forbidden(blocked_by(&policy.name, denial)));
            }
        }
    }
}

/// An operation of a caller as policies are told of it, with the id of its audit events and the Unix milliseconds at which it was accepted.
pub fn subject(operation: &Operation, caller: &Caller, id: &str, received_at: u64) -> PolicyOperation {
    let target = |target: &Target| contract::Target {
        api_group: target.api_group.clone(),
        api_version: target.api_version.clone(),
        resource: target.resource.clone(),
        subresource: target.subresource.clone(),
        namespace: target.namespace.clone(),
        name: target.name.clone(),
    };
    let command = |command: &Command| contract::Command {
        container: command.container.clone(),
        argv: command.argv.clone(),
        stdin: command.stdin,
        tty: command.tty,
    };
    PolicyOperation::new(contract::Operation {
        id: id.to_owned(),
        cluster: operation.cluster.as_ref().to_owned(),
        received_at,
        caller: contract::Caller {
            username: caller.username.clone(),
            groups: caller.groups.clone(),
            issuer: caller.issuer.clone(),
            claims: caller.claims.clone(),
        },
        verb: operation.verb.clone(),
        target: operation.target.as_ref().map(target),
        path: operation.path.clone(),
        query: operation.query.clone(),
        dry_run: operation.dry_run,
        command: operation.command.as_ref().map(command),
    })
}

/// What a caller is told of a denial.
pub fn blocked_by(policy: &str, denial: &Denial) -> String {
    format!("blocked by policy {policy}: {denial}")
}
