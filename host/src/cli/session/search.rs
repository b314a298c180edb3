//! Finds a text in recordings.

use std::io::Write;
use std::time::Duration;

use anyhow::bail;
use serde_json::Value;

use super::super::table::printable;
use super::{Filter, Place};
use crate::cli::audit::operation_of;
use crate::clock::timestamp_of;
use crate::record::session::format::Kind;
use crate::record::session::read::Recorded;

pub(super) fn search(place: &Place, text: &str, filter: &Filter) -> anyhow::Result<()> {
    let mut found = 0;
    let mut out = std::io::stdout().lock();
    for row in place.sessions(filter)? {
        let mut lines = Vec::new();
        place.each(&row.id, |recorded| {
            let place = if recorded.is_stream() { format!("{}/{}", row.id, recorded.name()) } else { row.id.clone() };
            lines.extend(hits(&recorded, text).into_iter().map(|(micros, what)| (micros, place.clone(), what)));
        })?;
        found += lines.len();
        lines.sort();
        for (micros, place, what) in lines {
            let time = timestamp_of(Duration::from_micros(micros));
            if writeln!(out, "{time}  {place}  {}  {what}", printable(&row.username)).is_err() {
                return Ok(());
            }
        }
    }
    if found == 0 {
        bail!("{text:?} is nowhere in the recordings");
    }
    Ok(())
}

/// Where a text is in a recording: the time, and the line it is in.
pub(super) fn hits(recorded: &Recorded, text: &str) -> Vec<(u64, String)> {
    let mut hits = Vec::new();
    let start = recorded.frames().next().map_or(0, |(_, micros, _)| micros);
    let command = operation_of(&recorded.header);
    if recorded.is_stream() && command.contains(text) {
        hits.push((start, format!("command: {command}")));
    }
    // A text may be cut in two by frames, and what came of standard error may stand between: each is looked at as a whole.
    for (wanted, name) in [(Kind::Stdout, "output"), (Kind::Stderr, "output"), (Kind::Stdin, "input")] {
        let (mut whole, mut times) = (Vec::new(), Vec::new());
        for (kind, micros, payload) in recorded.frames() {
            if kind == wanted {
                times.push((whole.len(), micros));
                whole.extend_from_slice(payload);
            }
        }
        let mut last_line = None;
        for at in memchr::memmem::find_iter(&whole, text.as_bytes()) {
            let begin = memchr::memrchr(b'\n', &whole[..at]).map_or(0, |at| at + 1);
            let end = memchr::memchr(b'\n', &whole[at..]).map_or(whole.len(), |end| at + end);
            if last_line.replace(begin) == Some(begin) {
                continue;
            }
            let micros = times[times.partition_point(|(from, _)| *from <= at) - 1].1;
            hits.push((micros, format!("{name}: {}", printable(&String::from_utf8_lossy(&whole[begin..end])))));
        }
    }
    for (kind, micros, payload) in recorded.frames() {
        if matches!(kind, Kind::Request | Kind::Response) && memchr::memmem::find(payload, text.as_bytes()).is_some() {
            let about = payload.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let about: Value = serde_json::from_slice(about).unwrap_or_default();
            hits.push((
                micros,
                format!("{} of call {}", if kind == Kind::Request { "request" } else { "answer" }, about["id"].as_str().unwrap_or("?")),
            ));
        }
        if kind == Kind::Call {
            let event: Value = serde_json::from_slice(payload).unwrap_or_default();
            let shown = operation_of(&event);
            if shown.contains(text) || memchr::memmem::find(payload, text.as_bytes()).is_some() {
                hits.push((micros, format!("call: {shown}")));
            }
        }
    }
    hits
}
