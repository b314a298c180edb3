//! All that the API has, each with what it takes and gives.

use schemars::{Schema, SchemaGenerator};

use super::{Asked, AskedApproval, AskedSession, Identity, Status, approvals, sessions, state};
use crate::approve::Ticket;
use crate::status::Refusal;

/// One operation of the API.
pub(super) struct Route {
    pub(super) method: &'static str,
    /// The path; `{name}` is any segment.
    pub(super) path: &'static str,
    /// What it does.
    pub(super) summary: &'static str,
    pub(super) parameters: &'static [Parameter],
    /// What is sent, where something is.
    pub(super) body: Option<fn(&mut SchemaGenerator) -> Schema>,
    pub(super) answer: Answer,
    /// Who may.
    pub(super) who: &'static str,
    pub(super) read: fn(&Given<'_>) -> Result<Asked, Refusal>,
}

/// A parameter of the query.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) kind: Kind,
}

/// What a parameter is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Truth,
}

/// What is answered.
pub(super) enum Answer {
    Json(fn(&mut SchemaGenerator) -> Schema),
    /// A recording's file.
    Bytes,
}

/// A request, as a route reads it.
pub(super) struct Given<'a> {
    pub(super) captured: &'a [&'a str],
    pub(super) query: &'a [(String, String)],
    pub(super) body: &'a [u8],
}

impl Given<'_> {
    /// A parameter; none where it is absent or empty.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    }

    /// A number.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let wrong = || Refusal::bad_request(format!("{name} is no whole number"));
        self.text(name).map(|text| text.parse().map_err(|_| wrong())).transpose()
    }

    /// Yes or no; no where it is absent.
    pub(super) fn truth(&self, name: &str) -> Result<bool, Refusal> {
        match self.text(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Refusal::bad_request(format!("{name} is true or false"))),
        }
    }

    /// What stands in the place of the path's first `{name}`, second and so on.
    pub(super) fn place(&self, index: usize) -> String {
        self.captured.get(index).map(|text| (*text).to_owned()).unwrap_or_default()
    }
}

impl Route {
    /// What stands in the places of a path; none where it is another path.
    pub(super) fn captures<'a>(&self, parts: &[&'a str]) -> Option<Vec<&'a str>> {
        let mut captured = Vec::new();
        let mut own = self.path.split('/').filter(|part| !part.is_empty());
        for part in parts {
            match own.next()? {
                place if place.starts_with('{') => captured.push(*part),
                same if same == *part => {}
                _ => return None,
            }
        }
        own.next().is_none().then_some(captured)
    }
}

const fn text(name: &'static str, what: &'static str) -> Parameter {
    Parameter { name, what, kind: Kind::Text }
}

const fn number(name: &'static str, what: &'static str) -> Parameter {
    Parameter { name, what, kind: Kind::Number }
}

const LIMIT: Parameter = number("limit", "the most of a page; 500 at most, and where it is absent");
const CONTINUE: Parameter = text("continue", "`continue` of the page before");
const WHOSE: &str = "Whoever did it, and `auditors`.";
const AUDITORS: &str = "Only `auditors`.";

