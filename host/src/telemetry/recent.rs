//! The last of the gateway's own log, kept in its data directory: what it said before it ended, however that came about, is there for a support bundle.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, fmt};

use super::lines::fields;
use crate::clock::timestamp;
use crate::written::in_a_line;

/// The file, and the one before it.
const FILE: &str = "gateway.log";
const BEFORE: &str = "gateway.log.1";
/// How long each of the two becomes.
const LARGEST: u64 = 1 << 20;
/// Lines that may wait for the disk. More are left out: nobody waits for it.
const QUEUE: usize = 1024;
/// How long what is left may take to be written at the end.
const LAST: Duration = Duration::from_secs(2);

/// Where lines go; nowhere until a data directory is known.
static LINES: OnceLock<SyncSender<Line>> = OnceLock::new();

enum Line {
    Text(Vec<u8>),
    /// All that came before is to be written: say when it is.
    Flush(SyncSender<()>),
}

/// The files in a data directory, the older one first.
pub fn files(data: &Path) -> [PathBuf; 2] {
    [data.join(BEFORE), data.join(FILE)]
}

/// Keeps the log in a data directory from now on. A process has one log, and keeps it in one place.
pub(crate) fn begin(data: &Path) -> anyhow::Result<()> {
    let mut kept = LogFile::open(data)?;
    let (lines, waiting) = sync_channel(QUEUE);
    if LINES.set(lines).is_ok() {
        std::thread::Builder::new().name("log".into()).spawn(move || kept.write_all_of(&waiting))?;
    }
    Ok(())
}

/// Keeps a line that goes to standard error in another way than the log, and waits, for a moment, until all that was said is written.
pub fn last(line: &str) {
    say(line);
    flush();
}

fn say(line: &str) {
    if let Some(lines) = LINES.get() {
        let _ = lines.try_send(Line::Text(format!("{} {}\n", timestamp(), in_a_line(line)).into_bytes()));
    }
}

/// Keeps where a panic was. What it said is on standard error only: it may quote what was worked on.
pub fn keep_panics() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        say(&format!("panicked at {at}"));
        // One that ends no more than a request holds up no thread.
        if std::thread::current().name() == Some("main") {
            flush();
        }
        told(panic);
    }));
}

/// Waits, for a moment, until what was said is written.
pub(crate) fn flush() {
    let (done, written) = sync_channel(1);
    if LINES.get().is_some_and(|lines| lines.try_send(Line::Flush(done)).is_ok()) {
        let _ = written.recv_timeout(LAST);
    }
}

/// The part of the process's log that is kept, once a data directory is known.
pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    fmt::layer().with_ansi(false).fmt_fields(fields()).with_writer(Maker)
}

struct Maker;

impl<'a> MakeWriter<'a> for Maker {
    type Writer = Event;

    fn make_writer(&'a self) -> Event {
        Event(Vec::new())
    }
}

/// One event, handed over when it is whole.
struct Event(Vec<u8>);

impl Write for Event {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if LINES.get().is_some() {
            self.0.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if let Some(lines) = LINES.get().filter(|_| !self.0.is_empty()) {
            let _ = lines.try_send(Line::Text(std::mem::take(&mut self.0)));
        }
    }
}

/// The files that are written.
struct LogFile {
    directory: PathBuf,
    file: File,
    length: u64,
}

impl LogFile {
    fn open(directory: &Path) -> anyhow::Result<Self> {
        let (file, length) = open(&directory.join(FILE))?;
        Ok(Self { directory: directory.to_owned(), file, length })
    }

    /// Writes until nobody sends any more. What cannot be written is left out: it is on standard error too.
    fn write_all_of(&mut self, waiting: &Receiver<Line>) {
        for line in waiting {
            match line {
                Line::Text(text) => drop(self.write(&text)),
                Line::Flush(done) => drop(done.send(())),
            }
        }
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        if self.length > 0 && self.length + text.len() as u64 > LARGEST {
            self.rotate();
        }
        self.file.write_all(text)?;
        self.length += text.len() as u64;
        Ok(())
    }
}

impl LogFile {
    /// Goes on in another file. Where that fails it goes on in this one, and tries again after as much more.
    fn rotate(&mut self) {
        self.length = 0;
        match std::fs::rename(self.directory.join(FILE), self.directory.join(BEFORE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return,
            _ => {}
        }
        if let Ok((file, length)) = open(&self.directory.join(FILE)) {
            (self.file, self.length) = (file, length);
        }
    }
}

fn open(file: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_are_kept_and_neither_grows_without_bound() {
        let directory = tempfile::tempdir().unwrap();
        let mut kept = LogFile::open(directory.path()).unwrap();
        let line = [b'x'; 1000];
        for _ in 0..3000 {
            kept.write(&line).unwrap();
        }
        drop(kept);
        let lengths = files(directory.path()).map(|file| std::fs::metadata(file).unwrap().len());
        assert!(lengths.iter().all(|length| *length <= LARGEST) && lengths[0] > LARGEST - 1001, "{lengths:?}");
        // It goes on after a start.
        let mut kept = LogFile::open(directory.path()).unwrap();
        kept.write(b"again\n").unwrap();
        assert_eq!(std::fs::metadata(directory.path().join(FILE)).unwrap().len(), lengths[1] + 6);
    }
}
