//! Machine code of policies, kept on disk so that a restart does not compile again.
//!
//! The code is run as it is found, so nothing is taken from the directory that this gateway did not write: each file begins with
//! an HMAC under a key only the gateway can read.

use std::path::{Path, PathBuf};

use anyhow::Context;
use aws_lc_rs::{constant_time, digest, hmac, rand};
use wasmtime::component::Component;

use super::engine::Runtime;
use super::trusted;

const TAG: usize = 32;
/// Compiled policies kept beside those in use, the newest: to go back to one is then no compilation.
const KEPT: usize = 32;

/// The compiled policies of a data directory.
pub struct Cache {
    directory: PathBuf,
    key: hmac::Key,
}

impl Cache {
    /// Opens or makes the cache.
    pub fn open(data_directory: &Path) -> anyhow::Result<Self> {
        let directory = data_directory.join("compiled");
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(Self { directory, key: hmac::Key::new(hmac::HMAC_SHA256, &secret(&data_directory.join("cache.key"))?) })
    }

    /// The component compiled from `wasm`: from disk when this gateway compiled it before, compiled now otherwise.
    pub(super) fn component(
        &self,
        runtime: &Runtime,
        id: &str,
        wasm: impl FnOnce() -> anyhow::Result<Vec<u8>>,
    ) -> anyhow::Result<Component> {
        let file = self.directory.join(format!("{id}.cwasm"));
        if let Some(component) = self.load(runtime, id, &file) {
            return Ok(component);
        }
        let component = Component::new(&runtime.engine, wasm()?)?;
        let code = component.serialize()?;
        let mut bytes = self.tag(id, &code).as_ref().to_vec();
        bytes.extend_from_slice(&code);
        let partial = file.with_extension(format!("{}.partial", std::process::id()));
        if let Err(error) = std::fs::write(&partial, &bytes).and_then(|()| std::fs::rename(&partial, &file)) {
            tracing::warn!(file = %file.display(), %error, "the compiled policy could not be kept; it will be compiled again after a restart");
        }
        Ok(component)
    }

    fn load(&self, runtime: &Runtime, id: &str, file: &Path) -> Option<Component> {
        let bytes = std::fs::read(file).ok()?;
        let (tag, code) = bytes.split_at_checked(TAG)?;
        if constant_time::verify_slices_are_equal(tag, self.tag(id, code).as_ref()).is_err() {
            tracing::warn!(file = %file.display(), "the compiled policy was changed by somebody else; it is compiled anew");
            return None;
        }
        trusted::component(&runtime.engine, code)
            .inspect_err(|error| tracing::info!(%error, "a compiled policy is of another engine; it is compiled anew"))
            .ok()
    }

    /// Removes the oldest that are not in use: each change of a module or its settings leaves one behind.
    pub fn prune(&self, in_use: &[&str]) {
        let mut unused: Vec<_> = std::fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.file_stem().and_then(|id| id.to_str()).is_none_or(|id| !in_use.contains(&id)))
            .map(|path| (std::fs::metadata(&path).and_then(|m| m.modified()).ok(), path))
            .collect();
        unused.sort();
        for (_, path) in unused.iter().rev().skip(KEPT) {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::warn!(file = %path.display(), %error, "an old compiled policy could not be removed");
            }
        }
    }

    fn tag(&self, id: &str, code: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(id.as_bytes());
        context.update(code);
        context.sign()
    }
}

/// Reads a secret of 32 bytes that only this user may read, or makes one.
pub fn secret(file: &Path) -> anyhow::Result<[u8; 32]> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    if let Ok(bytes) = std::fs::read(file) {
        return bytes.try_into().map_err(|_| anyhow::anyhow!("{} is not 32 bytes long; remove it and start again", file.display()));
    }
    let mut key = [0; 32];
    rand::fill(&mut key).map_err(|_| anyhow::anyhow!("no randomness"))?;
    let mut to = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .with_context(|| format!("cannot make {}", file.display()))?;
    to.write_all(&key)?;
    Ok(key)
}

/// SHA-256 over parts, each with its length, in hexadecimal.
pub(super) fn digest_of(parts: &[&[u8]]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    context.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_ones_are_removed_and_those_in_use_are_not() {
        let data = std::env::temp_dir().join(format!("postern-compiled-{}", std::process::id()));
        std::fs::create_dir_all(&data).unwrap();
        let cache = Cache::open(&data).unwrap();
        for n in 0..KEPT + 10 {
            let file = std::fs::File::create(data.join(format!("compiled/{n}.cwasm"))).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(n as u64)).unwrap();
        }
        cache.prune(&["0"]);
        let is_there = |n: usize| data.join(format!("compiled/{n}.cwasm")).exists();
        assert!(is_there(0) && !is_there(1) && !is_there(9) && is_there(10) && is_there(KEPT + 9));
        std::fs::remove_dir_all(data).unwrap();
    }
}
