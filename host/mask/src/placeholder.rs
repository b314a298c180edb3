//! How a hidden value is written, and how it is known when it comes back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::token::{Scope, TokenKey};

/// How a masked value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transform {
    /// A fixed placeholder.
    Redact,
    /// A keyed token.
    Tokenize,
    /// A placeholder and the last characters.
    KeepLast(u8),
    /// The field is left out.
    Remove,
}

impl Transform {
    /// Of two that fit one value the one that shows less.
    pub(super) fn stronger(self, other: Self) -> Self {
        if other.strength() > self.strength() { other } else { self }
    }

    pub(super) fn strength(self) -> u16 {
        match self {
            Self::Remove => 400,
            Self::Redact => 300,
            Self::Tokenize => 200,
            Self::KeepLast(shown) => 100u16.saturating_sub(u16::from(shown)),
        }
    }
}

/// What every placeholder begins with.
pub const MARKER: &str = "postern-masked";
/// The placeholder as a JSON string, and the same for a field that is base64.
pub(super) const REDACTED: &[u8] = b"\"postern-masked\"";
pub(super) const REDACTED_BASE64: &[u8] = b"\"cG9zdGVybi1tYXNrZWQ=\"";
/// The placeholder in base64: the part that does not depend on what follows.
const MARKER_BASE64: &[u8] = b"cG9zdGVybi1tYXNrZW";
/// The marker where it stands at the other two offsets of a base64 group.
const MARKER_BASE64_OFFSETS: [&[u8]; 2] = [b"Bvc3Rlcm4tbWFza2Vk", b"wb3N0ZXJuLW1hc2tlZ"];

/// What is written in the place of a text.
pub(super) fn hide(transform: Transform, value: &[u8], key: &TokenKey, scope: &Scope, member: &[u8]) -> String {
    match transform {
        Transform::Tokenize => String::from_utf8_lossy(&token(value, key, scope, member)).into_owned(),
        Transform::KeepLast(count) => {
            // A value that would be half shown is not shown at all.
            let text = std::str::from_utf8(value).unwrap_or_default();
            let (length, count) = (text.chars().count(), usize::from(count));
            if count == 0 || length < count * 2 {
                return MARKER.into();
            }
            format!("{MARKER}-{}", text.chars().skip(length - count).collect::<String>())
        }
        Transform::Redact | Transform::Remove => MARKER.into(),
    }
}

/// What a token is written as: it needs no escape in JSON, and its base64 no padding.
pub(super) fn token(value: &[u8], key: &TokenKey, scope: &Scope, member: &[u8]) -> [u8; TOKEN] {
    let mut written = [0; TOKEN];
    let (head, digits) = written.split_at_mut(TOKEN - 16);
    head.copy_from_slice(TOKEN_HEAD);
    digits.copy_from_slice(&key.token(scope, member, value));
    written
}

/// How long a token is, and what it begins with.
pub(super) const TOKEN: usize = TOKEN_HEAD.len() + 16;
const TOKEN_HEAD: &[u8] = b"postern-masked-t-";

/// What is written in the place of base64 text: base64 of what stands for its bytes.
pub(super) fn hide_base64(transform: Transform, value: &[u8], key: &TokenKey, scope: &Scope, member: &[u8]) -> String {
    let bytes = STANDARD.decode(value).unwrap_or_else(|_| value.to_vec());
    STANDARD.encode(hide(transform, &bytes, key, scope, member))
}

/// What a text is that stands for one hidden value and nothing else, as it is or in base64.
pub(super) fn stands_alone(text: &str) -> Option<Alone> {
    let decoded = text.as_bytes().starts_with(MARKER_BASE64).then(|| STANDARD.decode(text).ok()).flatten();
    let text = decoded.as_deref().unwrap_or(text.as_bytes()).strip_prefix(MARKER.as_bytes())?;
    match text.strip_prefix(b"-t-") {
        _ if text.is_empty() => Some(Alone::Fixed),
        Some(digits) if digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit) => Some(Alone::Token),
        _ => None,
    }
}

/// A placeholder by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alone {
    /// Whatever is hidden there.
    Fixed,
    /// The value it was made of.
    Token,
}

