//! A list: its items, or the rows of a Table, are masked one by one and sent as they come.

use super::objects::{Objects, Stop, require_object};
use super::partial;
use crate::mask::Unreadable;
use crate::mask::json::{Array, Frame, Pieces};

/// A list on its way.
pub(super) struct List {
    pieces: Pieces,
    part: Part,
    /// Whether an element was sent: a comma goes before the next.
    is_begun: bool,
    largest: usize,
}

/// What of a list comes next.
enum Part {
    /// What stands before its array.
    Head(Frame),
    /// The array's elements.
    Array(Array),
    /// What stands behind them.
    Tail,
}

impl List {
    /// Begins one of which no element is larger than `largest` bytes.
    pub(super) fn new(largest: usize) -> Self {
        Self { pieces: Pieces::default(), part: Part::Head(Frame::default()), is_begun: false, largest }
    }

    /// Takes a piece; what can be sent is appended to `out`.
    pub(super) fn push(&mut self, piece: &[u8], objects: &mut Objects, out: &mut Vec<u8>) -> Result<(), Stop> {
        self.pieces.push(piece);
        if let Part::Head(frame) = &mut self.part
            && let Some((start, array)) = frame.array(self.pieces.rest())?
        {
            let head = &self.pieces.rest()[..start];
            match objects.treatment.asked.partial.filter(|_| array == Array::Items) {
                Some(version) => out.extend_from_slice(&partial::list_head(&[head, b"]}"].concat(), version)?),
                None => out.extend_from_slice(head),
            }
            self.pieces.take(start);
            self.part = Part::Array(array);
        }
        if let Part::Array(array) = self.part {
            self.elements(array, objects, out)?;
        }
        if self.pieces.rest().len() > self.largest { Err(Unreadable::TooLarge.into()) } else { Ok(()) }
    }

    /// Ends it. What came is given back where there was no array in it: it is no list.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<Option<Vec<u8>>, Stop> {
        match self.part {
            Part::Head(_) => Ok(Some(self.pieces.rest().to_vec())),
            Part::Array(_) => Err(Unreadable::Malformed.into()),
            Part::Tail => {
                Frame::ends_with(self.pieces.rest())?;
                out.extend_from_slice(self.pieces.rest());
                Ok(None)
            }
        }
    }

    fn elements(&mut self, array: Array, objects: &mut Objects, out: &mut Vec<u8>) -> Result<(), Stop> {
        loop {
            if !self.pieces.is_within() {
                match self.pieces.skip(|byte| byte == b',' || byte.is_ascii_whitespace()) {
                    None => break,
                    Some(b']') => {
                        self.part = Part::Tail;
                        break;
                    }
                    Some(_) => {}
                }
                if array == Array::Items && self.mask_first(objects, out)? {
                    continue;
                }
            }
            let Some(element) = self.pieces.object()? else { break };
            let shown = match array {
                Array::Items => objects.object(element)?,
                Array::Rows => objects.row(element)?,
            };
            if let Some(shown) = shown {
                comma(&mut self.is_begun, out);
                out.extend_from_slice(&shown);
            }
        }
        self.pieces.settle();
        Ok(())
    }

    /// The usual case: no object is looked at by a policy, what is hidden was declared once for all, and the next object is all there. One pass masks it and
    /// finds its end. Whether that was done.
    fn mask_first(&mut self, objects: &mut Objects, out: &mut Vec<u8>) -> Result<bool, Stop> {
        let Some(plan) = objects.treatment.declared() else { return Ok(false) };
        require_object(self.pieces.rest())?;
        let (before, was_begun) = (out.len(), self.is_begun);
        comma(&mut self.is_begun, out);
        let end = plan.apply_to_first(self.pieces.rest(), &objects.treatment.resource, false, out, &mut objects.report);
        match end {
            Some(end) => self.pieces.take(end),
            None => {
                out.truncate(before);
                self.is_begun = was_begun;
            }
        }
        Ok(end.is_some())
    }
}

/// A Table that is all there.
pub(super) fn table(table: &[u8], objects: &mut Objects, out: &mut Vec<u8>) -> Result<(), Stop> {
    let mut list = List::new(table.len());
    list.push(table, objects, out)?;
    // Without rows it shows nothing of any object.
    let whole = list.finish(out)?;
    out.extend(whole.into_iter().flatten());
    Ok(())
}

/// Goes before each element but the first that is sent.
fn comma(is_begun: &mut bool, out: &mut Vec<u8>) {
    if std::mem::replace(is_begun, true) {
        out.push(b',');
    }
}
