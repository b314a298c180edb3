//! Says whether recordings are whole.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use super::RecordingSource;
use crate::cli::terminal::say;
use crate::record::query::{self, Query};
use crate::record::session::entangled;
use crate::record::session::seal::{self, SealContent, Verification};
use crate::record::session::search::Filter;
use crate::words::Stage;

/// Verifies the recordings that are there, and misses those that the audit log knows: all, or those that were finished since a time, in Unix seconds.
pub(super) fn verify(place: &RecordingSource, session: Option<String>, since: Option<u64>) -> anyhow::Result<()> {
    let key = place.key()?;
    let mut sessions = place.sessions(&Filter::default())?;
    sessions.retain(|row| session.as_ref().is_none_or(|wanted| row.id == *wanted));
    let known = place.log().map(|log| known(log, session.as_deref(), since)).transpose()?;
    if let Some(session) = session.filter(|_| sessions.is_empty() && known.as_ref().is_none_or(BTreeMap::is_empty)) {
        bail!("there is no session {session}; `session list` shows them");
    }
    let (mut whole, mut open, mut broken) = (0, 0, Vec::new());
    for session in &sessions {
        let mut streams = 0;
        for name in place.names(&session.id)? {
            streams += u64::from(name.ends_with(".stream"));
            let recorded = match place.recording(&session.id, &name) {
                Ok(recorded) => recorded,
                Err(why) => {
                    broken.push(format!("{why:#}"));
                    continue;
                }
            };
            let recording = format!("{}/{name}", session.id);
            let finished = known.as_ref().and_then(|known| known.get(&session.id)?.get(&name)).map(Vec::as_slice).unwrap_or_default();
            match seal::verify(&recording, recorded.bytes(), &key) {
                Ok(Verification::Whole(content)) => match differs(&content, finished) {
                    None => whole += 1,
                    Some(why) => broken.push(format!("{}: {why}", recorded.file)),
                },
                Ok(Verification::Unsealed { .. }) if recorded.is_unfinished() && finished.is_empty() => open += 1,
                Ok(Verification::Unsealed { .. }) if recorded.is_unfinished() => {
                    broken.push(format!(
                        "{}: the audit log knows that it was finished, and it has no seal: its end was taken away",
                        recorded.file
                    ));
                }
                Ok(Verification::Unsealed { frames, .. }) => {
                    broken.push(format!("{}: it has no seal after {frames} frames: its end was taken away", recorded.file));
                }
                Err(why) => {
                    let why = written_on(&recording, recorded.bytes(), &key).unwrap_or_else(|| format!("{why:#}"));
                    broken.push(format!("{}: {why}", recorded.file));
                }
            }
        }
        // Of a session that began before what is asked about, some may be kept elsewhere.
        if streams < session.streams && since.is_none_or(|since| session.first >= since) {
            broken.push(format!("session {}: {} of its {} streams are gone", session.id, session.streams - streams, session.streams));
        }
    }
    for (session, recordings) in known.iter().flatten() {
        broken.extend(missing(place, session, recordings)?);
    }
    let still = if open > 0 { format!("; {open} are not finished and nothing in them was changed") } else { String::new() };
    if broken.is_empty() {
        let missed = match &known {
            Some(known) => format!("; all {} that the audit log knows are there", known.values().map(BTreeMap::len).sum::<usize>()),
            None => "; whether any are gone is not looked at, as the audit log is not here".to_owned(),
        };
        say!("{whole} recordings of {} sessions are whole and signed by this gateway{still}{missed}", sessions.len());
        return Ok(());
    }
    bail!("{}\n{whole} recordings are whole{still}", broken.join("\n"))
}

/// Recordings by their sessions and names: with how many bytes each was finished, as often as it was. None of a stream of which it is only known that it was opened.
type Known = BTreeMap<String, BTreeMap<String, Vec<u64>>>;

