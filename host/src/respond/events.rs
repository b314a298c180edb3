//! A watch: events are masked, and what a policy hides or shows by and by vanishes and appears for the client.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use super::Looking;
use super::items::{Items, Stop, require_object};
use crate::mask::{Unreadable, member};

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
    /// What the client gets if it has the object.
    tombstone: Value,
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
                let mut object: Value = serde_json::from_slice(object).map_err(|_| Unreadable::Malformed)?;
                // In a list an object does not say what it is.
                for name in ["kind", "apiVersion"] {
                    object[name] = asking.tombstone[name].clone();
                }
                self.look_at(&Arc::new(object))?.is_some()
            }
            None => false,
        };
        if was_shown {
            write("\"DELETED\"", asking.tombstone.to_string().as_bytes(), out);
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
        let mut what = match what {
            b"\"ADDED\"" => "\"ADDED\"",
            b"\"MODIFIED\"" => "\"MODIFIED\"",
            b"\"DELETED\"" => "\"DELETED\"",
            // They hold no object of the cluster's.
            b"\"BOOKMARK\"" | b"\"ERROR\"" => {
                out.extend_from_slice(event);
                out.push(b'\n');
                return Ok(());
            }
            _ => return Err(Unreadable::Malformed.into()),
        };
        let mut masked = Vec::with_capacity(object.len());
        if member(object, b"kind")? == Some(b"\"Table\"") {
            self.table(object, &mut masked)?;
        } else if self.treatment.on_object.is_empty() {
            masked = self.element(object, false)?.unwrap_or_default();
        } else {
            let id = identity(object)?;
            match self.element(object, false)? {
                Some(shown) => {
                    let new = self.watch.shown.insert(id.clone());
                    self.watch.hidden.remove(&id);
                    if new && what == "\"MODIFIED\"" {
                        what = "\"ADDED\"";
                    }
                    masked = shown;
                }
                None if self.watch.shown.contains(&id) => {
                    // What the client has seen vanishes for it; of the object as it is now it learns only the name.
                    masked = tombstone(object)?.to_string().into_bytes();
                    self.stays_hidden(id.clone(), what == "\"DELETED\"");
                    what = "\"DELETED\"";
                }
                None => {
                    let gone = what == "\"DELETED\"";
                    // One that came into being during the watch was never shown.
                    let may_be_there = self.treatment.look_back.is_some() && what != "\"ADDED\"" && !self.watch.hidden.contains(&id);
                    if may_be_there {
                        self.watch.asking = Some(Asking { id, tombstone: tombstone(object)?, gone });
                    } else {
                        self.stays_hidden(id, gone);
                    }
                    return Ok(());
                }
            }
            if what == "\"DELETED\"" {
                self.watch.shown.remove(&id);
            }
        }
        write(what, &masked, out);
        Ok(())
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
