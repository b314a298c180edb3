//! A watch: events are masked, and what a policy hides or shows by and by vanishes and appears for the client.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use super::Looking;
use super::items::{Items, Stop, is_table, require_object};
use super::lexer::{Lexer, array_start};
use super::partial;
use crate::mask::{RowObject, Unreadable, member};

/// What is known of a watch.
#[derive(Default)]
pub struct Watched {
    /// Objects that were shown on this watch.
    shown: HashSet<String>,
    /// Objects that are hidden and that the client does not have; kept only where it may have others.
    hidden: HashSet<String>,
    /// What must be known before the watch goes on.
    asking: Option<Asking>,
}

struct Asking {
    id: String,
    /// What is told of the object now.
    tombstone: Value,
    /// What the client gets if it has the object.
    deleted: Vec<u8>,
    /// Whether the object exists no longer.
    gone: bool,
}

/// An object as it was just before an event, the first of it on this watch. Whether it was shown then decides whether the client has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// The version of the cluster's state: resource versions are numbers that count its changes (KEP-5504). None where that cannot be known.
    pub version: Option<u64>,
}

impl Before {
    fn of(tombstone: &Value) -> Self {
        let text = |name: &str| tombstone["metadata"][name].as_str();
        let version = text("resourceVersion").and_then(|text| text.parse::<u64>().ok()?.checked_sub(1)).filter(|version| *version > 0);
        // Without a name nothing can be asked for, and so nothing is known.
        let version = version.filter(|_| text("name").is_some());
        Self { namespace: text("namespace").map(str::to_owned), name: text("name").unwrap_or_default().to_owned(), version }
    }
}

impl Items {
    pub(super) fn take_events(&mut self, out: &mut Vec<u8>) -> Result<(), Stop> {
        let buffer = std::mem::take(&mut self.buffer);
        let mut start = 0;
        while self.watch.asking.is_none() {
            if self.lexer.depth == 0 && self.seen <= start {
                start += buffer[start..].iter().take_while(|b| b.is_ascii_whitespace()).count();
                self.seen = start;
            }
            let Some(end) = self.lexer.value_end(&buffer, &mut self.seen)? else { break };
            self.event(&buffer[start..end], out)?;
            (start, self.seen) = (end, end);
        }
        self.seen -= start;
        self.buffer = buffer[start..].to_vec();
        Ok(())
    }

    /// Asks for what must be known before the watch goes on: [`Self::answer`] takes it.
    pub(super) fn asks(&self) -> Option<Looking> {
        let (asking, look) = (self.watch.asking.as_ref()?, self.treatment.look_back.as_ref()?);
        Some(look(Before::of(&asking.tombstone)))
    }

    /// Takes what was asked for: the object as it was, none if there was none. Then the watch goes on.
    pub fn answer(&mut self, object: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), Stop> {
        let Some(asking) = self.watch.asking.take() else { return Ok(()) };
        let was_shown = match object {
            Some(object) => {
                let size = object.len() as u64;
                let mut object: Value = serde_json::from_slice(object).map_err(|_| Unreadable::Malformed)?;
                // In a list an object does not say what it is.
                for name in ["kind", "apiVersion"] {
                    object[name] = asking.tombstone[name].clone();
                }
                self.look_at(&Arc::new(object), size)?.is_some()
            }
            None => false,
        };
        if was_shown {
            write(DELETED, &asking.deleted, out);
        }
        self.stays_hidden(asking.id, asking.gone);
        self.take_events(out)?;
        self.check_size()
    }

    /// The client does not have this object, so that nothing need be asked of it again.
    fn stays_hidden(&mut self, id: String, gone: bool) {
        if gone {
            self.watch.hidden.remove(&id);
        } else if self.treatment.look_back.is_some() {
            self.watch.hidden.insert(id);
        }
    }

    fn event(&mut self, event: &[u8], out: &mut Vec<u8>) -> Result<(), Stop> {
        require_object(event)?;
        let what = member(event, b"type")?.unwrap_or_default();
        let object = member(event, b"object")?.unwrap_or(b"null");
        let what = match what {
            b"\"ADDED\"" => ADDED,
            b"\"MODIFIED\"" => MODIFIED,
            b"\"DELETED\"" => DELETED,
            // They hold no object of the cluster's.
            b"\"BOOKMARK\"" | b"\"ERROR\"" => {
                if let Some(version) = self.treatment.asked.partial.filter(|_| what == b"\"BOOKMARK\"") {
                    write("\"BOOKMARK\"", &partial::object(object, version)?, out);
                    return Ok(());
                }
                out.extend_from_slice(event);
                out.push(b'\n');
                return Ok(());
            }
            _ => return Err(Unreadable::Malformed.into()),
        };
        let subject = Subject::of(object)?;
        if let Subject::Table(table) = subject {
            let mut masked = Vec::with_capacity(table.len());
            self.table(table, &mut masked)?;
            write(what, &masked, out);
        } else if !self.may_hide() {
            let masked = self.show(&subject)?.unwrap_or_default();
            write(what, &masked, out);
        } else {
            self.shown_or_hidden(what, &subject, out)?;
        }
        Ok(())
    }

