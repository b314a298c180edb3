//! Reading a recording.

use anyhow::Context;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::file::PART;
use super::format::{Kind, Reader};

/// One recording of a session.
pub struct Recorded {
    /// `SESSION/FILE`.
    pub file: String,
    /// What it is of.
    pub header: Value,
    bytes: Vec<u8>,
}

/// The body of a request or an answer.
pub struct Body {
    /// Which of the two.
    pub kind: Kind,
    /// The call's audit event.
    pub call: String,
    /// What is said of it: whether it was cut or left out.
    pub about: Value,
    /// The bytes of the body.
    pub bytes: Vec<u8>,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum TimelineItem {
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

impl TimelineItem {
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
    /// Reads the bytes of a recording.
    pub fn new(file: &str, bytes: Vec<u8>) -> anyhow::Result<Self> {
        let header = Reader::new(&bytes)
            .with_context(|| file.to_owned())?
            .find_map(|frame| frame.ok().filter(|frame| frame.kind == Kind::Header))
            .and_then(|frame| serde_json::from_slice(frame.payload).ok())
            .unwrap_or(Value::Null);
        Ok(Self { file: file.to_owned(), header, bytes })
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, to keep.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Whether it is of a stream.
    pub fn is_stream(&self) -> bool {
        self.header["kind"] == "stream"
    }

    /// Its name, without the ending.
    pub fn name(&self) -> String {
        let name = self.file.rsplit('/').next().unwrap_or_default();
        name.split('.').next().unwrap_or_default().to_owned()
    }

    /// Whether the gateway writes on, or did not get to end it.
    pub fn is_unfinished(&self) -> bool {
        self.file.ends_with(&format!(".{PART}"))
    }

    /// What it holds: kind, time and payload. It ends where the file cannot be read on.
    pub fn frames(&self) -> impl Iterator<Item = (Kind, u64, &[u8])> {
        let reader = Reader::new(&self.bytes).ok();
        reader.into_iter().flatten().map_while(Result::ok).map(|frame| (frame.kind, frame.micros, frame.payload))
    }

    /// How a stream ended: the exit code, or what the gateway said of it.
    pub fn ended(&self) -> String {
        let mut ended = if self.is_unfinished() { "open or cut short".to_owned() } else { String::new() };
        for (kind, _, payload) in self.frames() {
            let value = || serde_json::from_slice::<Value>(payload).unwrap_or_default();
            match kind {
                Kind::Exit => {
                    let status = value();
                    ended = match crate::status::exit_code(&status) {
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

    /// What was done: a stream, or calls.
    pub fn entries(&self) -> Vec<TimelineItem> {
        if self.is_stream() {
            let micros = self.frames().next().map_or(0, |(_, micros, _)| micros);
            return vec![TimelineItem::Stream { micros, name: self.name(), header: self.header.clone(), ended: self.ended() }];
        }
        let calls = self.frames().filter(|(kind, ..)| *kind == Kind::Call).filter_map(|(_, written, payload)| {
            let event: Value = serde_json::from_slice(payload).ok()?;
            let micros = began(&event).unwrap_or(written);
            // A stream's own call is shown as the stream.
            event["recording"].is_null().then_some(TimelineItem::Call { micros, event })
        });
        calls.collect()
    }

    /// The bodies of calls that were kept.
    pub fn bodies(&self) -> impl Iterator<Item = Body> {
        self.frames().filter(|(kind, ..)| matches!(kind, Kind::Request | Kind::Response)).filter_map(|(kind, _, payload)| {
            let at = payload.iter().position(|byte| *byte == b'\n')?;
            let about: Value = serde_json::from_slice(&payload[..at]).ok()?;
            Some(Body { kind, call: about["id"].as_str()?.to_owned(), about, bytes: payload[at + 1..].to_vec() })
        })
    }
}

/// When a call began: its event says when it ended and how long it took.
fn began(event: &Value) -> Option<u64> {
    let ended = OffsetDateTime::parse(event["time"].as_str()?, &Rfc3339).ok()?;
    let ended = u64::try_from(ended.unix_timestamp_nanos() / 1000).ok()?;
    ended.checked_sub(event["milliseconds"].as_u64().unwrap_or(0).checked_mul(1000)?)
}
