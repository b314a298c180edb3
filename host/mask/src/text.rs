//! Values hidden in text that flows: what a container writes, and its log.
//!
//! A match is found across pieces, frames and ANSI sequences. What may be the beginning of one is held back for a second, on a terminal or at a
//! line's end for a moment while it is short, so that whoever types or follows notices nothing. Everything else goes on at once.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use memchr::memchr;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::{Anchored, Input};

use super::literals::Literals;
use super::placeholder::{self, Transform};
use super::plan::{InvalidMask, LARGEST_PROGRAM, LARGEST_STATES, MaskCounts};
use super::token::{Scope, TokenKey};

/// How long a short beginning is held back on a terminal, or at the end of a line.
const SHORT_WAIT: Duration = Duration::from_millis(40);
/// How long any other is.
const LONG_WAIT: Duration = Duration::from_secs(1);
/// From how many bytes on a beginning counts as longer.
const LONGER: usize = 4;
/// The furthest back a beginning is looked for.
const REACH: usize = 8 << 10;
/// The most that is held back.
const MOST_HELD: usize = 64 << 10;
/// Whether text or not is told by so many bytes.
const LOOKED_AT: usize = 8 << 10;
/// Longest ANSI sequence that is waited for.
const LONGEST_SEQUENCE: usize = 256;

/// A text mask compiled for flowing text.
#[derive(Debug)]
pub struct Pattern {
    regex: regex::bytes::Regex,
    /// Tells whether a text may be the beginning of a match; none when it cannot be built, and then a line is held until it is whole.
    dfa: Option<DFA>,
    /// The bytes a match can begin with.
    first: Box<[bool; 256]>,
    how: Transform,
}

impl Pattern {
    /// Compiles a regular expression.
    pub(super) fn compile(pattern: &str, how: Transform) -> Result<Self, InvalidMask> {
        let regex = regex::bytes::RegexBuilder::new(pattern)
            .size_limit(LARGEST_PROGRAM)
            .dfa_size_limit(LARGEST_STATES)
            .build()
            .map_err(|error| InvalidMask::no_expression(&error))?;
        let syntax = regex_automata::util::syntax::Config::new().utf8(false);
        let dfa = DFA::builder()
            .configure(DFA::config().unicode_word_boundary(true).cache_capacity(LARGEST_STATES).skip_cache_capacity_check(true))
            .syntax(syntax)
            .thompson(regex_automata::nfa::thompson::Config::new().utf8(false))
            .build(pattern)
            .ok();
        let mut first = Box::new([dfa.is_none(); 256]);
        if let Some(dfa) = &dfa {
            let mut cache = dfa.create_cache();
            for before in [None, Some(b'\n'), Some(b' '), Some(b'a')] {
                for byte in 0..=u8::MAX {
                    let hay: Vec<u8> = before.into_iter().chain([byte]).collect();
                    first[usize::from(byte)] |= may_go_on(dfa, &mut cache, &hay, hay.len() - 1);
                }
            }
        }
        Ok(Self { regex, dfa, first, how })
    }

    /// What it takes of the memory, about, with that for text that does not flow: its expression twice, forwards and backwards, and what is made of them while they
    /// search.
    pub(super) fn size(&self) -> usize {
        let program = self.dfa.as_ref().map_or(LARGEST_PROGRAM, |dfa| dfa.get_nfa().memory_usage());
        5 * program + LARGEST_STATES / 4
    }
}

/// Whether the text from `start` to its end may be the beginning of a match, or is one that may grow.
fn may_go_on(dfa: &DFA, cache: &mut Cache, hay: &[u8], start: usize) -> bool {
    let input = Input::new(hay).span(start..hay.len()).anchored(Anchored::Yes);
    let Ok(mut state) = dfa.start_state_forward(cache, &input) else { return true };
    for byte in &hay[start..] {
        match dfa.next_state(cache, state, *byte) {
            Ok(next) if next.is_dead() => return false,
            Ok(next) if next.is_quit() => return true,
            Ok(next) => state = next,
            Err(_) => return true,
        }
    }
    // A match is told a byte late: one that ended before the last byte goes on only if something can follow.
    !state.is_match() || (0..=u8::MAX).any(|byte| dfa.next_state(cache, state, byte).map_or(true, |next| !next.is_dead()))
}

/// What is hidden in a text.
pub struct TextRules {
    /// Regular expressions.
    pub patterns: Vec<Arc<Pattern>>,
    /// Known values, and how they are written.
    pub literals: Option<(Arc<Literals>, Transform)>,
    /// What tokens are made with.
    pub key: TokenKey,
    /// Where they are compared.
    pub scope: Scope,
}

impl TextRules {
    /// Whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty() && self.literals.is_none()
    }
}

/// One text on its way.
pub struct TextMask {
    rules: Arc<TextRules>,
    /// The states of each pattern, once one may begin.
    caches: Vec<Option<Cache>>,
    pending: Vec<u8>,
    /// What of the text was looked at to tell whether it is one.
    seen: usize,
    binary: bool,
    terminal: bool,
    wait: Option<Duration>,
    /// How much was hidden.
    pub report: MaskCounts,
}

