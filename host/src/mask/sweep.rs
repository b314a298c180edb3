//! The same value hidden everywhere else it shows: annotations, Table cells.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashSet;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine;

use super::placeholder::MARKER;

/// Values shorter than this are hidden only where they are the whole text; they occur everywhere by chance.
const SHORTEST: usize = 4;
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
        // An annotation may hold JSON, where the value is written with escapes.
        let escaped = serde_json::to_string(text).unwrap_or_default();
        let escaped = escaped.get(1..escaped.len() - 1).unwrap_or_default();
        if escaped != text {
            self.forms.push(escaped.to_owned());
        }
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

    /// One after another they would be looked for through 55 GB.
    #[test]
    fn very_many_values_are_looked_for_together() {
        let mut values = Values::default();
        (0..50_000).for_each(|n| values.add(&format!("value-{n:08}"), false));
        let text = "value-0000 ".repeat(20_000);
        (0..5).for_each(|_| assert_eq!(values.hide(&text), text));
    }
}