/// Whether a body of any encoding carries a placeholder: plain, in base64 at any offset or broken into lines, or spelt with JSON escapes, also within JSON
/// that is text in JSON.
pub fn appears_in(body: &[u8]) -> bool {
    if within(body) {
        return true;
    }
    let mut text;
    let mut current = body;
    // An escape within an escape: JSON in an annotation, and no deeper.
    for _ in 0..3 {
        if memchr::memmem::find(current, b"\\u").is_none() {
            break;
        }
        text = unescape_units(current);
        if within(&text) {
            return true;
        }
        current = &text;
    }
    let breaks = [&b"\\n"[..], b"\\r"];
    (current.len() != body.len() || breaks.iter().any(|at| memchr::memmem::find(current, at).is_some())) && within(&without_breaks(current))
}

fn within(text: &[u8]) -> bool {
    let find = |needle: &[u8]| memchr::memmem::find(text, needle).is_some();
    find(MARKER.as_bytes()) || find(MARKER_BASE64) || MARKER_BASE64_OFFSETS.iter().any(|needle| find(needle))
}

/// A text without the line breaks that decoders of base64 pass over, as they are and as JSON writes them.
fn without_breaks(text: &[u8]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr3(b'\\', b'\n', b'\r', rest) {
        let (kept, length) = match (rest[at], rest.get(at + 1)) {
            (b'\\', Some(b'n' | b'r')) => (at, 2),
            (b'\\', _) => ((at + 2).min(rest.len()), 2),
            _ => (at, 1),
        };
        joined.extend_from_slice(&rest[..kept]);
        rest = rest.get(at + length..).unwrap_or_default();
    }
    joined.extend_from_slice(rest);
    joined
}

/// Whether YAML may say in its own ways what JSON would say in others: escapes, tags, blocks of text.
pub fn may_be_spelt_in_yaml(body: &[u8]) -> bool {
    let is_flow = matches!(body.iter().find(|byte| !byte.is_ascii_whitespace()), Some(b'{' | b'['));
    let has_own_escape = || {
        let mut at = 0;
        while let Some(found) = memchr::memchr(b'\\', &body[at..]) {
            match body.get(at + found + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' | b'u') => at += found + 2,
                _ => return true,
            }
        }
        false
    };
    let has = |byte: u8| memchr::memchr(byte, body).is_some();
    match is_flow {
        true => has(b'!') || has_own_escape(),
        false => has(b'!') || has(b'\\') || has(b'|') || has(b'>'),
    }
}

/// What gzip begins with, in base64 and in base64 of that.
const PACKED: [&[u8]; 2] = [b"H4sI", b"SDRzS"];
/// The most that is unpacked of one body: Helm's releases are below 1 MiB, packed.
const MOST_UNPACKED: u64 = 32 << 20;

/// What beginning to unpack a text costs, as so many bytes: very many that hold nothing are too much as well.
const TO_UNPACK: u64 = 64 << 10;
/// The head and the tail of gzip (RFC 1952) around nothing.
const SHORTEST_PACKED: usize = 20;

/// Whether a body may hold something that is packed as Helm packs its releases: gzip in base64, once or twice.
pub fn may_be_packed(body: &[u8]) -> bool {
    PACKED.iter().any(|begin| memchr::memmem::find(body, begin).is_some())
}

/// Whether a placeholder is in a value, or in what is packed in it; none where that is too much to be looked through.
pub fn appears_within(value: &serde_json::Value) -> Option<bool> {
    let mut left = MOST_UNPACKED;
    let mut pending = vec![value];
    while let Some(value) = pending.pop() {
        match value {
            serde_json::Value::String(text) => {
                let joined: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect();
                if within(text.as_bytes()) || within(&joined) || unpacked(&joined, &mut left)? {
                    return Some(true);
                }
            }
            serde_json::Value::Array(elements) => pending.extend(elements),
            serde_json::Value::Object(members) => {
                if members.keys().any(|key| within(key.as_bytes())) {
                    return Some(true);
                }
                pending.extend(members.values());
            }
            _ => {}
        }
    }
    Some(false)
}

/// Whether a placeholder is in what a text packs; none when it is over what is left.
fn unpacked(text: &[u8], left: &mut u64) -> Option<bool> {
    use std::io::Read;
    let once = || STANDARD.decode(text).ok();
    let packed = match text {
        _ if text.starts_with(PACKED[0]) => once(),
        _ if text.starts_with(PACKED[1]) => once().and_then(|inner| STANDARD.decode(inner).ok()),
        _ => None,
    };
    let Some(packed) = packed.filter(|packed| packed.len() >= SHORTEST_PACKED) else { return Some(false) };
    *left = left.checked_sub(TO_UNPACK)?;
    let (mut gzip, mut window, mut piece) = (flate2::read::MultiGzDecoder::new(packed.as_slice()), Vec::new(), vec![0; 64 << 10]);
    loop {
        // What is no gzip, or ends in the middle, nobody unpacks either.
        let Ok(read @ 1..) = gzip.read(&mut piece) else { return Some(false) };
        *left = left.checked_sub(read as u64)?;
        window.extend_from_slice(&piece[..read]);
        if appears_in(&window) {
            return Some(true);
        }
        window.drain(..window.len().saturating_sub(64));
    }
}

