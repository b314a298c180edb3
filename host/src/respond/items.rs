//! An answer in pieces, masked on its way in bounded memory: a list or a watch object by object, anything else when it is all there.

use super::Looking;
use super::list::{List, table};
use super::objects::{Objects, Stop, Treatment, is_kind, is_table};
use super::partial;
use super::watch::Watch;
use crate::classify::Shape;
use crate::mask::{MaskCounts, Unreadable, member};
use crate::policy::ObservedOutcomes;
use crate::status::Refusal;

/// Takes an answer in pieces and gives it out masked.
pub struct Items {
    objects: Objects,
    reader: Reader,
    largest: usize,
}

/// How an answer is read.
enum Reader {
    /// One object: all of it is needed.
    Whole(Vec<u8>),
    /// The items or rows of a list.
    List(List),
    /// One event after another.
    Watch(Watch),
}

impl Items {
    /// Begins an answer of which at most `largest` bytes are held at a time.
    pub fn new(treatment: Treatment, verb: &str, shape: Shape, largest: usize) -> Self {
        let reader = match (shape, verb) {
            (Shape::Watch, _) => Reader::Watch(Watch::new(largest)),
            (_, "list" | "deletecollection") => Reader::List(List::new(largest)),
            _ => Reader::Whole(Vec::new()),
        };
        Self { objects: Objects::new(treatment), reader, largest }
    }

    /// Whether the answer is sent as it comes; a single object is sent when it is all there.
    pub fn streams(&self) -> bool {
        !matches!(self.reader, Reader::Whole(_))
    }

    /// Whether anything may be changed: policies that are observed change nothing.
    pub(super) fn changes(&self) -> bool {
        self.objects.treatment.masks.is_some() || self.may_hide()
    }

    /// Whether a policy may hide an object, or end the answer at one.
    pub(super) fn may_hide(&self) -> bool {
        self.objects.may_hide()
    }

    /// How an answer ends that a policy ended: a watch says so in a last event after what was ready, anything else can only break off.
    pub(super) fn parting(&self, stop: Stop) -> Option<(Vec<u8>, String)> {
        let Stop::Terminated(why) = stop else { return None };
        match self.reader {
            Reader::Watch(_) => Some((Refusal::forbidden(&why).to_event().into_bytes(), why)),
            _ => Some((Vec::new(), why)),
        }
    }

    /// The most bytes held at a time.
    pub fn largest(&self) -> usize {
        self.largest
    }

    /// What was hidden.
    pub fn report(&self) -> &MaskCounts {
        &self.objects.report
    }

    /// How many objects a policy hid.
    pub(super) fn hidden(&self) -> u64 {
        self.objects.hidden
    }

    /// What policies that are observed would have done.
    pub(super) fn observed(&self) -> &ObservedOutcomes {
        &self.objects.observed
    }

    /// Takes a piece; what can be sent is appended to `out`.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Stop> {
        match &mut self.reader {
            Reader::List(list) => list.push(piece, &mut self.objects, out),
            Reader::Watch(watch) => watch.push(piece, &mut self.objects, out),
            Reader::Whole(whole) => {
                whole.extend_from_slice(piece);
                if whole.len() > self.largest { Err(Unreadable::TooLarge.into()) } else { Ok(()) }
            }
        }
    }

    /// Ends the answer.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Stop> {
        let (whole, is_list) = match &mut self.reader {
            // One that ends in half an event had nothing more to say.
            Reader::Watch(_) => return Ok(()),
            Reader::List(list) => match list.finish(out)? {
                Some(whole) => (whole, true),
                None => return Ok(()),
            },
            Reader::Whole(whole) => (std::mem::take(whole), false),
        };
        if whole.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        self.whole(&whole, is_list, out)
    }

    /// Asks for what a watch must know before it goes on: [`Self::answer`] takes it.
    pub(super) fn asks(&self) -> Option<Looking> {
        match &self.reader {
            Reader::Watch(watch) => watch.asks(&self.objects),
            _ => None,
        }
    }

    /// Takes what was asked for: the object as it was, none if there was none. Then the watch goes on.
    pub(super) fn answer(&mut self, object: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), Stop> {
        match &mut self.reader {
            Reader::Watch(watch) => watch.answer(object, &mut self.objects, out),
            _ => Ok(()),
        }
    }

    /// One object, or a Table of it; a list has none at all.
    fn whole(&mut self, object: &[u8], is_list: bool, out: &mut Vec<u8>) -> Result<(), Stop> {
        if is_kind(object, b"\"Status\"", b"\"v1\"")? {
            out.extend_from_slice(object);
            return Ok(());
        }
        if is_table(object)? {
            table(object, &mut self.objects, out)?;
            // The one row of the one object.
            return if !is_list && self.objects.hidden > 0 { Err(Stop::Hidden) } else { Ok(()) };
        }
        if let Some(version) = self.objects.treatment.asked.partial
            && member(object, b"items")? == Some(b"null")
        {
            out.extend_from_slice(&partial::list_head(object, version)?);
            out.extend_from_slice(b"]}");
            return Ok(());
        }
        match self.objects.object(object)? {
            Some(shown) => {
                out.extend_from_slice(&shown);
                Ok(())
            }
            None => Err(Stop::Hidden),
        }
    }
}

#[cfg(test)]
#[path = "items_tests.rs"]
pub(super) mod tests;