impl TextMask {
    /// Begins a text; `terminal` says whether somebody may be typing.
    pub fn new(rules: Arc<TextRules>, terminal: bool) -> Self {
        let caches = rules.patterns.iter().map(|_| None).collect();
        Self { rules, caches, pending: Vec::new(), seen: 0, binary: false, terminal, wait: None, report: MaskCounts::new() }
    }

    /// Takes a piece; what can go on is appended to `out`.
    pub fn push(&mut self, data: &[u8], out: &mut Vec<u8>) {
        if self.seen < LOOKED_AT {
            self.binary |= looks_binary(self.seen, &data[..data.len().min(LOOKED_AT - self.seen)]);
            self.seen += data.len();
        }
        self.pending.extend_from_slice(data);
        self.work(false, out);
    }

    /// How long what is held back may be held yet; none when nothing is.
    pub fn wait(&self) -> Option<Duration> {
        self.wait
    }

    /// Lets go what was held back long enough, or at the end of the text.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        self.work(true, out);
    }

    fn work(&mut self, all: bool, out: &mut Vec<u8>) {
        let mut pending = std::mem::take(&mut self.pending);
        let plain = Plain::of(&pending);
        let mut spans = self.spans(&pending, &plain);
        let mut cut = pending.len();
        if !all {
            cut = plain.at(self.hold_from(plain.text(&pending)));
            if plain.stripped.is_some() {
                cut = cut.min(self.hold_from(&pending));
            }
            if plain.whole.saturating_sub(cut) > MOST_HELD {
                cut = plain.whole;
            }
            cut = cut.min(plain.whole);
            // A match that reaches into what is held back is held with it.
            if let Some(span) = spans.iter().find(|span| span.at.start < cut && span.at.end > cut) {
                cut = span.at.start;
            }
        }
        spans.retain(|span| span.at.end <= cut);
        self.wait = self.wait_for(&pending[cut..]);
        let mut from = 0;
        for span in spans {
            out.extend_from_slice(&pending[from..span.at.start]);
            from = span.at.end;
            self.hide(&pending, &plain, span, out);
        }
        out.extend_from_slice(&pending[from..cut]);
        pending.drain(..cut);
        self.pending = pending;
    }

    /// How long a beginning is held. The end of nearly any line may be one of base64 that goes on in the next: whoever follows a log waits no second
    /// for each.
    fn wait_for(&self, held: &[u8]) -> Option<Duration> {
        let is_short = held.trim_ascii_end().len() < LONGER && (self.terminal || held.contains(&b'\n'));
        (!held.is_empty()).then_some(if is_short { SHORT_WAIT } else { LONG_WAIT })
    }

    /// What is to be hidden, in order, without overlaps: in what a terminal shows, and in the bytes as they are. A title or a sequence that
    /// is none may hold a value too.
    fn spans(&self, pending: &[u8], plain: &Plain) -> Vec<Span> {
        let shown = self.find(plain.text(pending)).into_iter();
        let of_shown = |(range, how): (Range<usize>, Transform)| Span {
            at: plain.at(range.start)..plain.at(range.end - 1) + 1,
            shown: Some(range),
            how,
        };
        let mut spans: Vec<Span> = shown.map(of_shown).collect();
        if plain.stripped.is_none() {
            return spans;
        }
        for (at, how) in self.find(pending) {
            let first = spans.partition_point(|span| span.at.end <= at.start);
            let count = spans[first..].iter().take_while(|span| span.at.start < at.end).count();
            let touching = first..first + count;
            let is_hidden = |position: usize| spans[touching.clone()].iter().any(|span| span.at.contains(&position));
            if count > 0 && plain.positions(&at).all(is_hidden) {
                continue;
            }
            let (mut start, mut end, mut how) = (at.start, at.end, how);
            for span in &spans[touching.clone()] {
                (start, end, how) = (start.min(span.at.start), end.max(span.at.end), how.stronger(span.how));
            }
            spans.splice(touching, [Span { at: start..end, shown: None, how }]);
        }
        spans
    }

    fn hide(&mut self, pending: &[u8], plain: &Plain, span: Span, out: &mut Vec<u8>) {
        let Span { at, shown, how } = span;
        *self.report.entry("text".into()).or_default() += 1;
        if self.binary {
            // In an archive every byte has its place.
            out.extend(std::iter::repeat_n(b'*', at.len()));
            return;
        }
        let value = shown.clone().map_or(&pending[at.clone()], |range| &plain.text(pending)[range]);
        if how != Transform::Remove {
            out.extend_from_slice(placeholder::hide(how, value, &self.rules.key, &self.rules.scope, b"").as_bytes());
        }
        // Colours that changed within the match go on after it.
        let Some(range) = shown.filter(|range| at.len() > range.len()) else { return };
        let mut next = at.start;
        for index in range {
            let position = plain.at(index);
            let between = &pending[next..position];
            if !between.is_empty() && self.find(between).is_empty() {
                out.extend_from_slice(between);
            }
            next = position + 1;
        }
    }

    /// Matches in order, without overlaps.
    fn find(&self, text: &[u8]) -> Vec<(Range<usize>, Transform)> {
        let mut found: Vec<(Range<usize>, Transform)> = Vec::new();
        for pattern in &self.rules.patterns {
            found.extend(pattern.regex.find_iter(text).filter(|m| !m.is_empty()).map(|m| (m.range(), pattern.how)));
        }
        if let Some((literals, how)) = &self.rules.literals {
            found.extend(literals.find(text).into_iter().map(|range| (range, *how)));
        }
        found.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
        let mut merged: Vec<(Range<usize>, Transform)> = Vec::with_capacity(found.len());
        for (range, how) in found {
            match merged.last_mut() {
                Some((last, of_last)) if range.start < last.end => {
                    last.end = last.end.max(range.end);
                    *of_last = of_last.stronger(how);
                }
                _ => merged.push((range, how)),
            }
        }
        merged
    }

    /// Where what may be the beginning of a match begins.
    fn hold_from(&mut self, text: &[u8]) -> usize {
        let floor = text.len().saturating_sub(REACH);
        let mut hold = text.len();
        for (pattern, cache) in self.rules.patterns.iter().zip(&mut self.caches) {
            let Some(dfa) = &pattern.dfa else {
                hold = hold.min(memchr::memrchr(b'\n', text).map_or(0, |at| at + 1));
                continue;
            };
            let mut begins = |at: usize| {
                pattern.first[usize::from(text[at])] && may_go_on(dfa, cache.get_or_insert_with(|| dfa.create_cache()), text, at)
            };
            let begins = (floor..hold).find(|at| begins(*at));
            hold = begins.unwrap_or(hold);
        }
        if let Some((literals, _)) = &self.rules.literals {
            hold = hold.min(literals.hold_from(text));
        }
        hold
    }
}

