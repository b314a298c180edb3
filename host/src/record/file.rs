//! The file of the audit log that is written: appended to whole or not at all, and rotated.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, bail};

use super::chain::Chain;
use super::head::Head;
use super::queue::Queued;
use super::session::seal::SigningKey;
use super::{Event, rotated};
use crate::config::Rotation;
use crate::words::Stage;

/// The file a log is written to.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    length: u64,
    chain: Chain,
    rotation: Rotation,
    /// The number of the file's first event, and when the file was begun.
    first: u64,
    began: SystemTime,
    found: LogEnd,
}

/// How the end of a log fits what was signed of it last.
#[derive(Debug)]
pub(super) enum LogEnd {
    /// It does, or nothing was written yet.
    Fits,
    /// What was signed is not in it.
    CutOff {
        /// What was signed.
        head: Head,
        /// The last event that was found.
        found: u64,
    },
    /// It cannot be told: there is a log and no head that this gateway signed. Why.
    Unknown(String),
}

/// Looks whether what was signed last is in the log.
fn end(log: &Path, chain: &Chain, key: &SigningKey) -> anyhow::Result<LogEnd> {
    let found = chain.next() - 1;
    let unknown = |why: String| {
        tracing::error!(%why, "whether the end of the audit log was cut off cannot be told");
        LogEnd::Unknown(why)
    };
    let head = match Head::beside(log) {
        Ok(Some(head)) if head.is_of(key.public()) => head,
        Ok(Some(_)) => return Ok(unknown(format!("{} is not signed by this gateway", Head::file(log).display()))),
        // A gateway that never signed one has none: the first, and the first of this version.
        Ok(None) if found == 0 => return Ok(LogEnd::Fits),
        Ok(None) => return Ok(unknown(format!("{} is not there", Head::file(log).display()))),
        Err(error) => return Ok(unknown(format!("{error:#}"))),
    };
    if head.seq == found && head.hash == chain.hash() || head.is_in(log)? {
        return Ok(LogEnd::Fits);
    }
    tracing::error!(
        signed = head.seq,
        at = %head.time,
        found,
        "the audit log is not the one that this gateway wrote: what it signed is not in it; its chain goes on from there, and `postern audit verify` will say so"
    );
    Ok(LogEnd::CutOff { head, found })
}

impl LogFile {
    /// Opens it and goes on with its chain: from what was signed last where that is not in it, so that it shows for ever that something is gone.
    pub(super) fn open(path: &Path, rotation: Rotation, key: &SigningKey) -> anyhow::Result<Self> {
        let mut file = private(path)?;
        // Of two writers each would break the chain of the other.
        if !crate::store::take(&file)? {
            anyhow::bail!("another process writes it; each gateway has a log of its own");
        }
        let (mut chain, length) = Chain::resume(&mut file)?;
        let files = rotated::files(path);
        if length == 0
            && let [.., before, _] = files.as_slice()
        {
            chain = Chain::resume(&mut File::open(before)?)?.0;
        }
        let end = if file.metadata()?.is_file() { end(path, &chain, key)? } else { LogEnd::Fits };
        if let LogEnd::CutOff { head, .. } = &end {
            chain = Chain::after(head.seq, &head.hash);
        }
        if file.metadata()?.is_file() && file.metadata()?.len() > length {
            tracing::warn!("the audit log ends in half an event, as after a crash; it is cut off there");
            file.set_len(length)?;
        }
        file.seek(SeekFrom::End(0))?;
        let first = if length == 0 { chain.next() } else { first_event(path)? };
        let began = file.metadata().and_then(|about| about.created().or_else(|_| about.modified())).unwrap_or(SystemTime::now());
        Ok(Self { path: path.to_owned(), file, length, chain, rotation, first, began, found: end })
    }

    /// What was found of its end when it was opened.
    pub(super) fn found(&self) -> &LogEnd {
        &self.found
    }

    /// Its last line: the number and the hash.
    pub(super) fn end(&self) -> (u64, &str) {
        (self.chain.next() - 1, self.chain.hash())
    }

    /// Goes on in another file where this one is long or old enough. What cannot be rotated is written on.
    fn rotate(&mut self) -> std::io::Result<()> {
        let Rotation { size, age } = self.rotation;
        let is_old = age.is_some_and(|age| self.began.elapsed().is_ok_and(|old| old >= age));
        if self.length == 0 || !(is_old || size > 0 && self.length >= size) {
            return Ok(());
        }
        self.file.sync_data()?;
        let to = rotated::name(&self.path, self.first);
        if to.exists() {
            return Err(std::io::Error::other(format!("{} is there already", to.display())));
        }
        // The other file is there before this one has another name: what fails leaves all as it is.
        let next = self.path.with_extension("next");
        let file = private(&next)?;
        file.set_len(0)?;
        file.lock()?;
        std::fs::rename(&self.path, &to)?;
        if let Err(error) = std::fs::rename(&next, &self.path) {
            std::fs::rename(&to, &self.path)?;
            return Err(error);
        }
        (self.file, self.length, self.first, self.began) = (file, 0, self.chain.next(), SystemTime::now());
        Ok(())
    }

