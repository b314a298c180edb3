//! The chain: each line carries the hash of the one before it, so that a line changed, added or taken away is found. Two gateways that wrote one log at once
//! left two chains in it, each of them whole: that is told from a change, and can be closed.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};

use serde_json::Value;

use crate::digest::sha256;
use crate::words::Stage;

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

/// A log of which no line was changed, taken out or put in.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Whole {
    /// Its lines.
    pub events: u64,
    /// The number of the last of them; 0 where there is none.
    pub last: u64,
    /// Where more than one gateway wrote it at once.
    pub crossings: Vec<Crossing>,
    /// The events that close such places.
    pub closings: Vec<Closing>,
}

/// Two gateways wrote one log at once, each with a chain of its own.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Crossing {
    /// The first line that does not follow the one before it, from 1.
    pub line: u64,
    /// The lines that nothing goes on from, but for the last line of all, as `NUMBER:HASH`.
    pub ends: Vec<String>,
    /// The number of the event that closed it; none while it is open.
    pub closed: Option<u64>,
}

/// An event that says it closes a crossing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Closing {
    /// Its number.
    pub event: u64,
    /// What is signed of it.
    pub says: Vec<u8>,
    /// The signature, in base64; empty where there is none.
    pub signature: String,
}

/// What is signed of an event that closes a crossing: the line it follows, and those it names.
pub fn closing(follows: &str, joins: &[String]) -> Vec<u8> {
    ["postern-repair-1", follows, &joins.join("\n")].join("\n").into_bytes()
}

impl Whole {
    /// The crossing that nothing closed yet.
    pub fn open(&self) -> Option<&Crossing> {
        self.crossings.last().filter(|crossing| crossing.closed.is_none())
    }
}

impl Chain {
    /// Appends an event, the members of a JSON object, as a line.
    pub(super) fn line(&mut self, members: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(format!("{{\"seq\":{},\"prev\":\"{}\",", self.next, self.hash).as_bytes());
        out.extend_from_slice(members);
        self.hash = sha256(&out[start..]);
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
            if length > TAIL {
                return Err(std::io::Error::other(format!("its last {TAIL} bytes have no end of a line: they are no events")));
            }
            return Ok((Self::default(), 0));
        };
        let whole = length - (tail.len() as u64 - (end as u64 + 1));
        let start = tail[..end].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        // As `verify` reads it: of what stands in it twice, a reader of JSON would take the other.
        let last = std::str::from_utf8(&tail[start..end]).ok().and_then(Self::of_line);
        let (_, end) = last.ok_or_else(|| std::io::Error::other("its last line is no event, or does not give its hash: it was changed"))?;
        Ok((end, whole))
    }

    /// What a line follows, and what it is; none where its text does not give its hash.
    pub(super) fn of_line(line: &str) -> Option<(Self, Self)> {
        let (head, hash) = line.rsplit_once(",\"hash\":\"")?;
        let own = sha256(head.as_bytes());
        let follows = followed(head).filter(|_| hash.strip_suffix("\"}") == Some(&own))?;
        let next = follows.next.checked_add(1)?;
        Some((follows, Self { next, hash: own }))
    }

    /// Goes on behind a line that is not here.
    pub(super) fn after(seq: u64, hash: &str) -> Self {
        Self { next: seq.saturating_add(1), hash: hash.to_owned() }
    }

    /// The number of the event that comes next.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The hash of the last line.
    pub(super) fn hash(&self) -> &str {
        &self.hash
    }

    /// The last line, as it is named.
    fn named(&self) -> String {
        format!("{}:{}", self.next.saturating_sub(1), self.hash)
    }

    /// Checks a log whose first line is the event `first`: 1, unless what came before is kept elsewhere.
    pub fn verify(log: impl Read, first: u64) -> Result<Whole, Broken> {
        Self::verify_with(log, first, |_, _| ())
    }

    /// The same, and tells the number and the hash of each line.
    pub fn verify_with(log: impl Read, first: u64, mut see: impl FnMut(u64, &str)) -> Result<Whole, Broken> {
        let mut walk = Walk::new(first);
        for (index, line) in BufReader::new(log).lines().enumerate() {
            let number = index as u64 + 1;
            line.map_err(|error| error.to_string())
                .and_then(|line| walk.line(number, &line, &mut see))
                .map_err(|why| Broken { line: number, why })?;
        }
        Ok(walk.end())
    }
}

/// The stage of the event that closes what two gateways left.
const REPAIRED: &str = Stage::Repaired.name();
/// Lines back from which another gateway may have begun: it begins with the last line it finds, while the first one writes on.
const BACK: usize = 65_536;
/// Ends of chains. One that is started again and again while another writes leaves an end each time.
const MOST_ENDS: usize = 4096;

/// Goes through a log line by line.
struct Walk {
    first: u64,
    /// Where the chains have got to, the one of the last line at the end.
    ends: Vec<Chain>,
    /// What came before, the latest at the end.
    before: VecDeque<Chain>,
    found: Whole,
}

