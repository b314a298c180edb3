//! `postern approval show`: a ticket, and what would become of the object.

use std::time::Duration;

use anyhow::Context;
use http::Method;
use serde_json::{Value, json};

use super::changes::{Changes, FieldChange, changes};
use super::{APPROVALS, ShowForm, ago, comment, left, missing, operation, word};
use crate::approve::{Ticket, TicketState};
use crate::cli::remote::Remote;
use crate::cli::table::{printable, time};
use crate::cli::terminal::{self, say};
use crate::clock::now;

/// The longest value that is shown of a change, in characters, and how much of it comes before what is another.
const LONGEST: usize = 120;
const BEFORE: usize = 30;
/// The most changes that are told on a terminal; `-o yaml` has all.
const MOST: usize = 200;
/// How long the object is asked for. It is an operation like any other, and may itself be held.
const PATIENCE: Duration = Duration::from_secs(5);
/// Parts of an object whose path gives the object, or that part of it.
const PARTS: [&str; 5] = ["", "approval", "ephemeralcontainers", "scale", "status"];

/// What is there now, as the approver may see it, and what would be changed.
struct Object {
    current: Value,
    /// None of what would be taken away.
    changes: Option<Changes>,
}

pub(super) fn show(remote: &Remote, id: &str, form: ShowForm) -> anyhow::Result<()> {
    let mut value: Value = remote.get(&format!("{APPROVALS}/{}", word(id)?), &[])?;
    let ticket: Ticket = serde_json::from_value(value.clone()).context("the gateway's answer is no ticket")?;
    let object = object(remote, &ticket);
    if form == ShowForm::Text {
        return told(&ticket, object.as_ref());
    }
    if let Some(object) = &object
        && let Some(fields) = value.as_object_mut()
    {
        let (name, shown) = match object {
            Ok(object) => ("object", json!({"current": object.current, "changes": object.changes})),
            Err(why) => ("objectNotShown", Value::from(why.clone())),
        };
        fields.insert(name.to_owned(), shown);
    }
    match form {
        ShowForm::Yaml => terminal::out(&serde_saphyr::to_string(&value)?),
        ShowForm::Text | ShowForm::Json => say!("{value:#}"),
    }
    Ok(())
}

/// The object that a ticket would change or take away, asked for by whoever looks, through the gateway: they see of it what they may. None where the ticket is about no
/// object that is there, or is over; why where it cannot be had.
fn object(remote: &Remote, ticket: &Ticket) -> Option<Result<Object, String>> {
    let of = &ticket.operation;
    let (resource, part) = of.resource.split_once('/').unwrap_or((&of.resource, ""));
    let is_of_object = of.name.is_some() && of.command.is_none() && PARTS.contains(&part);
    let method: Method = of.method.parse().ok()?;
    if ticket.state != TicketState::Pending || !is_of_object || ![Method::PUT, Method::PATCH, Method::DELETE].contains(&method) {
        return None;
    }
    if resource == "secrets" {
        // Its body is in no ticket either: what it holds is looked at by who means to.
        return Some(Err(format!(
            "what a Secret holds is not shown unasked; `kubectl get --raw {}` does, as far as you may see it",
            of.path
        )));
    }
    let read = remote.get_within::<Value>(PATIENCE, &of.path).map_err(|error| format!("{error:#}"));
    Some(read.map(|mut current| {
        if let Some(metadata) = current.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        let changes = match (&of.body, &method) {
            (_, method) if *method == Method::DELETE => None,
            (Some(body), _) => Some(changes(&current, body, of.media_type.as_deref().unwrap_or_default())),
            (None, _) => {
                Some(Changes { note: Some("the body is not in the ticket: what would be changed is not known"), ..Changes::default() })
            }
        };
        Object { current, changes }
    }))
}

