//! The files a log was rotated into, beside the one that is written: `audit.jsonl` becomes `audit.00000000000000000001.jsonl`, by the number of its first event.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::chain::Chain;

/// The name of the file that begins with an event.
pub(super) fn name(log: &Path, first: u64) -> PathBuf {
    let stem = log.file_stem().unwrap_or_default().to_string_lossy();
    let end = log.extension().map(|end| format!(".{}", end.to_string_lossy())).unwrap_or_default();
    log.with_file_name(format!("{stem}.{first:020}{end}"))
}

/// The files of a log, in order; the one that is written last is the last of them.
pub fn files(log: &Path) -> Vec<PathBuf> {
    let directory = log.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| directory.join(entry.file_name()))
        .filter(|file| first(log, file).is_some())
        .collect();
    files.sort();
    files.push(log.to_owned());
    files
}

/// A log over all its files, as it is when it is opened: it may be rotated, and go on, while it is read.
pub struct Log {
    rest: VecDeque<PathBuf>,
    current: Option<File>,
    /// The file that was written last, and how much of it is read.
    last: Option<(File, u64)>,
}

impl Log {
    /// Begins with the first of them. Half an event at its end, which is being written or was when the machine stopped, is left out.
    pub fn open(log: &Path) -> std::io::Result<Self> {
        // It is held before it is looked which others there are: what it was rotated into by then is among them, and is left out.
        let mut last = File::open(log)?;
        let (_, length) = Chain::resume(&mut last)?;
        last.rewind()?;
        let id = |about: std::fs::Metadata| (about.dev(), about.ino());
        let own = id(last.metadata()?);
        let is_other = |path: &PathBuf| path != log && std::fs::metadata(path).map(id).is_ok_and(|other| other != own);
        Ok(Self { rest: files(log).into_iter().filter(is_other).collect(), current: None, last: Some((last, length)) })
    }
}

impl Read for Log {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            if let Some(file) = &mut self.current {
                let read = file.read(buffer)?;
                if read > 0 {
                    return Ok(read);
                }
                self.current = None;
            }
            if let Some(next) = self.rest.pop_front() {
                self.current = Some(File::open(next)?);
                continue;
            }
            let Some((file, left)) = &mut self.last else { return Ok(0) };
            let read = Read::take(&*file, *left).read(buffer)?;
            *left -= read as u64;
            return Ok(read);
        }
    }
}

/// The number of the first event of a file that a log was rotated into.
pub fn first(log: &Path, file: &Path) -> Option<u64> {
    let number = |path: &Path| path.file_stem()?.to_str()?.rsplit_once('.')?.1.parse::<u64>().ok();
    let first = number(file)?;
    (name(log, first).file_name() == file.file_name()).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_knows_its_files() {
        let log = Path::new("/x/audit.jsonl");
        assert_eq!(name(log, 7), Path::new("/x/audit.00000000000000000007.jsonl"));
        assert_eq!(first(log, &name(log, 7)), Some(7));
        for other in ["/x/audit.jsonl", "/x/other.00000000000000000007.jsonl", "/x/audit.7.jsonl", "/x/audit.x.jsonl"] {
            assert_eq!(first(log, Path::new(other)), None, "{other}");
        }
    }
}
