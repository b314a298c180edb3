//! The routes of the API, each with what it takes and gives: requests are read by them, and the OpenAPI document describes them.

use schemars::{Schema, SchemaGenerator};

use super::{ApiRequest, ApprovalRequest, Identity, SessionRequest, Status, approvals, sessions, state};
use crate::approve::{Answer, Ticket};
use crate::status::Refusal;

/// One operation of the API.
pub(super) struct Route {
    pub(super) method: &'static str,
    /// The path; `{name}` is any segment.
    pub(super) path: &'static str,
    /// The summary in the OpenAPI document.
    pub(super) summary: &'static str,
    /// The query parameters that it takes; any other is a 400.
    pub(super) parameters: &'static [Parameter],
    /// The schema of the request's body, where it has one.
    pub(super) body: Option<fn(&mut SchemaGenerator) -> Schema>,
    pub(super) answer: ResponseContent,
    /// Who may call it, in words: the description in the OpenAPI document. What enforces it is where requests are answered.
    pub(super) who_may: &'static str,
    /// Parses a request to this route; an error is a 400 for the caller.
    pub(super) parse: fn(&RouteRequest<'_>) -> Result<ApiRequest, Refusal>,
}

/// A parameter of the query.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// The description in the OpenAPI document.
    pub(super) description: &'static str,
    pub(super) kind: ParameterType,
}

/// The type of a query parameter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ParameterType {
    String,
    Integer,
    Boolean,
}

/// What a route answers with, for the OpenAPI document.
pub(super) enum ResponseContent {
    Json(fn(&mut SchemaGenerator) -> Schema),
    /// A recording's file.
    Bytes,
}

/// The parts of a request that a route parses.
pub(super) struct RouteRequest<'a> {
    /// The path's segments in the places of the route's `{name}`s, in order.
    pub(super) captured: &'a [&'a str],
    pub(super) query: &'a [(String, String)],
    pub(super) body: &'a [u8],
}

impl RouteRequest<'_> {
    /// A query parameter; none where it is absent or empty.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    }

    /// An integer parameter; none where it is absent, and an error where it is no whole number.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let wrong = || Refusal::bad_request(format!("{name} is no whole number"));
        self.text(name).map(|text| text.parse().map_err(|_| wrong())).transpose()
    }

    /// A boolean parameter; false where it is absent.
    pub(super) fn boolean(&self, name: &str) -> Result<bool, Refusal> {
        match self.text(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Refusal::bad_request(format!("{name} is true or false"))),
        }
    }

    /// The path's parameter of this number: what stands in the place of its first `{name}`, second and so on.
    pub(super) fn path_parameter(&self, index: usize) -> String {
        self.captured.get(index).map(|text| (*text).to_owned()).unwrap_or_default()
    }
}

impl Route {
    /// The path parameters, where a path is this route's.
    pub(super) fn match_path<'a>(&self, parts: &[&'a str]) -> Option<Vec<&'a str>> {
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

const fn text(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, description, kind: ParameterType::String }
}

const fn number(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, description, kind: ParameterType::Integer }
}

const LIMIT: Parameter = number("limit", "the most items on a page: at most 500, which is also the default");
const CONTINUE: Parameter = text("continue", "`continue` of the page before");
const OWNER_AND_AUDITORS: &str = "Whoever did it, and `auditors`.";
const AUDITORS: &str = "Only `auditors`.";

