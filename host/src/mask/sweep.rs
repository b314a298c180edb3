//! The same value hidden everywhere else it shows: annotations, Table cells.

use std::borrow::Cow;

use base64::Engine;

use super::placeholder::MARKER;

/// Values shorter than this are hidden only where they are the whole text; they occur everywhere by chance.
const SHORTEST: usize = 4;

/// Values hidden in one object.
#[derive(Debug, Default)]
pub(super) struct Values(Vec<String>);

impl Values {
    /// Remembers a hidden text, and what it decodes to when it stands for bytes.
    pub(super) fn add(&mut self, text: &str, is_base64: bool) {
        let mut push = |text: String| {
            if !text.is_empty() && !self.0.contains(&text) {
                self.0.push(text);
            }
        };
        push(text.to_owned());
        if is_base64
            && let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(text)
            && let Ok(plain) = String::from_utf8(bytes)
        {
            let trimmed = plain.trim_end().to_owned();
            push(plain);
            push(trimmed);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text without the values.
    pub(super) fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut hidden = Cow::Borrowed(text);
        for value in &self.0 {
            if hidden == *value {
                return Cow::Borrowed(MARKER);
            }
            if value.len() < SHORTEST {
                continue;
            }
            // An annotation may hold JSON, where the value is written with escapes.
            let escaped = serde_json::to_string(value).unwrap_or_default();
            for form in [value.as_str(), escaped.trim_matches('"')] {
                if memchr::memmem::find(hidden.as_bytes(), form.as_bytes()).is_some() {
                    hidden = Cow::Owned(hidden.replace(form, MARKER));
                }
            }
        }
        hidden
    }
}
