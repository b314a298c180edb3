//! A watch: events are masked, and what a policy hides or shows by and by vanishes and appears for the client.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use super::Looking;
use super::list;
use super::objects::{Objects, Stop, is_table, require_object};
use super::partial;
use crate::mask::json::{Array, Frame, Pieces};
use crate::mask::{RowObject, Unreadable, member};
use crate::policy::Object;

/// A watch on its way.
pub(super) struct Watch {
    pieces: Pieces,
    client: Client,
    largest: usize,
}

/// What the client of a watch has.
#[derive(Default)]
struct Client {
    /// Objects that were shown on this watch.
    shown: HashSet<String>,
    /// Objects that are hidden and that the client does not have; kept only where it may have others.
    hidden: HashSet<String>,
    /// What must be known before the watch goes on.
    asking: Option<Asking>,
}

/// An object of which it is asked whether the client has it.
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

impl Watch {
    /// Begins one of which no event is larger than `largest` bytes.
    pub(super) fn new(largest: usize) -> Self {
        Self { pieces: Pieces::default(), client: Client::default(), largest }
    }

    /// Takes a piece; what can be sent is appended to `out`.
    pub(super) fn push(&mut self, piece: &[u8], objects: &mut Objects, out: &mut Vec<u8>) -> Result<(), Stop> {
        self.pieces.push(piece);
        self.go_on(objects, out)
    }

    /// Asks for what must be known before the watch goes on: [`Self::answer`] takes it.
    pub(super) fn asks(&self, objects: &Objects) -> Option<Looking> {
        let (asking, look) = (self.client.asking.as_ref()?, objects.treatment.look_back.as_ref()?);
        Some(look(Before::of(&asking.tombstone)))
    }

    /// Takes what was asked for: the object as it was, none if there was none. Then the watch goes on.
    pub(super) fn answer(&mut self, object: Option<&[u8]>, objects: &mut Objects, out: &mut Vec<u8>) -> Result<(), Stop> {
        self.client.answer(object, objects, out)?;
        self.go_on(objects, out)
    }

    fn go_on(&mut self, objects: &mut Objects, out: &mut Vec<u8>) -> Result<(), Stop> {
        while self.client.asking.is_none() {
            if !self.pieces.is_within() && self.pieces.skip(|byte| byte.is_ascii_whitespace()).is_none() {
                break;
            }
            let Some(event) = self.pieces.object()? else { break };
            self.client.event(event, objects, out)?;
        }
        self.pieces.settle();
        if self.pieces.rest().len() > self.largest { Err(Unreadable::TooLarge.into()) } else { Ok(()) }
    }
}

impl Client {
    /// Takes what was asked for.
    fn answer(&mut self, object: Option<&[u8]>, objects: &mut Objects, out: &mut Vec<u8>) -> Result<(), Stop> {
        let Some(asking) = self.asking.take() else { return Ok(()) };
        let was_shown = match object {
            Some(object) => {
                let size = object.len() as u64;
                let mut object: Value = serde_json::from_slice(object).map_err(|_| Unreadable::Malformed)?;
                // In a list an object does not say what it is.
                for name in ["kind", "apiVersion"] {
                    object[name] = asking.tombstone[name].clone();
                }
                objects.look_at(&Arc::new(Object::of(object, size)))?.is_some()
            }
            None => false,
        };
        if was_shown {
            write(DELETED, &asking.deleted, out);
        }
        self.stays_hidden(asking.id, asking.gone, objects);
        Ok(())
    }

    /// The client does not have this object, so that nothing need be asked of it again.
    fn stays_hidden(&mut self, id: String, gone: bool, objects: &Objects) {
        if gone {
            self.hidden.remove(&id);
        } else if objects.treatment.look_back.is_some() {
            self.hidden.insert(id);
        }
    }

