//! Recorded operations, and `postern policy explain`, which decides one again.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use super::super::audit::operation_of;
use super::super::place::Configured;
use super::super::session::RecordingSource;
use super::super::table::{self, printable, row};
use super::list::sees;
use super::{based, tell_written};
use crate::classify::Shape;
use crate::cli::terminal::{say, visible};
use crate::config::Config;
use crate::policy::grants::Capability;
use crate::policy::{Hook, Policy};
use crate::record::query::{self, Query};
use crate::record::session::format::Kind;
use crate::record::session::read::{Recorded, TimelineItem};
use crate::rehearse::given::RehearsedOperation;
use crate::rehearse::{Said, Stage, recorded};

/// Most output of one stream that goes into a case.
const LARGEST_STREAM: usize = 64 << 10;

/// One recorded operation, with what was kept of it.
#[cfg_attr(not(feature = "authoring"), expect(dead_code, reason = "what came back makes cases"))]
pub(super) struct RecordedOperation {
    /// Its audit event, or its stream's header.
    pub(super) event: Value,
    /// The body of its request.
    pub(super) request: Option<Vec<u8>>,
    /// The body of its answer.
    pub(super) response: Option<Vec<u8>>,
    /// What its container wrote.
    pub(super) chunks: Vec<(&'static str, Vec<u8>)>,
}

/// The operations of sessions, in order.
pub(super) fn operations(place: &RecordingSource, sessions: &[String]) -> anyhow::Result<Vec<RecordedOperation>> {
    let mut all = Vec::new();
    for session in sessions {
        let (mut entries, mut bodies, mut streams) = (Vec::new(), HashMap::new(), HashMap::new());
        let count = place.each(session, |recorded: Recorded| {
            entries.append(&mut recorded.entries());
            bodies.extend(
                recorded
                    .bodies()
                    .filter(|body| body.about["omitted"].is_null() && body.about["cut"].is_null())
                    .map(|body| ((body.call, body.kind == Kind::Request), body.bytes)),
            );
            if recorded.is_stream() {
                streams.insert(recorded.name(), output(&recorded));
            }
        })?;
        if count == 0 {
            bail!("there are no recordings of {session}; `postern session list` shows sessions");
        }
        entries.sort_by_key(TimelineItem::micros);
        for entry in entries {
            let chunks = match &entry {
                TimelineItem::Stream { name, .. } => streams.remove(name).unwrap_or_default(),
                TimelineItem::Call { .. } => Vec::new(),
            };
            let event = entry.facts().clone();
            let id = event["id"].as_str().unwrap_or_default().to_owned();
            let [request, response] = [true, false].map(|request| bodies.remove(&(id.clone(), request)));
            all.push(RecordedOperation { event, request, response, chunks });
        }
    }
    Ok(all)
}

/// Bodies that a gateway has in memory alone, by the ids of their calls. Where it cannot tell, why is said.
pub(super) fn recent(place: &RecordingSource, session: &str) -> HashMap<String, Vec<u8>> {
    match place.recent_bodies(session) {
        Ok(bodies) => bodies.into_iter().map(|kept| (kept.id, kept.body.to_string().into_bytes())).collect(),
        Err(error) => {
            eprintln!("{}", visible(&format!("bodies in the gateway's memory: {error:#}")));
            HashMap::new()
        }
    }
}

fn output(recorded: &Recorded) -> Vec<(&'static str, Vec<u8>)> {
    let mut size = 0;
    recorded
        .frames()
        .filter_map(|(kind, _, payload)| match kind {
            Kind::Stdout => Some(("stdout", payload.to_vec())),
            Kind::Stderr => Some(("stderr", payload.to_vec())),
            _ => None,
        })
        .take_while(|(_, payload)| {
            size += payload.len();
            size <= LARGEST_STREAM
        })
        .collect()
}

/// What a policy would have to read of an operation, and was not kept: what it says without is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// The body of its request.
    Body,
    /// The objects beside it.
    Objects,
}

impl Lack {
    /// What a policy lacks to be asked.
    pub(super) fn of(policy: &Policy, given: &RehearsedOperation) -> Option<Self> {
        let operation = &given.operation;
        if !policy.matches(operation) {
            return None;
        }
        // Of a delete the body is its options, which few read.
        let is_written = matches!(operation.verb.as_str(), "create" | "update" | "patch") && operation.shape == Shape::Answer;
        if is_written && given.body.is_none() && policy.granted.contains(&Capability::Bodies) {
            return Some(Self::Body);
        }
        (!policy.manifest.needs.is_empty()).then_some(Self::Objects)
    }

