//! A way through a text that is all there.

use std::borrow::Cow;
use std::ops::Range;

use super::{DEEPEST, Unreadable};
use crate::path::{Path, RawSegment, START, StateSet};

/// The index after the white space at `pos`.
pub(crate) fn skip_space(src: &[u8], mut pos: usize) -> usize {
    while matches!(src.get(pos), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        pos += 1;
    }
    pos
}

/// The index after the string that begins at `pos`.
pub(crate) fn skip_string(src: &[u8], pos: usize) -> Result<usize, Unreadable> {
    string_at(src, pos).map(|(end, _)| end)
}

/// The index after the string that begins at `pos`, and whether there is an escape in it.
fn string_at(src: &[u8], pos: usize) -> Result<(usize, bool), Unreadable> {
    let mut at = pos + 1;
    let mut is_escaped = false;
    loop {
        let rest = src.get(at..).ok_or(Unreadable::Malformed)?;
        let found = memchr::memchr2(b'"', b'\\', rest).ok_or(Unreadable::Malformed)?;
        if rest[found] == b'"' {
            return Ok((at + found + 1, is_escaped));
        }
        (at, is_escaped) = (at + found + 2, true);
    }
}

/// The index after the value that begins at `pos`.
pub(crate) fn skip_value(src: &[u8], mut pos: usize) -> Result<usize, Unreadable> {
    let mut depth = 0usize;
    loop {
        match src.get(pos).ok_or(Unreadable::Malformed)? {
            b'"' => pos = skip_string(src, pos)?,
            b'{' | b'[' => {
                depth += 1;
                pos += 1;
                continue;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1).ok_or(Unreadable::Malformed)?;
                pos += 1;
            }
            b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' if depth > 0 => {
                pos += 1;
                continue;
            }
            _ => {
                let end = pos + src[pos..].iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')).count();
                if end == pos {
                    return Err(Unreadable::Malformed);
                }
                pos = end;
            }
        }
        if depth == 0 {
            return Ok(pos);
        }
    }
}

/// The name of a member, as it is written.
pub(crate) struct Name {
    /// Where it is, with its quotes.
    pub(crate) span: Range<usize>,
    is_escaped: bool,
    /// Where the member's value begins.
    pub(crate) value: usize,
}

impl Name {
    /// The name that begins at `pos`.
    pub(crate) fn at(src: &[u8], pos: usize) -> Result<Self, Unreadable> {
        if src.get(pos) != Some(&b'"') {
            return Err(Unreadable::Malformed);
        }
        let (end, is_escaped) = string_at(src, pos)?;
        let colon = skip_space(src, end);
        if src.get(colon) != Some(&b':') {
            return Err(Unreadable::Malformed);
        }
        Ok(Self { span: pos..end, is_escaped, value: skip_space(src, colon + 1) })
    }

    /// What is written between the quotes.
    fn written<'a>(&self, src: &'a [u8]) -> &'a [u8] {
        &src[self.span.start + 1..self.span.end - 1]
    }

    /// The name as it is meant.
    pub(crate) fn read<'a>(&self, src: &'a [u8]) -> Result<Cow<'a, [u8]>, Unreadable> {
        read_name(&src[self.span.clone()], self.is_escaped)
    }
}

/// A name as it is meant, of one as it is written with its quotes.
pub(crate) fn read_name(written: &[u8], is_escaped: bool) -> Result<Cow<'_, [u8]>, Unreadable> {
    if !is_escaped {
        return Ok(Cow::Borrowed(&written[1..written.len() - 1]));
    }
    serde_json::from_slice(written).map(|name: String| Cow::Owned(name.into_bytes())).map_err(|_| Unreadable::Malformed)
}

/// What stands behind a value that ends at `pos`: the index of the comma, if there is one, and that of the next member or element or of the closing bracket.
pub(crate) fn separator(src: &[u8], pos: usize, close: u8) -> Result<(Option<usize>, usize), Unreadable> {
    let pos = skip_space(src, pos);
    match src.get(pos) {
        Some(b',') => {
            let next = skip_space(src, pos + 1);
            // A comma before the closing bracket is no JSON.
            if src.get(next) == Some(&close) { Err(Unreadable::Malformed) } else { Ok((Some(pos), next)) }
        }
        Some(other) if *other == close => Ok((None, pos)),
        _ => Err(Unreadable::Malformed),
    }
}

/// The names of an object's members, one after another; none of what is no object. A value is passed when the next name is asked for: behind the last that is of
/// interest nothing is read.
pub(crate) struct Names<'a> {
    src: &'a [u8],
    next: Option<Next>,
}

