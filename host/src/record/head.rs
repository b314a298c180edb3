//! Signed heads: how far the log had got at a moment, in words that the gateway signed. A chain shows that nothing was taken out of the middle; a head shows that nothing was
//! cut off the end, and that the whole was not written anew.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chain::Chain;
use super::query::{self, Query, line_with};
use super::rotated;
use super::session::seal::{SigningKey, holds};
use crate::clock::timestamp;
use crate::words::Stage;

/// How far a log had got.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Head {
    /// When that was, RFC 3339.
    pub time: String,
    /// The number of its last event.
    pub seq: u64,
    /// The hash of its last line.
    pub hash: String,
    /// The gateway's signature over all three, in base64.
    pub signature: String,
}

impl Head {
    /// Signs how far a log has got now.
    pub(super) fn sign(key: &SigningKey, seq: u64, hash: &str) -> Self {
        let time = timestamp();
        let signature = key.sign(&signed(&time, seq, hash));
        Self { time, seq, hash: hash.to_owned(), signature }
    }

    /// Whether the gateway with this public key signed it.
    pub fn is_of(&self, key: &[u8]) -> bool {
        holds(&self.signature, &signed(&self.time, self.seq, &self.hash), key)
    }

    /// Where the latest one lies, of a log.
    pub fn file(log: &Path) -> PathBuf {
        let name = log.file_name().unwrap_or_default().to_string_lossy();
        log.with_file_name(format!("{}.head", name.strip_suffix(".jsonl").unwrap_or(&name)))
    }

    /// The latest one of a log; none where there is none.
    pub fn beside(log: &Path) -> anyhow::Result<Option<Self>> {
        let file = Self::file(log);
        match std::fs::read(&file) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text).with_context(|| format!("{} is no signed head", file.display()))?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
    }

    /// Those of a witness file, a line each, and how many lines are none: half written, when its disk was full or a machine lost its power.
    pub fn all(file: &Path) -> anyhow::Result<(Vec<Self>, usize)> {
        let read = || format!("cannot read {}", file.display());
        let (mut heads, mut unread) = (Vec::new(), 0);
        for line in BufReader::new(File::open(file).with_context(read)?).split(b'\n') {
            let line = line.with_context(read)?;
            match serde_json::from_slice(&line) {
                Ok(head) => heads.push(head),
                Err(_) if line.is_empty() => {}
                Err(_) => unread += 1,
            }
        }
        Ok((heads, unread))
    }

    /// Whether its line is in a log, or the one with which a gateway went on behind it that had found it gone. Lines are read as the chain reads them.
    pub(super) fn is_in(&self, log: &Path) -> io::Result<bool> {
        if line_of(log, self.seq)?.is_some_and(|line| self.is_of_line(&line)) || self.is_gone_on_from(log)? {
            return Ok(true);
        }
        // Where several gateways wrote it once, numbers do not rise: before it is said to be gone, all of it is looked through.
        let question = Query { text: Some(self.hash.clone()), ..Query::default() };
        let mut is_there = false;
        query::ask(log, &question, |line| {
            is_there = self.is_of_line(line);
            if is_there { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(is_there)
    }

    fn is_of_line(&self, line: &[u8]) -> bool {
        std::str::from_utf8(line).ok().and_then(Chain::of_line).is_some_and(|(_, is)| is == Chain::after(self.seq, &self.hash))
    }

    /// Whether the next event is that of a gateway that found this head gone, and said so.
    fn is_gone_on_from(&self, log: &Path) -> io::Result<bool> {
        let Some(line) = line_of(log, self.seq.saturating_add(1))? else { return Ok(false) };
        let Ok(text) = std::str::from_utf8(&line) else { return Ok(false) };
        let follows = Chain::of_line(text).is_some_and(|(follows, _)| follows == Chain::after(self.seq, &self.hash));
        let said: Value = serde_json::from_str(text).unwrap_or_default();
        let head: Option<Self> = serde_json::from_value(said["cutOff"]["head"].clone()).ok();
        Ok(follows && said["stage"] == Stage::Started.name() && head.as_ref() == Some(self))
    }
}

/// The line of a log with this number, in the file that would have it.
fn line_of(log: &Path, seq: u64) -> io::Result<Option<Vec<u8>>> {
    for path in rotated::files(log).iter().rev() {
        let begins = rotated::first(log, path);
        if begins.is_some_and(|first| first > seq) {
            continue;
        }
        let line = line_with(&File::open(path)?, seq)?;
        // Of the file that is written its name does not tell where it begins: it may be in the one before.
        if line.is_some() || begins.is_some() {
            return Ok(line);
        }
    }
    Ok(None)
}

/// What is signed.
fn signed(time: &str, seq: u64, hash: &str) -> Vec<u8> {
    format!("postern-head-1\n{time}\n{seq}\n{hash}").into_bytes()
}

/// What signed heads say of a log that was gone through.
#[derive(Debug, Default)]
pub struct Heads {
    /// By their number: hashes that must be there, and when they were signed.
    wanted: std::collections::BTreeMap<u64, Vec<(String, String)>>,
}

impl Heads {
    /// Heads that are held against a log. One that the key did not sign is an error: somebody wrote it.
    pub fn new(heads: impl IntoIterator<Item = Head>, key: &[u8]) -> anyhow::Result<Self> {
        let mut this = Self::default();
        for head in heads {
            anyhow::ensure!(head.is_of(key), "the head of event {} ({}) is not signed by this gateway: it was put in", head.seq, head.time);
            let known = this.wanted.entry(head.seq).or_default();
            if !known.iter().any(|(hash, _)| *hash == head.hash) {
                known.push((head.hash, head.time));
            }
        }
        Ok(this)
    }

    /// A line of the log, by its number and hash.
    pub fn see(&mut self, seq: u64, hash: &str) {
        if let Some(known) = self.wanted.get_mut(&seq) {
            known.retain(|(wanted, _)| wanted != hash);
            if known.is_empty() {
                self.wanted.remove(&seq);
            }
        }
    }

    /// What is wrong with a log whose events go from one number to another; nothing where all heads are in it. What is kept elsewhere is not looked for.
    pub fn told(&self, first: u64, last: u64) -> Result<(), String> {
        let Some((seq, known)) = self.wanted.range(first..).next() else { return Ok(()) };
        let time = known.first().map(|(_, time)| time.as_str()).unwrap_or_default();
        if *seq <= last {
            return Err(format!(
                "event {seq} is another than the one that the gateway signed at {time}: the log was written anew from there, or from before"
            ));
        }
        // The furthest says how much is gone.
        let (seq, known) = self.wanted.last_key_value().unwrap_or((seq, known));
        let time = known.first().map(|(_, time)| time.as_str()).unwrap_or(time);
        Err(format!(
            "the log ends with event {last}, and the gateway signed event {seq} at {time}: its end was cut off, {} events at least",
            seq - last
        ))
    }
}
