//! A policy of contract 0.2 that asks what its settings say, and answers with what it was told: in its reason, or in place of a piece of a stream.

#![allow(missing_docs)]

mod bindings {
    wit_bindgen::generate!({ path: "../../wit/0.2", world: "policy-module", generate_unused_types: true });
}

use std::fmt::{Debug, Write};
use std::sync::OnceLock;

use bindings::exports::postern::policy::policy::Guest;
use bindings::postern::policy::host::{self, Amount};
use bindings::postern::policy::types::{
    Capabilities, Channel, ChunkVerdict, Denial, Document, Hooks, Manifest, Operation, Surrounding, Text, Verdict,
};
use serde::Deserialize;

static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// What is asked, in which hook. Where nothing is, the answer is allow.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Settings {
    request: Vec<Question>,
    object: Vec<Question>,
    chunk: Vec<Question>,
    /// Objects it wants to know.
    needs: Vec<String>,
    /// Lets pass whatever it was told of an object.
    quiet: bool,
    /// Asks before there is an operation.
    too_early: bool,
}

/// A question, as the contract names it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Question {
    InGroups(Vec<String>),
    Is(String, Vec<String>),
    Like(String, Vec<String>),
    QueryLike(String, Vec<String>),
    ClaimIs(String, Vec<String>),
    ClaimHas(String, Vec<String>),
    Has(String),
    At(Vec<(u64, u64)>, u32, i32),
    DryRun,
    Approved,
    IsCommand,
    Get(String),
    Groups,
    Claim(String),
    Claims,
    Query(String),
    Queries,
    Command,
    Id,
    ReceivedAt,
    DocumentIs(String, Vec<String>),
    DocumentMatches(String),
    DocumentGet(String),
    DocumentSelect(String),
    DocumentJson,
    DocumentSize,
    LookAround(String),
    Annotate(String, String),
    Count(String, u64, u32),
    Spend(String, u64, u32, Vec<u64>),
    SpendSize(String, u32, Vec<u64>),
    SpendMatches(String, String, u32, Vec<u64>),
    /// Asks about a list of so many entries.
    Long(usize),
}

fn text(name: &str) -> Text {
    match name {
        "verb" => Text::Verb,
        "kind" => Text::Kind,
        "api-group" => Text::ApiGroup,
        "api-version" => Text::ApiVersion,
        "resource" => Text::Resource,
        "subresource" => Text::Subresource,
        "namespace" => Text::Namespace,
        "name" => Text::Name,
        "place" => Text::Place,
        "path" => Text::Path,
        "cluster" => Text::Cluster,
        "username" => Text::Username,
        "issuer" => Text::Issuer,
        "container" => Text::Container,
        other => panic!("there is no text {other}"),
    }
}

fn surrounding(name: &str) -> Surrounding {
    match name {
        "namespace" => Surrounding::Namespace,
        "stored" => Surrounding::Stored,
        "pod" => Surrounding::Pod,
        other => panic!("there is no {other} beside an operation"),
    }
}

/// The answers, in a line.
struct Answers<'a> {
    operation: &'a Operation,
    document: Option<&'a Document>,
    told: String,
}