/// Every route of the API.
pub(super) const ROUTES: &[Route] = &[
    Route {
        method: "GET",
        path: "/postern/v1/openapi",
        summary: "This document.",
        parameters: &[],
        body: None,
        answer: ResponseContent::Json(|schemas| schemas.subschema_for::<serde_json::Map<String, serde_json::Value>>()),
        who_may: "Everybody who is identified.",
        parse: |_| Ok(ApiRequest::Document),
    },
    Route {
        method: "GET",
        path: "/postern/v1/identity",
        summary: "Who the caller is to the gateway, and the session of their credential.",
        parameters: &[],
        body: None,
        answer: ResponseContent::Json(|schemas| schemas.subschema_for::<Identity>()),
        who_may: "Everybody who is identified.",
        parse: |_| Ok(ApiRequest::Identity),
    },
    Route {
        method: "GET",
        path: "/postern/v1/status",
        summary: "How the gateway is: its version, its clusters, and what is under way.",
        parameters: &[],
        body: None,
        answer: ResponseContent::Json(|schemas| schemas.subschema_for::<Status>()),
        who_may: AUDITORS,
        parse: |_| Ok(ApiRequest::Status),
    },
    Route {
        method: "GET",
        path: "/postern/v1/policies",
        summary: "The policies in force, and those that are not as they lie in their directory.",
        parameters: &[],
        body: None,
        answer: ResponseContent::Json(|schemas| schemas.subschema_for::<state::Policies>()),
        who_may: AUDITORS,
        parse: |_| Ok(ApiRequest::Policies),
    },
    Route {
        method: "GET",
        path: "/postern/v1/approvals",
        summary: "Tickets: those that are pending first, then the latest first.",
        parameters: &[
            LIMIT,
            CONTINUE,
            text(
                "revision",
                "`revision` of a page that is known: it is answered once something was done with a ticket on it, or one came, or after `waitSeconds`",
            ),
            number("waitSeconds", "the most seconds that are waited for another page than the one of `revision`: at most 300"),
        ],
        body: None,
        answer: ResponseContent::Json(|schemas| schemas.subschema_for::<approvals::Tickets>()),
        who_may: "Who asked for them, and who may answer them.",
        parse: |given| {
            let (limit, after) = (sessions::limit(given)?, given.text("continue"));
            let wait = approvals::wait(given.text("revision"), given.number("waitSeconds")?)?;
            Ok(ApiRequest::Approval(ApprovalRequest::List { limit, after, wait }))
        },
    },
    Route {
        method: "GET",
        path: "/postern/v1/approvals/{id}",
        summary: "A ticket.",
        parameters: &[],
        body: None,
        answer: ResponseContent::Json(|schemas| schemas.subschema_for::<Ticket>()),
        who_may: "Who asked for it, and who may answer it.",
        parse: |given| Ok(ApiRequest::Approval(ApprovalRequest::Get(given.path_parameter(0)))),
    },
    Route {
        method: "POST",
        path: "/postern/v1/approvals/{id}/approve",
        summary: "Approves a ticket: for one operation, or for as many as come in some seconds.",
        parameters: &[],
        body: Some(|schemas| schemas.subschema_for::<approvals::ApproveRequest>()),
        answer: ResponseContent::Json(|schemas| schemas.subschema_for::<Ticket>()),
        who_may: "The groups that the ticket names, but not who asked for it.",
        parse: |given| Ok(ApiRequest::Approval(approvals::approval(given.path_parameter(0), given.body)?)),
    },
    Route {
        method: "POST",
        path: "/postern/v1/approvals/{id}/deny",
        summary: "Denies a ticket.",
        parameters: &[],
        body: Some(|schemas| schemas.subschema_for::<approvals::CommentRequest>()),
        answer: ResponseContent::Json(|schemas| schemas.subschema_for::<Ticket>()),
        who_may: "The groups that the ticket names, but not who asked for it.",
        parse: |given| Ok(ApiRequest::Approval(approvals::other(given.path_parameter(0), Answer::Deny, given.body)?)),
    },
    Route {
        method: "POST",
        path: "/postern/v1/approvals/{id}/reopen",
        summary: "Takes a denial back: the ticket is pending again.",
        parameters: &[],
        body: Some(|schemas| schemas.subschema_for::<approvals::CommentRequest>()),
        answer: ResponseContent::Json(|schemas| schemas.subschema_for::<Ticket>()),
        who_may: "Who denied it.",
        parse: |given| Ok(ApiRequest::Approval(approvals::other(given.path_parameter(0), Answer::Reopen, given.body)?)),
    },
    Route {
        method: "POST",
        path: "/postern/v1/approvals/{id}/revoke",
        summary: "Ends an approved ticket that may still be used.",
        parameters: &[],
        body: Some(|schemas| schemas.subschema_for::<approvals::CommentRequest>()),
        answer: ResponseContent::Json(|schemas| schemas.subschema_for::<Ticket>()),
        who_may: "The groups that the ticket names, but not who asked for it.",
        parse: |given| Ok(ApiRequest::Approval(approvals::other(given.path_parameter(0), Answer::Revoke, given.body)?)),
    },
    Route {
        method: "POST",
        path: "/postern/v1/approvals/{id}/cancel",
        summary: "Ends a ticket that is pending or approved.",
        parameters: &[],
        body: Some(|schemas| schemas.subschema_for::<approvals::CommentRequest>()),
        answer: ResponseContent::Json(|schemas| schemas.subschema_for::<Ticket>()),
        who_may: "Who asked for it.",
        parse: |given| Ok(ApiRequest::Approval(approvals::other(given.path_parameter(0), Answer::Cancel, given.body)?)),
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
        answer: ResponseContent::Json(|schemas| schemas.subschema_for::<sessions::Listed>()),
        who_may: OWNER_AND_AUDITORS,
        parse: |given| {
            Ok(ApiRequest::Session(SessionRequest::List {
                filter: Box::new(sessions::filter(given)?),
                limit: sessions::limit(given)?,
                after: given.text("continue"),
            }))
        },
    },
    Route {
        method: "GET",
        path: "/postern/v1/sessions/{id}",
        summary: "A session, and the names of its recordings.",
        parameters: &[],
        body: None,
        answer: ResponseContent::Json(|schemas| schemas.subschema_for::<sessions::Detail>()),
        who_may: OWNER_AND_AUDITORS,
        parse: |given| Ok(ApiRequest::Session(SessionRequest::Get(given.path_parameter(0)))),
    },
    Route {
        method: "GET",
        path: "/postern/v1/sessions/{id}/timeline",
        summary: "What was done in a session, in order: calls as their audit events, streams as what they are of. What policies answered is told to `auditors`.",
        parameters: &[],
        body: None,
        answer: ResponseContent::Json(|schemas| schemas.subschema_for::<sessions::Timeline>()),
        who_may: OWNER_AND_AUDITORS,
        parse: |given| Ok(ApiRequest::Session(SessionRequest::Timeline(given.path_parameter(0)))),
    },
    Route {
        method: "GET",
        path: "/postern/v1/sessions/{id}/search",
        summary: "Where a text is in a session.",
        parameters: &[text("text", "the text")],
        body: None,
        answer: ResponseContent::Json(|schemas| schemas.subschema_for::<sessions::Found>()),
        who_may: AUDITORS,
        parse: |given| {
            let text = given.text("text").ok_or_else(|| Refusal::bad_request("say what is looked for: ?text=..."))?;
            Ok(ApiRequest::Session(SessionRequest::Search { session: given.path_parameter(0), text }))
        },
    },
    Route {
        method: "GET",
        path: "/postern/v1/sessions/{id}/bodies",
        summary: "The latest bodies of its requests that the gateway has in memory (`keep: recent` of `sessions.bodies`), after masking.",
        parameters: &[CONTINUE],
        body: None,
        answer: ResponseContent::Json(|schemas| schemas.subschema_for::<sessions::Bodies>()),
        who_may: AUDITORS,
        parse: |given| {
            Ok(ApiRequest::Session(SessionRequest::RecentBodies { session: given.path_parameter(0), after: given.number("continue")? }))
        },
    },
    Route {
        method: "GET",
        path: "/postern/v1/sessions/{id}/recordings/{name}",
        summary: "A recording as it lies in the file, signed and chained. One that is not finished is given as far as it is, and with `follow` until it is.",
        parameters: &[Parameter {
            name: "follow",
            description: "whether to go on until the recording is finished",
            kind: ParameterType::Boolean,
        }],
        body: None,
        answer: ResponseContent::Bytes,
        who_may: AUDITORS,
        parse: |given| {
            Ok(ApiRequest::Session(SessionRequest::Recording {
                session: given.path_parameter(0),
                name: given.path_parameter(1),
                follow: given.boolean("follow")?,
            }))
        },
    },
    Route {
        method: "GET",
        path: "/postern/v1/keys/sessions",
        summary: "The public key that recordings are signed with. Whoever does not trust the gateway has it from elsewhere.",
        parameters: &[],
        body: None,
        answer: ResponseContent::Json(|schemas| schemas.subschema_for::<sessions::Key>()),
        who_may: "Everybody who is identified.",
        parse: |_| Ok(ApiRequest::Session(SessionRequest::Key)),
    },
];
