//! What may repeat the values that were hidden in an object: its annotations, and the names in its managed fields.

use std::borrow::Cow;
use std::ops::Range;

use super::super::json::Unreadable;
use super::super::{managed, placeholder};
use super::{Extent, Scan};

/// So many values are looked for one after another in what was written, before any of it is read.
const FEW: usize = 32;
/// Bytes of each that are.
const BEGINNING: usize = 8;

/// What may repeat the values of an object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeats {
    Annotation,
    LastApplied,
    ManagedFields,
}

impl Scan<'_, '_> {
    /// Hides what was hidden wherever the object repeats it. `keep` says that somebody else looks for the same values.
    pub(super) fn hide_repeated(mut self, keep: bool) -> Result<(), Unreadable> {
        // Most repeat nothing, and that is seen without reading them.
        let mut repeating = std::mem::take(&mut self.repeating);
        // What was last applied may hold values that nothing else of the object has.
        let holds_more = |(_, repeats): &(Range<usize>, Repeats)| *repeats == Repeats::LastApplied;
        if !keep
            && !repeating.iter().any(holds_more)
            && let Some(values) = self.plain_values()
        {
            repeating.retain(|(span, _)| !is_surely_without(&self.out[span.clone()], &values));
        }
        self.repeating = repeating;
        if keep || !self.repeating.is_empty() {
            self.collect_hidden()?;
        }
        self.hide_in_repeating()
    }

    /// The values that were hidden, where all of them are written alike by everybody who escapes only what he must; none where one is not, or where something else is looked for.
    fn plain_values(&self) -> Option<Vec<&[u8]>> {
        if !self.values.is_empty() || !self.plan.texts.is_empty() || self.hidden.len() > FEW {
            return None;
        }
        let plain = |(range, is_bytes): &(Range<usize>, bool)| {
            let inner = self.src[range.clone()].strip_prefix(b"\"")?.strip_suffix(b"\"")?;
            let is_plain = !is_bytes && inner.iter().all(|byte| !byte.is_ascii_control() && !matches!(byte, b'"' | b'\\'));
            is_plain.then_some(inner)
        };
        self.hidden.iter().map(plain).collect()
    }

    /// Remembers the values that were hidden, to look for them elsewhere.
    fn collect_hidden(&mut self) -> Result<(), Unreadable> {
        for (range, is_bytes) in std::mem::take(&mut self.hidden) {
            let raw = &self.src[range];
            match raw.first() {
                Some(b'"') => self.values.add(&serde_json::from_slice::<String>(raw).map_err(|_| Unreadable::Malformed)?, is_bytes),
                _ => self.values.add(&String::from_utf8_lossy(raw), false),
            }
        }
        Ok(())
    }

    fn hide_in_repeating(mut self) -> Result<(), Unreadable> {
        let (spans, mut replaced) = (std::mem::take(&mut self.repeating), Vec::new());
        // What was last applied comes first: it may hold values that nothing else has.
        for is_last_applied in [true, false] {
            for (span, repeats) in spans.iter().filter(|(_, repeats)| (*repeats == Repeats::LastApplied) == is_last_applied) {
                let written = match repeats {
                    Repeats::ManagedFields => self.hidden_in_managed_fields(span)?,
                    _ => self.hidden_in_annotation(span, is_last_applied)?,
                };
                replaced.extend(written.map(|written| (span.clone(), written)));
            }
        }
        // From the end, so that what comes before stays where it is.
        replaced.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
        for (span, written) in replaced {
            self.out.splice(span, written);
        }
        Ok(())
    }

    fn hidden_in_managed_fields(&mut self, span: &Range<usize>) -> Result<Option<Vec<u8>>, Unreadable> {
        let (values, plan, scope) = (&*self.values, self.plan, self.scope);
        if values.is_empty() && plan.texts.is_empty() {
            return Ok(None);
        }
        managed::hide(&self.out[span.clone()], &mut |text| {
            let hidden = values.hide(text);
            let replaced = plan.hide_text(&hidden, scope, self.report);
            replaced.or_else(|| (hidden != text).then(|| hidden.into_owned()))
        })
    }

    fn hidden_in_annotation(&mut self, span: &Range<usize>, is_last_applied: bool) -> Result<Option<Vec<u8>>, Unreadable> {
        let shows_nothing = || self.values.is_empty() || self.shows_nothing(&self.out[span.clone()]);
        if !is_last_applied && self.plan.texts.is_empty() && shows_nothing() {
            return Ok(None);
        }
        let text: String = serde_json::from_slice(&self.out[span.clone()]).map_err(|_| Unreadable::Malformed)?;
        let mut hidden = text.clone();
        if is_last_applied {
            // kubectl wrote it, but any client may write anything here: what is no object cannot be masked by path.
            let mut masked = Vec::new();
            let trimmed = text.trim();
            hidden = if trimmed.starts_with('{')
                && self
                    .plan
                    .apply_collecting(
                        trimmed.as_bytes(),
                        Extent::Whole,
                        self.resource,
                        self.partial,
                        // Of the object it is an annotation of, whatever it is called in there.
                        self.scope,
                        &mut masked,
                        self.report,
                        Some(self.values),
                    )
                    .is_ok()
            {
                String::from_utf8(masked).map_err(|_| Unreadable::Malformed)? + "\n"
            } else {
                placeholder::MARKER.into()
            };
        }
        hidden = self.values.hide(&hidden).into_owned();
        if let Some(replaced) = self.plan.hide_text(&hidden, self.scope, self.report) {
            hidden = replaced;
        }
        if hidden == text {
            return Ok(None);
        }
        serde_json::to_vec(&hidden).map(Some).map_err(|_| Unreadable::Malformed)
    }

    /// Whether a text, as JSON writes it, shows none of the hidden values for sure.
    fn shows_nothing(&self, written: &[u8]) -> bool {
        let plain = written.get(1..written.len() - 1).filter(|inner| memchr::memchr(b'\\', inner).is_none());
        plain
            .and_then(|inner| std::str::from_utf8(inner).ok())
            .is_some_and(|text| matches!(self.values.hide(text), Cow::Borrowed(same) if same == text))
    }
}

/// Whether a text, as JSON writes it, has none of these values in it, however deep what it holds is JSON written as text again. It has none where nothing in it is escaped but quotes and
/// what escapes them (a value would stand there as it is), and it does not stand there.
fn is_surely_without(written: &[u8], values: &[&[u8]]) -> bool {
    // To prepare a search takes longer than most searches, and the longer the value the longer: where its beginning is not, it is not.
    let begins = |value: &&[u8]| memchr::memmem::find(written, &value[..value.len().min(BEGINNING)]).is_some();
    only_quotes_are_escaped(written) && !values.iter().any(begins)
}

fn only_quotes_are_escaped(mut written: &[u8]) -> bool {
    while let Some(at) = memchr::memchr(b'\\', written) {
        let rest = &written[at..];
        let run = rest.iter().take_while(|byte| **byte == b'\\').count();
        if rest.get(run) != Some(&b'"') {
            return false;
        }
        written = &rest[run..];
    }
    true
}
