//! A recording that two gateways wrote: one was sealing it as left behind while the other wrote on. What each of them wrote is told from what somebody else
//! put there, and what was written is put together again.

use std::collections::{HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;

use super::file::RecordingFile;
use super::format::{self, Kind, Reader};
use super::seal::{self, SigningKey};
use crate::words::Ending;

/// What the file of a recording is called, beside it, as it was before it was put together.
const BEFORE: &str = "before-repair";
/// What the file is called while it is put together. No gateway takes it up.
const MEANWHILE: &str = "repairing";
/// From so many of the last hashes a gateway may go on: the other one writes a mark and a seal meanwhile.
const BACK: usize = 8;
/// Earlier files that may lie beside a recording.
const MOST_BEFORE: usize = 100;

/// Such a recording.
#[derive(Debug, PartialEq, Eq)]
pub struct Entangled {
    /// Where the first seal is, that something follows.
    pub sealed_at: usize,
    /// The frames somebody vouches for, in order.
    frames: Vec<Range<usize>>,
    /// Bytes nobody does, or whose beginning is gone.
    pub unsure: usize,
    /// Whether the last of them are covered by a seal: if not, more of them may have been there.
    pub has_end: bool,
}

/// Some frames and the hash after them.
struct Written {
    /// The frames.
    frames: Range<usize>,
    /// Which came before, by the hash they go on from; none at the beginning.
    after: Option<usize>,
    hash: [u8; 32],
    is_vouched: bool,
    is_sealed: bool,
}

/// Where a gateway may go on from: the last of what is vouched for, and of the rest. What anybody can write takes no place of the other.
#[derive(Default)]
struct Latest {
    vouched: VecDeque<usize>,
    other: VecDeque<usize>,
}

impl Latest {
    fn add(&mut self, index: usize, is_vouched: bool) {
        let of = if is_vouched { &mut self.vouched } else { &mut self.other };
        of.push_back(index);
        if of.len() > BACK {
            of.pop_front();
        }
    }

    /// The latest first; none stands for the beginning.
    fn places(&self) -> impl Iterator<Item = Option<usize>> {
        self.vouched.iter().rev().chain(self.other.iter().rev()).copied().map(Some).chain([None])
    }
}

/// Whether a recording is one; none when it is whole, or was changed in another way. Without the key it is not known who wrote what no seal covers.
pub fn look(recording: &str, file: &[u8], public: &[u8], key: Option<&SigningKey>) -> anyhow::Result<Option<Entangled>> {
    let mut reader = Reader::new(file)?;
    let (mut written, mut latest, mut there) = (Vec::<Written>::new(), Latest::default(), HashSet::new());
    let (mut from, mut sealed_at, mut goes_on) = (reader.at(), None, false);
    while let Some(Ok(frame)) = reader.next() {
        match frame.kind {
            Kind::Chain => {
                let frames = from..frame.at;
                from = reader.at();
                let Some(known) = frame.payload.first_chunk::<32>() else { continue };
                let before = |after: Option<usize>| after.map_or(format::first_hash(), |index: usize| written[index].hash);
                let follows = |after: &Option<usize>| format::next_hash(&before(*after), &file[frames.clone()]) == *known;
                // What stands there twice was put there: nobody writes the same after the same.
                let Some(after) = latest.places().find(follows).filter(|_| there.insert(*known)) else { continue };
                let is_vouched = key.is_some_and(|key| key.has_vouched(recording, frame.payload));
                goes_on |= sealed_at.is_some() && (is_vouched || key.is_none());
                latest.add(written.len(), is_vouched);
                written.push(Written { frames, after, hash: format::hash_past(known, frame.payload), is_vouched, is_sealed: false });
            }
            Kind::Seal => {
                // Nobody writes one within what a hash is of.
                from = reader.at();
                let signed = |index: usize| seal::check_seal(&frame, &written[index].hash, public).ok().map(|manifest| (index, manifest));
                let Some((last, manifest)) = latest.places().flatten().find_map(signed).filter(|(_, of)| of.is_of(recording)) else {
                    continue;
                };
                if sealed_at.is_none() && manifest.ended != Ending::GatewayGone.name() {
                    // Not one that a gateway took for left behind: what follows is no other gateway's.
                    return Ok(None);
                }
                goes_on |= sealed_at.is_some() && !written[last].is_sealed;
                sealed_at = sealed_at.or(Some(frame.at));
                let mut next = Some(last);
                while let Some(index) = next.filter(|index| !written[*index].is_sealed) {
                    (written[index].is_vouched, written[index].is_sealed) = (true, true);
                    next = written[index].after;
                }
            }
            _ => {}
        }
    }
    // What has its first seal at its end, or nothing of a gateway behind it, was changed in another way, if it was.
    let Some(sealed_at) = sealed_at.filter(|_| goes_on) else { return Ok(None) };
    let has_end = written.iter().rev().find(|written| written.is_vouched).is_some_and(|last| last.is_sealed);
    let frames: Vec<Range<usize>> = written.into_iter().filter(|written| written.is_vouched).map(|written| written.frames).collect();
    Ok(Some(Entangled { sealed_at, unsure: unsure(file, &frames), frames, has_end }))
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

/// Puts a recording together again, from what somebody vouches for. The file as it was stays beside it, under the name that is given back: it has that before
/// another stands in its place.
pub fn repair(path: &Path, recording: &str, file: &[u8], found: &Entangled, key: &SigningKey) -> anyhow::Result<PathBuf> {
    let mut whole = RecordingFile::instead(&PathBuf::from(format!("{}.{MEANWHILE}", path.display())), recording)
        .context("it cannot be written anew")?;
    let place = whole.path().to_owned();
    let written = (|| {
        for range in &found.frames {
            let frames = &file[range.clone()];
            let count = Reader::over(frames).filter(Result::is_ok).count();
            whole.append(key, frames, count as u64)?;
        }
        let end = if found.has_end { "" } else { "; what came last may be missing" };
        let what = format!("two gateways wrote this recording at once; it was put together from what they wrote{end}");
        let mut mark = Vec::new();
        format::frame(Kind::Mark, super::micros(), json!({"what": what, "bytes": found.unsure}).to_string().as_bytes(), &mut mark);
        whole.append(key, &mark, 1)?;
        whole.end(key, Ending::Repaired, found.unsure as u64)?;
        let before = keep(path, file)?;
        // It is kept before another stands in its place.
        let onto_disk = || path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all());
        onto_disk()?;
        std::fs::rename(&place, path)?;
        if let Err(error) = onto_disk() {
            tracing::warn!(recording, %error, "whether it is on the disk is not known");
        }
        anyhow::Ok(before)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(place);
    }
    written.with_context(|| format!("{recording} stays as it is"))
}

/// Keeps a file under another name beside it.
fn keep(path: &Path, file: &[u8]) -> anyhow::Result<PathBuf> {
    for number in 1..=MOST_BEFORE {
        let end = if number == 1 { String::new() } else { format!("-{number}") };
        let before = PathBuf::from(format!("{}.{BEFORE}{end}", path.display()));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&before) {
            Ok(mut copy) => {
                if let Err(error) = copy.write_all(file).and_then(|()| copy.sync_all()) {
                    let _ = std::fs::remove_file(&before);
                    return Err(error.into());
                }
                return Ok(before);
            }
            // It was kept already when this broke off.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && is_the_same(&before, file) => {
                return Ok(before);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
    }
    anyhow::bail!("{MOST_BEFORE} files of earlier repairs lie beside it")
}

/// Whether a file holds just that; what is no file is not read.
fn is_the_same(path: &Path, as_this: &[u8]) -> bool {
    path.symlink_metadata().is_ok_and(|about| about.is_file() && about.len() == as_this.len() as u64)
        && std::fs::read(path).is_ok_and(|kept| kept == as_this)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::session::file::recording_of;
    use crate::record::session::seal::Verification;

    fn said(text: &str) -> Vec<u8> {
        let mut frames = Vec::new();
        format::frame(Kind::Stdout, 1, text.as_bytes(), &mut frames);
        frames
    }

    /// A directory with a key, and a recording in it that says two things.
    fn recorded(test: &str) -> (PathBuf, SigningKey, PathBuf, RecordingFile) {
        let directory = std::env::temp_dir().join(format!("postern-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (key, path) = (SigningKey::open(&directory).unwrap(), directory.join("a.stream"));
        let mut file = RecordingFile::create(&path).unwrap();
        file.append(&key, &said("one "), 1).unwrap();
        file.append(&key, &said("two "), 1).unwrap();
        (directory, key, path, file)
    }

    /// What the texts of a recording are, one after another.
    fn heard(file: &[u8]) -> String {
        let frames = Reader::new(file).unwrap().map_while(Result::ok).filter(|frame| frame.kind == Kind::Stdout);
        frames.map(|frame| String::from_utf8_lossy(frame.payload).into_owned()).collect()
    }

    #[test]
    fn what_two_gateways_wrote_is_put_together_and_nothing_else() {
        let (directory, key, path, mut first) = recorded("entangled");
        let (public, name) = (key.public(), recording_of(&path));
        // A second gateway begins, and takes this for what one before it left.
        RecordingFile::recover(first.path(), &key).unwrap();
        first.append(&key, &said("three "), 1).unwrap();
        let look = |file: &[u8]| look(&name, file, public, Some(&key)).unwrap();
        let unfinished = std::fs::read(&path).unwrap();
        assert_eq!(look(&unfinished).map(|found| (found.unsure, found.has_end)), Some((0, false)), "its end may have been cut off");
        // Without the key it is not known who wrote what no seal covers.
        let blind = super::look(&name, &unfinished, public, None).unwrap().unwrap();
        assert!(blind.unsure > 0);
        assert!(first.seal(&key, Ending::Ok, 0).is_err(), "its name is gone");
        let entangled = std::fs::read(&path).unwrap();
        assert!(seal::verify(&name, &entangled, public).is_err());
        let blind = super::look(&name, &entangled, public, None).unwrap().unwrap();
        assert_eq!((blind.unsure, blind.has_end), (0, true), "the second seal covers it");

        // Whoever has no key adds something behind it.
        let forged = [&entangled[..], &said("forged")].concat();
        std::fs::write(&path, &forged).unwrap();
        let found = look(&forged).unwrap();
        assert_eq!(found.unsure, said("forged").len());
        let before = repair(&path, &name, &forged, &found, &key).unwrap();
        assert_eq!(std::fs::read(before).unwrap(), forged);
        let repaired = std::fs::read(&path).unwrap();
        assert_eq!(heard(&repaired), "one two three ");
        match seal::verify(&name, &repaired, public).unwrap() {
            Verification::Whole(manifest) => assert_eq!((manifest.ended.as_str(), manifest.lost as usize), ("repaired", found.unsure)),
            other => panic!("{other:?}"),
        }
        assert_eq!(look(&repaired), None);
        // A repair that broke off before leaves nothing that a gateway takes up, or that is in the way of the next.
        std::fs::write(&path, &forged).unwrap();
        std::fs::write(directory.join("a.stream.repairing"), b"half").unwrap();
        let again = repair(&path, &name, &forged, &found, &key).unwrap();
        assert_eq!(again, directory.join("a.stream.before-repair"), "it is kept once");
        assert!(!directory.join("a.stream.repairing").exists() && !directory.join("a.stream.part").exists());

        // What anybody can write takes nothing out: frames that only continue the chain, a seal of nobody, the same seal again.
        let behind = entangled.windows(6).position(|w| w == b"three ").unwrap() - format::HEAD;
        let mut noise = Vec::new();
        let mut hash = *last_hash(&entangled[..behind]);
        for _ in 0..20 {
            let mut frames = Vec::new();
            format::frame(Kind::Stdout, 1, b"x", &mut frames);
            hash = format::next_hash(&hash, &frames);
            format::frame(Kind::Chain, 0, &hash, &mut frames);
            noise.extend(frames);
        }
        format::frame(Kind::Seal, 0, b"{}\nAAAA", &mut noise);
        let mixed = [&entangled[..behind], &noise, &entangled[behind..]].concat();
        let found = look(&mixed).unwrap();
        let kept: Vec<u8> = found.frames.iter().flat_map(|range| mixed[range.clone()].iter().copied()).collect();
        let all = heard(&[format::MAGIC, &kept].concat());
        assert_eq!(all, "one two three ");
        // Frames that are cut out are missed, and a repaired one is not repaired again with what it was made of.
        let cut = entangled.windows(4).position(|w| w == b"two ").unwrap() - format::HEAD;
        let holed = [&entangled[..cut], &entangled[cut + format::HEAD + 4..]].concat();
        assert_eq!(look(&holed), None);
        let holed = [&entangled[..behind], &entangled[behind + format::HEAD + 6..]].concat();
        assert!(look(&holed).is_none_or(|found| !found.has_end || found.unsure > 0));
        assert_eq!(look(&[&repaired[..], &entangled[behind..]].concat()), None);
        let _ = std::fs::remove_dir_all(directory);
    }

    /// The hash that the last frame of the chain holds, as it goes on.
    fn last_hash(file: &[u8]) -> Box<[u8; 32]> {
        let chains = Reader::new(file).unwrap().map_while(Result::ok).filter(|frame| frame.kind == Kind::Chain);
        let last = chains.last().unwrap().payload;
        Box::new(format::hash_past(last.first_chunk().unwrap(), last))
    }

    #[test]
    fn a_change_is_no_work_of_two_gateways() {
        let (directory, key, path, file) = recorded("entangled-not");
        let (public, name) = (key.public(), recording_of(&path));
        file.seal(&key, Ending::Ok, 0).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let look = |file: &[u8]| look(&name, file, public, Some(&key)).unwrap();
        assert_eq!(look(&whole), None);
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            // It may be no recording any more.
            let Ok(Some(found)) = super::look(&name, &changed, public, Some(&key)) else { continue };
            panic!("byte {at}: {found:?}");
        }
        let seal = whole.windows(10).position(|w| w == b"{\"frames\":").unwrap() - format::HEAD;
        let mut continued = said("forged");
        let hash = format::next_hash(&last_hash(&whole), &continued);
        format::frame(Kind::Chain, 0, &hash, &mut continued);
        for behind in [b"noise".to_vec(), said("forged"), whole[seal..].to_vec(), continued, whole[format::MAGIC.len()..].to_vec()] {
            assert_eq!(look(&[&whole[..], &behind].concat()), None, "{:?}", String::from_utf8_lossy(&behind));
        }
        let _ = std::fs::remove_dir_all(directory);
    }
}
