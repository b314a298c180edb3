//! A text that comes in pieces, followed far enough to know where a value ends, however it is cut.

use super::Unreadable;
use super::walk::{Name, Names, skip_space, skip_value};

/// Objects that come one after another in pieces, as an array's elements or a watch's events do.
#[derive(Default)]
pub struct Pieces {
    buffer: Vec<u8>,
    /// Where what was not taken begins.
    start: usize,
    /// How far it was looked at.
    seen: usize,
    lexer: Lexer,
}

impl Pieces {
    /// Adds a piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// What was not taken yet.
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Takes what was looked at by others, up to where an object may begin or a gap between two.
    pub fn take(&mut self, length: usize) {
        self.start += length;
        self.seen = self.start;
    }

    /// Whether half an object was looked at.
    pub fn is_within(&self) -> bool {
        self.seen > self.start
    }

    /// Passes what stands between two objects, and says which byte is next.
    pub fn skip(&mut self, between: impl Fn(u8) -> bool) -> Option<u8> {
        self.take(self.rest().iter().take_while(|byte| between(**byte)).count());
        self.rest().first().copied()
    }

    /// Takes the next object; none while it is not all there. What is no object is an error.
    pub fn object(&mut self) -> Result<Option<&[u8]>, Unreadable> {
        let Some(end) = self.lexer.object_end(&self.buffer, &mut self.seen)? else { return Ok(None) };
        let start = std::mem::replace(&mut self.start, end);
        Ok(Some(&self.buffer[start..end]))
    }

    /// Lets go of what was taken.
    pub fn settle(&mut self) {
        if self.start > 0 {
            self.seen -= self.start;
            self.buffer = self.buffer.split_off(self.start);
            self.start = 0;
        }
    }
}

/// Follows strings to their ends.
#[derive(Default)]
struct Strings {
    is_within: bool,
    is_escaped: bool,
}

impl Strings {
    /// Passes what has come of a string; false while its end has not.
    fn pass(&mut self, text: &[u8], seen: &mut usize) -> bool {
        while self.is_within {
            if *seen < text.len() && std::mem::take(&mut self.is_escaped) {
                *seen += 1;
            }
            let Some(at) = memchr::memchr2(b'"', b'\\', &text[*seen..]) else {
                *seen = text.len();
                return false;
            };
            *seen += at + 1;
            match text[*seen - 1] {
                b'\\' => self.is_escaped = true,
                _ => self.is_within = false,
            }
        }
        true
    }
}

/// Follows an object to its end.
#[derive(Default)]
struct Lexer {
    depth: u32,
    strings: Strings,
}

impl Lexer {
    /// The end of the object that begins where the last one ended; none when more is needed.
    fn object_end(&mut self, buffer: &[u8], seen: &mut usize) -> Result<Option<usize>, Unreadable> {
        while self.strings.pass(buffer, seen)
            && let Some(byte) = buffer.get(*seen)
        {
            if self.depth == 0 && *byte != b'{' {
                return Err(Unreadable::Malformed);
            }
            *seen += 1;
            match byte {
                b'"' => self.strings.is_within = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Ok(Some(*seen));
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

/// The array that a list is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Array {
    /// `items`, of any list.
    Items,
    /// `rows`, of a Table.
    Rows,
}

impl Array {
    fn called(name: &[u8]) -> Option<Self> {
        match name {
            b"items" => Some(Self::Items),
            b"rows" => Some(Self::Rows),
            _ => None,
        }
    }
}

/// What stands around the array of a list: it is there once, or nobody could say which of two a reader takes.
#[derive(Default)]
pub struct Frame {
    seen: usize,
    depth: u32,
    strings: Strings,
    /// Where the last string began.
    string: Option<usize>,
    /// The array whose value comes next.
    expected: Option<Array>,
    /// Whether one of that name was there already, with a value that is no array.
    had: bool,
}

impl Frame {
    /// The index after the bracket that opens the array, in what came so far; `head` is all of it, and only what is new is looked at. None while it has not come.
    pub fn array(&mut self, head: &[u8]) -> Result<Option<(usize, Array)>, Unreadable> {
        while self.strings.pass(head, &mut self.seen)
            && let Some(&byte) = head.get(self.seen)
        {
            let at = self.seen;
            self.seen += 1;
            if !byte.is_ascii_whitespace()
                && let Some(array) = self.expected.take()
            {
                match byte {
                    b'[' if self.had => return Err(Unreadable::Malformed),
                    b'[' => return Ok(Some((self.seen, array))),
                    _ => self.had = true,
                }
            }
            match byte {
                b'"' => (self.strings.is_within, self.string) = (true, Some(at)),
                b':' if self.depth == 1 => {
                    if let Some(start) = self.string {
                        self.expected = Array::called(&Name::at(head, start)?.read(head)?);
                    }
                }
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Whether what stands behind the array, from its closing bracket on, has no second one in it and ends the list.
    pub fn ends_with(tail: &[u8]) -> Result<(), Unreadable> {
        let list = [b"{\"\":[", tail].concat();
        if skip_space(&list, skip_value(&list, 0)?) != list.len() {
            return Err(Unreadable::Malformed);
        }
        for name in Names::of(&list, 0) {
            let name = name?;
            if Array::called(&name.read(&list)?).is_some() {
                return Err(Unreadable::Malformed);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(text: &str) -> Result<Option<(usize, Array)>, Unreadable> {
        let whole = Frame::default().array(text.as_bytes());
        let mut frame = Frame::default();
        let cut = (1..=text.len()).find_map(|end| frame.array(&text.as_bytes()[..end]).transpose()).transpose();
        assert_eq!(whole, cut, "{text}");
        whole
    }

    #[test]
    fn the_array_of_a_list_is_found_where_it_is() {
        assert_eq!(array(r#"{"kind":"items","metadata":{"items":[1]},"items" : [{"#), Ok(Some((52, Array::Items))));
        assert_eq!(array(r#"{"rows":["#), Ok(Some((9, Array::Rows))));
        assert_eq!(array(r#"{"it\u0065ms":["#), Ok(Some((15, Array::Items))), "a name is what it means");
        for none in [r#"{"items":null}"#, r#"{"a":["items"]}"#, r#"["items",["#, r#"{"items"["#, "", ":", "\"items\":["] {
            assert_eq!(array(none), Ok(None), "{none}");
        }
    }

    /// Of two arrays the first would be masked, and the second is the one that most clients read.
    #[test]
    fn a_list_has_one_array() {
        assert_eq!(array(r#"{"items":{"a":"secret"},"items":[]}"#), Err(Unreadable::Malformed));
        assert_eq!(Frame::ends_with(b"]}\n"), Ok(()));
        assert_eq!(Frame::ends_with(br#"],"kind":"SecretList"}"#), Ok(()));
        for tail in [r#"],"items":[]}"#, r#"],"rows":[]}"#, r#"],"\u0069tems":[]}"#, "]", "],", r#"],"a""#, "}", "]} x"] {
            assert_eq!(Frame::ends_with(tail.as_bytes()), Err(Unreadable::Malformed), "{tail}");
        }
    }
}
