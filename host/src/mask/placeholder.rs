//! How a hidden value is written, and how it is known when it comes back.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

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

/// What every placeholder begins with.
pub const MARKER: &str = "postern-masked";
/// The placeholder as a JSON string, and the same for a field that is base64.
pub(super) const REDACTED: &[u8] = b"\"postern-masked\"";
pub(super) const REDACTED_BASE64: &[u8] = b"\"cG9zdGVybi1tYXNrZWQ=\"";
/// The same in base64: the part that does not depend on what follows.
const MARKER_BASE64: &[u8] = b"cG9zdGVybi1tYXNrZW";
/// The marker where it stands at the other two offsets of a base64 group.
const MARKER_BASE64_OFFSETS: [&[u8]; 2] = [b"Bvc3Rlcm4tbWFza2Vk", b"wb3N0ZXJuLW1hc2tlZ"];

/// The key tokens are made with. It never leaves the gateway.
#[derive(Clone)]
pub struct TokenKey(hmac::Key);

impl TokenKey {
    /// Takes 32 random bytes.
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    fn token(&self, value: &[u8]) -> String {
        hmac::sign(&self.0, value).as_ref()[..8].iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey")
    }
}

/// What is written in the place of a text.
pub(super) fn hide(transform: Transform, value: &[u8], key: &TokenKey) -> String {
    match transform {
        Transform::Tokenize => format!("{MARKER}-t-{}", key.token(value)),
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

/// What is written in the place of base64 text: base64 of what stands for its bytes.
pub(super) fn hide_base64(transform: Transform, value: &[u8], key: &TokenKey) -> String {
    let bytes = STANDARD.decode(value).unwrap_or_else(|_| value.to_vec());
    STANDARD.encode(hide(transform, &bytes, key))
}

/// Whether a body of any encoding carries a placeholder: plain, in base64 at any offset, or spelt with JSON escapes.
pub fn appears_in(body: &[u8]) -> bool {
    let find = |needle: &[u8], hay: &[u8]| memchr::memmem::find(hay, needle).is_some();
    let within = |hay: &[u8]| {
        find(MARKER.as_bytes(), hay) || find(MARKER_BASE64, hay) || MARKER_BASE64_OFFSETS.iter().any(|needle| find(needle, hay))
    };
    within(body) || find(b"\\u", body) && within(&unescape_units(body))
}

/// Replaces `\uXXXX` of ASCII characters by the character.
fn unescape_units(body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = memchr::memmem::find(rest, b"\\u") {
        plain.extend_from_slice(&rest[..at]);
        let unit = rest.get(at + 2..at + 6).and_then(|hex| u16::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match unit.and_then(|unit| u8::try_from(unit).ok()).filter(u8::is_ascii) {
            Some(byte) => {
                plain.push(byte);
                rest = &rest[at + 6..];
            }
            None => {
                plain.extend_from_slice(b"\\u");
                rest = &rest[at + 2..];
            }
        }
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
            let plain = hide(transform, b"correct horse battery", &key);
            assert!(appears_in(plain.as_bytes()));
            for offset in 0..3 {
                let encoded = STANDARD.encode(format!("{}{plain}", "x".repeat(offset)));
                assert!(appears_in(encoded.as_bytes()), "{encoded}");
            }
        }
        assert!(appears_in(br#"{"a":"p\u006fstern\u002dmasked"}"#));
        assert!(!appears_in(br#"{"a":"postern"}"#));
    }

    #[test]
    fn equal_values_have_equal_tokens_and_short_ones_keep_nothing() {
        let key = TokenKey::new(&[7; 32]);
        assert_eq!(hide(Transform::Tokenize, b"a", &key), hide(Transform::Tokenize, b"a", &key));
        assert_ne!(hide(Transform::Tokenize, b"a", &key), hide(Transform::Tokenize, b"b", &key));
        assert_ne!(hide(Transform::Tokenize, b"a", &key), hide(Transform::Tokenize, b"a", &TokenKey::new(&[8; 32])));
        assert_eq!(hide(Transform::KeepLast(4), b"1234567", &key), MARKER);
        assert_eq!(hide(Transform::KeepLast(4), b"12345678", &key), "postern-masked-5678");
        assert_eq!(hide_base64(Transform::Redact, b"c2VjcmV0", &key), STANDARD.encode(MARKER));
        assert_eq!(REDACTED, format!("\"{MARKER}\"").as_bytes());
        assert_eq!(REDACTED_BASE64, format!("\"{}\"", STANDARD.encode(MARKER)).as_bytes());
    }
}
