//! A recording that two gateways wrote: one was sealing it as left behind while the other wrote on. What each of them wrote is told from what somebody else
//! put there, and what was written is put together again.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;

use super::file::RecordingFile;
use super::format::{self, Kind, Reader};
use super::seal::{self, Manifest, SigningKey};

/// What the file of a recording is called, beside it, as it was before it was put together.
const BEFORE: &str = "before-repair";
/// From so many of the last hashes a gateway may go on: the other one writes a mark and a seal meanwhile.
const BACK: usize = 8;

/// Such a recording.
#[derive(Debug, PartialEq, Eq)]
pub struct Entangled {
    /// Where the first seal is, that something follows.
    pub sealed_at: usize,
    /// The frames somebody vouches for, in order.
    frames: Vec<Range<usize>>,
    /// Bytes nobody does.
    pub unsure: usize,
}

/// Some frames and the hash after them.
struct Written {
    /// The frames.
    frames: Range<usize>,
    /// Which came before, by the hash they go on from; none at the beginning.
    after: Option<usize>,
    /// What goes on from it begins with this.
    hash: [u8; 32],
    is_vouched: bool,
}

/// Whether a recording is one; none when it is whole, or was changed in another way. `has_vouched` says whether what stands in the chain was written by this gateway:
/// without a key nobody knows.
pub fn look(recording: &str, file: &[u8], key: &[u8], has_vouched: impl Fn(&[u8]) -> bool) -> anyhow::Result<Option<Entangled>> {
    let mut reader = Reader::new(file)?;
    let (mut written, mut from, mut sealed_at) = (Vec::<Written>::new(), reader.at(), None);
    let mut there = HashSet::new();
    while let Some(Ok(frame)) = reader.next() {
        match frame.kind {
            Kind::Chain => {
                let frames = from..frame.at;
                from = reader.at();
                let Some(known) = frame.payload.first_chunk::<32>() else { return Ok(None) };
                let before = |after: Option<usize>| after.map_or(format::first_hash(), |index: usize| written[index].hash);
                let follows = |after: &Option<usize>| format::next_hash(&before(*after), &file[frames.clone()]) == *known;
                // What stands there twice was put there: nobody writes the same after the same.
                let Some(after) = latest(written.len()).find(follows).filter(|_| there.insert(*known)) else { continue };
                let is_vouched = has_vouched(frame.payload);
                written.push(Written { frames, after, hash: format::hash_past(known, frame.payload), is_vouched });
            }
            Kind::Seal => {
                from = reader.at();
                let signed = |index: &usize| seal::check_seal(&frame, &written[*index].hash, key).is_ok_and(|of| is_of(&of, recording));
                let Some(last) = latest(written.len()).flatten().find(signed) else { continue };
                sealed_at = sealed_at.or(Some((frame.at, from)));
                let mut next = Some(last);
                while let Some(index) = next {
                    written[index].is_vouched = true;
                    next = written[index].after;
                }
            }
            _ => {}
        }
    }
    // What has its first seal at its end was changed in another way, if it was.
    let Some((sealed_at, _)) = sealed_at.filter(|(_, end)| *end < file.len()) else { return Ok(None) };
    let frames: Vec<Range<usize>> = written.into_iter().filter(|written| written.is_vouched).map(|written| written.frames).collect();
    Ok(Some(Entangled { sealed_at, unsure: unsure(file, &frames), frames }))
}

/// Of so many, the last ones; none stands for the beginning.
fn latest(count: usize) -> impl Iterator<Item = Option<usize>> {
    (count.saturating_sub(BACK)..count).rev().map(Some).chain((count < BACK).then_some(None))
}

/// Seals from before they said of which recording they are say nothing.
fn is_of(manifest: &Manifest, recording: &str) -> bool {
    manifest.recording.is_empty() || manifest.recording == recording
}

/// Bytes of frames that are not among some; hashes and seals are not counted.
fn unsure(file: &[u8], sure: &[Range<usize>]) -> usize {
    let Ok(mut reader) = Reader::new(file) else { return file.len() };
    let (mut bytes, mut end, mut sure) = (0, reader.at(), sure.iter().peekable());
    while let Some(Ok(frame)) = reader.next() {
        while sure.next_if(|range| range.end <= frame.at).is_some() {}
        let is_sure = matches!(frame.kind, Kind::Chain | Kind::Seal) || sure.peek().is_some_and(|range| range.contains(&frame.at));
        bytes += if is_sure { 0 } else { reader.at() - frame.at };
        end = reader.at();
    }
    bytes + (file.len() - end)
}

