//! What is looked for in recordings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::format::Kind;
use super::read::{Recorded, TimelineItem};
use crate::record::shown::operation_of;

/// The longest line that is told of a hit, in bytes.
const LONGEST_LINE: usize = 4 << 10;

/// Which sessions are meant. What is absent is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The caller's name, or a part of it.
    pub user: Option<String>,
    /// The cluster that it is of.
    pub cluster: Option<String>,
    /// Unix seconds at or after which something was done.
    pub since: Option<u64>,
    /// Unix seconds at or before which something was done.
    pub until: Option<u64>,
    /// Something was done in this namespace.
    pub namespace: Option<String>,
    /// Something with this verb.
    pub verb: Option<String>,
    /// Something on this resource, `secrets` or `pods/exec`.
    pub resource: Option<String>,
    /// Something on this pod.
    pub pod: Option<String>,
    /// Something with this verdict.
    pub verdict: Option<String>,
    /// Something with this text in it: a command, output or a call.
    pub text: Option<String>,
}

impl Filter {
    /// The times between which something was done, in Unix seconds.
    pub fn times(&self) -> (u64, u64) {
        (self.since.unwrap_or(0), self.until.unwrap_or(i64::MAX as u64))
    }

    /// Whether recordings must be read to tell.
    pub fn looks_inside(&self) -> bool {
        [&self.namespace, &self.verb, &self.resource, &self.pod, &self.verdict, &self.text].iter().any(|wanted| wanted.is_some())
    }

    /// Whether one thing is all that is asked of one thing. A text may be anywhere else in the session.
    pub fn fits(&self, entry: &TimelineItem) -> bool {
        let (facts, second, (since, until)) = (entry.facts(), entry.micros() / 1_000_000, self.times());
        let is = |wanted: &Option<String>, path: &str| {
            wanted.as_ref().is_none_or(|wanted| facts.pointer(path).and_then(Value::as_str) == Some(wanted.as_str()))
        };
        let pods = facts.pointer("/target/resource").and_then(Value::as_str) == Some("pods");
        second >= since
            && second <= until
            && is(&self.namespace, "/target/namespace")
            && is(&self.verb, "/verb")
            && self.resource.as_ref().is_none_or(|wanted| resource_of(facts) == *wanted || facts["target"]["resource"] == wanted.as_str())
            && self.pod.as_ref().is_none_or(|pod| pods && facts["target"]["name"] == pod.as_str())
            && is(&self.verdict, "/verdict")
    }
}

fn resource_of(facts: &Value) -> String {
    let part = |name: &str| facts["target"][name].as_str().unwrap_or_default().to_owned();
    match part("subresource").as_str() {
        "" => part("resource"),
        subresource => format!("{}/{subresource}", part("resource")),
    }
}

/// Where a text is in a session.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hit {
    /// Unix microseconds.
    pub micros: u64,
    /// The stream it is in, by the name of its recording; none for a call.
    pub stream: Option<String>,
    /// In what: `command`, `output`, `input`, `request`, `answer` or `call`.
    pub what: String,
    /// The line it is in, as it was written; of a body the id of its call.
    pub line: String,
}