impl Walk {
    fn new(first: u64) -> Self {
        Self { first, ends: vec![Chain { next: first, ..Chain::default() }], before: VecDeque::new(), found: Whole::default() }
    }

    fn line(&mut self, number: u64, line: &str, see: &mut impl FnMut(u64, &str)) -> Result<(), String> {
        let (head, hash) = line.rsplit_once(",\"hash\":\"").ok_or("it has no hash")?;
        let own = sha256(head.as_bytes());
        if hash.strip_suffix("\"}") != Some(&own) {
            return Err("its text does not give its hash: it was changed".into());
        }
        let follows = followed(head).ok_or("it does not say what it follows")?;
        if number == 1 && self.first > 1 {
            // What it follows is not here.
            self.ends[0].hash.clone_from(&follows.hash);
        }
        let is = Chain { next: follows.next.checked_add(1).ok_or(MOVED)?, hash: own };
        see(follows.next, &is.hash);
        if let Some(at) = self.ends.iter().rposition(|end| *end == follows) {
            self.ends.remove(at);
        } else if self.ends.contains(&is) || self.before.contains(&is) {
            return Err("it stands there twice: it was put in".into());
        } else if self.before.contains(&follows) && self.ends.len() < MOST_ENDS {
            if self.found.open().is_none() {
                self.found.crossings.push(Crossing { line: number, ..Crossing::default() });
            }
        } else {
            return Err(self.missing(&follows).unwrap_or_else(|| MOVED.into()));
        }
        if let Some((joins, signature)) = joined(line) {
            self.close(&follows, &joins, signature)?;
        }
        self.found.last = self.found.last.max(follows.next);
        if self.before.len() == BACK {
            self.before.pop_front();
        }
        self.ends.push(is);
        self.before.push_back(follows);
        self.found.events += 1;
        Ok(())
    }

    /// What lacks before a line, where it is further on than the one before it.
    fn missing(&self, follows: &Chain) -> Option<String> {
        let end = self.ends.last().filter(|_| self.ends.len() == 1)?;
        (follows.next > end.next).then(|| match self.found.events {
            0 => format!("the log begins with event {}; where what came before is kept elsewhere, say --first {0}", follows.next),
            _ => format!(
                "events {} to {} are not there: they were taken out, or cut off its end before the gateway went on",
                end.next,
                follows.next - 1
            ),
        })
    }

    /// An event that names lines closes a crossing when they are the ends of all chains but its own. That they are there it says too.
    fn close(&mut self, follows: &Chain, joins: &[String], signature: String) -> Result<(), String> {
        let there: HashSet<String> = self.ends.iter().chain(&self.before).map(Chain::named).collect();
        // What is kept elsewhere may hold it.
        let is_elsewhere =
            |join: &str| join.split(':').next().and_then(|number| number.parse::<u64>().ok()).is_some_and(|number| number < self.first);
        if joins.len() > MOST_ENDS || joins.iter().any(|join| !there.contains(join) && !is_elsewhere(join)) {
            return Err("it closes what several gateways left and names a line that is not there: that was taken out".into());
        }
        self.found.closings.push(Closing { event: follows.next, says: closing(&follows.hash, joins), signature });
        let joins: HashSet<&String> = joins.iter().collect();
        if let Some(crossing) = self.found.crossings.last_mut().filter(|crossing| crossing.closed.is_none())
            && self.ends.iter().all(|end| joins.contains(&end.named()))
        {
            crossing.ends = self.ends.drain(..).map(|end| end.named()).collect();
            crossing.closed = Some(follows.next);
            self.before.clear();
        }
        Ok(())
    }

    fn end(mut self) -> Whole {
        self.ends.pop();
        if let Some(crossing) = self.found.crossings.last_mut().filter(|crossing| crossing.closed.is_none()) {
            crossing.ends = self.ends.iter().map(Chain::named).collect();
        }
        self.found
    }
}

const MOVED: &str = "it does not follow the line before it: something was taken out, put in or moved";

/// The lines an event names that closes a crossing, and its signature; none for any other.
fn joined(line: &str) -> Option<(Vec<String>, String)> {
    let event: Value = line.contains(REPAIRED).then(|| serde_json::from_str(line).ok())??;
    let joins: Vec<String> = event["joins"].as_array()?.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let signature = event["signature"].as_str().unwrap_or_default().to_owned();
    (event["stage"] == REPAIRED && !joins.is_empty()).then_some((joins, signature))
}

