//! Fields that the table does not have: where they lie, so that only who reads there need be told.

use std::borrow::Cow;
use std::fmt;

use super::Undecodable;
use super::schema::{self, Message, Type};
use postern_mask::path::At;

/// Most of them that are kept of one body, and bytes of the ways to them: keys of maps are the sender's. A body with more is none that a newer Kubernetes would send.
const MOST: usize = 256;
const MOST_BYTES: usize = 64 << 10;

/// A field that is not in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The way to the object it is a member of.
    at: Vec<PathSegment>,
    /// The type of that object.
    kind: &'static str,
    number: u32,
    /// What the table knows of that object: the member is none of these.
    known: Vec<&'static str>,
}

/// A step to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathSegment {
    Name(Cow<'static, str>),
    Index(usize),
}

impl PathSegment {
    fn size(&self) -> usize {
        match self {
            Self::Name(name) => name.len(),
            Self::Index(_) => 8,
        }
    }
}

impl Unknown {
    /// The way to the object it is a member of.
    pub fn at(&self) -> impl Iterator<Item = At<'_>> {
        self.at.iter().map(|place| match place {
            PathSegment::Name(name) => At::Name(name),
            PathSegment::Index(index) => At::Index(*index),
        })
    }

    /// Whether it may be the member of that name: the table knows its number only.
    pub fn may_be(&self, name: &str) -> bool {
        !self.known.contains(&name)
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("$")?;
        for place in &self.at {
            match place {
                // Keys of maps are the sender's.
                PathSegment::Name(name) => write!(f, ".{}", name.chars().filter(|c| !c.is_control()).take(100).collect::<String>())?,
                PathSegment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        write!(f, " ({}) has a field {} that the gateway does not know", super::short(self.kind), self.number)
    }
}

/// Where the decoder is, and what it met.
pub(super) struct Trace {
    at: Vec<PathSegment>,
    /// The message whose JSON object is being written: one that is inlined writes into its parent's.
    object: &'static Message,
    /// Which message that is, and which one had the last unknown field.
    number: u64,
    last: (u64, u32),
    found: Vec<Unknown>,
    bytes: usize,
}

impl Trace {
    pub(super) fn new(object: &'static Message) -> Self {
        Self { at: Vec::new(), object, number: 1, last: (0, 0), found: Vec::new(), bytes: 0 }
    }

    pub(super) fn into_found(self) -> Vec<Unknown> {
        self.found
    }

    /// Remembers a field of the message that is being read.
    pub(super) fn meets(&mut self, number: u32) -> Result<(), Undecodable> {
        // The same again and again is one.
        if std::mem::replace(&mut self.last, (self.number, number)) == (self.number, number) {
            return Ok(());
        }
        self.bytes += self.at.iter().map(PathSegment::size).sum::<usize>();
        if self.found.len() >= MOST || self.bytes > MOST_BYTES {
            return Err(Undecodable::new(format!(
                "it has more than {MOST} fields that the gateway does not know, or the ways to them are too long"
            )));
        }
        let mut known = vec!["kind", "apiVersion"];
        names_of(self.object, &mut known);
        self.found.push(Unknown { at: self.at.clone(), kind: self.object.name, number, known });
        Ok(())
    }

    /// Does something one step further in.
    pub(super) fn within<T>(&mut self, place: PathSegment, work: impl FnOnce(&mut Self) -> T) -> T {
        self.at.push(place);
        let done = work(self);
        self.at.pop();
        done
    }

    /// Reads a message with an object of its own.
    pub(super) fn object<T>(&mut self, message: &'static Message, work: impl FnOnce(&mut Self) -> T) -> T {
        let around = std::mem::replace(&mut self.object, message);
        // A number of its own for each, also for one that is left and entered again.
        self.number += 1;
        let done = work(self);
        self.number += 1;
        self.object = around;
        done
    }
}

/// The members of a message's object, those of what is inlined in it too.
fn names_of(message: &'static Message, names: &mut Vec<&'static str>) {
    for field in &message.fields {
        match (field.inline, field.kind) {
            (true, Type::Message(index)) => names_of(schema::table().message(index), names),
            _ => names.push(field.name),
        }
    }
}