/// All of it.
pub(super) const ROUTES: &[Route] = &[
    Route {
        method: "GET",
        path: "/postern/v1/openapi",
        summary: "This document.",
        parameters: &[],
        body: None,
        answer: Answer::Json(|schemas| schemas.subschema_for::<serde_json::Map<String, serde_json::Value>>()),
        who: "Everybody who is identified.",
        read: |_| Ok(Asked::Document),
    },
    Route {
        method: "GET",
        path: "/postern/v1/identity",
        summary: "Who the caller is to the gateway, and the session of their credential.",
        parameters: &[],
        body: None,
        answer: Answer::Json(|schemas| schemas.subschema_for::<Identity>()),
        who: "Everybody who is identified.",
        read: |_| Ok(Asked::Identity),
    },
    Route {
        method: "GET",
        path: "/postern/v1/status",
        summary: "How the gateway is: its version, its clusters, and what is under way.",
        parameters: &[],
        body: None,
        answer: Answer::Json(|schemas| schemas.subschema_for::<Status>()),
        who: AUDITORS,
        read: |_| Ok(Asked::Status),
    },
    Route {
        method: "GET",
        path: "/postern/v1/policies",
        summary: "The policies in force, and those that are not as they lie in their directory.",
        parameters: &[],
        body: None,
        answer: Answer::Json(|schemas| schemas.subschema_for::<state::Policies>()),
        who: AUDITORS,
        read: |_| Ok(Asked::Policies),
    },
    Route {
        method: "GET",
        path: "/postern/v1/approvals",
        summary: "Tickets: those that are pending first, then the latest first.",
        parameters: &[LIMIT, CONTINUE],
        body: None,
        answer: Answer::Json(|schemas| schemas.subschema_for::<approvals::Tickets>()),
        who: "Who asked for them, and who may answer them.",
        read: |given| Ok(Asked::Approval(AskedApproval::List(sessions::limit(given)?, given.text("continue")))),
    },
    Route {
        method: "GET",
        path: "/postern/v1/approvals/{id}",
        summary: "A ticket.",
        parameters: &[],
        body: None,
        answer: Answer::Json(|schemas| schemas.subschema_for::<Ticket>()),
        who: "Who asked for it, and who may answer it.",
        read: |given| Ok(Asked::Approval(AskedApproval::Get(given.place(0)))),
    },
    Route {
        method: "POST",
        path: "/postern/v1/approvals/{id}/approve",
        summary: "Approves a ticket: for one operation, or for as many as come in some seconds.",
        parameters: &[],
        body: Some(|schemas| schemas.subschema_for::<approvals::Answer>()),
        answer: Answer::Json(|schemas| schemas.subschema_for::<Ticket>()),
        who: "The groups that the ticket names, but not who asked for it.",
        read: |given| Ok(Asked::Approval(AskedApproval::Answer(given.place(0), true, approvals::reuse(given.body)?))),
    },
    Route {
        method: "POST",
        path: "/postern/v1/approvals/{id}/deny",
        summary: "Denies a ticket.",
        parameters: &[],
        body: None,
        answer: Answer::Json(|schemas| schemas.subschema_for::<Ticket>()),
        who: "The groups that the ticket names, but not who asked for it.",
        read: |given| Ok(Asked::Approval(AskedApproval::Answer(given.place(0), false, None))),
    },
    Route {
        method: "GET",
        path: "/postern/v1/sessions",
        summary: "Sessions, the latest first. With any of `namespace`, `verb`, `resource`, `pod`, `verdict` and `text` their recordings are read, for `auditors` only.",
        parameters: &[
            LIMIT,
            CONTINUE,
            text("user", "the caller's name, or a part of it"),
            number("since", "something was done at or after this time, in Unix seconds"),
            number("until", "something was done at or before this time, in Unix seconds"),
            text("namespace", "something was done in this namespace"),
            text("verb", "something with this verb"),
            text("resource", "something on this resource, `secrets` or `pods/exec`"),
            text("pod", "something on this pod"),
            text("verdict", "something with this verdict"),
            text("text", "something with this text in it: a command, output or a call"),
        ],
        body: None,
        answer: Answer::Json(|schemas| schemas.subschema_for::<sessions::Listed>()),
        who: WHOSE,
        read: |given| Ok(Asked::Session(AskedSession::List(sessions::filter(given)?, sessions::limit(given)?, given.text("continue")))),
    },
    Route {
        method: "GET",
        path: "/postern/v1/sessions/{id}",
        summary: "A session, and the names of its recordings.",
        parameters: &[],
        body: None,
        answer: Answer::Json(|schemas| schemas.subschema_for::<sessions::Detail>()),
        who: WHOSE,
        read: |given| Ok(Asked::Session(AskedSession::Get(given.place(0)))),
    },
    Route {
        method: "GET",
        path: "/postern/v1/sessions/{id}/timeline",
        summary: "What was done in a session, in order: calls as their audit events, streams as what they are of. What policies answered is told to `auditors`.",
        parameters: &[],
        body: None,
        answer: Answer::Json(|schemas| schemas.subschema_for::<sessions::Timeline>()),
        who: WHOSE,
        read: |given| Ok(Asked::Session(AskedSession::Timeline(given.place(0)))),
    },
    Route {
        method: "GET",
        path: "/postern/v1/sessions/{id}/search",
        summary: "Where a text is in a session.",
        parameters: &[text("text", "the text")],
        body: None,
        answer: Answer::Json(|schemas| schemas.subschema_for::<sessions::Found>()),
        who: AUDITORS,
        read: |given| {
            let text = given.text("text").ok_or_else(|| Refusal::bad_request("say what is looked for: ?text=..."))?;
            Ok(Asked::Session(AskedSession::Search(given.place(0), text)))
        },
    },
    Route {
        method: "GET",
        path: "/postern/v1/sessions/{id}/recordings/{name}",
        summary: "A recording as it lies in the file, signed and chained. One that is not finished is given as far as it is, and with `follow` until it is.",
        parameters: &[Parameter { name: "follow", what: "whether to go on until the recording is finished", kind: Kind::Truth }],
        body: None,
        answer: Answer::Bytes,
        who: AUDITORS,
        read: |given| Ok(Asked::Session(AskedSession::Recording(given.place(0), given.place(1), given.truth("follow")?))),
    },
    Route {
        method: "GET",
        path: "/postern/v1/keys/sessions",
        summary: "The public key that recordings are signed with. Whoever does not trust the gateway has it from elsewhere.",
        parameters: &[],
        body: None,
        answer: Answer::Json(|schemas| schemas.subschema_for::<sessions::Key>()),
        who: "Everybody who is identified.",
        read: |_| Ok(Asked::Session(AskedSession::Key)),
    },
];
