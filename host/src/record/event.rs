//! One audit event: what is known of an operation, and never a secret value.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use serde::Serialize;

use crate::classify::{Operation, shown_query};
use crate::clock::timestamp;
use crate::identify::Caller;
use crate::metrics::Outcome;
use crate::words::{Stage, Verb, Verdict};

/// An event in the making: its fields as JSON text one after another, so that it is copied and written without being built anew.
#[derive(Clone, Debug, Default)]
pub struct Event {
    text: Vec<u8>,
    fields: Vec<(&'static str, Range<usize>)>,
    /// Whose session it belongs to.
    pub(super) who: Option<Arc<Caller>>,
    /// Whether somebody else records how it ends.
    is_handed_over: bool,
    /// How it went, as it is counted, and when it began. What is no operation is not counted.
    outcome: Outcome,
    began: Option<Instant>,
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
        self.set("verdict", verdict)
    }

    /// Says with which status it was answered.
    pub fn status(&mut self, code: StatusCode) -> &mut Self {
        self.outcome.code = code.as_u16();
        self.set("status", code.as_u16())
    }

    /// How it went, and how long it took until now; none of what is no operation.
    pub(super) fn outcome(&self) -> Option<(Outcome, Duration)> {
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