/// Something to hide.
struct Span {
    /// Where it stands.
    at: Range<usize>,
    /// Where it stands in the text without sequences; none when it is none of that text.
    shown: Option<Range<usize>>,
    how: Transform,
}

/// NUL bytes, or what gzip begins with, are in no text. A client's word for it is not asked for.
fn looks_binary(seen: usize, data: &[u8]) -> bool {
    memchr(0, data).is_some() || seen == 0 && data.starts_with(&[0x1F, 0x8B])
}

/// A text without its ANSI sequences, and where its bytes stood.
struct Plain {
    stripped: Option<(Vec<u8>, Vec<u32>)>,
    /// Up to where no sequence is broken off.
    whole: usize,
}

impl Plain {
    fn of(bytes: &[u8]) -> Self {
        let Some(first) = memchr(0x1B, bytes) else { return Self { stripped: None, whole: bytes.len() } };
        let (mut text, mut at) = (bytes[..first].to_vec(), (0..first as u32).collect::<Vec<_>>());
        let (mut next, mut whole) = (first, bytes.len());
        while next < bytes.len() {
            if bytes[next] != 0x1B {
                text.push(bytes[next]);
                at.push(next as u32);
                next += 1;
                continue;
            }
            match sequence(&bytes[next..]) {
                Some(length) => next += length,
                None if bytes.len() - next < LONGEST_SEQUENCE => {
                    whole = next;
                    break;
                }
                None => next += 1,
            }
        }
        Self { stripped: Some((text, at)), whole }
    }

    fn text<'a>(&'a self, bytes: &'a [u8]) -> &'a [u8] {
        self.stripped.as_ref().map_or(&bytes[..self.whole], |(text, _)| text)
    }

    /// Where the bytes of the text stand that lie within.
    fn positions(&self, within: &Range<usize>) -> impl Iterator<Item = usize> {
        let positions = self.stripped.as_ref().map_or(&[][..], |(_, at)| at);
        let (start, end) = (within.start as u32, within.end as u32);
        let first = positions.partition_point(|at| *at < start);
        positions[first..].iter().take_while(move |at| **at < end).map(|at| *at as usize)
    }

    /// Where a byte of the text stood.
    fn at(&self, index: usize) -> usize {
        self.stripped.as_ref().map_or(index, |(_, at)| at.get(index).map_or(self.whole, |at| *at as usize))
    }
}

/// The length of the sequence at the beginning (ECMA-48, sections 5.4 and 5.6); none when it is not whole.
fn sequence(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        b'[' => bytes[2..].iter().position(|byte| matches!(byte, 0x40..=0x7E)).map(|at| at + 3),
        b']' | b'P' | b'^' | b'_' => {
            let end = bytes[2..].iter().position(|byte| matches!(byte, 0x07 | 0x1B))? + 2;
            if bytes[end] == 0x07 { Some(end + 1) } else { bytes.get(end + 1).map(|_| end + 2) }
        }
        b' '..=b'/' => Some(3).filter(|length| bytes.len() >= *length),
        _ => Some(2),
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
