//! The wire: tags, and what follows them (protobuf.dev/programming-guides/encoding).

use super::Undecodable;

/// A field's value, as far as the wire knows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

/// Reads the fields of a message.
pub(super) struct Wire<'a>(&'a [u8]);

const ENDS: &str = "it ends in the middle of a field";

impl<'a> Wire<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next field and its number; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Field<'a>)>, Undecodable> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0).ok_or_else(|| Undecodable::new("a field has no number"))?;
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                let (bytes, rest) = self.0.split_at_checked(length).ok_or_else(|| Undecodable::new(ENDS))?;
                self.0 = rest;
                Field::Bytes(bytes)
            }
            5 => Field::Fixed32(u32::from_le_bytes(self.array()?)),
            other => return Err(Undecodable::new(format!("field {number} has the wire type {other}, which Kubernetes does not use"))),
        };
        Ok(Some((number, field)))
    }

    /// A number of a packed list; none at the end.
    pub(super) fn packed(&mut self) -> Result<Option<u64>, Undecodable> {
        if self.0.is_empty() { Ok(None) } else { self.varint().map(Some) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Undecodable> {
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or_else(|| Undecodable::new(ENDS))?;
        self.0 = rest;
        Ok(*array)
    }

    fn varint(&mut self) -> Result<u64, Undecodable> {
        let mut value = 0u64;
        for (index, byte) in self.0.iter().take(10).enumerate() {
            if index == 9 && *byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7F) << (7 * index);
            if byte & 0x80 == 0 {
                self.0 = &self.0[index + 1..];
                return Ok(value);
            }
        }
        Err(Undecodable::new(if self.0.len() < 10 { ENDS } else { "a number is over 64 bits long" }))
    }
}
