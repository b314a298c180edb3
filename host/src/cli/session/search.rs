//! Finds a text in recordings.

use std::io::Write;
use std::time::Duration;

use anyhow::bail;

use super::super::table::printable;
use super::RecordingSource;
use crate::clock::timestamp_of;
use crate::record::session::search::Filter;

pub(super) fn search(place: &RecordingSource, text: &str, filter: &Filter) -> anyhow::Result<()> {
    let mut found = 0;
    let mut out = std::io::stdout().lock();
    for row in place.sessions(filter)? {
        for hit in place.hits(&row.id, text)? {
            found += 1;
            let time = timestamp_of(Duration::from_micros(hit.micros));
            let stream = hit.stream.map(|stream| format!("/{}", printable(&stream))).unwrap_or_default();
            let what = match hit.what.as_str() {
                "request" | "answer" => format!("{} of call", hit.what),
                what => format!("{}:", printable(what)),
            };
            let line = format!("{time}  {}{stream}  {}  {what} {}", printable(&row.id), printable(&row.username), printable(&hit.line));
            if writeln!(out, "{line}").is_err() {
                return Ok(());
            }
        }
    }
    if found == 0 {
        bail!("{text:?} is nowhere in the recordings");
    }
    Ok(())
}
