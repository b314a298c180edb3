//! The directory a gateway keeps its data in: its own, and nobody else's to read.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// What is locked in it. It holds the id of the process.
const LOCK: &str = "lock";
/// What others may read in it, if they are let in: certificates and public keys.
const PUBLIC: [&str; 2] = ["ca.crt", "session.pub"];

/// How long a process that ends is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// A data directory, held by this process until it is dropped.
pub struct DataDirectory(#[allow(dead_code)] File);

impl DataDirectory {
    /// Makes the directory where there is none, sees to it that nobody else reads it, and takes it. A second gateway in one directory would seal what the first
    /// one still records, and break the chain of both their logs.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        let shown = directory.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("cannot make the data directory {shown}"))?;
        close(directory, 0o700)?;
        let lock = directory.join(LOCK);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock)
            .with_context(|| format!("cannot write in the data directory {shown}"))?;
        if !take(&file).with_context(|| format!("cannot lock {}", lock.display()))? {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            bail!(
                "the data directory {shown} is in use by the gateway with the process id {}; end that one, or give this one a dataDirectory of its own",
                holder.trim()
            );
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        for entry in std::fs::read_dir(directory)?.flatten() {
            let about = entry.metadata()?;
            if about.is_dir() {
                close(&entry.path(), 0o700)?;
            } else if about.is_file() && !PUBLIC.iter().any(|name| entry.file_name() == *name) {
                close(&entry.path(), 0o600)?;
            }
        }
        Ok(Self(file))
    }
}

/// Takes the lock on a file; false when another process holds it. One that was just killed may hold it for a moment yet.
pub fn take(file: &File) -> std::io::Result<bool> {
    let end = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(Duration::from_millis(50)),
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Takes from others what they may do.
fn close(path: &Path, mode: u32) -> anyhow::Result<()> {
    let now = std::fs::metadata(path)?.permissions().mode() & 0o777;
    if now & !mode != 0 {
        tracing::warn!(path = %path.display(), "others could read or write it (mode {now:03o}); it is closed to them now ({mode:03o})");
        match std::fs::set_permissions(path, Permissions::from_mode(mode)) {
            // The root of a volume is somebody else's: whoever mounts it says who reads it.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                tracing::warn!(path = %path.display(), "it is not this user's and stays open to others; see to it where it is made");
            }
            changed => changed.with_context(|| format!("{} is open to others, and cannot be closed to them", path.display()))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_gateways_and_closed_to_others() {
        let directory = std::env::temp_dir().join(format!("postern-data-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("sessions")).unwrap();
        for (name, mode) in [("postern.db", 0o644), ("ca.crt", 0o644), ("token.key", 0o600)] {
            std::fs::write(directory.join(name), "x").unwrap();
            std::fs::set_permissions(directory.join(name), Permissions::from_mode(mode)).unwrap();
        }
        std::fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
        let held = DataDirectory::open(&directory).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join("sessions"))), (0o700, 0o700));
        assert_eq!((mode(&directory.join("postern.db")), mode(&directory.join("ca.crt"))), (0o600, 0o644));
        let refused = DataDirectory::open(&directory).err().unwrap().to_string();
        assert!(refused.contains(&format!("process id {}", std::process::id())), "{refused}");
        drop(held);
        assert!(DataDirectory::open(&directory).is_ok());
        std::fs::remove_dir_all(directory).unwrap();
    }
}