    /// An event of an object that policies may hide: what a change makes visible is added, what it hides is deleted.
    fn shown_or_hidden(&mut self, what: &'static str, subject: &Subject<'_>, out: &mut Vec<u8>) -> Result<(), Stop> {
        let object = subject.object()?;
        let id = identity(object)?;
        if let Some(masked) = self.show(subject)? {
            let new = !self.watch.shown.contains(&id);
            self.watch.hidden.remove(&id);
            write(if new && what == MODIFIED { ADDED } else { what }, &masked, out);
            if what == DELETED {
                self.watch.shown.remove(&id);
            } else if new {
                self.watch.shown.insert(id);
            }
            return Ok(());
        }
        let gone = what == DELETED;
        let tombstone = tombstone(object)?;
        let deleted = match self.treatment.asked.partial {
            Some(version) => partial::object(tombstone.to_string().as_bytes(), version)?,
            None => subject.deleted(&tombstone, self.treatment.asked.rows)?,
        };
        if self.watch.shown.remove(&id) {
            // What the client has seen vanishes for it; of the object as it is now it learns only the name.
            write(DELETED, &deleted, out);
            self.stays_hidden(id, gone);
            return Ok(());
        }
        if let Some(columns) = subject.columns()? {
            // Only the first event of a watch says what the columns are.
            write(ADDED, &columns, out);
        }
        // One that came into being during the watch was never shown.
        if self.treatment.look_back.is_some() && what != ADDED && !self.watch.hidden.contains(&id) {
            self.watch.asking = Some(Asking { id, tombstone, deleted, gone });
        } else {
            self.stays_hidden(id, gone);
        }
        Ok(())
    }

    /// What of an event is shown; none when a policy hides it.
    fn show(&mut self, subject: &Subject<'_>) -> Result<Option<Vec<u8>>, Stop> {
        match *subject {
            Subject::Object(object) | Subject::Table(object) => self.element(object, false),
            Subject::Row { head, row, tail } => Ok(self.element(row, true)?.map(|row| [head, &row, tail].concat())),
        }
    }
}

const ADDED: &str = "\"ADDED\"";
const MODIFIED: &str = "\"MODIFIED\"";
const DELETED: &str = "\"DELETED\"";

/// What an event is about.
enum Subject<'a> {
    Object(&'a [u8]),
    /// A Table of the one row that shows it.
    Row {
        head: &'a [u8],
        row: &'a [u8],
        tail: &'a [u8],
    },
    /// A Table of none or of several, which no API server of today sends.
    Table(&'a [u8]),
}

impl<'a> Subject<'a> {
    fn of(object: &'a [u8]) -> Result<Self, Unreadable> {
        if !is_table(object)? {
            return Ok(Self::Object(object));
        }
        let Some((start, true)) = array_start(object) else { return Ok(Self::Table(object)) };
        let start = start + object[start..].iter().take_while(|b| b.is_ascii_whitespace()).count();
        if object.get(start) != Some(&b'{') {
            return Ok(Self::Table(object));
        }
        let mut end = start;
        if Lexer::default().value_end(object, &mut end)?.is_none() {
            return Err(Unreadable::Malformed);
        }
        let tail = &object[end..];
        match tail.iter().find(|b| !b.is_ascii_whitespace()) {
            Some(b']') => Ok(Self::Row { head: &object[..start], row: &object[start..end], tail }),
            _ => Ok(Self::Table(object)),
        }
    }

    /// The object itself.
    fn object(&self) -> Result<&'a [u8], Unreadable> {
        match *self {
            Self::Object(object) | Self::Table(object) => Ok(object),
            Self::Row { row, .. } => Ok(member(row, b"object")?.unwrap_or(b"null")),
        }
    }

    /// What a client is sent that has it and may no longer.
    fn deleted(&self, tombstone: &Value, rows: RowObject) -> Result<Vec<u8>, Unreadable> {
        let Self::Row { head, row, tail } = self else { return Ok(tombstone.to_string().into_bytes()) };
        let mut cells: Value = serde_json::from_slice(member(row, b"cells")?.unwrap_or(b"[]")).map_err(|_| Unreadable::Malformed)?;
        let name = &tombstone["metadata"]["name"];
        cells.as_array_mut().into_iter().flatten().filter(|cell| *cell != name).for_each(|cell| *cell = Value::Null);
        let mut row = serde_json::json!({ "cells": cells });
        if rows != RowObject::None {
            row["object"] =
                serde_json::json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": tombstone["metadata"]});
        }
        if rows == RowObject::Object {
            row["object"] = tombstone.clone();
        }
        Ok([head, row.to_string().as_bytes(), tail].concat())
    }

    /// The Table without its row, if it says what the columns are.
    fn columns(&self) -> Result<Option<Vec<u8>>, Unreadable> {
        let Self::Row { head, tail, .. } = self else { return Ok(None) };
        let table = [*head, tail].concat();
        let says = matches!(member(&table, b"columnDefinitions")?, Some(columns) if columns.starts_with(b"[") && columns.contains(&b'{'));
        Ok(says.then_some(table))
    }
}

fn write(what: &str, object: &[u8], out: &mut Vec<u8>) {
    for part in [b"{\"type\":", what.as_bytes(), b",\"object\":", object, b"}\n"] {
        out.extend_from_slice(part);
    }
}

fn identity(object: &[u8]) -> Result<String, Unreadable> {
    let metadata = member(object, b"metadata")?.unwrap_or(b"{}");
    let part = |name: &[u8]| -> Result<String, Unreadable> {
        Ok(String::from_utf8_lossy(member(metadata, name)?.unwrap_or_default()).into_owned())
    };
    Ok(format!("{} {} {}", part(b"namespace")?, part(b"name")?, part(b"uid")?))
}

fn tombstone(object: &[u8]) -> Result<Value, Unreadable> {
    let value: Value = serde_json::from_slice(object).map_err(|_| Unreadable::Malformed)?;
    let metadata = &value["metadata"];
    let kept: serde_json::Map<_, _> = ["name", "namespace", "uid", "resourceVersion"]
        .into_iter()
        .filter_map(|k| metadata.get(k).map(|v| (k.to_owned(), v.clone())))
        .collect();
    Ok(serde_json::json!({"kind": value["kind"], "apiVersion": value["apiVersion"], "metadata": kept}))
}