    /// Appends events whole or not at all.
    pub(super) fn append(&mut self, events: &[Queued], durable: bool) -> std::io::Result<()> {
        if let Err(error) = self.rotate() {
            tracing::error!(%error, "the audit log cannot go on in another file; it goes on in this one");
        }
        let mut chain = self.chain.clone();
        let mut lines = Vec::new();
        for event in events {
            chain.line(&event.line, &mut lines);
        }
        let written = self.file.write_all(&lines).and_then(|()| if durable { self.file.sync_data() } else { Ok(()) });
        if let Err(error) = written {
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length += lines.len() as u64;
        self.chain = chain;
        Ok(())
    }
}

/// An audit log while no gateway writes it.
pub struct HeldLog(LogFile);

impl HeldLog {
    /// Takes it; an error when a gateway has it. Half an event at its end, as a crash leaves it, is cut off.
    pub fn open(file: &Path, key: &SigningKey) -> anyhow::Result<Self> {
        let unwritable = || format!("the audit log {} cannot be written", file.display());
        let log = LogFile::open(file, Rotation::default(), key).with_context(unwritable)?;
        if let LogEnd::CutOff { head, found } = log.found() {
            bail!(
                "the log ends with event {found}, and the gateway signed event {}: its end was cut off. Start the gateway, which tells of that in it, and repair it then",
                head.seq
            );
        }
        Ok(Self(log))
    }

    /// The hash of its last line.
    pub fn end(&self) -> &str {
        self.0.chain.hash()
    }