/// Where a text is in a recording, a line once; at most so many.
pub fn hits(recorded: &Recorded, text: &str, most: usize) -> Vec<Hit> {
    let mut hits = Vec::new();
    if text.is_empty() {
        return hits;
    }
    let stream = recorded.is_stream().then(|| recorded.name());
    let hit = |micros: u64, what: &str, line: &str| {
        let end = line.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= LONGEST_LINE).last().unwrap_or(0);
        Hit { micros, stream: stream.clone(), what: what.into(), line: line[..end].into() }
    };
    let start = recorded.frames().next().map_or(0, |(_, micros, _)| micros);
    if recorded.is_stream() {
        let command = operation_of(&recorded.header);
        if command.contains(text) {
            hits.push(hit(start, "command", &command));
        }
    }
    let finder = memchr::memmem::Finder::new(text.as_bytes());
    // A text may be cut in two by frames, and what came of standard error may stand between: each is looked at as a whole.
    for (wanted, name) in [(Kind::Stdout, "output"), (Kind::Stderr, "output"), (Kind::Stdin, "input")] {
        let (mut whole, mut times) = (Vec::new(), Vec::new());
        for (kind, micros, payload) in recorded.frames() {
            if kind == wanted {
                times.push((whole.len(), micros));
                whole.extend_from_slice(payload);
            }
        }
        // Each byte is looked at once: the next is looked for behind the line of the one before.
        let mut from = 0;
        while let Some(at) = finder.find(&whole[from..]).map(|at| from + at)
            && hits.len() < most
        {
            let begin = memchr::memrchr(b'\n', &whole[from..at]).map_or(from, |found| from + found + 1);
            let end = memchr::memchr(b'\n', &whole[at..]).map_or(whole.len(), |end| at + end);
            let micros = times[times.partition_point(|(start, _)| *start <= at) - 1].1;
            // Of a line that is too long, what is around the text.
            let shown = begin.max(at.saturating_sub(LONGEST_LINE / 4));
            hits.push(hit(micros, name, &String::from_utf8_lossy(&whole[shown..end.min(shown + LONGEST_LINE)])));
            from = end;
        }
    }
    for (kind, micros, payload) in recorded.frames() {
        if hits.len() >= most {
            break;
        }
        if matches!(kind, Kind::Request | Kind::Response) && finder.find(payload).is_some() {
            let about = payload.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let about: Value = serde_json::from_slice(about).unwrap_or_default();
            let name = if kind == Kind::Request { "request" } else { "answer" };
            hits.push(hit(micros, name, about["id"].as_str().unwrap_or("?")));
        }
        if kind == Kind::Call {
            let event: Value = serde_json::from_slice(payload).unwrap_or_default();
            let shown = operation_of(&event);
            if shown.contains(text) || finder.find(payload).is_some() {
                hits.push(hit(micros, "call", &shown));
            }
        }
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::session::format::frame;

    fn recorded(output: &[&[u8]]) -> Recorded {
        let mut bytes = crate::record::session::format::MAGIC.to_vec();
        frame(Kind::Header, 1, br#"{"kind":"stream","command":{"argv":["run"]},"target":{}}"#, &mut bytes);
        for (at, piece) in output.iter().enumerate() {
            frame(Kind::Stdout, 10 + at as u64, piece, &mut bytes);
        }
        Recorded::new("0123456789abcdef/a.stream", bytes).unwrap()
    }

    #[test]
    fn a_line_is_told_once_with_its_time_and_pieces_are_one_text() {
        let found = hits(&recorded(&[b"one nee", b"dle, needle\ntwo\n", b"needle three"]), "needle", 9);
        let told: Vec<_> = found.iter().map(|hit| (hit.micros, hit.what.as_str(), hit.line.as_str())).collect();
        assert_eq!(told, [(10, "output", "one needle, needle"), (12, "output", "needle three")]);
        assert_eq!(found[0].stream.as_deref(), Some("a"));
        assert_eq!(hits(&recorded(&[b"needle\nneedle\n"]), "needle", 1).len(), 1);
        assert!(hits(&recorded(&[b"needle"]), "", 9).is_empty());
    }

    /// Were each match looked at from the beginning of its line, this would take hours.
    #[test]
    fn a_long_line_of_matches_is_looked_at_once() {
        let line = vec![b'a'; 8 << 20];
        let found = hits(&recorded(&[&line]), "a", 100);
        assert_eq!(found.len(), 1);
        assert!(found[0].line.len() <= LONGEST_LINE);
        let lines = b"a\n".repeat(1 << 20);
        assert_eq!(hits(&recorded(&[&lines]), "a", 100).len(), 100);
    }
}