    /// In words.
    fn why(self) -> &'static str {
        match self {
            Self::Body => "it reads the body, which was not kept (sessions.bodies)",
            Self::Objects => "it needs objects beside the operation, which no recording has",
        }
    }
}

/// What a policy answered, as the event has it; not-asked where others were asked and it was not.
pub(super) fn answered(event: &Value, policy: &str) -> Option<Said> {
    let answers = event["policies"].as_array()?;
    let answer = answers.iter().find(|answer| answer["policy"] == policy);
    Some(match answer {
        Some(answer) => Said {
            verdict: answer["verdict"].as_str().unwrap_or_default().to_owned(),
            reason: answer["reason"].as_str().map(str::to_owned),
            ..Said::default()
        },
        None => Said { verdict: "not-asked".into(), ..Said::default() },
    })
}

/// Decides a recorded operation again.
#[derive(Args)]
pub struct Explain {
    /// The operation's id: that of its audit events, and the `Audit-ID` of its answer.
    id: String,
    #[command(flatten)]
    configured: Configured,
    /// A kubeconfig of the gateway with an auditor's credential: bodies that it has in memory (keep: recent) are asked of it.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl Explain {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let file = self.configured.file()?;
        let config = Config::load(&file)?;
        let log = config.audit_file();
        let event = event_of(&log, &self.id)?;
        let place = RecordingSource::open(Some(&file), None, None)?;
        let body = match event["session"].as_str() {
            Some(session) => operations(&place, &[session.to_owned()])
                .unwrap_or_default()
                .into_iter()
                .find(|kept| kept.event["id"] == self.id.as_str())
                .and_then(|kept| kept.request),
            None => None,
        };
        let body = match (body, self.kubeconfig, event["session"].as_str()) {
            (None, Some(kubeconfig), Some(session)) => {
                recent(&RecordingSource::open(None, None, Some(kubeconfig))?, session).remove(&self.id)
            }
            (body, ..) => body,
        };
        let given = recorded::given(&event, body.as_deref())?;
        let (its_policies, data) = config.policies_of(event["cluster"].as_str().filter(|_| config.clusters.is_some()))?;
        let stage = Stage::with(&its_policies)?;
        let in_force = stage.what_loads(&its_policies, &data)?.current();
        let policies = &in_force.policies;
        let text = |value: &Value| printable(value.as_str().unwrap_or("-"));
        say!("{}  {}", text(&event["time"]), operation_of(&event));
        say!("by {} of {}; then it was answered with {}\n", given.subject.username(), given.subject.cluster(), text(&event["verdict"]));
        let mut rows = vec![row(["POLICY", "THEN", "NOW", "WHY"])];
        let (mut differs, mut unknown, mut bases) = (Vec::new(), Vec::new(), vec![row(["POLICY", "WHEN", "BASED ON"])]);
        let answers = || event["policies"].as_array().into_iter().flatten();
        for policy in policies {
            if let Some(then) =
                answers().find(|answer| answer["policy"] == policy.name.as_str()).and_then(|answer| based::then(&log, answer))
            {
                bases.push(row([&policy.name, "then", &then]));
            }
            let then = answered(&event, &policy.name).unwrap_or(Said { verdict: "not-asked".into(), ..Said::default() });
            if let Some(lack) = Lack::of(policy, &given) {
                rows.push(row([&policy.name, &then.verdict, "unknown", lack.why()]));
                unknown.push(policy.name.clone());
                continue;
            }
            let decided = stage.decide(std::slice::from_ref(policy), &given);
            let mut said = decided.said();
            // What an observed policy answers decides nothing, and is what is asked about here.
            let answer = decided.ruling.terms().answers.first();
            if let Some(answer) = answer.filter(|answer| answer.observed) {
                said.verdict = answer.verdict.name().to_owned();
            }
            if let Some(now) = answer.and_then(|answer| based::now(&answer.basis)) {
                bases.push(row([&policy.name, "now", &now]));
            }
            rows.push(row([&policy.name, &then.verdict, &said.verdict, &why(policy, &given, &said)]));
            if then.verdict != said.verdict || then.reason.is_some() && !same_reason(&then, &said) {
                differs.push(policy.name.clone());
            }
        }
        for broken in &in_force.broken {
            rows.push(row([&broken.name, "-", "unknown", &format!("it does not load: {}", broken.error)]));
            unknown.push(broken.name.clone());
        }
        let gone = answers()
            .filter(|answer| !policies.iter().map(|policy| &policy.name).chain(&unknown).any(|name| answer["policy"] == name.as_str()));
        for answer in gone {
            rows.push(row([&text(&answer["policy"]), &text(&answer["verdict"]), "-", "it is no longer in the directory"]));
            differs.push(text(&answer["policy"]));
        }
        table::print(&rows);
        if bases.len() > 1 {
            say!("");
            table::print(&bases);
        }
        tell_written(&stage);
        let asked: Vec<_> = policies.iter().filter(|policy| !unknown.contains(&policy.name)).cloned().collect();
        let now = stage.decide(&asked, &given).said();
        let digests = |answer: &Value| {
            policies.iter().any(|policy| answer["policy"] == policy.name.as_str() && answer["digest"] != policy.digest.as_str())
        };
        let changed: Vec<String> = answers().filter(|answer| digests(answer)).map(|a| text(&a["policy"])).collect();
        say!("");
        if !changed.is_empty() {
            say!("module or settings have changed since then: {}", changed.join(", "));
        }
        say!("counters begin at nothing here, claims of its token were not kept");
        if !unknown.is_empty() {
            say!("not asked, as what they read was not kept, or they do not load: {}", unknown.join(", "));
        }
        let differing = if differs.is_empty() { String::new() } else { format!("; what differs: {}", differs.join(", ")) };
        match (unknown.is_empty(), differs.is_empty()) {
            (false, _) => say!("today's answer cannot be told; without those it is {}{differing}", now.verdict),
            (true, true) if event["verdict"] == now.verdict.as_str() => say!("today's answer is the same: {}", now.verdict),
            (true, true) => say!("today's answer: {}; then it was {}", now.verdict, text(&event["verdict"])),
            (true, false) => say!("today's answer: {}{differing}", now.verdict),
        }
        Ok(())
    }
}

