//! Says whether recordings are whole.

use anyhow::bail;

use super::RecordingSource;
use crate::cli::terminal::say;
use crate::record::session::entangled;
use crate::record::session::seal::{self, Verification};
use crate::record::session::search::Filter;

pub(super) fn verify(place: &RecordingSource, session: Option<String>) -> anyhow::Result<()> {
    let key = place.key()?;
    let mut sessions = place.sessions(&Filter::default())?;
    sessions.retain(|row| session.as_ref().is_none_or(|wanted| row.id == *wanted));
    if let Some(session) = session.filter(|_| sessions.is_empty()) {
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
            match seal::verify(&recording, recorded.bytes(), &key) {
                Ok(Verification::Whole(_)) => whole += 1,
                Ok(Verification::Unsealed { .. }) if recorded.is_unfinished() => open += 1,
                Ok(Verification::Unsealed { frames, .. }) => {
                    broken.push(format!("{}: it has no seal after {frames} frames: its end was taken away", recorded.file));
                }
                Err(why) => {
                    let why = written_on(&recording, recorded.bytes(), &key).unwrap_or_else(|| format!("{why:#}"));
                    broken.push(format!("{}: {why}", recorded.file));
                }
            }
        }
        if streams < session.streams {
            broken.push(format!("session {}: {} of its {} streams are gone", session.id, session.streams - streams, session.streams));
        }
    }
    let still = if open > 0 { format!("; {open} are not finished and nothing in them was changed") } else { String::new() };
    if broken.is_empty() {
        say!("{whole} recordings of {} sessions are whole and signed by this gateway{still}", sessions.len());
        return Ok(());
    }
    bail!("{}\n{whole} recordings are whole{still}", broken.join("\n"))
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