impl Answers<'_> {
    fn tell(&mut self, answer: &dyn Debug) {
        let gap = if self.told.is_empty() { "" } else { "; " };
        write!(self.told, "{gap}{answer:?}").expect("a text can be written to");
    }

    fn document(&self) -> &Document {
        self.document.expect("there is no object")
    }

    fn ask(&mut self, question: &Question) {
        let of = self.operation;
        match question {
            Question::InGroups(any_of) => self.tell(&of.in_groups(any_of)),
            Question::Is(what, any_of) => self.tell(&of.is(text(what), any_of)),
            Question::Like(what, globs) => self.tell(&of.like(text(what), globs)),
            Question::QueryLike(key, globs) => self.tell(&of.query_like(key, globs)),
            Question::ClaimIs(name, any_of) => self.tell(&of.claim_is(name, any_of)),
            Question::ClaimHas(name, any_of) => self.tell(&of.claim_has(name, any_of)),
            Question::Has(what) => self.tell(&of.has(text(what))),
            Question::At(windows, period, offset) => self.tell(&of.at(windows, *period, *offset)),
            Question::DryRun => self.tell(&of.dry_run()),
            Question::Approved => self.tell(&of.approved()),
            Question::IsCommand => self.tell(&of.is_command()),
            Question::Get(what) => self.tell(&of.get(text(what))),
            Question::Groups => self.tell(&of.groups()),
            Question::Claim(name) => self.tell(&of.claim(name)),
            Question::Claims => self.tell(&of.claims()),
            Question::Query(key) => self.tell(&of.query(key)),
            Question::Queries => self.tell(&of.queries()),
            Question::Command => self.tell(&of.command().map(|command| (command.container, command.argv, command.stdin, command.tty))),
            Question::Id => self.tell(&!of.id().is_empty()),
            Question::ReceivedAt => self.tell(&of.received_at()),
            Question::DocumentIs(path, any_of) => self.tell(&self.document().is(path, any_of)),
            Question::DocumentMatches(path) => self.tell(&self.document().matches(path)),
            Question::DocumentGet(path) => self.tell(&self.document().get(path)),
            Question::DocumentSelect(path) => self.tell(&self.document().select(path)),
            Question::DocumentJson => self.tell(&self.document().json()),
            Question::DocumentSize => self.tell(&self.document().size()),
            Question::LookAround(which) => self.tell(&host::look_around(surrounding(which)).map(|object| object.get("$.metadata.name"))),
            Question::Annotate(key, value) => host::annotate(key, value),
            Question::Count(key, amount, window) => self.tell(&host::count(key, *amount, *window)),
            Question::Spend(name, amount, window, limits) => self.tell(&host::spend(name, &Amount::Number(*amount), *window, limits)),
            Question::SpendSize(name, window, limits) => {
                self.tell(&host::spend(name, &Amount::SizeOf(self.document()), *window, limits));
            }
            Question::SpendMatches(name, path, window, limits) => {
                self.tell(&host::spend(name, &Amount::Matches((self.document(), path.clone())), *window, limits));
            }
            Question::Long(count) => self.tell(&of.in_groups(&vec![String::new(); *count])),
        }
    }
}

fn answers(questions: &[Question], operation: &Operation, document: Option<&Document>) -> Option<String> {
    let mut answers = Answers { operation, document, told: String::new() };
    questions.iter().for_each(|question| answers.ask(question));
    (!questions.is_empty()).then_some(answers.told)
}

fn settings() -> &'static Settings {
    SETTINGS.get().expect("configure comes first")
}

fn denial(reason: String) -> Denial {
    Denial { reason, hint: None }
}

/// The policy.
struct Asks;

impl Guest for Asks {
    fn describe() -> Manifest {
        let (chunk, streams) = match settings().chunk.is_empty() {
            true => (Hooks::empty(), Capabilities::empty()),
            false => (Hooks::CHUNK, Capabilities::STREAMS),
        };
        Manifest {
            name: "asks".into(),
            version: "0.1.0".into(),
            summary: "Asks what its settings say".into(),
            rules: Vec::new(),
            hooks: Hooks::REQUEST | Hooks::OBJECT | chunk,
            needs: settings().needs.iter().map(|name| surrounding(name)).collect(),
            capabilities: Capabilities::BODIES | Capabilities::COUNTERS | streams,
            settings_schema: String::new(),
        }
    }

    fn configure(text: String) -> Result<(), String> {
        let settings: Settings = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        if settings.too_early {
            host::spend("early", &Amount::Number(1), 60, &[1]);
        }
        SETTINGS.set(settings).map_err(|_| "configured twice".to_owned())
    }

    fn on_request(operation: &Operation, body: Option<&Document>) -> Verdict {
        answers(&settings().request, operation, body).map_or(Verdict::Allow, |told| Verdict::Block(denial(told)))
    }

    fn on_object(operation: &Operation, object: &Document) -> Verdict {
        // Of an object that is hidden nobody is told why.
        answers(&settings().object, operation, Some(object))
            .filter(|_| !settings().quiet)
            .map_or(Verdict::Allow, |told| Verdict::Terminate(denial(told)))
    }

    fn on_chunk(operation: &Operation, _: Channel, _: Vec<u8>) -> ChunkVerdict {
        let told = answers(&settings().chunk, operation, None);
        told.map_or(ChunkVerdict::Forward, |told| ChunkVerdict::Replace(told.into_bytes()))
    }
}

/// What WebAssembly calls by name: generated, as all of a guest's own unsafe code is.
#[allow(unsafe_code)]
mod exported {
    use super::Asks;

    crate::bindings::export!(Asks with_types_in crate::bindings);
}
