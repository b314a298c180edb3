//! The seal of a recording, and whether it holds.

use std::path::Path;

use anyhow::Context;
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::format::{self, Frame, Kind, Reader};

/// The key recordings are signed with: the gateway's own, made once, kept in its data directory.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    /// What is written is vouched for with it as it is written: who has the directory of recordings and not the key cannot write on in one.
    vouching: hmac::Key,
}

/// What a seal says.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SealContent {
    /// Frames before it, hashes among them.
    pub frames: u64,
    /// Bytes before it.
    pub bytes: u64,
    /// How the recording ended.
    pub ended: String,
    /// What was not recorded, in bytes.
    pub lost: u64,
    /// Which recording it is, as `SESSION/NAME`: another cannot stand in its place.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub recording: String,
}

impl SealContent {
    /// Whether it is of that recording. Seals from before they said so are of any.
    pub(super) fn is_of(&self, recording: &str) -> bool {
        self.recording.is_empty() || self.recording == recording
    }
}

impl SigningKey {
    /// Reads the key of a data directory, or makes one; the public key lies beside it for whoever verifies.
    pub fn open(data: &Path) -> anyhow::Result<Self> {
        let file = data.join("session.key");
        let this = Self::of_seed(&crate::files::secret(&file)?).with_context(|| file.display().to_string())?;
        let public = data.join("session.pub");
        std::fs::write(&public, STANDARD.encode(this.public())).with_context(|| format!("cannot write {}", public.display()))?;
        Ok(this)
    }

    /// The key that comes of a seed.
    pub fn of_seed(seed: &[u8; 32]) -> anyhow::Result<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok().context("it is no key")?;
        let of_seed = hmac::Key::new(hmac::HMAC_SHA256, seed);
        let vouching = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&of_seed, b"postern-session-vouching").as_ref());
        Ok(Self { pair, vouching })
    }

    /// What a frame of the chain holds: the hash, and what vouches for it in this recording.
    pub(super) fn vouch(&self, recording: &str, hash: &[u8; 32]) -> Vec<u8> {
        [hash.as_slice(), self.vouches(recording, hash).as_ref()].concat()
    }

    /// Whether this gateway wrote it.
    pub fn has_vouched(&self, recording: &str, payload: &[u8]) -> bool {
        let (hash, vouched) = payload.split_at(payload.len().min(32));
        hmac::verify(&self.vouching, &of_recording(recording, hash), vouched).is_ok()
    }

    /// What its signatures are verified with.
    pub fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// A signature of something else than a recording, in base64.
    pub fn sign(&self, what: &[u8]) -> String {
        STANDARD.encode(self.pair.sign(what))
    }

    fn vouches(&self, recording: &str, hash: &[u8; 32]) -> hmac::Tag {
        hmac::sign(&self.vouching, &of_recording(recording, hash))
    }

    /// The frame that seals a recording.
    pub(super) fn seal(&self, hash: &[u8; 32], manifest: &SealContent, out: &mut Vec<u8>) {
        let text = serde_json::to_vec(manifest).unwrap_or_default();
        let signature = STANDARD.encode(self.pair.sign(&format::signed(hash, &text)));
        format::frame(Kind::Seal, 0, &[&text, b"\n".as_slice(), signature.as_bytes()].concat(), out);
    }
}

fn of_recording(recording: &str, hash: &[u8]) -> Vec<u8> {
    [recording.as_bytes(), b"\n", hash].concat()
}

/// What was found of a recording.
#[derive(Debug, PartialEq, Eq)]
pub enum Verification {
    /// It is whole and signed.
    Whole(SealContent),
    /// Nothing of it was changed, but it has no seal: the gateway writes on, or did not get to end it.
    Unsealed {
        /// Whole frames.
        frames: u64,
        /// Bytes after the last hash, which nothing vouches for.
        unsure: usize,
    },
}

