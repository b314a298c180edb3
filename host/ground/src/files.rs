//! Files: whole or not at all, and nobody else's to read where they hold what is nobody else's.

use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;
use aws_lc_rs::rand;
use tempfile::Builder;

/// Puts a file in the place of what is there, whole or not at all; who may read it, the user's umask says.
pub fn write(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    replace(file, bytes, 0o666)
}

/// Puts a file that only this user may read in the place of what is there, whole or not at all.
pub fn write_private(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    replace(file, bytes, 0o600)
}

fn replace(file: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written =
        Builder::new().prefix(".partial-").permissions(Permissions::from_mode(mode)).tempfile_in(parent).and_then(|mut partial| {
            partial.write_all(bytes)?;
            partial.persist(file).map_err(|error| error.error)
        });
    written.map(drop).with_context(|| format!("cannot write {}", file.display()))
}

/// Makes a file that nobody else reads, where there is none.
pub fn private(file: &Path) -> std::io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(file).map(drop)
}

/// Reads a secret of 32 bytes that only this user may read, or makes one.
pub fn secret(file: &Path) -> anyhow::Result<[u8; 32]> {
    if let Ok(bytes) = std::fs::read(file) {
        return bytes.try_into().map_err(|_| anyhow::anyhow!("{} is not 32 bytes long; remove it and start again", file.display()));
    }
    let mut key = [0; 32];
    rand::fill(&mut key).map_err(|_| anyhow::anyhow!("no randomness"))?;
    let mut made = OpenOptions::new();
    made.write(true).create_new(true).mode(0o600);
    let mut to = made.open(file).with_context(|| format!("cannot make {}", file.display()))?;
    to.write_all(&key)?;
    Ok(key)
}

#[cfg(test)]
mod tests;