/// What a line says it follows: where the chain was before it.
fn followed(head: &str) -> Option<Chain> {
    let (number, rest) = head.strip_prefix("{\"seq\":")?.split_once(",\"prev\":\"")?;
    let hash = rest.get(..64).filter(|_| rest[64..].starts_with("\","))?;
    let next: u64 = number.parse().ok()?;
    // In one way only, as JSON has it.
    (next.to_string() == number).then(|| Chain { next, hash: hash.to_owned() })
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
        assert_eq!(Chain::verify(log().as_bytes(), 1).map(|whole| whole.events), Ok(3));
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
        assert_eq!(Chain::verify(rest.as_bytes(), 2).map(|whole| whole.events), Ok(2));
        assert_eq!(line([lines[0], lines[1], lines[2], lines[1]].join("\n")), 4, "put in a second time");
    }

    /// Lines of gateways that wrote at once, by whose they are.
    fn written(order: &[usize]) -> (String, Vec<Chain>) {
        let (mut chains, mut out) = (vec![Chain::default()], Vec::new());
        for (n, who) in order.iter().enumerate() {
            // One that begins goes on from the last line of the first.
            while chains.len() <= *who {
                chains.push(chains[0].clone());
            }
            chains[*who].line(format!("\"n\":{n},\"by\":{who}").as_bytes(), &mut out);
        }
        (String::from_utf8(out).unwrap(), chains)
    }

    #[test]
    fn two_gateways_at_once_are_told_from_a_change() {
        let (log, chains) = written(&[0, 0, 1, 0, 0, 1, 2, 1, 0]);
        let found = Chain::verify(log.as_bytes(), 1).unwrap();
        let open = found.open().unwrap();
        assert_eq!((found.events, open.line, &open.closed), (9, 4, &None));
        assert_eq!(open.ends, [chains[2].named(), chains[1].named()], "but for the last line's");
        let lines: Vec<&str> = log.lines().collect();
        for without in [1, 2, 5] {
            let rest: Vec<&str> = lines.iter().enumerate().filter(|(n, _)| *n != without).map(|(_, line)| *line).collect();
            assert!(Chain::verify(rest.join("\n").as_bytes(), 1).is_err(), "without line {without}");
        }
        assert!(Chain::verify(log.replace("\"n\":5", "\"n\":6").as_bytes(), 1).is_err());
    }

    #[test]
    fn numbers_are_written_in_one_way_and_have_an_end() {
        for number in ["18446744073709551615", "+1", "01", "1 "] {
            let head = format!("{{\"seq\":{number},\"prev\":\"{}\",\"a\":1", "0".repeat(64));
            let line = format!("{head},\"hash\":\"{}\"}}\n", sha256(head.as_bytes()));
            assert!(Chain::verify(line.as_bytes(), 1).is_err(), "{number}");
        }
    }

    #[test]
    fn an_event_that_names_all_ends_closes_it() {
        let (log, mut chains) = written(&[0, 1, 0, 1, 0]);
        let close = |chain: &mut Chain, joins: &[&str]| {
            let mut out = log.clone().into_bytes();
            let event = json!({"stage": REPAIRED, "joins": joins}).to_string();
            chain.line(&event.as_bytes()[1..event.len() - 1], &mut out);
            out
        };
        let left = chains[1].named();
        let open = close(&mut chains[0].clone(), &["7:0000"]);
        let why = Chain::verify(open.as_slice(), 1).unwrap_err().why;
        assert!(why.contains("names a line that is not there"), "{why}");
        let mut closed = close(&mut chains[0], &[&left]);
        let found = Chain::verify(closed.as_slice(), 1).unwrap();
        assert_eq!((found.events, found.open()), (6, None));
        let [crossing] = &found.crossings[..] else { panic!("{found:?}") };
        assert_eq!((crossing.line, crossing.closed, found.closings[0].event), (3, Some(4), 4));
        assert_eq!(crossing.ends, std::slice::from_ref(&left));
        // What was closed over cannot be taken out afterwards: neither the end of the other chain nor all of it.
        let text = String::from_utf8(closed.clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for without in [&[3][..], &[1, 3]] {
            let rest: Vec<&str> = lines.iter().enumerate().filter(|(n, _)| !without.contains(n)).map(|(_, line)| *line).collect();
            let why = Chain::verify(rest.join("\n").as_bytes(), 1).unwrap_err().why;
            assert!(why.contains("that was taken out"), "{without:?}: {why}");
        }
        // Nor where the beginning is kept elsewhere; what lies there may be named.
        let rest = [lines[2], lines[4], lines[5]].join("\n");
        assert!(Chain::verify(rest.as_bytes(), 2).unwrap_err().why.contains("that was taken out"));
        assert!(Chain::verify(lines[5].as_bytes(), 4).is_ok_and(|found| found.closings.len() == 1));
        // From then on there is one chain again.
        let mut late = closed.clone();
        chains[1].line(b"\"n\":9", &mut late);
        assert_eq!(Chain::verify(late.as_slice(), 1).unwrap_err().line, 7);
        chains[0].line(b"\"n\":9", &mut closed);
        assert!(Chain::verify(closed.as_slice(), 1).is_ok_and(|found| found.events == 7));
    }
}
