//! The same value hidden everywhere else it shows: annotations, Table cells.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashSet;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine;

use super::placeholder::MARKER;

/// Values shorter than this are hidden only where they are the whole text; they occur everywhere by chance.
const SHORTEST: usize = 4;
/// Lines of a value that are hidden by themselves.
const LINE: usize = 8;
/// Lengths at which a value may be broken off.
const BEGINNINGS: [usize; 5] = [32, 64, 128, 256, 512];
/// So many are looked for one after another; more of them all at once.
const FEW: usize = 16;

/// Values hidden in one object.
#[derive(Debug, Default)]
pub(super) struct Values {
    whole: HashSet<String>,
    /// What is looked for within a text: as it is, and as JSON escapes it.
    forms: Vec<String>,
    together: OnceCell<Option<AhoCorasick>>,
}

impl Values {
    /// Remembers a hidden text, and what it decodes to when it stands for bytes.
    pub(super) fn add(&mut self, text: &str, is_base64: bool) {
        self.push(text);
        if is_base64
            && let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(text)
            && let Ok(plain) = std::str::from_utf8(&bytes)
        {
            self.push(plain);
            self.push(plain.trim_end());
        }
    }

    fn push(&mut self, text: &str) {
        if text.is_empty() || !self.whole.insert(text.to_owned()) || text.len() < SHORTEST {
            return;
        }
        self.together = OnceCell::new();
        self.forms.push(text.to_owned());
        if text.bytes().all(is_written_alike) {
            return;
        }
        let before = self.forms.len();
        for escape in [as_json, as_go, as_python, as_php, as_go_quotes] {
            let escaped = escape(text);
            // Most are written alike by all; another value's are another matter.
            if escaped != text && !self.forms[before..].contains(&escaped) {
                self.forms.push(escaped);
            }
        }
    }

    /// Takes the values of another.
    pub(super) fn absorb(&mut self, other: Self) {
        self.whole.extend(other.whole);
        self.forms.extend(other.forms);
        self.together = OnceCell::new();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.whole.is_empty()
    }

    /// The text without the values.
    pub(super) fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.whole.contains(text) {
            return Cow::Borrowed(MARKER);
        }
        let found = |form: &String| memchr::memmem::find(text.as_bytes(), form.as_bytes()).is_some();
        if self.forms.is_empty() || self.forms.len() <= FEW && !self.forms.iter().any(found) {
            return Cow::Borrowed(text);
        }
        let build = || AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&self.forms).ok();
        match self.together.get_or_init(build) {
            Some(together) if !together.is_match(text) => Cow::Borrowed(text),
            Some(together) => Cow::Owned(together.replace_all(text, &vec![MARKER; self.forms.len()])),
            // Too many to be looked for: what cannot be looked through is not shown.
            None => Cow::Borrowed(MARKER),
        }
    }
}

/// Whether everybody writes it as it is, whatever they escape.
fn is_written_alike(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\' | b'/' | b'&' | b'<' | b'>')
}

/// How JSON writes a text, without its quotes: an annotation may hold JSON.
fn as_json(text: &str) -> String {
    let escaped = serde_json::to_string(text).unwrap_or_default();
    escaped.get(1..escaped.len() - 1).unwrap_or_default().to_owned()
}

/// A text as Go writes it in JSON (`encoding/json`, whose writer has HTML in mind).
fn as_go(text: &str) -> String {
    let mut escaped = as_json(text);
    for (plain, written) in [("&", "\\u0026"), ("<", "\\u003c"), (">", "\\u003e"), ("\u{2028}", "\\u2028"), ("\u{2029}", "\\u2029")] {
        if escaped.contains(plain) {
            escaped = escaped.replace(plain, written);
        }
    }
    escaped
}

/// A text as Python writes it in JSON (`json.dumps`): nothing beyond ASCII.
fn as_python(text: &str) -> String {
    let mut escaped = String::new();
    for c in as_json(text).chars() {
        match c.is_ascii() && c != '\u{7f}' {
            true => escaped.push(c),
            false => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| escaped += &format!("\\u{unit:04x}")),
        }
    }
    escaped
}

/// A text as PHP writes it in JSON (`json_encode`), which escapes slashes too.
fn as_php(text: &str) -> String {
    as_python(text).replace('/', "\\/")
}

