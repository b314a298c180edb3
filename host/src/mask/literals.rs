//! Values that are known: those of a pod's Secrets, as they are, in lines, and in base64 wherever it begins.

use std::collections::BTreeSet;
use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroize;

/// Shorter values are in every text by chance.
const SHORTEST: usize = 4;
/// Lines of a value of several lines that are hidden on their own: a terminal ends lines in its own way.
const SHORTEST_LINE: usize = 8;
/// The longest value that is known as one; of a longer one its lines are.
const LONGEST: usize = 8 << 10;
/// The most that is known together, every form of a value counted: about a hundred kilobytes of values.
const MOST_BYTES: usize = 3 << 19;

/// Known values. They are wiped when they are dropped, and shown nowhere.
pub struct Literals {
    automaton: AhoCorasick,
    sorted: Vec<Vec<u8>>,
    first: [bool; 256],
    longest: usize,
}

impl std::fmt::Debug for Literals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} values", self.sorted.len())
    }
}

impl Drop for Literals {
    fn drop(&mut self) {
        self.sorted.iter_mut().for_each(Zeroize::zeroize);
    }
}

impl Literals {
    /// Takes values; none when there is nothing to know.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<Self>, String> {
        let mut known = BTreeSet::new();
        let mut size = 0;
        for value in values {
            for form in forms(value) {
                size += form.len();
                known.insert(form);
            }
            if size > MOST_BYTES {
                return Err(format!("the pod's Secrets have more than {MOST_BYTES} bytes of values"));
            }
        }
        if known.is_empty() {
            return Ok(None);
        }
        let sorted: Vec<Vec<u8>> = known.into_iter().collect();
        let automaton =
            AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&sorted).map_err(|e| format!("the pod's Secrets: {e}"))?;
        let mut first = [false; 256];
        sorted.iter().for_each(|value| first[usize::from(value[0])] = true);
        let longest = sorted.iter().map(Vec::len).max().unwrap_or_default();
        Ok(Some(Self { automaton, sorted, first, longest }))
    }

    /// Where they are.
    pub(super) fn find<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = Range<usize>> + 'a {
        self.automaton.find_iter(text).map(|found| found.range())
    }

    /// Where what may be the beginning of one begins.
    pub(super) fn hold_from(&self, text: &[u8]) -> usize {
        let floor = text.len().saturating_sub(self.longest.saturating_sub(1));
        let begins = |at: &usize| {
            let rest = &text[*at..];
            self.first[usize::from(rest[0])] && {
                let next = self.sorted.partition_point(|value| value.as_slice() < rest);
                self.sorted.get(next).is_some_and(|value| value.len() > rest.len() && value.starts_with(rest))
                    // A value that is there already may go on to be a longer one.
                    || self.sorted.get(next + 1).is_some_and(|value| value.len() > rest.len() && value.starts_with(rest))
            }
        };
        (floor..text.len()).find(begins).unwrap_or(text.len())
    }
}

/// What a value may look like.
fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    let value = value.trim_ascii();
    if value.len() >= SHORTEST && value.len() <= LONGEST {
        forms.push(value.to_vec());
        // JSON and shells quote some characters.
        let quoted = serde_json::to_string(&String::from_utf8_lossy(value)).unwrap_or_default();
        let quoted = quoted.trim_matches('"').as_bytes();
        if quoted != value && std::str::from_utf8(value).is_ok() {
            forms.push(quoted.to_vec());
        }
        forms.extend((0..3).flat_map(|offset| in_base64(value, offset)));
    }
    if value.contains(&b'\n') {
        let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        // `-----BEGIN` lines hide nothing and are in every key.
        forms.extend(lines.filter(|line| line.len() >= SHORTEST_LINE && !line.starts_with(b"-----")).map(<[u8]>::to_vec));
    }
    forms
}

