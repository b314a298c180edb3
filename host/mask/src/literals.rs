//! Values that are known: those of a pod's Secrets, as they are, in lines, and in base64 wherever it begins and its lines end.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use memchr::memchr2;
use zeroize::Zeroize;

/// Shorter values are in every text by chance.
const SHORTEST: usize = 4;
/// Lines of a value of several lines that are hidden on their own: a terminal ends lines in its own way.
const SHORTEST_LINE: usize = 8;
/// The longest value that is known as one; of a longer one its lines are.
const LONGEST: usize = 8 << 10;
/// Of a time, a fraction of nine digits and an offset: `.123456789+00:00`, and the blank after it.
const LONGEST_ZONE: usize = 17;
/// The most that is known together, every form of a value counted: about a hundred kilobytes of values.
const MOST_BYTES: usize = 3 << 19;

/// Known values. They are wiped when they are dropped, and shown nowhere.
pub struct Literals {
    as_they_are: Forms,
    in_base64: Forms,
}

impl std::fmt::Debug for Literals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} values", self.as_they_are.sorted.len())
    }
}

impl Literals {
    /// Takes values; none when there is nothing to know.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<Self>, String> {
        let (mut as_they_are, mut encoded) = (BTreeSet::new(), BTreeSet::new());
        let mut size = 0;
        for value in values {
            let value = value.trim_ascii();
            let (plain, coded) = (forms(value), all_in_base64(value));
            size += plain.iter().chain(&coded).map(Vec::len).sum::<usize>();
            as_they_are.extend(plain);
            encoded.extend(coded);
            if size > MOST_BYTES {
                return Err(format!(
                    "the pod's Secrets have too many values to know them all: {MOST_BYTES} bytes with all their forms are the most"
                ));
            }
        }
        if as_they_are.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { as_they_are: Forms::of(as_they_are)?, in_base64: Forms::of(encoded)? }))
    }

    /// How many bytes all their forms are.
    pub fn weight(&self) -> usize {
        [&self.as_they_are, &self.in_base64].into_iter().flat_map(|forms| &forms.sorted).map(Vec::len).sum()
    }

    /// Where they are, in no order.
    pub(super) fn find(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found: Vec<_> = self.as_they_are.find(text).collect();
        let joined = Joined::of(text);
        found.extend(self.in_base64.find(&joined.text).map(|range| joined.at(range.start)..joined.at(range.end - 1) + 1));
        found
    }

    /// Where what may be the beginning of one begins.
    pub(super) fn hold_from(&self, text: &[u8]) -> usize {
        // Lines may be short: what is looked back over is counted without their ends.
        let joined = Joined::of(text);
        let hold = self.in_base64.hold_from(&joined.text);
        let hold = if hold < joined.text.len() { joined.at(hold) } else { text.len() };
        // What may be a time broken off may be base64 too.
        let unsure = joined.unsure + self.in_base64.hold_from(&text[joined.unsure..]);
        hold.min(unsure).min(self.as_they_are.hold_from(text))
    }
}

/// A text whose lines are one: base64 goes on in the next line (RFC 2045, section 6.8; `base64` does it after 76 characters), which may be indented,
/// or begin with the time it was written at (`kubectl logs --timestamps`).
struct Joined<'a> {
    text: Cow<'a, [u8]>,
    /// Where in the text something was left out, and how much up to there.
    breaks: Vec<(usize, usize)>,
    /// Where the last line begins if that is all of a time there is yet; where the text ends if not.
    unsure: usize,
}

impl<'a> Joined<'a> {
    fn of(text: &'a [u8]) -> Self {
        let mut unsure = text.len();
        let Some(first) = memchr2(b'\r', b'\n', text) else { return Self { text: Cow::Borrowed(text), breaks: Vec::new(), unsure } };
        let (mut joined, mut breaks) = (Vec::with_capacity(text.len()), Vec::new());
        joined.extend_from_slice(&text[..first]);
        let mut next = first;
        while next < text.len() {
            let blank = text[next..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n' | b' ' | b'\t')).count();
            next += blank;
            match time(&text[next..]) {
                Some(length) => next += length,
                None => (unsure, next) = (next, text.len()),
            }
            breaks.push((joined.len(), next - joined.len()));
            let line = memchr2(b'\r', b'\n', &text[next..]).unwrap_or(text.len() - next);
            joined.extend_from_slice(&text[next..next + line]);
            next += line;
        }
        Self { text: Cow::Owned(joined), breaks, unsure }
    }

    /// Where a byte stood.
    fn at(&self, index: usize) -> usize {
        let before = self.breaks.partition_point(|(at, _)| *at <= index);
        index + before.checked_sub(1).map_or(0, |last| self.breaks[last].1)
    }
}

/// The length of the time at the beginning of a line, and of the blank after it (RFC 3339, as `kubelet` writes it); 0 where there is none, none where the
/// text ends within it.
fn time(line: &[u8]) -> Option<usize> {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00";
    let is = |shape: u8, byte: u8| if shape == b'0' { byte.is_ascii_digit() } else { shape == byte };
    if !line.iter().zip(SHAPE).all(|(byte, shape)| is(*shape, *byte)) {
        return Some(0);
    }
    let rest = line.get(SHAPE.len()..)?;
    // A fraction and an offset: what else they hold is not base64.
    let length = rest.iter().take(LONGEST_ZONE).position(|byte| *byte == b' ');
    match length {
        Some(length) => Some(SHAPE.len() + length + 1),
        None if rest.len() < LONGEST_ZONE => None,
        None => Some(0),
    }
}

/// What is looked for in one pass.
struct Forms {
    automaton: AhoCorasick,
    sorted: Vec<Vec<u8>>,
    first: [bool; 256],
    longest: usize,
}

impl Drop for Forms {
    fn drop(&mut self) {
        self.sorted.iter_mut().for_each(Zeroize::zeroize);
    }
}

impl Forms {
    fn of(forms: BTreeSet<Vec<u8>>) -> Result<Self, String> {
        let sorted: Vec<Vec<u8>> = forms.into_iter().collect();
        let automaton =
            AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&sorted).map_err(|e| format!("the pod's Secrets: {e}"))?;
        let mut first = [false; 256];
        sorted.iter().for_each(|form| first[usize::from(form[0])] = true);
        let longest = sorted.iter().map(Vec::len).max().unwrap_or_default();
        Ok(Self { automaton, sorted, first, longest })
    }