enum Next {
    /// The first name, or the closing bracket.
    First(usize),
    /// The one after the value that begins here.
    After(usize),
}

impl<'a> Names<'a> {
    /// Those of the object at `pos`.
    pub(crate) fn of(src: &'a [u8], pos: usize) -> Self {
        let is_object = src.get(pos) == Some(&b'{');
        Self { src, next: is_object.then(|| Next::First(skip_space(src, pos + 1))) }
    }

    fn step(&mut self, next: Next) -> Result<Option<Name>, Unreadable> {
        let pos = match next {
            Next::First(pos) => pos,
            Next::After(value) => separator(self.src, skip_value(self.src, value)?, b'}')?.1,
        };
        if self.src.get(pos) == Some(&b'}') {
            return Ok(None);
        }
        let name = Name::at(self.src, pos)?;
        self.next = Some(Next::After(name.value));
        Ok(Some(name))
    }
}

impl Iterator for Names<'_> {
    type Item = Result<Name, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next.take()?;
        self.step(next).transpose()
    }
}

/// Where the value of a member of the object at `pos` begins: the value itself is not looked at.
pub(crate) fn start_of(src: &[u8], pos: usize, name: &[u8]) -> Result<Option<usize>, Unreadable> {
    for member in Names::of(src, pos) {
        let member = member?;
        if member.written(src) == name {
            return Ok(Some(member.value));
        }
    }
    Ok(None)
}

/// The value of a member of an object, as it is written. A name that is written with escapes is not found.
pub fn member<'a>(src: &'a [u8], name: &[u8]) -> Result<Option<&'a [u8]>, Unreadable> {
    let Some(start) = start_of(src, skip_space(src, 0), name)? else { return Ok(None) };
    Ok(Some(&src[start..skip_value(src, start)?]))
}

/// Calls `found` with every raw value that a path selects in the value at the start of `src`, in one pass: what it costs grows with the text and the steps.
pub(crate) fn select<'a>(src: &'a [u8], path: &Path, found: &mut dyn FnMut(&'a [u8])) -> Result<(), Unreadable> {
    within(src, 0, path, START, DEEPEST, found).map(drop)
}

/// The index after the value at `pos`, in which the steps of `states` may be taken.
fn within<'a>(
    src: &'a [u8],
    pos: usize,
    path: &Path,
    states: StateSet,
    depth: usize,
    found: &mut dyn FnMut(&'a [u8]),
) -> Result<usize, Unreadable> {
    let close = match src.get(pos) {
        Some(b'{') if states != 0 => b'}',
        Some(b'[') if states != 0 => b']',
        _ => return skip_value(src, pos),
    };
    if depth == 0 {
        return Err(Unreadable::TooDeep);
    }
    let (mut pos, mut index) = (skip_space(src, pos + 1), 0);
    while src.get(pos) != Some(&close) {
        let (next, ends);
        if close == b'}' {
            let name = Name::at(src, pos)?;
            (next, ends) = path.step(states, RawSegment::Name(&name.read(src)?));
            pos = name.value;
        } else {
            (next, ends) = path.step(states, RawSegment::Index(index));
            index += 1;
        }
        let end = within(src, pos, path, next, depth - 1, found)?;
        if ends {
            found(&src[pos..end]);
        }
        (_, pos) = separator(src, end, close)?;
    }
    Ok(pos + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_found_and_what_is_behind_it_is_not_read() {
        let object = br#" { "a" : {"b":[1,"]"]} , "c":"\"d" ,"e":null} "#;
        assert_eq!(member(object, b"a"), Ok(Some(&br#"{"b":[1,"]"]}"#[..])));
        assert_eq!(member(object, b"c"), Ok(Some(&br#""\"d""#[..])));
        assert_eq!(member(object, b"b"), Ok(None));
        assert_eq!(member(br#"{"a":1,%"#, b"a"), Ok(Some(&b"1"[..])));
        for none in ["", "[]", "null", "{}", "\"{\"", "1"] {
            assert_eq!(member(none.as_bytes(), b"a"), Ok(None), "{none}");
        }
    }

    #[test]
    fn what_is_no_object_to_its_end_has_no_member_that_is_not_there() {
        for text in [
            "{",
            "{\"b\"",
            "{\"b\":",
            "{\"b\":1",
            "{\"b\":1,}",
            "{\"b\":1 \"a\":2}",
            "{b:1}",
            "{\"b\" 1}",
            "{,}",
            "{\"b\":}",
            "{\"b\":]}",
            "{\"b",
        ] {
            assert_eq!(member(text.as_bytes(), b"a"), Err(Unreadable::Malformed), "{text}");
        }
    }
}