fn told(ticket: &Ticket, object: Option<&Result<Object, String>>) -> anyhow::Result<()> {
    let line = |name: &str, text: &str| {
        if !text.is_empty() {
            say!("{name:<12} {}", printable(text));
        }
    };
    let of = &ticket.operation;
    line("ticket", &ticket.id);
    let ends = if ticket.ends <= now() { "expired".to_owned() } else { format!("ends {} ({})", time(ticket.ends), left(ticket.ends)) };
    line(
        "state",
        &format!("{}; asked for {} ({} ago), {ends}", ticket.state.name(), time(ticket.created), ago(now().saturating_sub(ticket.created))),
    );
    line("requester", &format!("{} ({})", ticket.username, ticket.requester.split(' ').next().unwrap_or_default()));
    line("groups", &ticket.groups.join(", "));
    line("from", &ticket.source);
    line("session", &ticket.session);
    line("cluster", &of.cluster);
    line("operation", &operation(ticket));
    line("request", &format!("{} {}", of.method, of.path));
    let query: Vec<String> = of.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    line("query", &query.join("&"));
    line("media type", of.media_type.as_deref().unwrap_or_default());
    line("headers", &of.headers.join(", "));
    for requirement in &ticket.requirements {
        line("why", &format!("{}: {}", requirement.policy, requirement.reason));
    }
    line("needs", &missing(ticket));
    for given in &ticket.approvals {
        let reuse = given.reuse_seconds.map(|seconds| format!(", for {}", ago(seconds))).unwrap_or_default();
        line("approved", &format!("by {} at {}{reuse}{}", given.username, time(given.at), comment(given.comment.as_deref())));
    }
    if let Some(refusal) = &ticket.refusal {
        line(ticket.state.name(), &format!("by {} at {}{}", refusal.username, time(refusal.at), comment(refusal.comment.as_deref())));
    }
    match object {
        Some(Ok(Object { current, changes: None })) => {
            say!("object, as it is now");
            serde_saphyr::to_string(current)?.lines().for_each(|line| say!("    {}", printable(line)));
        }
        Some(Ok(Object { changes: Some(changes), .. })) => {
            say!("changes, to the object as it is now");
            let notes =
                changes.note.into_iter().chain((changes.fields.is_empty() && changes.note.is_none()).then_some("nothing would be another"));
            notes.for_each(|note| say!("    ({note})"));
            for FieldChange { path, before, after, note } in changes.fields.iter().take(MOST) {
                let note = note.map(|note| format!("  ({note})")).unwrap_or_default();
                match (before, after) {
                    (None, None) => say!("    {}:{note}", printable(path)),
                    (before, after) => {
                        let [before, after] = shown(before.as_ref(), after.as_ref());
                        say!("    {}: {before} -> {after}{note}", printable(path));
                    }
                }
            }
            if changes.fields.len() > MOST {
                say!("    AND {} MORE: -o yaml has all", changes.fields.len() - MOST);
            }
        }
        Some(Err(why)) => line("object", &format!("not shown: {why}")),
        None => {}
    }
    if let Some(body) = &of.body {
        say!("body");
        serde_saphyr::to_string(body)?.lines().for_each(|line| say!("    {}", printable(line)));
    } else if let Some(digest) = &of.body_digest {
        line("body", &format!("not shown; SHA-256 {digest}"));
    }
    Ok(())
}

/// Two values on a line that is not long: of long ones, what is around the first difference.
fn shown(before: Option<&Value>, after: Option<&Value>) -> [String; 2] {
    let text = |value: Option<&Value>| match value {
        None => "none".to_owned(),
        Some(Value::String(text)) => printable(&format!("{text:?}")),
        Some(value) => printable(&value.to_string()),
    };
    let texts = [text(before), text(after)];
    let same = texts[0].chars().zip(texts[1].chars()).take_while(|(one, other)| one == other).count();
    texts.map(|text| {
        let from = if text.chars().count() > LONGEST { same.saturating_sub(BEFORE) } else { 0 };
        let cut: String = text.chars().skip(from).take(LONGEST).collect();
        let is_cut = text.chars().count() > from + LONGEST;
        format!("{}{cut}{}", if from > 0 { "..." } else { "" }, if is_cut { "..." } else { "" })
    })
}
