//! Finding one's way in JSON bytes without building anything.

use std::fmt;

use super::path::{Child, Step};

/// A body a mask must read and cannot. It is an error, never passed unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Not JSON.
    Malformed,
    /// Nested too deep.
    TooDeep,
    /// One object is over the limit.
    TooLarge,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "it is not JSON",
            Self::TooDeep => "it is nested too deep",
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
    let mut at = pos + 1;
    loop {
        let rest = src.get(at..).ok_or(Unreadable::Malformed)?;
        let found = memchr::memchr2(b'"', b'\\', rest).ok_or(Unreadable::Malformed)?;
        if rest[found] == b'"' {
            return Ok(at + found + 1);
        }
        at += found + 2;
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

/// Every raw value a path selects, for conditions. Keys are compared as written.
pub(super) fn select<'a>(src: &'a [u8], steps: &[Step], found: &mut Vec<&'a [u8]>, depth: usize) -> Result<(), Unreadable> {
    let Some((step, rest)) = steps.split_first() else {
        found.push(src);
        return Ok(());
    };
    if depth == 0 {
        return Err(Unreadable::TooDeep);
    }
    let mut result = Ok(());
    let mut visit = |matches: bool, child: &'a [u8]| {
        if matches {
            result = select(child, rest, found, depth - 1);
        }
        if step.descend && result.is_ok() {
            result = select(child, steps, found, depth - 1);
        }
        result.is_ok()
    };
    match src.first() {
        Some(b'{') => members(src, 0, |key, start, end| {
            visit(matches!(&step.what, Child::Any) || matches!(&step.what, Child::Name(n) if n.as_bytes() == key), &src[start..end])
        })?,
        Some(b'[') => {
            let (mut pos, mut index) = (skip_space(src, 1), 0);
            while src.get(pos) != Some(&b']') {
                let end = skip_value(src, pos)?;
                if !visit(matches!(&step.what, Child::Any) || matches!(step.what, Child::Index(i) if i == index), &src[pos..end]) {
                    break;
                }
                pos = skip_space(src, end);
                if src.get(pos) == Some(&b',') {
                    pos = skip_space(src, pos + 1);
                }
                index += 1;
            }
        }
        _ => {}
    }
    result
}