/// The refusal that a caller is told begins with who refused: an answer's own reason does not.
fn same_reason(then: &Said, now: &Said) -> bool {
    let reason = |said: &Said| said.reason.clone().unwrap_or_default();
    reason(now).contains(&reason(then))
}

/// Why a policy said what it said, field by field.
fn why(policy: &Policy, given: &RehearsedOperation, said: &Said) -> String {
    let mut parts = Vec::new();
    if said.verdict == "not-asked" {
        parts.push(misses(policy, given));
    }
    parts.extend(said.reason.clone());
    if !said.masks.is_empty() {
        parts.push(format!("hides {}", said.masks.join(", ")));
    }
    if !said.approvers.is_empty() {
        parts.push(format!("asks {}", said.approvers.join(", ")));
    }
    parts.extend(said.annotations.iter().map(|(key, value)| format!("{key}={value}")));
    if policy.has(Hook::OnObject) {
        parts.push("looks at each object that comes back".into());
    }
    if policy.has(Hook::OnChunk) {
        parts.push("looks at each piece of a stream".into());
    }
    parts.push(format!("sees {}", sees(&policy.granted)));
    parts.join("; ")
}

/// Which part of each rule does not fit.
fn misses(policy: &Policy, given: &RehearsedOperation) -> String {
    let rules = &policy.manifest.rules;
    let own = rules.iter().any(|rule| rule.matches(&given.operation));
    if own || rules.is_empty() {
        return "the rules of its file do not match".into();
    }
    let parts: Vec<&str> = rules.iter().filter_map(|rule| rule.misses(&given.operation)).collect();
    format!("no rule matches: {}", parts.join(", "))
}

/// The last that the audit log says of an operation.
fn event_of(log: &Path, id: &str) -> anyhow::Result<Value> {
    let mut found = None;
    query::ask(log, &Query { text: Some(id.to_owned()), ..Query::default() }, |line| {
        found = serde_json::from_slice::<Value>(line).ok().filter(|event| event["id"] == id).or(found.take());
        ControlFlow::Continue(())
    })
    .with_context(|| format!("cannot read {}", log.display()))?;
    found.with_context(|| format!("{} has no event of {id}; `postern audit list -o wide` shows the ids", log.display()))
}