    fn find<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = Range<usize>> + 'a {
        self.automaton.find_iter(text).map(|found| found.range())
    }

    fn hold_from(&self, text: &[u8]) -> usize {
        let floor = text.len().saturating_sub(self.longest.saturating_sub(1));
        let begins = |at: &usize| {
            let rest = &text[*at..];
            self.first[usize::from(rest[0])] && {
                let next = self.sorted.partition_point(|form| form.as_slice() < rest);
                self.sorted.get(next).is_some_and(|form| form.len() > rest.len() && form.starts_with(rest))
                    // A value that is there already may go on to be a longer one.
                    || self.sorted.get(next + 1).is_some_and(|form| form.len() > rest.len() && form.starts_with(rest))
            }
        };
        (floor..text.len()).find(begins).unwrap_or(text.len())
    }
}

/// What a value may look like in a text.
fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    if (SHORTEST..=LONGEST).contains(&value.len()) {
        forms.push(value.to_vec());
        // JSON and shells quote some characters.
        let quoted = serde_json::to_string(&String::from_utf8_lossy(value)).unwrap_or_default();
        let quoted = quoted.trim_matches('"').as_bytes();
        if quoted != value && std::str::from_utf8(value).is_ok() {
            forms.push(quoted.to_vec());
        }
    }
    if value.contains(&b'\n') {
        let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        // `-----BEGIN` lines hide nothing and are in every key.
        forms.extend(lines.filter(|line| line.len() >= SHORTEST_LINE && !line.starts_with(b"-----")).map(<[u8]>::to_vec));
    }
    forms
}

/// What a value may look like in base64.
fn all_in_base64(value: &[u8]) -> Vec<Vec<u8>> {
    if !(SHORTEST..=LONGEST).contains(&value.len()) {
        return Vec::new();
    }
    (0..3).flat_map(|offset| in_base64(value, offset)).collect()
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
        let found = |text: &[u8]| literals.find(text).len();
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
            let found = literals.find(text.as_bytes());
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
            assert_eq!(literals.find(text.as_bytes()).first(), Some(&(0..8)), "the form for URLs too");
        }
    }

    #[test]
    fn a_beginning_is_held() {
        let literals = Literals::of([&b"hunter2"[..], b"hunter2-long"]).unwrap().unwrap();
        assert_eq!(literals.hold_from(b"abc hunt"), 4);
        assert_eq!(literals.hold_from(b"abc hunter2"), 4, "it may be the longer one");
        assert_eq!(literals.hold_from(b"abc hunter3"), 11);
        assert_eq!(literals.hold_from(b"abc aHVu\r\n  dGVy\n"), 4, "in base64 it goes on in the next line");
        assert_eq!(literals.hold_from(b"abc aHVu\r\n  ~"), 13);
        assert_eq!(literals.hold_from(b"hun\nter"), 7, "as it is it does not");
        for time in ["2026-11-27T13:20:05.5Z ", "2026-11-27T13:20:05.12345", "2026-11-", "20"] {
            assert_eq!(literals.hold_from(format!("abc aHVu\n{time}").as_bytes()), 4, "{time}");
        }
        assert_eq!(literals.hold_from(b"abc aHVu\n2026-11-27 "), 20);
        // What may be a time may be the value too.
        let value = STANDARD.decode("2026abcd").unwrap();
        let digits = Literals::of([&value[..]]).unwrap().unwrap();
        assert_eq!(digits.hold_from(b"abc\n20"), 4);
        assert_eq!(digits.hold_from(b"abc\n2026a"), 4);
        assert_eq!(digits.hold_from(b"abc\n2026-"), 9);
    }

    #[test]
    fn base64_is_found_wherever_its_lines_end() {
        let value = b"hunter2-is-secret-and-long";
        let literals = Literals::of([&value[..]]).unwrap().unwrap();
        let text = STANDARD.encode([&b"before="[..], value, b"\0after=\0"].concat());
        let whole = literals.find(text.as_bytes());
        let [whole] = &whole[..] else { panic!("{whole:?}") };
        let times = ["\n2026-11-27T13:20:05.123456789Z ", "\r\n2026-11-27T13:20:05+01:00 "];
        for end in ["\n", "\r\n", "\r", "\n  ", "\n\n\t"].into_iter().chain(times) {
            for width in 1..text.len() {
                let lines: Vec<&str> = text.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
                let broken = lines.join(end);
                let found = literals.find(broken.as_bytes());
                let [found] = &found[..] else { panic!("{broken:?}: {found:?}") };
                let left = [&broken[..found.start], "~", &broken[found.end..]].concat();
                let expected = [&text[..whole.start], "~", &text[whole.end..]].concat();
                let left: String = left.split(end).collect();
                assert_eq!(left, expected, "lines of {width}");
            }
        }
    }
}
