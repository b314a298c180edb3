//! One audit event: what is known of an operation, and never a secret value.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use postern_policy::HookOutcome;
use serde::Serialize;

use crate::classify::{Operation, shown_query};
use crate::clock::timestamp;
use crate::identify::Caller;
use crate::metrics::OperationOutcome;
use crate::telemetry::{RequestSpan, Trace, Tracer};
use crate::words::{Stage, Step, Verb, Verdict};

/// An event in the making: its fields as JSON text one after another, so that it is copied and written without being built anew.
#[derive(Debug, Default)]
pub struct Event {
    text: Vec<u8>,
    fields: Vec<(&'static str, Range<usize>)>,
    /// Whose session it belongs to.
    pub(super) who: Option<Arc<Caller>>,
    /// Whether somebody else records how it ends.
    is_handed_over: bool,
    /// How it went, as it is counted, and when it began. What is no operation is not counted.
    outcome: OperationOutcome,
    began: Option<Instant>,
    /// Its trace, where one is made. It ends with the event.
    trace: Option<Box<Trace>>,
}

impl Event {
    /// Begins an event of a request.
    pub fn new(id: &str, source: &str, began: Instant) -> Self {
        let mut event = Self { text: Vec::with_capacity(1024), fields: Vec::with_capacity(24), began: Some(began), ..Self::default() };
        event.set("id", id).set("source", source);
        event
    }

    /// The event for whoever records how the operation ends from now on. Nothing of it stays here.
    pub fn hand_over(&mut self) -> Self {
        std::mem::replace(self, Self { is_handed_over: true, ..Self::default() })
    }

    /// Whether it is known who asked.
    pub fn is_of_somebody(&self) -> bool {
        self.who.is_some()
    }

    /// Whether somebody else does.
    pub fn is_handed_over(&self) -> bool {
        self.is_handed_over
    }

    /// Sets a field. What cannot be written as JSON is left out.
    pub fn set(&mut self, name: &'static str, value: impl Serialize) -> &mut Self {
        let start = self.text.len();
        if serde_json::to_writer(&mut self.text, &value).is_err() {
            self.text.truncate(start);
            return self;
        }
        let range = start..self.text.len();
        match self.fields.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = range,
            None => self.fields.push((name, range)),
        }
        self
    }

    /// Says what was decided.
    pub fn verdict(&mut self, verdict: Verdict) -> &mut Self {
        self.outcome.verdict = verdict;
        if let Some(trace) = &mut self.trace {
            trace.set("postern.verdict", verdict.name());
        }
        self.set("verdict", verdict)
    }

    /// Says with which status it was answered.
    pub fn status(&mut self, code: StatusCode) -> &mut Self {
        self.outcome.code = code.as_u16();
        if let Some(trace) = &mut self.trace {
            trace.status(code);
        }
        self.set("status", code.as_u16())
    }

    /// Begins the request's trace, where one is made of it, of a caller who is known.
    pub fn trace(&mut self, tracer: &Tracer, headers: &HeaderMap) {
        let Some(mut trace) = self.began.and_then(|began| tracer.begin(headers, began)) else { return };
        for (name, field) in [("postern.audit_id", "id"), ("http.request.method", "method")] {
            if let Some(text) = self.text_of(field) {
                trace.set(name, text);
            }
        }
        self.trace = Some(trace);
    }

    /// Its place in a trace, where it has one.
    pub fn place(&self) -> Option<&RequestSpan> {
        self.trace.as_deref().map(Trace::place)
    }

    /// A stage has ended just now.
    pub(super) fn step(&mut self, step: Step, began: Instant) {
        if let Some(trace) = &mut self.trace {
            trace.step(step.name(), began);
        }
    }

    /// A policy was asked, in the stage that ended last.
    pub fn asked(&mut self, policy: &str, verdict: HookOutcome, began: Instant, took: Duration) {
        if let Some(trace) = &mut self.trace {
            trace.asked(policy, verdict, began, took);
        }
    }

    /// The address that the request came from.
    pub fn source(&self) -> &str {
        self.text_of("source").unwrap_or_default()
    }

    /// A field that is a text without escapes.
    fn text_of(&self, name: &str) -> Option<&str> {
        let (_, range) = self.fields.iter().find(|(known, _)| *known == name)?;
        std::str::from_utf8(&self.text[range.clone()]).ok()?.strip_prefix('"')?.strip_suffix('"')
    }

    /// How it went, and how long it took until now; none of what is no operation.
    pub(super) fn outcome(&self) -> Option<(OperationOutcome, Duration)> {
        Some((self.outcome, self.began?.elapsed()))
    }

    /// Says who.
    pub fn caller(&mut self, caller: &Arc<Caller>) {
        #[derive(Serialize)]
        struct Who<'a> {
            username: &'a str,
            groups: &'a [String],
            issuer: &'a str,
        }
        self.set("caller", Who { username: &caller.username, groups: &caller.groups, issuer: &caller.issuer });
        self.set("session", &caller.credential);
        self.who = Some(Arc::clone(caller));
    }

    /// Says what.
    pub fn operation(&mut self, operation: &Operation) {
        self.outcome.verb = Verb::of(&operation.verb);
        if let Some(trace) = &mut self.trace {
            trace.named(self.outcome.verb.name());
            trace.set("k8s.cluster.name", &operation.cluster);
            if let Some(target) = &operation.target {
                trace.set("postern.resource", &target.full_resource());
                if let Some(subresource) = &target.subresource {
                    trace.set("postern.subresource", subresource);
                }
                if let Some(namespace) = &target.namespace {
                    trace.set("k8s.namespace.name", namespace);
                }
            }
        }
        self.set("cluster", operation.cluster.as_ref()).set("verb", &operation.verb).set("path", &operation.path);
        if let Some(target) = &operation.target {
            self.set("target", target);
        }
        // What a stream is opened with is in `command`; of a query the rest is options, and tokens do not belong in a log.
        let options: Vec<_> = shown_query(&operation.query).into_iter().filter(|(k, _)| k != "command").collect();
        if !options.is_empty() {
            self.set("query", options);
        }
        if operation.dry_run {
            self.set("dryRun", true);
        }
        if let Some(command) = &operation.command {
            self.set("command", command);
        }
    }

    /// The event as it is written at this moment: the members of a JSON object, without its braces.
    pub fn at_stage(&self, stage: Stage) -> Vec<u8> {
        let mut line = Vec::with_capacity(self.text.len() + 16 * self.fields.len() + 80);
        line.extend_from_slice(b"\"time\":\"");
        line.extend_from_slice(timestamp().as_bytes());
        line.extend_from_slice(b"\",\"stage\":\"");
        line.extend_from_slice(stage.name().as_bytes());
        line.push(b'"');
        for (name, range) in &self.fields {
            line.extend_from_slice(b",\"");
            line.extend_from_slice(name.as_bytes());
            line.extend_from_slice(b"\":");
            line.extend_from_slice(&self.text[range.clone()]);
        }
        line
    }
}