    fn event(&mut self, event: &[u8], objects: &mut Objects, out: &mut Vec<u8>) -> Result<(), Stop> {
        require_object(event)?;
        let what = member(event, b"type")?.unwrap_or_default();
        let object = member(event, b"object")?.unwrap_or(b"null");
        let what = match what {
            b"\"ADDED\"" => ADDED,
            b"\"MODIFIED\"" => MODIFIED,
            b"\"DELETED\"" => DELETED,
            // They hold no object of the cluster's.
            b"\"BOOKMARK\"" | b"\"ERROR\"" => {
                if let Some(version) = objects.treatment.asked.partial.filter(|_| what == b"\"BOOKMARK\"") {
                    write("\"BOOKMARK\"", &partial::object(object, version)?, out);
                    return Ok(());
                }
                out.extend_from_slice(event);
                out.push(b'\n');
                return Ok(());
            }
            _ => return Err(Unreadable::Malformed.into()),
        };
        let subject = EventObject::of(object)?;
        if let EventObject::Table(table) = subject {
            let mut masked = Vec::with_capacity(table.len());
            list::table(table, objects, &mut masked)?;
            write(what, &masked, out);
        } else if !objects.may_hide() {
            let masked = show(&subject, objects)?.unwrap_or_default();
            write(what, &masked, out);
        } else {
            self.shown_or_hidden(what, &subject, objects, out)?;
        }
        Ok(())
    }

    /// An event of an object that policies may hide: what a change makes visible is added, what it hides is deleted.
    fn shown_or_hidden(
        &mut self,
        what: &'static str,
        subject: &EventObject<'_>,
        objects: &mut Objects,
        out: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        let object = subject.object()?;
        let id = identity(object)?;
        if let Some(masked) = show(subject, objects)? {
            let new = !self.shown.contains(&id);
            self.hidden.remove(&id);
            write(if new && what == MODIFIED { ADDED } else { what }, &masked, out);
            if what == DELETED {
                self.shown.remove(&id);
            } else if new {
                self.shown.insert(id);
            }
            return Ok(());
        }
        let gone = what == DELETED;
        let tombstone = tombstone(object)?;
        let deleted = match objects.treatment.asked.partial {
            Some(version) => partial::object(tombstone.to_string().as_bytes(), version)?,
            None => subject.deleted(&tombstone, objects.treatment.asked.rows)?,
        };
        if self.shown.remove(&id) {
            // What the client has seen vanishes for it; of the object as it is now it learns only the name.
            write(DELETED, &deleted, out);
            self.stays_hidden(id, gone, objects);
            return Ok(());
        }
        if let Some(columns) = subject.columns()? {
            // Only the first event of a watch says what the columns are.
            write(ADDED, &columns, out);
        }
        // One that came into being during the watch was never shown.
        if objects.treatment.look_back.is_some() && what != ADDED && !self.hidden.contains(&id) {
            self.asking = Some(Asking { id, tombstone, deleted, gone });
        } else {
            self.stays_hidden(id, gone, objects);
        }
        Ok(())
    }
}

/// What of an event is shown; none when a policy hides it.
fn show(subject: &EventObject<'_>, objects: &mut Objects) -> Result<Option<Vec<u8>>, Stop> {
    match *subject {
        EventObject::Object(object) | EventObject::Table(object) => objects.object(object),
        EventObject::Row { head, row, tail } => Ok(objects.row(row)?.map(|row| [head, &row, tail].concat())),
    }
}

const ADDED: &str = "\"ADDED\"";
const MODIFIED: &str = "\"MODIFIED\"";
const DELETED: &str = "\"DELETED\"";

/// What an event is about.
enum EventObject<'a> {
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

impl<'a> EventObject<'a> {
    fn of(object: &'a [u8]) -> Result<Self, Unreadable> {
        if !is_table(object)? {
            return Ok(Self::Object(object));
        }
        let Some((start, Array::Rows)) = Frame::default().array(object)? else { return Ok(Self::Table(object)) };
        let mut rows = Pieces::default();
        rows.push(&object[start..]);
        if rows.skip(|byte| byte.is_ascii_whitespace()) != Some(b'{') {
            return Ok(Self::Table(object));
        }
        let start = object.len() - rows.rest().len();
        let end = start + rows.object()?.ok_or(Unreadable::Malformed)?.len();
        let tail = &object[end..];
        match tail.iter().find(|b| !b.is_ascii_whitespace()) {
            Some(b']') => Frame::ends_with(tail).map(|()| Self::Row { head: &object[..start], row: &object[start..end], tail }),
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
