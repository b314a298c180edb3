//! Recordings that were finished in the moment before a gateway was killed: their files are there, and the audit log was not told of them any more.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::file::{SealedRecording, is_finished, recording_of};
use super::seal::{Verification, verify};
use crate::record::query::{self, Query};
use crate::words::Stage;

/// How long before the last event what was finished is looked for. The log is told within milliseconds.
const BACK: Duration = Duration::from_secs(120);

/// The recordings in a directory that are whole, signed with this public key, and not known to a log that was written last at a time.
pub fn untold(directory: &Path, key: &[u8], log: &Path, last: SystemTime) -> std::io::Result<Vec<SealedRecording>> {
    let since = last.checked_sub(BACK).unwrap_or(UNIX_EPOCH);
    let of = |directory: &Path| std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>();
    let is_late = |path: &Path| std::fs::metadata(path).and_then(|about| about.modified()).is_ok_and(|changed| changed >= since);
    let is_one = |path: &Path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_finished);
    let late: Vec<_> = of(directory).iter().flat_map(|session| of(session)).filter(|path| is_one(path) && is_late(path)).collect();
    if late.is_empty() {
        return Ok(Vec::new());
    }
    let mut told = HashSet::new();
    let second = since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let question = Query { since: Some(second), text: Some(Stage::Recorded.name().to_owned()), ..Query::default() };
    query::ask(log, &question, |line| {
        let event: Value = serde_json::from_slice(line).unwrap_or_default();
        told.extend(event["recording"].as_str().filter(|_| event["stage"] == Stage::Recorded.name()).map(str::to_owned));
        ControlFlow::Continue(())
    })?;
    let unknown = late.into_iter().filter(|path| !told.contains(&recording_of(path)));
    let sealed = |path: std::path::PathBuf| match verify(&recording_of(&path), &std::fs::read(&path).ok()?, key) {
        Ok(Verification::Whole(content)) => Some(SealedRecording { path, content }),
        // What is not whole is nothing that this gateway finished.
        _ => None,
    };
    Ok(unknown.filter_map(sealed).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::session::file::RecordingFile;
    use crate::record::session::seal::SigningKey;
    use crate::words::Ending;

    #[test]
    fn what_the_log_was_not_told_of_any_more_is_found_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let key = SigningKey::open(directory.path()).unwrap();
        let sessions = directory.path().join("sessions");
        for name in ["told.calls", "untold.stream"] {
            let file = RecordingFile::create(&sessions.join("0123456789abcdef").join(name)).unwrap();
            file.seal(&key, Ending::Ok, 0).unwrap();
        }
        std::fs::write(sessions.join("0123456789abcdef/forged.calls"), b"POSTERN-SESSION 1\n").unwrap();
        let log = directory.path().join("audit.jsonl");
        let time = crate::clock::timestamp();
        std::fs::write(
            &log,
            format!("{{\"seq\":1,\"time\":\"{time}\",\"stage\":\"recorded\",\"recording\":\"0123456789abcdef/told.calls\"}}\n"),
        )
        .unwrap();
        let found = |last: SystemTime| {
            let found = untold(&sessions, key.public(), &log, last).unwrap();
            found.into_iter().map(|sealed| sealed.content.recording).collect::<Vec<_>>()
        };
        assert_eq!(found(SystemTime::now()), ["0123456789abcdef/untold.stream"]);
        assert!(found(SystemTime::now() + 2 * BACK).is_empty(), "what was finished long before was told");
    }
}