/// Puts a recording together again, from what somebody vouches for. The file as it was stays beside it, under the name that is given back.
pub fn repair(path: &Path, recording: &str, file: &[u8], found: &Entangled, key: &SigningKey) -> anyhow::Result<PathBuf> {
    let before = PathBuf::from(format!("{}.{BEFORE}", path.display()));
    let mut whole = RecordingFile::create(path).context("it cannot be written anew")?;
    let written = found.frames.iter().try_for_each(|range| {
        let frames = &file[range.clone()];
        let count = Reader::over(frames).filter(Result::is_ok).count();
        whole.append(key, frames, count as u64)
    });
    let mark =
        json!({"what": "two gateways wrote this recording at once; it was put together from what they wrote", "bytes": found.unsure});
    let mut frames = Vec::new();
    format::frame(Kind::Mark, super::micros(), mark.to_string().as_bytes(), &mut frames);
    let written = written.and_then(|()| whole.append(key, &frames, 1)).and_then(|()| std::fs::hard_link(path, &before));
    if let Err(error) = written {
        whole.discard();
        return Err(error).with_context(|| format!("{recording} stays as it is"));
    }
    whole.seal(key, "repaired", found.unsure as u64)?;
    Ok(before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::session::file::recording_of;
    use crate::record::session::seal::Verdict;
    use base64::Engine;

    fn said(text: &str) -> Vec<u8> {
        let mut frames = Vec::new();
        format::frame(Kind::Stdout, 1, text.as_bytes(), &mut frames);
        frames
    }

    fn public(data: &Path) -> Vec<u8> {
        let text = std::fs::read_to_string(data.join("session.pub")).unwrap();
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    }

    /// What the texts of a recording are, one after another.
    fn heard(file: &[u8]) -> String {
        let frames = Reader::new(file).unwrap().map_while(Result::ok).filter(|frame| frame.kind == Kind::Stdout);
        frames.map(|frame| String::from_utf8_lossy(frame.payload).into_owned()).collect()
    }

    #[test]
    fn what_two_gateways_wrote_is_put_together_and_nothing_else() {
        let directory = std::env::temp_dir().join(format!("postern-entangled-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let key = SigningKey::open(&directory).unwrap();
        let (public, path) = (public(&directory), directory.join("a.stream"));
        let name = recording_of(&path);
        let mut first = RecordingFile::create(&path).unwrap();
        first.append(&key, &said("one "), 1).unwrap();
        first.append(&key, &said("two "), 1).unwrap();
        // A second gateway begins, and takes this for what one before it left.
        RecordingFile::recover(first.path(), &key).unwrap();
        first.append(&key, &said("three "), 1).unwrap();
        let look = |file: &[u8]| look(&name, file, &public, |payload| key.has_vouched(&name, payload)).unwrap();
        let unfinished = std::fs::read(&path).unwrap();
        assert_eq!(look(&unfinished).unwrap().unsure, 0);
        // Without the key it is not known who wrote what no seal covers.
        let blind = super::look(&name, &unfinished, &public, |_| false).unwrap().unwrap();
        assert!(blind.unsure > 0);
        assert!(first.seal(&key, "ok", 0).is_err(), "its name is gone");
        let entangled = std::fs::read(&path).unwrap();
        assert!(seal::verify(&name, &entangled, &public).is_err());
        assert_eq!(super::look(&name, &entangled, &public, |_| false).unwrap().unwrap().unsure, 0, "the second seal covers it");

        // Whoever has no key adds something behind it.
        let forged = [&entangled[..], &said("forged")].concat();
        std::fs::write(&path, &forged).unwrap();
        let found = look(&forged).unwrap();
        assert_eq!(found.unsure, said("forged").len());
        let before = repair(&path, &name, &forged, &found, &key).unwrap();
        assert_eq!(std::fs::read(before).unwrap(), forged);
        let repaired = std::fs::read(&path).unwrap();
        assert_eq!(heard(&repaired), "one two three ");
        match seal::verify(&name, &repaired, &public).unwrap() {
            Verdict::Whole(manifest) => assert_eq!((manifest.ended.as_str(), manifest.lost as usize), ("repaired", found.unsure)),
            other => panic!("{other:?}"),
        }
        assert_eq!(look(&repaired), None);
        let _ = std::fs::remove_dir_all(directory);
    }

    #[test]
    fn a_change_is_no_work_of_two_gateways() {
        let directory = std::env::temp_dir().join(format!("postern-entangled-not-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let key = SigningKey::open(&directory).unwrap();
        let (public, path) = (public(&directory), directory.join("a.stream"));
        let name = recording_of(&path);
        let mut file = RecordingFile::create(&path).unwrap();
        file.append(&key, &said("one "), 1).unwrap();
        file.append(&key, &said("two "), 1).unwrap();
        file.seal(&key, "ok", 0).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let look = |file: &[u8]| look(&name, file, &public, |payload| key.has_vouched(&name, payload)).unwrap();
        assert_eq!(look(&whole), None);
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            // It may be no recording any more.
            let Ok(Some(found)) = super::look(&name, &changed, &public, |payload| key.has_vouched(&name, payload)) else { continue };
            panic!("byte {at}: {found:?}");
        }
        let _ = std::fs::remove_dir_all(directory);
    }
}