/// The recordings that an audit log knows: those that it was told are finished, and of streams that were opened those of which it was told that they ended.
fn known(log: &Path, session: Option<&str>, since: Option<u64>) -> anyhow::Result<Known> {
    let mut known = Known::new();
    let question = Query { since, text: Some("recording".to_owned()), ..Query::default() };
    let read = |line: &[u8]| {
        let event: Value = serde_json::from_slice(line).ok()?;
        let of = |recording: &str| recording.split_once('/').map(|(session, name)| (session.to_owned(), name.to_owned()));
        match event["stage"].as_str()? {
            stage if stage == Stage::Recorded.name() => {
                let (session, name) = of(event["recording"].as_str()?)?;
                Some(vec![(session, name, event["seal"]["bytes"].as_u64())])
            }
            // An answer of 101 is that of a stream that was opened.
            stage if stage == Stage::Completed.name() && event["status"] == 101 => {
                let (session, name) = of(event["recording"].as_str()?)?;
                Some(vec![(session, format!("{name}.stream"), None)])
            }
            // What was put together is another than it was: of how many bytes is not told.
            stage if stage == Stage::Repaired.name() => {
                let all = event["recordings"].as_array()?.iter().filter_map(|recording| of(recording.as_str()?));
                Some(all.map(|(session, name)| (session, name, Some(REPAIRED))).collect())
            }
            _ => None,
        }
    };
    query::read_all(log, &question, read, |all| {
        for (of, name, bytes) in all {
            if session.is_none_or(|wanted| wanted == of) {
                let finished = known.entry(of).or_default().entry(name).or_default();
                match bytes {
                    Some(REPAIRED) => *finished = vec![REPAIRED],
                    Some(bytes) if !finished.contains(&bytes) => finished.push(bytes),
                    _ => {}
                }
            }
        }
        ControlFlow::Continue(())
    })
    .with_context(|| format!("cannot read {}", log.display()))?;
    Ok(known)
}

/// The bytes of what was put together from what two gateways left.
const REPAIRED: u64 = u64::MAX;

/// How a recording is another than the audit log knows; nothing where it is that one, or the log does not know it.
fn differs(seal: &SealContent, finished: &[u64]) -> Option<String> {
    match finished {
        [] | [REPAIRED] => None,
        [bytes] if *bytes == seal.bytes => None,
        [bytes] => Some(format!("the audit log knows that it was finished with {bytes} bytes, and it has {}: it is another", seal.bytes)),
        several => Some(format!(
            "it was finished {} times, with {} bytes: its end was taken away, and a gateway took up what was left",
            several.len(),
            several.iter().map(u64::to_string).collect::<Vec<_>>().join(" and ")
        )),
    }
}

/// What is said of a session's recordings that are not there.
fn missing(place: &RecordingSource, session: &str, known: &BTreeMap<String, Vec<u64>>) -> anyhow::Result<Vec<String>> {
    let there = place.names(session)?;
    let gone: Vec<&String> = known.keys().filter(|name| !there.contains(*name)).collect();
    Ok(match gone.len() {
        0 => Vec::new(),
        count if there.is_empty() => vec![format!("session {session}: all {count} recordings that the audit log knows are gone")],
        _ => gone.iter().map(|name| format!("session {session}: the audit log knows {name}, and it is gone")).collect(),
    })
}

/// What is said of a recording that goes on behind a seal.
fn written_on(recording: &str, file: &[u8], key: &[u8]) -> Option<String> {
    let found = entangled::look(recording, file, key, None).ok().flatten()?;
    let rest = match found.unsure {
        0 if found.has_end => "What is there is signed".to_owned(),
        0 => "It has no end".to_owned(),
        bytes => format!("{bytes} bytes are not covered by a signature, and may be anybody's"),
    };
    Some(format!(
        "it goes on behind its seal at byte {}, as when a second gateway in one data directory seals what the first still writes. {rest}; `postern data repair` puts together what this gateway wrote, and leaves the file as it is beside it",
        found.sealed_at
    ))
}
