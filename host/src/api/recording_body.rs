//! The body of a recording's download, read from the disk piece by piece; where it is asked for, until the recording is finished.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tokio::task::JoinHandle;

use crate::body::BoxError;
use crate::drain::Drain;
use crate::record::session::file::PART;
use crate::stream::end::{Ends, ends};

/// How often an unfinished recording is read again at its end.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The most bytes read at a time.
const READ_SIZE: usize = 64 << 10;

/// A response body that sends a recording's file: to its end or, where it is followed, until the recording is finished. It ends early when the caller's credential
/// expires or the gateway shuts down.
pub struct RecordingBody {
    reading: JoinHandle<std::io::Result<ReadPiece>>,
    name: String,
    ends: Ends,
    /// Whether nothing comes any more.
    is_over: bool,
}

/// What one read gives.
struct ReadPiece {
    /// The file, to read on from.
    recording: OpenRecording,
    /// What was read.
    bytes: Vec<u8>,
    /// Whether nothing follows.
    at_end: bool,
}

/// A recording's file, open for reading. One that is unfinished still grows, and is renamed when it is finished.
pub(super) struct OpenRecording {
    file: File,
    name: String,
    /// The path of the unfinished file, where the recording is followed: once nothing is there any more, the recording is finished.
    part_path: Option<PathBuf>,
}

impl RecordingBody {
    /// Begins to send a recording. `expires` is when the caller's credential does, in Unix seconds.
    pub(super) fn begin(recording: OpenRecording, expires: u64, drain: &Drain) -> Self {
        // Nothing withdraws an auditor's right meanwhile: it was looked at before.
        let ends = ends(expires, drain.leaving(), std::future::pending());
        Self { name: recording.name.clone(), reading: recording.read_on(), ends, is_over: false }
    }

    /// The name of the file that is sent; that of an unfinished recording ends in `.part`.
    pub(super) fn file_name(&self) -> &str {
        &self.name
    }
}

impl OpenRecording {
    /// Opens a recording in a session's directory, finished or not; none where it is not there. `follows` has it read until it is finished.
    pub(super) fn open(directory: &Path, name: &str, follows: bool) -> Option<Self> {
        let part = format!("{name}.{PART}");
        // It may be finished while it is looked for.
        [name, &part, name].into_iter().find_map(|name| {
            let file = File::open(directory.join(name)).ok()?;
            let part_path = (follows && name == part).then(|| directory.join(&part));
            Some(Self { file, name: name.to_owned(), part_path })
        })
    }

    fn read_on(self) -> JoinHandle<std::io::Result<ReadPiece>> {
        tokio::spawn(async move {
            let mut recording = self;
            loop {
                let piece = tokio::task::spawn_blocking(move || recording.read()).await.map_err(std::io::Error::other)??;
                if !piece.bytes.is_empty() || piece.at_end {
                    return Ok(piece);
                }
                recording = piece.recording;
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        })
    }

    /// Reads once.
    fn read(mut self) -> std::io::Result<ReadPiece> {
        // It is asked before what is there is read: what is finished has no more than that.
        let is_finished = self.part_path.as_ref().is_none_or(|part| !part.exists());
        let mut bytes = vec![0; READ_SIZE];
        let read = self.file.read(&mut bytes)?;
        bytes.truncate(read);
        Ok(ReadPiece { recording: self, bytes, at_end: is_finished && read == 0 })
    }
}

impl http_body::Body for RecordingBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.is_over || self.ends.as_mut().poll(cx).is_ready() {
            self.is_over = true;
            return Poll::Ready(None);
        }
        let piece = match ready!(Pin::new(&mut self.reading).poll(cx)) {
            Ok(Ok(piece)) => piece,
            Ok(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            Err(error) => return Poll::Ready(Some(Err(error.into()))),
        };
        if piece.at_end {
            self.is_over = true;
            return Poll::Ready(None);
        }
        self.reading = piece.recording.read_on();
        Poll::Ready(Some(Ok(Frame::data(piece.bytes.into()))))
    }
}

impl Drop for RecordingBody {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
