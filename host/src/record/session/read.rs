//! Reading sessions: the recordings of a credential, in one timeline.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::file::PART;
use super::format::{Kind, Reader};

/// One recording of a session.
pub struct Recorded {
    /// Its file.
    pub path: PathBuf,
    /// What it is of.
    pub header: Value,
    bytes: Vec<u8>,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Entry {
    /// An API call: its audit event.
    Call {
        /// Unix microseconds.
        micros: u64,
        /// The event.
        event: Value,
    },
    /// A stream was opened.
    Stream {
        /// Unix microseconds.
        micros: u64,
        /// The name of its recording, without the ending.
        name: String,
        /// What it is of.
        header: Value,
        /// How it ended, in a word or two.
        ended: String,
    },
}

impl Entry {
    /// Unix microseconds.
    pub fn micros(&self) -> u64 {
        match self {
            Self::Call { micros, .. } | Self::Stream { micros, .. } => *micros,
        }
    }

    /// What it is of: an audit event, or a stream's header.
    pub fn facts(&self) -> &Value {
        match self {
            Self::Call { event, .. } => event,
            Self::Stream { header, .. } => header,
        }
    }
}

impl Recorded {
    /// Reads a recording.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let header = Reader::new(&bytes)
            .with_context(|| path.display().to_string())?
            .find_map(|frame| frame.ok().filter(|frame| frame.kind == Kind::Header))
            .and_then(|frame| serde_json::from_slice(frame.payload).ok())
            .unwrap_or(Value::Null);
        Ok(Self { path: path.to_owned(), header, bytes })
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it is of a stream.
    pub fn is_stream(&self) -> bool {
        self.header["kind"] == "stream"
    }

    /// Its name, without the ending.
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        name.split('.').next().unwrap_or_default().to_owned()
    }

    /// Whether the gateway writes on, or did not get to end it.
    pub fn is_unfinished(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == PART)
    }

    /// What it holds: kind, time and payload. It ends where the file cannot be read on.
    pub fn frames(&self) -> impl Iterator<Item = (Kind, u64, &[u8])> {
        let reader = Reader::new(&self.bytes).ok();
        reader.into_iter().flatten().map_while(Result::ok).map(|frame| (frame.kind, frame.micros, frame.payload))
    }

    /// Its output, standard output and error as they came.
    pub fn output(&self) -> Vec<u8> {
        self.frames()
            .filter(|(kind, ..)| matches!(kind, Kind::Stdout | Kind::Stderr))
            .flat_map(|(_, _, payload)| payload.to_vec())
            .collect()
    }

    /// How a stream ended: the exit code, or what the gateway said of it.
    pub fn ended(&self) -> String {
        let mut ended = if self.is_unfinished() { "open or cut short".to_owned() } else { String::new() };
        for (kind, _, payload) in self.frames() {
            let value = || serde_json::from_slice::<Value>(payload).unwrap_or_default();
            match kind {
                Kind::Exit => {
                    let status = value();
                    ended = match crate::respond::exit_code(&status) {
                        Some(code) => format!("exit code {code}"),
                        None => status["message"].as_str().unwrap_or("failed").to_owned(),
                    };
                }
                Kind::Mark if ended.is_empty() => ended = value()["what"].as_str().unwrap_or_default().to_owned(),
                Kind::Seal if ended.is_empty() => {
                    let text = payload.split(|byte| *byte == b'\n').next().unwrap_or_default();
                    ended = serde_json::from_slice::<Value>(text).unwrap_or_default()["ended"].as_str().unwrap_or_default().to_owned();
                }
                _ => {}
            }
        }
        ended
    }
}

/// The recordings of a session, oldest first. A broken one is told of and left out.
pub fn recordings(directory: &Path, session: &str) -> anyhow::Result<Vec<Recorded>> {
    anyhow::ensure!(
        session.len() == 16 && session.bytes().all(|b| b.is_ascii_hexdigit()),
        "{session:?} is no session; `session list` shows them"
    );
    let place = directory.join(session);
    let entries = std::fs::read_dir(&place).with_context(|| format!("there are no recordings of {session}; `session list` shows them"))?;
    let mut found: Vec<Recorded> = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".stream") || name.ends_with(".calls") || name.ends_with(&format!(".{PART}")) {
            match Recorded::open(&path) {
                Ok(recorded) => found.push(recorded),
                Err(error) => eprintln!("{error:#}"),
            }
        }
    }
    found.sort_by_key(|recorded| recorded.frames().next().map_or(0, |(_, micros, _)| micros));
    Ok(found)
}

/// When a call began: its event says when it ended and how long it took.
fn began(event: &Value) -> Option<u64> {
    let ended = OffsetDateTime::parse(event["time"].as_str()?, &Rfc3339).ok()?;
    let ended = u64::try_from(ended.unix_timestamp_nanos() / 1000).ok()?;
    ended.checked_sub(event["milliseconds"].as_u64().unwrap_or(0).checked_mul(1000)?)
}

/// What was done in a session, in order.
pub fn timeline(recordings: &[Recorded]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for recorded in recordings {
        if recorded.is_stream() {
            let micros = recorded.frames().next().map_or(0, |(_, micros, _)| micros);
            entries.push(Entry::Stream { micros, name: recorded.name(), header: recorded.header.clone(), ended: recorded.ended() });
            continue;
        }
        entries.extend(recorded.frames().filter(|(kind, ..)| *kind == Kind::Call).filter_map(|(_, written, payload)| {
            let event: Value = serde_json::from_slice(payload).ok()?;
            let micros = began(&event).unwrap_or(written);
            // A stream's own call is shown as the stream.
            event["recording"].is_null().then_some(Entry::Call { micros, event })
        }));
    }
    entries.sort_by_key(Entry::micros);
    entries
}

/// The bodies that were kept of a call: what they are, what is said of them, and themselves.
pub fn bodies<'a>(recordings: &'a [Recorded], id: &str) -> Vec<(Kind, Value, &'a [u8])> {
    let kept = recordings.iter().flat_map(Recorded::frames).filter(|(kind, ..)| matches!(kind, Kind::Request | Kind::Response));
    let split = kept.filter_map(|(kind, _, payload)| {
        let at = payload.iter().position(|byte| *byte == b'\n')?;
        let about: Value = serde_json::from_slice(&payload[..at]).ok()?;
        (about["id"] == id).then_some((kind, about, &payload[at + 1..]))
    });
    split.collect()
}