/// What a value looks like in base64 and in its form for URLs, when `offset` bytes of a group of three come before it.
fn in_base64(value: &[u8], offset: usize) -> Vec<Vec<u8>> {
    let encoded = STANDARD_NO_PAD.encode([&[0; 2][..offset], value].concat()).into_bytes();
    // Of the first of these characters the bytes before the value have a part, and the bytes after it of the last one.
    let encoded = &encoded[[0, 2, 3][offset].min(encoded.len())..];
    let shared = usize::from(!(offset + value.len()).is_multiple_of(3));
    let mut forms = Vec::new();
    // The last one is what it is here at the end of the text, before a line's end and before NUL: as a value most often stands.
    for known in [encoded, &encoded[..encoded.len() - shared]] {
        if known.len() < SHORTEST {
            continue;
        }
        forms.push(known.to_vec());
        if known.iter().any(|byte| matches!(byte, b'+' | b'/')) {
            let for_urls = |byte: &u8| match byte {
                b'+' => b'-',
                b'/' => b'_',
                other => *other,
            };
            forms.push(known.iter().map(for_urls).collect());
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    #[test]
    fn a_value_is_known_plain_in_lines_and_in_base64_wherever_it_begins() {
        let literals = Literals::of([&b"hunter2-is-secret\n"[..], b"first line\nsecond line", b"abc"]).unwrap().unwrap();
        let found = |text: &[u8]| literals.find(text).count();
        assert_eq!(found(b"the password is hunter2-is-secret."), 1);
        assert_eq!(found(b"first line\r\nsecond line\r\n"), 2);
        assert_eq!(found(b"abc"), 0, "too short to be known");
        for prefix in ["", "a", "ab", "abc"] {
            let text = STANDARD.encode(format!("{prefix}hunter2-is-secret and more"));
            assert_eq!(found(text.as_bytes()), 1, "{text}");
        }
        assert!(!format!("{literals:?}").contains("hunter2"));
        assert!(Literals::of([&b"x"[..]]).unwrap().is_none());
    }

    #[test]
    fn in_base64_every_character_the_value_alone_says_is_hidden() {
        let left = |value: &str, prefix: &str, suffix: &str| {
            let literals = Literals::of([value.as_bytes()]).unwrap().unwrap();
            let text = STANDARD.encode(format!("{prefix}{value}{suffix}"));
            let found: Vec<_> = literals.find(text.as_bytes()).collect();
            let [found] = &found[..] else { panic!("{text}: {found:?}") };
            (text[..found.start].to_owned(), text[found.end..].to_owned())
        };
        for value in ["hunter2", "hunter22", "hunter222"] {
            for prefix in ["", "a", "ab", "abc"] {
                // The bits of the first characters that are of the bytes before.
                let before = (prefix.len() * 8).div_ceil(6);
                for suffix in ["", "\n", "\0", "\n\n\n"] {
                    let (start, end) = left(value, prefix, suffix);
                    assert_eq!(start.len(), before, "{prefix}{value}");
                    let bits = (prefix.len() + value.len()) * 8;
                    let whole = STANDARD.encode(format!("{prefix}{value}{suffix}"));
                    assert_eq!(end, whole[bits.div_ceil(6)..], "{prefix}{value}{suffix:?}: the last character too");
                }
                // Before other text, the last character says bits of both.
                let (_, end) = left(value, prefix, "~~~~");
                let whole = STANDARD.encode(format!("{prefix}{value}~~~~"));
                assert_eq!(end, whole[(prefix.len() + value.len()) * 8 / 6..], "{prefix}{value}");
            }
        }
        let literals = Literals::of(["\u{3bf}\u{3bf}\u{3bf}".as_bytes()]).unwrap().unwrap();
        for text in ["zr/Ov86/", "zr_Ov86_"] {
            assert_eq!(literals.find(text.as_bytes()).next(), Some(0..8), "the form for URLs too");
        }
    }

    #[test]
    fn a_beginning_is_held() {
        let literals = Literals::of([&b"hunter2"[..], b"hunter2-long"]).unwrap().unwrap();
        assert_eq!(literals.hold_from(b"abc hunt"), 4);
        assert_eq!(literals.hold_from(b"abc hunter2"), 4, "it may be the longer one");
        assert_eq!(literals.hold_from(b"abc hunter3"), 11);
    }
}
