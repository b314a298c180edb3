//! The file a recording is: frames one after another, with hashes between them and a signed seal at the end.
//!
//! ```text
//! "POSTERN-SESSION 1\n"
//! frame: kind u8 | unix microseconds u64 | length u32 | payload        (numbers big-endian)
//! ```
//!
//! A frame `#` holds SHA-256 of the hash before it and of all frames since then; the first hash is that of the first line. The frame `S` is the
//! seal: a manifest as JSON, a line end, and the Ed25519 signature over the last hash and the manifest, in base64. The time of these two kinds is 0.
//! What reached the disk before a crash can be read up to its last whole frame.

use aws_lc_rs::digest::{Context, SHA256, digest};

/// What a file begins with.
pub const MAGIC: &[u8] = b"POSTERN-SESSION 1\n";
/// Bytes of a frame before its payload.
pub const HEAD: usize = 13;
/// The longest payload that is read. Longer ones are never written.
pub const LONGEST: usize = 32 << 20;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// What the recording is of: a JSON object.
    Header = b'H',
    /// An API call: its audit event as a JSON object.
    Call = b'C',
    /// The body of the call's request, after masking.
    Request = b'Q',
    /// The body of the call's answer, after masking.
    Response = b'R',
    /// What the caller typed or sent.
    Stdin = b'i',
    /// Standard output, after masking.
    Stdout = b'o',
    /// Standard error, after masking.
    Stderr = b'e',
    /// The size of the caller's terminal: a JSON object with `Width` and `Height`.
    Resize = b'z',
    /// How a command ended: a `metav1.Status`.
    Exit = b'x',
    /// A port of the pod was connected to: its number.
    Port = b'p',
    /// Something is missing, and why: a JSON object.
    Mark = b'm',
    /// A hash.
    Chain = b'#',
    /// The seal.
    Seal = b'S',
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        use Kind::*;
        [Header, Call, Request, Response, Stdin, Stdout, Stderr, Resize, Exit, Port, Mark, Chain, Seal]
            .into_iter()
            .find(|k| *k as u8 == byte)
    }
}

/// Appends a frame.
pub fn frame(kind: Kind, micros: u64, payload: &[u8], out: &mut Vec<u8>) {
    frame_of(kind, micros, &[payload], out);
}

/// Appends a frame whose payload comes in parts.
pub fn frame_of(kind: Kind, micros: u64, parts: &[&[u8]], out: &mut Vec<u8>) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.push(kind as u8);
    out.extend_from_slice(&micros.to_be_bytes());
    out.extend_from_slice(&(length as u32).to_be_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// The hash a file begins with.
pub fn first_hash() -> [u8; 32] {
    hash_of(digest(&SHA256, MAGIC).as_ref())
}

/// The hash after a frame of the chain: what vouches for it is hashed as well, or nobody without the key would see it changed.
pub fn hash_past(hash: &[u8; 32], payload: &[u8]) -> [u8; 32] {
    match payload.get(hash.len()..) {
        Some(vouched) if !vouched.is_empty() => next_hash(hash, vouched),
        _ => *hash,
    }
}

/// The hash after some frames.
pub fn next_hash(before: &[u8; 32], frames: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(before);
    context.update(frames);
    hash_of(context.finish().as_ref())
}

fn hash_of(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(bytes);
    hash
}

/// What is signed.
pub fn signed(hash: &[u8; 32], manifest: &[u8]) -> Vec<u8> {
    [b"postern-session-1\n", hash.as_slice(), manifest].concat()
}

/// A frame, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it holds.
    pub kind: Kind,
    /// Unix microseconds.
    pub micros: u64,
    /// What it says.
    pub payload: &'a [u8],
    /// Where it begins in the file.
    pub at: usize,
}

/// Reads frames.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    file: &'a [u8],
    at: usize,
}

/// Why a file cannot be read on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It is no recording.
    #[error("it is no recording of this gateway")]
    NotOne,
    /// It ends within a frame: what comes before it was read.
    #[error("it is cut short within the frame at byte {at}")]
    CutShort {
        /// Where the broken frame begins.
        at: usize,
    },
    /// A frame is none.
    #[error("what stands at byte {at} is no frame: it was changed")]
    Garbled {
        /// Where it begins.
        at: usize,
    },
}

impl<'a> Reader<'a> {
    /// Begins at the first frame.
    pub fn new(file: &'a [u8]) -> Result<Self, FrameError> {
        if !file.starts_with(MAGIC) {
            return Err(FrameError::NotOne);
        }
        Ok(Self { file, at: MAGIC.len() })
    }

    /// Reads frames that are no whole file.
    pub(super) fn over(frames: &'a [u8]) -> Self {
        Self { file: frames, at: 0 }
    }

    /// Where the next frame begins.
    pub fn at(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let rest = &self.file[at.min(self.file.len())..];
        if rest.is_empty() {
            return None;
        }
        let stop = |this: &mut Self, why| {
            this.at = this.file.len();
            Some(Err(why))
        };
        let Some(kind) = Kind::of(rest[0]) else { return stop(self, FrameError::Garbled { at }) };
        let Some(head) = rest.get(1..HEAD) else { return stop(self, FrameError::CutShort { at }) };
        let micros = u64::from_be_bytes([head[0], head[1], head[2], head[3], head[4], head[5], head[6], head[7]]);
        let length = u32::from_be_bytes([head[8], head[9], head[10], head[11]]) as usize;
        if length > LONGEST {
            return stop(self, FrameError::Garbled { at });
        }
        let Some(payload) = rest.get(HEAD..HEAD + length) else { return stop(self, FrameError::CutShort { at }) };
        self.at = at + HEAD + length;
        Some(Ok(Frame { kind, micros, payload, at }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn nothing_in_a_file_panics(noise in proptest::collection::vec(0u8..=255, 0..200), cut in 0usize..200) {
            let mut file = MAGIC.to_vec();
            frame(Kind::Stdout, 5, b"hello", &mut file);
            file.truncate(cut.max(MAGIC.len()));
            file.extend(noise);
            let reader = Reader::new(&file).unwrap();
            for frame in reader {
                if frame.is_err() {
                    break;
                }
            }
        }
    }
}