    /// Appends an event, and waits until it is on the disk.
    pub fn append(&mut self, event: &Event, stage: Stage) -> anyhow::Result<()> {
        Ok(self.0.append(&[Queued { line: event.at_stage(stage), who: None }], true)?)
    }
}

/// Opens a log that nobody else reads.
fn private(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// The number of a file's first event.
fn first_event(path: &Path) -> anyhow::Result<u64> {
    use std::io::BufRead;
    let mut line = String::new();
    std::io::BufReader::new(File::open(path)?).read_line(&mut line)?;
    let first: serde_json::Value = serde_json::from_str(&line).context("its first line is no event")?;
    first["seq"].as_u64().context("its first line has no seq")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::head::Heads;

    #[test]
    fn a_log_is_rotated_and_its_chain_goes_on_across_files_and_starts() {
        let directory = std::env::temp_dir().join(format!("postern-rotated-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (path, key) = (directory.join("audit.jsonl"), SigningKey::open(&directory).unwrap());
        let rotation = Rotation { size: 400, age: None };
        let event = |n: u32| Queued { line: format!("\"n\":{n}").into_bytes(), who: None };
        for start in 0..3 {
            let mut log = LogFile::open(&path, rotation, &key).unwrap();
            let refused = LogFile::open(&path, rotation, &key).err().unwrap().to_string();
            assert!(refused.contains("another process writes it"), "{refused}");
            (0..7).for_each(|n| log.append(&[event(start * 7 + n)], false).unwrap());
        }
        let files = rotated::files(&path);
        assert!(files.len() > 4, "{files:?}");
        let all: Vec<u8> = files.iter().flat_map(|file| std::fs::read(file).unwrap()).collect();
        assert_eq!(Chain::verify(all.as_slice(), 1).map(|whole| whole.events), Ok(21));
        let first = rotated::first(&path, &files[2]).unwrap();
        let rest: Vec<u8> = files[2..].iter().flat_map(|file| std::fs::read(file).unwrap()).collect();
        assert_eq!(Chain::verify(rest.as_slice(), first).map(|whole| whole.events), Ok(21 - first + 1));
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_log_that_was_cut_off_shows_it_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let (path, key) = (directory.path().join("audit.jsonl"), SigningKey::open(directory.path()).unwrap());
        let rotation = Rotation { size: 2000, age: None };
        let event = |n: u64| Queued { line: format!("\"n\":{n}").into_bytes(), who: None };
        let write = |from: u64, to: u64| {
            let mut log = LogFile::open(&path, rotation, &key).unwrap();
            if let LogEnd::CutOff { head, found } = log.found() {
                let mut started = Event::default();
                started.set("cutOff", serde_json::json!({"head": head, "found": found}));
                log.append(&[Queued { line: started.at_stage(Stage::Started), who: None }], false).unwrap();
            }
            (from..to).for_each(|n| log.append(&[event(n)], false).unwrap());
            let (seq, hash) = log.end();
            let cut = match log.found() {
                LogEnd::CutOff { head, found } => Some((head.seq, *found)),
                LogEnd::Fits | LogEnd::Unknown(_) => None,
            };
            (Head::sign(&key, seq, hash), cut)
        };
        let keep = |head: &Head| std::fs::write(Head::file(&path), serde_json::to_vec(head).unwrap()).unwrap();
        let verify = |heads: &[&Head]| {
            let mut heads = Heads::new(heads.iter().map(|head| (*head).clone()), key.public()).unwrap();
            let whole =
                Chain::verify_with(rotated::Log::open(&path).unwrap(), 1, |seq, hash| heads.see(seq, hash)).map_err(|broken| broken.why)?;
            heads.told(1, whole.last)
        };
        let (old, none) = write(0, 10);
        let (now, _) = write(10, 30);
        keep(&now);
        assert_eq!((none, verify(&[&old, &now])), (None, Ok(())));
        // As it was, and with events that were not signed yet, nothing is found.
        let (later, none) = write(30, 70);
        assert_eq!((none, now.is_in(&path).unwrap(), old.is_in(&path).unwrap()), (None, true, true));
        assert!(rotated::files(&path).len() > 2, "over several files");
        keep(&later);
        // Whole lines are taken from its end: a head says so, without one nothing does.
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        std::fs::write(&path, format!("{}\n", lines[..lines.len() - 2].join("\n"))).unwrap();
        assert_eq!(verify(&[]), Ok(()));
        let why = verify(&[&old, &now, &later]).unwrap_err();
        assert!(why.contains("the log ends with event 68, and the gateway signed event 70 at"), "{why}");
        // The gateway that goes on with it does not heal it.
        let (after, cut) = write(70, 71);
        assert_eq!((cut, after.seq), (Some((70, 68)), 72), "the event that tells of it, and one more");
        let why = verify(&[]).unwrap_err();
        assert!(why.contains("events 69 to 70 are not there"), "{why}");
        let none = write(71, 72).1;
        assert_eq!(none, None, "it is said once");
        // Nor one that was written anew from its beginning, as long and whole in itself.
        rotated::files(&path).iter().for_each(|file| std::fs::remove_file(file).unwrap());
        std::fs::remove_file(Head::file(&path)).unwrap();
        let (forged, _) = write(100, 190);
        assert_eq!(verify(&[&forged]), Ok(()));
        let why = verify(&[&later]).unwrap_err();
        assert!(why.contains("event 70 is another than the one that the gateway signed at"), "{why}");
        keep(&later);
        let (last, cut) = write(190, 191);
        assert_eq!((cut, last.seq), (Some((70, 90)), 72));
        // Nor by a line that only says what it would have to: the chain reads what comes first, and so does this.
        let forged: String = {
            let (mut chain, mut text) = (Chain::default(), Vec::new());
            (0..70).for_each(|n| chain.line(format!("\"forged\":{n}").as_bytes(), &mut text));
            chain.line(
                format!(
                    "\"stage\":\"started\",\"cutOff\":{{\"head\":{}}},\"prev\":\"{}\"",
                    serde_json::to_string(&later).unwrap(),
                    later.hash
                )
                .as_bytes(),
                &mut text,
            );
            String::from_utf8(text).unwrap()
        };
        rotated::files(&path).iter().for_each(|file| std::fs::remove_file(file).unwrap());
        std::fs::write(&path, forged).unwrap();
        assert!(!later.is_in(&path).unwrap());
        // Where two gateways wrote it once numbers do not rise, and what is there is found all the same.
        rotated::files(&path).iter().for_each(|file| std::fs::remove_file(file).unwrap());
        std::fs::remove_file(Head::file(&path)).unwrap();
        let (mut one, mut other, mut text) = (Chain::default(), Chain::default(), Vec::new());
        (0..3).for_each(|_| other.line(b"\"by\":2", &mut text));
        (0..5000).for_each(|_| one.line(b"\"by\":1", &mut text));
        other.line(b"\"by\":2", &mut text);
        std::fs::write(&path, &text).unwrap();
        let (four, _) = (Head::sign(&key, 4, other.hash()), keep(&Head::sign(&key, 4, other.hash())));
        assert!(four.is_in(&path).unwrap());
        assert!(!Head { hash: "f".repeat(64), ..four }.is_in(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        keep(&later);
        // A head that somebody else signed is none.
        let strange = Head { seq: 90, ..later };
        assert!(Heads::new([strange.clone()], key.public()).unwrap_err().to_string().contains("not signed by this gateway"));
        keep(&strange);
        assert_eq!(write(191, 192).1, None);
    }
}
