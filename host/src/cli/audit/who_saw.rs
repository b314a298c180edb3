//! `postern audit who-saw`: who was shown an object, in clear or masked.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use serde_json::{Value, json};

use super::address_of;
use crate::cli::listing::{Heads, Listed, Output};
use crate::cli::terminal::say;
use crate::record::query::{self, Query, text_of};
use crate::words::Stage;

/// Subresources that are answered with something else than the object they are of; `status` and others are answered with all of it.
const OTHERS: [&str; 9] = ["attach", "binding", "eviction", "exec", "log", "portforward", "proxy", "scale", "token"];

/// By whom and from where it was seen.
type Seer = [String; 4];

/// How.
#[derive(Default)]
struct Seen {
    clear: u64,
    masked: u64,
    /// Lists and watches that it may have been in, masked or not.
    lists: u64,
    first: String,
    last: String,
}

/// What of an object is told: an operation that answers with it was let through.
fn shows(event: &Value) -> bool {
    let verb = event["verb"].as_str().unwrap_or_default();
    let status = event["status"].as_u64().unwrap_or_default();
    event["stage"] == Stage::Completed.name()
        && (200..300).contains(&status)
        && event["responseBytes"].as_u64().is_some_and(|bytes| bytes > 0)
        && matches!(verb, "get" | "list" | "watch" | "create" | "update" | "patch" | "delete" | "deletecollection")
        && event["target"]["subresource"].as_str().is_none_or(|of| !OTHERS.contains(&of))
        // What is made without a name is another object.
        && !(verb == "create" && event["target"]["name"].is_null())
}

/// Tells who was shown `RESOURCE/NAME` of a namespace: of each caller, session and address how often in clear and how often with something hidden.
pub(super) fn who_saw(log: &Path, resource: &str, name: &str, namespace: Option<&str>, query: Query, output: Output) -> anyhow::Result<()> {
    let mut seers: BTreeMap<Seer, Seen> = BTreeMap::new();
    let query = Query { resource: Some(resource.to_owned()), ..query };
    let is_known = AtomicBool::new(false);
    let read = |line: &[u8]| {
        is_known.store(true, Ordering::Relaxed);
        // Of a list over all namespaces, and of one without a name, it may be one of the objects.
        let (of_name, of_namespace) = (text_of(line, &["target", "name"]), text_of(line, &["target", "namespace"]));
        let is_here = namespace.is_none() || of_namespace.is_none() || of_namespace.as_deref() == namespace;
        let is_named = of_name.as_deref() == Some(name);
        if !is_here || !(is_named || of_name.is_none()) {
            return None;
        }
        serde_json::from_slice::<Value>(line).ok().filter(shows).map(|event| (event, is_named))
    };
    query::read_all(log, &query, read, |(event, is_named)| {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let address = address_of(&text(&event["source"]));
        let caller = &event["caller"];
        let seen = seers.entry([text(&caller["username"]), text(&caller["issuer"]), address, text(&event["session"])]).or_default();
        let is_masked = event["masked"].as_object().is_some_and(|masked| !masked.is_empty());
        // What was hidden in a list may have been hidden in another object.
        match (is_named, is_masked) {
            (false, _) => seen.lists += 1,
            (true, false) => seen.clear += 1,
            (true, true) => seen.masked += 1,
        }
        if seen.first.is_empty() {
            seen.first = text(&event["time"]);
        }
        seen.last = text(&event["time"]);
        ControlFlow::Continue(())
    })?;
    if seers.is_empty() && output.is_for_people() && !is_known.load(Ordering::Relaxed) {
        say!("no event that fits is about {resource} at all: nobody was shown it, or it is called otherwise");
        return Ok(());
    }
    if seers.is_empty() && output.is_for_people() {
        say!("nobody was shown it; what is under way, as a watch that is open, is in the log when it ends");
        return Ok(());
    }
    let items: Vec<_> = seers
        .into_iter()
        .map(|([username, issuer, source, session], seen)| {
            let [clear, masked, lists] = [seen.clear, seen.masked, seen.lists].map(|count| count.to_string());
            let last = seen.last.get(..19).unwrap_or(&seen.last).replace('T', " ");
            Listed {
                whole: json!({"username": &username, "issuer": &issuer, "source": &source, "session": &session, "clear": seen.clear,
                    "masked": seen.masked, "lists": seen.lists, "first": &seen.first, "last": &seen.last}),
                cells: vec![clear, masked, lists, last, username.clone(), source, session],
                wide: vec![seen.first, issuer],
                name: username,
            }
        })
        .collect();
    output.list(&Heads(&["CLEAR", "MASKED", "IN LISTS", "LAST", "CALLER", "SOURCE", "SESSION"], &["FIRST", "ISSUER"]), &items)?;
    if !output.is_for_people() {
        return Ok(());
    }
    say!(
        "\nCLEAR and MASKED: by name, with nothing hidden in it, or something. IN LISTS: lists and watches that had it in them if it was there then and fitted"
    );
    say!("their selector, masked or not. What is under way, as a watch that is open, is in the log when it ends.");
    Ok(())
}

/// `secret/db` as resource and name.
pub(super) fn parse(text: &str) -> anyhow::Result<(String, String)> {
    let (resource, name) =
        text.split_once('/').with_context(|| format!("{text:?} is no object; write RESOURCE/NAME, for example secret/db"))?;
    anyhow::ensure!(!name.is_empty() && !name.contains('/'), "{text:?} is no object; write RESOURCE/NAME, for example secret/db");
    Ok((crate::cli::filter::resource(resource)?, name.to_owned()))
}
