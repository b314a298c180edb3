//! One recording on disk. While it is written its name ends in `.part`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::format::{self, Kind};
use super::seal::{SealContent, SigningKey};
use crate::words::Ending;

/// What the name of an unfinished recording ends in.
pub const PART: &str = "part";

/// Whether a file's name is that of a finished recording.
pub fn is_finished(name: &str) -> bool {
    name.ends_with(".stream") || name.ends_with(".calls")
}

/// What a recording is called, of the path of its file: `SESSION/NAME`, finished or not.
pub fn recording_of(path: &Path) -> String {
    let part = |path: Option<&std::ffi::OsStr>| path.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default();
    let name = part(path.file_name());
    format!("{}/{}", part(path.parent().and_then(Path::file_name)), name.strip_suffix(&format!(".{PART}")).unwrap_or(&name))
}

/// A recording that is finished.
#[derive(Debug)]
pub struct SealedRecording {
    /// Its file.
    pub path: PathBuf,
    /// What its seal says.
    pub content: SealContent,
}

/// A recording that is written.
pub struct RecordingFile {
    path: PathBuf,
    /// What it is called.
    recording: String,
    file: File,
    length: u64,
    frames: u64,
    hash: [u8; 32],
    dirty: bool,
}

impl RecordingFile {
    /// Makes the file; `path` is its name when it is finished.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        let part = PathBuf::from(format!("{}.{PART}", path.display()));
        let open = || {
            path.parent().map(std::fs::create_dir_all).transpose()?;
            OpenOptions::new().append(true).create_new(true).mode(0o600).open(&part)
        };
        // An empty directory may be taken away in between: its recordings went to the object store.
        let file = open().or_else(|error| if error.kind() == std::io::ErrorKind::NotFound { open() } else { Err(error) })?;
        Self::begin(part, file, recording_of(path))
    }

    fn begin(path: PathBuf, mut file: File, recording: String) -> std::io::Result<Self> {
        file.write_all(format::MAGIC)?;
        let (length, hash) = (format::MAGIC.len() as u64, format::first_hash());
        Ok(Self { path, recording, file, length, frames: 0, hash, dirty: true })
    }

    /// Makes a file for a recording under another name, in the place of what is there.
    pub(super) fn instead(place: &Path, recording: &str) -> std::io::Result<Self> {
        let _ = std::fs::remove_file(place);
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(place)?;
        Self::begin(place.to_owned(), file, recording.to_owned())
    }

    /// Its name at this moment.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Appends frames and their hash, whole or not at all.
    pub fn append(&mut self, key: &SigningKey, frames: &[u8], count: u64) -> std::io::Result<()> {
        let hash = format::next_hash(&self.hash, frames);
        let mut chain = Vec::with_capacity(format::HEAD + 2 * hash.len());
        let vouched = key.vouch(&self.recording, &hash);
        format::frame(Kind::Chain, 0, &vouched, &mut chain);
        self.write(&[frames, &chain])?;
        (self.hash, self.frames) = (format::hash_past(&hash, &vouched), self.frames + count + 1);
        Ok(())
    }

    fn write(&mut self, parts: &[&[u8]]) -> std::io::Result<()> {
        for part in parts {
            if let Err(error) = self.file.write_all(part) {
                let _ = self.file.set_len(self.length);
                return Err(error);
            }
        }
        self.length += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        self.dirty = true;
        Ok(())
    }

    /// Puts what was written on the disk.
    pub fn sync(&mut self) -> std::io::Result<()> {
        if std::mem::take(&mut self.dirty) { self.file.sync_data() } else { Ok(()) }
    }

    /// Seals the recording, and gives it its name. What has that name already is not written over.
    pub fn seal(mut self, key: &SigningKey, ended: Ending, lost: u64) -> std::io::Result<SealedRecording> {
        let content = self.end(key, ended, lost)?;
        let finished = self.path.with_extension("");
        if finished.try_exists()? {
            return Err(std::io::Error::other(format!("{} is there already", finished.display())));
        }
        std::fs::rename(&self.path, &finished)?;
        Ok(SealedRecording { path: finished, content })
    }

    /// Writes the seal, and puts all on the disk.
    pub(super) fn end(&mut self, key: &SigningKey, ended: Ending, lost: u64) -> std::io::Result<SealContent> {
        let (ended, recording) = (ended.name().to_owned(), self.recording.clone());
        let manifest = SealContent { frames: self.frames, bytes: self.length, ended, lost, recording };
        let mut seal = Vec::new();
        key.seal(&self.hash, &manifest, &mut seal);
        self.write(&[&seal])?;
        self.sync()?;
        Ok(manifest)
    }

    /// Takes the recording away again: nothing came of it.
    pub fn discard(self) {
        let _ = std::fs::remove_file(&self.path);
    }

    /// Takes up a recording that this gateway did not get to end: what it vouched for stays, and the loss is marked. What it did not write it does not sign.
    pub fn recover(path: &Path, key: &SigningKey) -> anyhow::Result<SealedRecording> {
        let finished = path.with_extension("");
        anyhow::ensure!(!finished.exists(), "{} is there already, and this is another of its name", finished.display());
        let bytes = std::fs::read(path)?;
        let recording = recording_of(path);
        let mut reader = format::Reader::new(&bytes)?;
        let (mut hash, mut from, mut frames) = (format::first_hash(), reader.at(), 0u64);
        let mut since = 0;
        while let Some(Ok(frame)) = reader.next() {
            since += 1;
            if frame.kind == Kind::Chain {
                // What does not give its hash is not sealed as if it did.
                hash = format::next_hash(&hash, &bytes[from..frame.at]);
                anyhow::ensure!(frame.payload.get(..32) == Some(&hash), "the frames from byte {from} on do not give their hash");
                anyhow::ensure!(
                    key.has_vouched(&recording, frame.payload),
                    "this gateway did not write the frames from byte {from} on: they were put there, or another gateway or an older one wrote them"
                );
                hash = format::hash_past(&hash, frame.payload);
                (from, frames, since) = (reader.at(), frames + since, 0);
            }
        }
        // What comes after the last hash anybody could have put there.
        let file = OpenOptions::new().append(true).open(path)?;
        file.set_len(from as u64)?;
        let lost = (bytes.len() - from) as u64;
        let mut this = Self { path: path.to_owned(), recording, file, length: from as u64, frames, hash, dirty: true };
        let mut mark = Vec::new();
        let why = serde_json::json!({"what": "the gateway ended without ending this recording; what came last may be missing"});
        format::frame(Kind::Mark, super::micros(), why.to_string().as_bytes(), &mut mark);
        this.append(key, &mark, 1)?;
        Ok(this.seal(key, Ending::GatewayGone, lost)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::session::seal::{self, Verification};
    use base64::Engine;

    #[test]
    fn what_reached_the_disk_is_taken_up_and_the_loss_is_marked() {
        let directory = std::env::temp_dir().join(format!("postern-recover-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let key = SigningKey::open(&directory).unwrap();
        let public = std::fs::read_to_string(directory.join("session.pub")).unwrap();
        let public = base64::engine::general_purpose::STANDARD.decode(public).unwrap();
        let mut file = RecordingFile::create(&directory.join("a.stream")).unwrap();
        let mut frames = Vec::new();
        format::frame(Kind::Stdout, 1, b"hello", &mut frames);
        file.append(&key, &frames, 1).unwrap();
        let part = file.path().to_owned();
        drop(file);
        // The machine went down within a frame, after one that no hash covers.
        let mut bytes = std::fs::read(&part).unwrap();
        bytes.extend_from_slice(&frames);
        bytes.extend_from_slice(&frames[..7]);
        std::fs::write(&part, bytes).unwrap();
        let finished = RecordingFile::recover(&part, &key).unwrap().path;
        let bytes = std::fs::read(&finished).unwrap();
        match seal::verify(&recording_of(&finished), &bytes, &public).unwrap() {
            Verification::Whole(manifest) => {
                assert_eq!((manifest.ended.as_str(), manifest.lost), ("gateway-gone", frames.len() as u64 + 7))
            }
            other => panic!("{other:?}"),
        }
        let kinds: Vec<_> = format::Reader::new(&bytes).unwrap().map(|f| f.unwrap().kind).collect();
        assert_eq!(kinds, [Kind::Stdout, Kind::Chain, Kind::Mark, Kind::Chain, Kind::Seal]);

        // Whoever has the directory and not the key takes the seal off, writes something else, and counts the hashes anew.
        let mut forged = format::MAGIC.to_vec();
        let mut hash = format::first_hash();
        for text in [b"rm -rf /".as_slice(), b"done"] {
            let mut frames = Vec::new();
            format::frame(Kind::Stdout, 1, text, &mut frames);
            hash = format::next_hash(&hash, &frames);
            forged.extend_from_slice(&frames);
            format::frame(Kind::Chain, 0, &hash, &mut forged);
        }
        for (name, content) in [("forged", &forged), ("elsewhere", &bytes[..bytes.len() - 200].to_vec())] {
            let place = directory.join(format!("{name}.stream.part"));
            std::fs::write(&place, content).unwrap();
            let why = RecordingFile::recover(&place, &key).unwrap_err().to_string();
            assert!(why.contains("this gateway did not write"), "{name}: {why}");
            assert_eq!(&std::fs::read(&place).unwrap(), content, "and it stays as it is");
        }
        let _ = std::fs::remove_dir_all(directory);
    }
}
