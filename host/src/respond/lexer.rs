//! JSON followed far enough to know where a value ends, however the bytes are cut.

use crate::mask::Unreadable;

/// Follows JSON far enough to know where a value ends.
#[derive(Clone, Copy, Default)]
pub(super) struct Lexer {
    pub(super) depth: u32,
    in_string: bool,
    escaped: bool,
}

impl Lexer {
    /// The end of the value that begins where the lexer was reset; none when more is needed.
    pub(super) fn value_end(&mut self, buffer: &[u8], seen: &mut usize) -> Result<Option<usize>, Unreadable> {
        while let Some(byte) = buffer.get(*seen) {
            if self.in_string {
                if self.escaped {
                    self.escaped = false;
                    *seen += 1;
                    continue;
                }
                let Some(at) = memchr::memchr2(b'"', b'\\', &buffer[*seen..]) else {
                    *seen = buffer.len();
                    return Ok(None);
                };
                *seen += at + 1;
                if buffer[*seen - 1] == b'\\' {
                    self.escaped = true;
                } else {
                    self.in_string = false;
                }
                continue;
            }
            *seen += 1;
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.checked_sub(1).ok_or(Unreadable::Malformed)?;
                    if self.depth == 0 {
                        return Ok(Some(*seen));
                    }
                }
                // Items, rows and events are objects.
                _ if self.depth == 0 => return Err(Unreadable::Malformed),
                _ => {}
            }
        }
        Ok(None)
    }
}

/// The index after `[` of the top-level array of items or rows, and whether it is rows.
pub(super) fn array_start(buffer: &[u8]) -> Option<(usize, bool)> {
    let mut lexer = Lexer::default();
    let mut key: Option<&[u8]> = None;
    let (mut at, mut string_start) = (0, 0);
    while let Some(byte) = buffer.get(at) {
        if lexer.in_string {
            match byte {
                _ if lexer.escaped => lexer.escaped = false,
                b'\\' => lexer.escaped = true,
                b'"' => {
                    lexer.in_string = false;
                    if lexer.depth == 1 {
                        key = Some(&buffer[string_start..at]);
                    }
                }
                _ => {}
            }
        } else {
            match byte {
                b'"' => (lexer.in_string, string_start) = (true, at + 1),
                b'[' if lexer.depth == 1 && key == Some(b"items") => return Some((at + 1, false)),
                b'[' if lexer.depth == 1 && key == Some(b"rows") => return Some((at + 1, true)),
                b'{' | b'[' => lexer.depth += 1,
                b'}' | b']' => lexer.depth = lexer.depth.saturating_sub(1),
                b',' if lexer.depth == 1 => key = None,
                _ => {}
            }
        }
        at += 1;
    }
    None
}