/// How Go quotes a text (`%q`): control characters in another way than JSON.
fn as_go_quotes(text: &str) -> String {
    let mut quoted = String::new();
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\u{7}' => quoted += "\\a",
            '\u{8}' => quoted += "\\b",
            '\u{b}' => quoted += "\\v",
            '\u{c}' => quoted += "\\f",
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            '\t' => quoted += "\\t",
            c if c.is_ascii_control() => quoted += &format!("\\x{:02x}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted
}

/// The values that masks hide in an object, to be hidden in what is said about it.
#[derive(Debug, Default)]
pub struct Hidden(pub(super) Values);

/// What stands for a quoted value.
const MARKED: &str = "\"postern-masked\"";

/// How long a quoted value is that a text begins with, its quotes included; 0 where it begins with none of these.
fn quoted_in(text: &str, values: &HashSet<String>) -> usize {
    for quote in ["\\\"", "\"", "'"] {
        let Some(inner) = text.strip_prefix(quote) else { continue };
        for length in 1..SHORTEST {
            if inner.get(length..).is_some_and(|after| after.starts_with(quote)) && values.contains(&inner[..length]) {
                return 2 * quote.len() + length;
            }
        }
    }
    0
}

impl Hidden {
    /// Adds what a diff shows of a value that is long: its lines, and its beginning (`github.com/google/go-cmp`, formatString).
    pub(super) fn add_parts(&mut self) {
        let mut parts = Vec::new();
        for value in &self.0.whole {
            parts.extend(value.lines().map(str::trim).filter(|line| line.len() >= LINE && line.len() < value.len()).map(str::to_owned));
            let beginning = |size: usize| (0..=size).rev().find(|end| value.is_char_boundary(*end)).map(|end| value[..end].to_owned());
            parts.extend(BEGINNINGS.into_iter().filter(|size| *size < value.len()).filter_map(beginning));
        }
        parts.iter().for_each(|part| self.0.push(part));
    }

    /// A sentence without the values. Where it repeats one that is too short to be told from chance, the whole of what is quoted goes.
    pub fn hide(&self, text: &str) -> String {
        let hidden = self.0.hide(text);
        let (mut plain, mut rest) = (String::with_capacity(hidden.len()), hidden.as_ref());
        while let Some(at) = rest.find(['"', '\'', '\\']) {
            plain.push_str(&rest[..at]);
            rest = &rest[at..];
            let length = quoted_in(rest, &self.0.whole);
            plain.push_str(if length > 0 { MARKED } else { &rest[..1] });
            rest = &rest[length.max(1)..];
        }
        plain + rest
    }

    /// Hides them in every text of a value.
    pub fn hide_in(&self, value: &mut serde_json::Value) {
        match value {
            serde_json::Value::String(text) => *text = self.hide(text),
            serde_json::Value::Array(elements) => elements.iter_mut().for_each(|value| self.hide_in(value)),
            serde_json::Value::Object(members) => members.values_mut().for_each(|value| self.hide_in(value)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_values_are_hidden_alike() {
        for count in [2, 5, 1000] {
            let mut values = Values::default();
            (0..count).for_each(|n| values.add(&format!("value-{n}-\"x\""), false));
            values.add("aHVudGVyMg==", true);
            values.add("abc", false);
            for (text, expected) in [
                ("nothing here, not even abc", "nothing here, not even abc"),
                ("abc", "postern-masked"),
                ("is value-1-\"x\" and hunter2", "is postern-masked and postern-masked"),
                (r#"{"a":"value-0-\"x\""}"#, r#"{"a":"postern-masked"}"#),
                ("value-1-\"x\"value-0-\"x\"", "postern-maskedpostern-masked"),
            ] {
                assert_eq!(values.hide(text), expected, "{count} values");
            }
        }
    }

    #[test]
    fn a_value_is_hidden_however_its_writer_escapes() {
        let mut values = Values::default();
        values.add("a/b&<ü😀>\n\"q\u{1}", false);
        for text in [
            r#"{"x":"a/b&<ü😀>\n\"q\u0001"}"#,
            r#"a/b\u0026\u003cü😀\u003e\n\"q\u0001"#,
            r#"a/b&<\u00fc\ud83d\ude00>\n\"q\u0001"#,
            r#"a\/b&<\u00fc\ud83d\ude00>\n\"q\u0001"#,
            r#"a/b&<ü😀>\n\"q\x01"#,
        ] {
            assert!(values.hide(text).contains(MARKER), "{text}");
        }
        let mut hidden = Hidden::default();
        hidden.0.add("abc", false);
        hidden.0.add(&format!("-----BEGIN KEY-----\n{}\n-----END KEY-----", "k".repeat(600)), false);
        hidden.add_parts();
        for text in [format!("- {}...", "k".repeat(600)), "-----BEGIN KEY-----\\nkkkkkkkkkkkkkkkk".to_owned()] {
            assert!(hidden.hide(&text).contains(MARKER), "{text}");
        }
        assert_eq!(hidden.hide(r#"found "abc", not abcd"#), r#"found "postern-masked", not abcd"#);
        let text = r#"'abc' \"abc\" "ab" "abcd" "é" '"#;
        assert_eq!(hidden.hide(text), r#""postern-masked" "postern-masked" "ab" "abcd" "é" '"#);
    }

    /// One after another they would be looked for through 55 GB.
    #[test]
    fn very_many_values_are_looked_for_together() {
        let mut values = Values::default();
        (0..50_000).for_each(|n| values.add(&format!("value-{n:08}"), false));
        let text = "value-0000 ".repeat(20_000);
        (0..5).for_each(|_| assert_eq!(values.hide(&text), text));
    }

    /// One after another they would be looked for through 600 GB.
    #[test]
    fn very_many_short_values_are_looked_for_together() {
        let mut hidden = Hidden::default();
        (u32::from(b'!')..200_000).filter_map(char::from_u32).for_each(|c| hidden.0.add(&c.to_string(), false));
        let text = "\"yy\" ".repeat(500_000);
        assert!(hidden.hide(&text) == text);
    }
}