/// Reads `\uXXXX` of ASCII characters and `\\` as JSON does; other escapes stay.
fn unescape_units(body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        plain.extend_from_slice(&rest[..at]);
        let unit = || rest.get(at + 2..at + 6).and_then(|hex| u16::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        let (byte, length) = match rest.get(at + 1) {
            Some(b'u') => match unit().and_then(|unit| u8::try_from(unit).ok()).filter(u8::is_ascii) {
                Some(byte) => (byte, 6),
                None => (b'\\', 1),
            },
            Some(b'\\') => (b'\\', 2),
            _ => (b'\\', 1),
        };
        plain.push(byte);
        rest = &rest[at + length..];
    }
    plain.extend_from_slice(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_is_known_in_every_spelling() {
        let key = TokenKey::new(&[7; 32]);
        for transform in [Transform::Redact, Transform::Tokenize, Transform::KeepLast(4)] {
            let plain = hide(transform, b"correct horse battery", &key, &Scope::default(), b"");
            assert!(appears_in(plain.as_bytes()));
            for offset in 0..3 {
                let encoded = STANDARD.encode(format!("{}{plain}", "x".repeat(offset)));
                assert!(appears_in(encoded.as_bytes()), "{encoded}");
            }
        }
        assert!(appears_in(br#"{"a":"p\u006fstern\u002dmasked"}"#));
        assert!(appears_in(br#"{"a":"cG9zdGVybi1t\nYXNrZWQ="}"#));
        assert!(appears_in(br#"{"a":"{\"b\":\"postern\\u002dmasked\"}"}"#));
        assert!(!appears_in(br#"{"a":"postern"}"#));
    }

    #[test]
    fn equal_values_have_equal_tokens_and_short_ones_keep_nothing() {
        let (key, scope) = (TokenKey::new(&[7; 32]), Scope::of("secrets", "default", "db"));
        let hide = |transform: Transform, value: &[u8]| hide(transform, value, &key, &scope, b"password");
        assert_eq!(hide(Transform::Tokenize, b"a"), hide(Transform::Tokenize, b"a"));
        assert_ne!(hide(Transform::Tokenize, b"a"), hide(Transform::Tokenize, b"b"));
        assert!(hide(Transform::Tokenize, b"a").starts_with(&format!("{MARKER}-t-")) && TOKEN.is_multiple_of(3));
        assert_eq!(hide(Transform::KeepLast(4), b"1234567"), MARKER);
        assert_eq!(hide(Transform::KeepLast(4), b"12345678"), "postern-masked-5678");
        assert_eq!(hide_base64(Transform::Redact, b"c2VjcmV0", &key, &scope, b""), STANDARD.encode(MARKER));
        assert_eq!(REDACTED, format!("\"{MARKER}\"").as_bytes());
        assert_eq!(REDACTED_BASE64, format!("\"{}\"", STANDARD.encode(MARKER)).as_bytes());
    }

    #[test]
    fn a_placeholder_by_itself_is_told_from_a_text_with_one() {
        assert_eq!(stands_alone("postern-masked"), Some(Alone::Fixed));
        assert_eq!(stands_alone("cG9zdGVybi1tYXNrZWQ="), Some(Alone::Fixed));
        assert_eq!(stands_alone("postern-masked-t-48d1763b879fda85"), Some(Alone::Token));
        assert_eq!(stands_alone(&STANDARD.encode("postern-masked-t-48d1763b879fda85")), Some(Alone::Token));
        for other in ["", "a postern-masked", "postern-masked-t-48d1763b879fda8", "postern-masked-5678", "cG9zdGVybi1tYXNrZWQ"] {
            assert_eq!(stands_alone(other), None, "{other}");
        }
    }

    #[test]
    fn very_many_packed_texts_are_too_much() {
        let packed = STANDARD.encode([&[0x1f, 0x8b, 8, 0][..], &[0; 20]].concat());
        assert!(packed.starts_with("H4sI"));
        assert_eq!(appears_within(&vec![packed.clone(); 100].into()), Some(false));
        assert_eq!(appears_within(&vec![packed; 100_000].into()), None);
    }
}
