//! A recording that is sent while it is written.

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

/// How often it is looked for more.
const LOOK: Duration = Duration::from_millis(200);
/// What is read at a time.
const PIECE: usize = 64 << 10;

/// The body of an answer that is read of a recording's file: to its end, or until the recording is finished, its caller's credential has expired or the gateway
/// ends.
pub struct Following {
    reading: JoinHandle<std::io::Result<Step>>,
    name: String,
    ends: Ends,
    /// Whether nothing comes any more.
    is_over: bool,
}

/// Where reading has got to.
struct Step {
    recording: Growing,
    /// What was read; nothing at the end.
    bytes: Vec<u8>,
}

/// A recording's file, which is written at its end and has another name once it is finished.
pub(super) struct Growing {
    file: File,
    name: String,
    /// Its name while it is written, where that is waited for.
    unfinished: Option<PathBuf>,
}

impl Following {
    /// Reads a recording.
    pub(super) fn begin(recording: Growing, expires: u64, drain: &Drain) -> Self {
        let ends = ends(expires, drain.leaving(), std::future::pending());
        Self { name: recording.name.clone(), reading: recording.read_on(), ends, is_over: false }
    }

    /// What the file is called.
    pub(super) fn file(&self) -> &str {
        &self.name
    }
}

impl Growing {
    /// Opens a recording in a session's directory, finished or not; none where it is not there. `follows` has it read until it is finished.
    pub(super) fn open(directory: &Path, name: &str, follows: bool) -> Option<Self> {
        let part = format!("{name}.{PART}");
        // It may be finished while it is looked for.
        [name, &part, name].into_iter().find_map(|name| {
            let file = File::open(directory.join(name)).ok()?;
            let unfinished = (follows && name == part).then(|| directory.join(&part));
            Some(Self { file, name: name.to_owned(), unfinished })
        })
    }

    fn read_on(self) -> JoinHandle<std::io::Result<Step>> {
        tokio::spawn(async move {
            let mut recording = self;
            loop {
                let (back, bytes, is_finished) =
                    tokio::task::spawn_blocking(move || recording.read()).await.map_err(std::io::Error::other)??;
                if !bytes.is_empty() || is_finished {
                    return Ok(Step { recording: back, bytes });
                }
                recording = back;
                tokio::time::sleep(LOOK).await;
            }
        })
    }

    /// What there is more, and whether that is all there will be.
    fn read(mut self) -> std::io::Result<(Self, Vec<u8>, bool)> {
        // It is asked before what is there is read: what is finished has no more than that.
        let is_finished = self.unfinished.as_ref().is_none_or(|unfinished| !unfinished.exists());
        let mut bytes = vec![0; PIECE];
        let read = self.file.read(&mut bytes)?;
        bytes.truncate(read);
        Ok((self, bytes, is_finished && read == 0))
    }
}

impl http_body::Body for Following {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.is_over || self.ends.as_mut().poll(cx).is_ready() {
            self.is_over = true;
            return Poll::Ready(None);
        }
        let step = match ready!(Pin::new(&mut self.reading).poll(cx)) {
            Ok(Ok(step)) => step,
            Ok(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            Err(error) => return Poll::Ready(Some(Err(error.into()))),
        };
        if step.bytes.is_empty() {
            self.is_over = true;
            return Poll::Ready(None);
        }
        self.reading = step.recording.read_on();
        Poll::Ready(Some(Ok(Frame::data(step.bytes.into()))))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
