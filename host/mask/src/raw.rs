//! Finding one's way in JSON bytes without building anything.

use std::borrow::Cow;
use std::fmt;

use super::path::{Path, RawAt, START, States};

/// Deepest nesting read. kube-apiserver's own objects are far below.
pub(super) const DEEPEST: usize = 256;

/// A body a mask must read and cannot. It is an error, never passed unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Not JSON.
    Malformed,
    /// Nested too deep.
    TooDeep,
    /// One object is over the limit.
    TooLarge,
    /// What masks of text look for in one object takes too long.
    TooCostly,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "it is not JSON",
            Self::TooDeep => "it is nested too deep",
            Self::TooCostly => "what its masks of text look for takes too long in one object; see to the patterns of the policy",
            Self::TooLarge => "one object is over limits.object; ask for less, or raise the limit",
        })
    }
}

impl std::error::Error for Unreadable {}

/// The index after the white space at `pos`.
pub(super) fn skip_space(src: &[u8], mut pos: usize) -> usize {
    while matches!(src.get(pos), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        pos += 1;
    }
    pos
}

/// The index after the string that begins at `pos`.
pub(super) fn skip_string(src: &[u8], pos: usize) -> Result<usize, Unreadable> {
    skip_name(src, pos).map(|(end, _)| end)
}

/// The same, and whether there is an escape in it.
pub(super) fn skip_name(src: &[u8], pos: usize) -> Result<(usize, bool), Unreadable> {
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
pub(super) fn skip_value(src: &[u8], mut pos: usize) -> Result<usize, Unreadable> {
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

/// Calls `visit` with the key (as written, without quotes) and the span of each member of the object at `pos`, until it answers
/// false.
pub(super) fn members<'a>(src: &'a [u8], pos: usize, mut visit: impl FnMut(&'a [u8], usize, usize) -> bool) -> Result<(), Unreadable> {
    if src.get(pos) != Some(&b'{') {
        return Ok(());
    }
    let mut pos = skip_space(src, pos + 1);
    while src.get(pos) != Some(&b'}') {
        let end = skip_string(src, pos)?;
        let key = &src[pos + 1..end - 1];
        pos = skip_space(src, end);
        if src.get(pos) != Some(&b':') {
            return Err(Unreadable::Malformed);
        }
        let start = skip_space(src, pos + 1);
        let end = skip_value(src, start)?;
        if !visit(key, start, end) {
            return Ok(());
        }
        pos = skip_space(src, end);
        if src.get(pos) == Some(&b',') {
            pos = skip_space(src, pos + 1);
        }
    }
    Ok(())
}

/// Where the value of a member of the object at `pos` begins: the value itself is not looked at.
pub(super) fn start_of(src: &[u8], pos: usize, name: &[u8]) -> Result<Option<usize>, Unreadable> {
    if src.get(pos) != Some(&b'{') {
        return Ok(None);
    }
    let mut pos = skip_space(src, pos + 1);
    while src.get(pos) != Some(&b'}') {
        let end = skip_string(src, pos)?;
        let is_it = &src[pos + 1..end - 1] == name;
        pos = skip_space(src, end);
        if src.get(pos) != Some(&b':') {
            return Err(Unreadable::Malformed);
        }
        pos = skip_space(src, pos + 1);
        if is_it {
            return Ok(Some(pos));
        }
        pos = skip_space(src, skip_value(src, pos)?);
        if src.get(pos) == Some(&b',') {
            pos = skip_space(src, pos + 1);
        }
    }
    Ok(None)
}

/// The raw value of a top-level member.
pub fn member<'a>(src: &'a [u8], name: &[u8]) -> Result<Option<&'a [u8]>, Unreadable> {
    let mut found = None;
    members(src, skip_space(src, 0), |key, start, end| {
        if key == name {
            found = Some(&src[start..end]);
        }
        found.is_none()
    })?;
    Ok(found)
}

/// Calls `found` with every raw value that a path selects in the value at the start of `src`, in one pass: what it costs grows with the text and the steps.
pub(super) fn select<'a>(src: &'a [u8], path: &Path, found: &mut dyn FnMut(&'a [u8])) -> Result<(), Unreadable> {
    within(src, 0, path, START, DEEPEST, found).map(drop)
}

/// The index after the value at `pos`, in which the steps of `states` may be taken.
fn within<'a>(
    src: &'a [u8],
    pos: usize,
    path: &Path,
    states: States,
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
            let (end, is_escaped) = skip_name(src, pos)?;
            (next, ends) = path.step(states, RawAt::Name(&key(&src[pos..end], is_escaped)?));
            pos = skip_space(src, end);
            if src.get(pos) != Some(&b':') {
                return Err(Unreadable::Malformed);
            }
            pos = skip_space(src, pos + 1);
        } else {
            (next, ends) = path.step(states, RawAt::Index(index));
            index += 1;
        }
        let end = within(src, pos, path, next, depth - 1, found)?;
        if ends {
            found(&src[pos..end]);
        }
        pos = skip_space(src, end);
        if src.get(pos) == Some(&b',') {
            pos = skip_space(src, pos + 1);
        }
    }
    Ok(pos + 1)
}

/// A key as it is meant, of one as it is written with its quotes.
pub(super) fn key(written: &[u8], is_escaped: bool) -> Result<Cow<'_, [u8]>, Unreadable> {
    if !is_escaped {
        return Ok(Cow::Borrowed(&written[1..written.len() - 1]));
    }
    serde_json::from_slice(written).map(|key: String| Cow::Owned(key.into_bytes())).map_err(|_| Unreadable::Malformed)
}
