//! Text, a line at a time: container logs.

use std::sync::Arc;

use crate::mask::{Plan, Report, Unreadable};

/// Masks lines as they become whole, so that a match is found across pieces.
pub struct Lines {
    plan: Arc<Plan>,
    pending: Vec<u8>,
    largest: usize,
    /// How much was hidden.
    pub report: Report,
}

impl Lines {
    /// Begins a text.
    pub fn new(plan: Arc<Plan>, largest: usize) -> Self {
        Self { plan, pending: Vec::new(), largest, report: Report::new() }
    }

    /// Takes a piece; whole lines are appended to `out`.
    pub fn push(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Unreadable> {
        self.pending.extend_from_slice(data);
        if let Some(end) = memchr::memrchr(b'\n', &self.pending) {
            let rest = self.pending.split_off(end + 1);
            let lines = std::mem::replace(&mut self.pending, rest);
            self.hide(&lines, out);
        }
        if self.pending.len() > self.largest { Err(Unreadable::TooLarge) } else { Ok(()) }
    }

    /// Ends the text.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let rest = std::mem::take(&mut self.pending);
        self.hide(&rest, out);
    }

    fn hide(&mut self, lines: &[u8], out: &mut Vec<u8>) {
        for line in lines.split_inclusive(|b| *b == b'\n') {
            let text = String::from_utf8_lossy(line);
            match self.plan.hide_text(&text, &mut self.report) {
                Some(hidden) => out.extend_from_slice(hidden.as_bytes()),
                None => out.extend_from_slice(line),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::{Mask, Selector, TokenKey, Transform};

    #[test]
    fn a_match_is_found_across_pieces() {
        let mask = Mask { what: Selector::Text("tok-[0-9]+".into()), how: Transform::Redact, when: vec![] };
        let plan = Arc::new(Plan::compile(&[mask], &TokenKey::new(&[1; 32])).unwrap());
        let (mut lines, mut out) = (Lines::new(plan, 100), Vec::new());
        for piece in ["a to", "k-12", "3 b\ntok-4", ""] {
            lines.push(piece.as_bytes(), &mut out).unwrap();
        }
        assert_eq!(out, b"a postern-masked b\n");
        lines.finish(&mut out);
        assert_eq!(out, b"a postern-masked b\npostern-masked");
        assert!(lines.push(&[b'x'; 101], &mut out).is_err());
    }
}
