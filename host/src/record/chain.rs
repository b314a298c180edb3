//! The chain: each line carries the hash of the one before it, so that a line changed, added or taken away is found.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;

/// Where a log has got to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    next: u64,
    hash: String,
}

impl Default for Chain {
    fn default() -> Self {
        Self { next: 1, hash: "0".repeat(64) }
    }
}

/// What is wrong with a log.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong.
    pub why: String,
}

impl Chain {
    /// Appends an event, the members of a JSON object, as a line.
    pub(super) fn line(&mut self, members: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(format!("{{\"seq\":{},\"prev\":\"{}\",", self.next, self.hash).as_bytes());
        out.extend_from_slice(members);
        self.hash = hex(&out[start..]);
        self.next += 1;
        out.extend_from_slice(b",\"hash\":\"");
        out.extend_from_slice(self.hash.as_bytes());
        out.extend_from_slice(b"\"}\n");
    }

    /// Finds the end of a log: its chain, and the length of its whole lines.
    pub(super) fn resume(file: &mut File) -> std::io::Result<(Self, u64)> {
        const TAIL: u64 = 4 << 20;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut tail = Vec::new();
        file.take(TAIL.min(length)).read_to_end(&mut tail)?;
        let Some(end) = tail.iter().rposition(|b| *b == b'\n') else {
            return Ok((Self::default(), 0));
        };
        let whole = length - (tail.len() as u64 - (end as u64 + 1));
        let start = tail[..end].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let last: Value = serde_json::from_slice(&tail[start..end])?;
        let field = |name: &str| last.get(name).cloned().ok_or_else(|| std::io::Error::other(format!("the last line has no {name}")));
        let next = field("seq")?.as_u64().unwrap_or(0) + 1;
        Ok((Self { next, hash: field("hash")?.as_str().unwrap_or_default().to_owned() }, whole))
    }

    /// The number of the event that comes next.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Checks a log whose first line is the event `first`: 1, unless what came before is kept elsewhere. The number of lines when it is whole.
    pub fn verify(log: impl Read, first: u64) -> Result<u64, Broken> {
        let mut chain = Self { next: first, ..Self::default() };
        for (index, line) in BufReader::new(log).lines().enumerate() {
            let number = index as u64 + 1;
            let broken = |why: &str| Broken { line: number, why: why.into() };
            let line = line.map_err(|e| broken(&e.to_string()))?;
            let (head, hash) = line.rsplit_once(",\"hash\":\"").ok_or_else(|| broken("it has no hash"))?;
            if hash.strip_suffix("\"}") != Some(&hex(head.as_bytes())) {
                return Err(broken("its text does not give its hash: it was changed"));
            }
            if number == 1 && first > 1 {
                // What it follows is not here.
                let before: Value = serde_json::from_str(&line).map_err(|e| broken(&e.to_string()))?;
                chain.hash = before["prev"].as_str().unwrap_or_default().to_owned();
            }
            if !head.starts_with(&format!("{{\"seq\":{},\"prev\":\"{}\",", chain.next, chain.hash)) {
                return Err(broken("it does not follow the line before it: something was taken out, put in or moved"));
            }
            chain = Self { next: chain.next + 1, hash: hex(head.as_bytes()) };
        }
        Ok(chain.next - first)
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 0xF)]);
    digest(&SHA256, bytes).as_ref().iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn log() -> String {
        let (mut chain, mut out) = (Chain::default(), Vec::new());
        for event in [json!({"a": 1}), json!({"b": {"c": {}}}), json!({"d": "}}"})] {
            let text = event.to_string();
            chain.line(&text.as_bytes()[1..text.len() - 1], &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_line_is_json_and_the_whole_verifies() {
        assert_eq!(Chain::verify(log().as_bytes(), 1), Ok(3));
        let lines: Vec<Value> = log().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!((&lines[1]["b"], &lines[2]["d"]), (&json!({"c": {}}), &json!("}}")));
    }

    #[test]
    fn a_changed_removed_or_moved_line_is_found() {
        let log = log();
        let lines: Vec<&str> = log.lines().collect();
        let line = |text: String| Chain::verify(text.as_bytes(), 1).unwrap_err().line;
        assert_eq!(line(log.replace("\"a\":1", "\"a\":2")), 1);
        assert_eq!(line([lines[0], lines[2]].join("\n")), 2);
        assert_eq!(line([lines[1], lines[0], lines[2]].join("\n")), 1);
        // Where the beginning is kept elsewhere that is said, and not found out.
        let rest = [lines[1], lines[2]].join("\n");
        assert_eq!(line(rest.clone()), 1);
        assert_eq!(Chain::verify(rest.as_bytes(), 2), Ok(2));
    }
}
