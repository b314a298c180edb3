//! What a policy writes to standard output and error.

use std::collections::VecDeque;

/// How much of the beginning is kept.
const FIRST: usize = 4 << 10;
/// How much of the end is kept: what went wrong is said last.
const LAST: usize = 12 << 10;

/// The text of one instance, in bounded memory: its beginning and its end.
#[derive(Debug, Default)]
pub(crate) struct Output {
    first: Vec<u8>,
    last: VecDeque<u8>,
    /// Bytes between the two that were let go of.
    left_out: usize,
}

impl Output {
    /// Adds what was written.
    pub(crate) fn add(&mut self, text: &[u8]) {
        let (first, rest) = text.split_at(text.len().min(FIRST - self.first.len()));
        self.first.extend_from_slice(first);
        let skipped = rest.len().saturating_sub(LAST);
        let over = (self.last.len() + rest.len() - skipped).saturating_sub(LAST);
        self.last.drain(..over);
        self.last.extend(&rest[skipped..]);
        self.left_out += skipped + over;
    }

    /// Adds a line of the host's own.
    pub(crate) fn note(&mut self, line: &str) {
        let is_within_line = self.last.back().or(self.first.last()).is_some_and(|byte| *byte != b'\n');
        self.add(format!("{}[{line}]\n", if is_within_line { "\n" } else { "" }).as_bytes());
    }

    /// Takes the text; nothing is left of it.
    pub(crate) fn take(&mut self) -> String {
        let text = self.text();
        *self = Self::default();
        text
    }

    /// The text.
    pub(crate) fn text(&self) -> String {
        let Self { first, last, left_out } = self;
        if first.is_empty() {
            return String::new();
        }
        let (first, rest): (Vec<u8>, Vec<u8>) = (first.clone(), last.iter().copied().collect());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if *left_out == 0 {
            return text(&[first, rest].concat());
        }
        // Half a line may hold half of a value that must be taken out of it.
        let end = first.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let begin = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
        let count = left_out + (first.len() - end) + begin;
        format!("{}[{count} bytes left out]\n{}", text(&first[..end]), text(&rest[begin..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_and_the_end_are_kept() {
        let mut output = Output::default();
        assert_eq!(output.take(), "");
        output.add("h\u{e9}".as_bytes());
        output.add(b"llo\n");
        assert_eq!(output.take(), "h\u{e9}llo\n");
        for n in 0..10_000 {
            output.add(format!("line {n}\n").as_bytes());
        }
        let text = output.take();
        assert!(text.len() < FIRST + LAST + 100, "{}", text.len());
        assert!(text.starts_with("line 0\nline 1\n") && text.ends_with("line 9998\nline 9999\n"), "{text}");
        let left_out: usize = text.split_once('[').unwrap().1.split(' ').next().unwrap().parse().unwrap();
        let all: usize = (0..10_000).map(|n| format!("line {n}\n").len()).sum();
        assert!((all - FIRST - LAST..all - FIRST - LAST + 30).contains(&left_out), "{left_out}");
        output.add(b"no end");
        output.note("stopped");
        assert_eq!(output.take(), "no end\n[stopped]\n");
        output.note("stopped");
        assert_eq!(output.text(), "[stopped]\n");
        output.take();
        output.add(&vec![b'x'; 1 << 20]);
        assert_eq!(output.take(), format!("[{} bytes left out]\n", 1 << 20), "of a line that is cut nothing is kept");
    }
}