/// Checks every hash and the seal of what is to be `recording`, as `SESSION/NAME`. An error names what was changed, and where.
pub fn verify(recording: &str, file: &[u8], key: &[u8]) -> anyhow::Result<Verification> {
    let mut reader = Reader::new(file)?;
    let mut hash = format::first_hash();
    let (mut from, mut frames) = (reader.at(), 0u64);
    while let Some(frame) = reader.next() {
        let frame = match frame {
            Ok(frame) => frame,
            Err(format::FrameError::CutShort { .. }) if !ends_sealed(file) => break,
            Err(why) => anyhow::bail!("{why}"),
        };
        if matches!(frame.kind, Kind::Chain | Kind::Seal) && frame.micros != 0 {
            anyhow::bail!("the frame at byte {} has a time, which none of its kind has: it was changed", frame.at);
        }
        match frame.kind {
            Kind::Chain => {
                hash = format::next_hash(&hash, &file[from..frame.at]);
                if frame.payload.get(..hash.len()) != Some(&hash) || !matches!(frame.payload.len(), 32 | 64) {
                    anyhow::bail!("the frames from byte {from} to byte {} do not give their hash: something there was changed", frame.at);
                }
                hash = format::hash_past(&hash, frame.payload);
                from = reader.at();
            }
            Kind::Seal => {
                let manifest = check_seal(&frame, &hash, key)?;
                if from != frame.at || manifest.bytes != frame.at as u64 || manifest.frames != frames {
                    anyhow::bail!("the seal at byte {} is that of another recording", frame.at);
                }
                if !manifest.is_of(recording) {
                    anyhow::bail!("it is the recording {}, and stands in the place of {recording}", manifest.recording);
                }
                if reader.at() != file.len() {
                    anyhow::bail!("something follows the seal at byte {}", reader.at());
                }
                return Ok(Verification::Whole(manifest));
            }
            _ => {}
        }
        frames += 1;
    }
    Ok(Verification::Unsealed { frames, unsure: file.len() - from })
}

/// Reads the public key that signatures are verified with: `session.pub` of a data directory, or a copy of it.
pub fn public_key(file: &Path) -> anyhow::Result<Vec<u8>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read the gateway's public key {}", file.display()))?;
    STANDARD.decode(text.trim()).with_context(|| format!("{} is no key", file.display()))
}

/// Whether a signature of [`SigningKey::sign`] holds.
pub fn holds(signature: &str, what: &[u8], key: &[u8]) -> bool {
    STANDARD.decode(signature).is_ok_and(|signature| UnparsedPublicKey::new(&ED25519, key).verify(what, &signature).is_ok())
}

/// Whether a file that breaks off somewhere has a seal nevertheless: then a length in it was changed.
fn ends_sealed(file: &[u8]) -> bool {
    let tail = &file[file.len().saturating_sub(1024)..];
    memchr::memmem::find(tail, b"{\"frames\":").is_some()
}

pub(super) fn check_seal(frame: &Frame<'_>, hash: &[u8; 32], key: &[u8]) -> anyhow::Result<SealContent> {
    let at = frame.payload.iter().rposition(|byte| *byte == b'\n').context("the seal has no signature")?;
    let (text, signature) = (&frame.payload[..at], STANDARD.decode(&frame.payload[at + 1..]));
    let signature = signature.ok().with_context(|| format!("the seal at byte {} was changed", frame.at))?;
    UnparsedPublicKey::new(&ED25519, key)
        .verify(&format::signed(hash, text), &signature)
        .map_err(|_| anyhow::anyhow!("the seal at byte {} does not hold: it was changed, or another gateway signed it", frame.at))?;
    serde_json::from_slice(text).with_context(|| format!("the seal at byte {} cannot be read", frame.at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::session::file::{RecordingFile, recording_of};
    use crate::words::Ending;

    #[test]
    fn every_flipped_byte_is_found() {
        let directory = std::env::temp_dir().join(format!("postern-seal-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let key = SigningKey::open(&directory).unwrap();
        let public = STANDARD.decode(std::fs::read_to_string(directory.join("session.pub")).unwrap()).unwrap();
        let path = directory.join("a.stream");
        let name = recording_of(&path);
        let mut file = RecordingFile::create(&path).unwrap();
        for text in ["first", "second", "third"] {
            let mut frames = Vec::new();
            format::frame(Kind::Stdout, 1, text.as_bytes(), &mut frames);
            file.append(&key, &frames, 1).unwrap();
        }
        let unsealed = std::fs::read(file.path()).unwrap();
        assert!(matches!(verify(&name, &unsealed, &public), Ok(Verification::Unsealed { frames: 6, unsure: 0 })));
        assert!(
            matches!(verify(&name, &unsealed[..unsealed.len() - 3], &public), Ok(Verification::Unsealed { frames: 5, .. })),
            "cut short by a crash"
        );
        file.seal(&key, Ending::Ok, 0).unwrap();
        let whole = std::fs::read(&path).unwrap();
        assert!(matches!(verify(&name, &whole, &public), Ok(Verification::Whole(SealContent { frames: 6, .. }))));
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            let found = verify(&name, &changed, &public);
            assert!(!matches!(found, Ok(Verification::Whole(_))), "byte {at}");
        }
        for cut in 1..20 {
            assert!(!matches!(verify(&name, &whole[..whole.len() - cut], &public), Ok(Verification::Whole(_))));
        }
        assert!(verify(&name, &[&whole[..], b"x"].concat(), &public).is_err());
        let swapped = verify("b/a.stream", &whole, &public).unwrap_err().to_string();
        assert!(swapped.contains("stands in the place of b/a.stream"), "{swapped}");
        let other = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
        assert!(verify(&name, &whole, other.public_key().as_ref()).unwrap_err().to_string().contains("does not hold"));
    }
}
