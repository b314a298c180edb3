//! Machine code of policies, kept on disk so that a restart does not compile again.
//!
//! The code is run as it is found, so nothing is taken from the directory that this gateway did not write: each file begins with
//! an HMAC under a key only the gateway can read.

use std::path::{Path, PathBuf};

use anyhow::Context;
use aws_lc_rs::{constant_time, hmac};
use wasmtime::component::Component;

use crate::engine::Runtime;
use crate::trusted;
use postern_ground::files;

const TAG: usize = 32;
/// What is done with a module before it is compiled, beyond what its version and the engine say: code of before is not what would be compiled now. Empty in 0.1.0's
/// first builds.
const REVISION: &[u8] = b"wasi within ";
/// Bytes from which a module is large: with an interpreter in it, or a runtime.
const LARGE: usize = 1 << 20;
/// Compiled policies kept beside those in use, the newest: to go back to one is then no compilation.
const KEPT: usize = 32;

/// The compiled policies of a data directory.
pub struct Cache {
    directory: PathBuf,
    /// Where functions are kept by themselves.
    functions: PathBuf,
    key: hmac::Key,
}

/// Compiles on threads that end with it. Compiling takes tens of megabytes, and an allocator keeps what a thread has let go of for that thread.
fn aside<T: Send>(compile: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    rayon::ThreadPoolBuilder::new().thread_name(|n| format!("compile-{n}")).build()?.install(compile)
}

impl Cache {
    /// Opens or makes the cache.
    pub fn open(data_directory: &Path) -> anyhow::Result<Self> {
        let directory = data_directory.join("compiled");
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let functions = data_directory.join("functions.compiled");
        Ok(Self { directory, functions, key: hmac::Key::new(hmac::HMAC_SHA256, &files::secret(&data_directory.join("cache.key"))?) })
    }

    /// The component compiled from `wasm`: from disk when this gateway compiled it before, compiled now otherwise. `size` is how many bytes its module has.
    pub(super) fn component(
        &self,
        runtime: &Runtime,
        id: &str,
        size: usize,
        wasm: impl FnOnce() -> anyhow::Result<Vec<u8>> + Send,
    ) -> anyhow::Result<Component> {
        let file = self.directory.join(format!("{id}.cwasm"));
        if let Some(component) = self.load(runtime, id, &file) {
            return Ok(component);
        }
        let component = aside(|| {
            // What is small is compiled sooner than what is known of it would be read.
            let _compiling = (size >= LARGE).then(|| runtime.functions.compiling(&self.functions, &self.key));
            Ok(Component::new(&runtime.engine, wasm()?)?)
        })?;
        let code = component.serialize()?;
        let mut bytes = self.tag(id, &code, REVISION).as_ref().to_vec();
        bytes.extend_from_slice(&code);
        if let Err(error) = files::write_private(&file, &bytes) {
            tracing::warn!(
                error = format!("{error:#}"),
                "the compiled policy could not be kept; it will be compiled again after a restart"
            );
        }
        Ok(component)
    }

    fn load(&self, runtime: &Runtime, id: &str, file: &Path) -> Option<Component> {
        let bytes = std::fs::read(file).ok()?;
        let (tag, code) = bytes.split_at_checked(TAG)?;
        let is_by = |revision| constant_time::verify_slices_are_equal(tag, self.tag(id, code, revision).as_ref()).is_ok();
        if !is_by(REVISION) {
            if is_by(b"") {
                tracing::info!(file = %file.display(), "the compiled policy is of an older gateway; it is compiled anew");
                return None;
            }
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

    fn tag(&self, id: &str, code: &[u8], revision: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(revision);
        context.update(id.as_bytes());
        context.update(code);
        context.sign()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::Counters;

    /// What an older gateway compiled is not what this one would: it is compiled anew, as what somebody has changed is.
    #[test]
    fn only_what_this_gateway_compiled_in_this_way_is_taken() {
        let data = std::env::temp_dir().join(format!("postern-compiled-{}", std::process::id()));
        std::fs::create_dir_all(&data).unwrap();
        let (runtime, cache) = (Runtime::start(64 << 20, Counters::default()).unwrap(), Cache::open(&data).unwrap());
        let component = wat::parse_str("(component)").unwrap();
        let times = AtomicU32::new(0);
        let compiled = || {
            times.store(0, Ordering::Relaxed);
            let wasm = || {
                times.fetch_add(1, Ordering::Relaxed);
                Ok(component.clone())
            };
            cache.component(&runtime, "id", 0, wasm).unwrap();
            times.load(Ordering::Relaxed) == 1
        };
        let file = data.join("compiled/id.cwasm");
        assert!(compiled() && !compiled(), "kept, and taken");
        let code = std::fs::read(&file).unwrap()[TAG..].to_vec();
        let by = |revision: &[u8]| [cache.tag("id", &code, revision).as_ref(), &code].concat();
        for revision in [&b""[..], b"another"] {
            std::fs::write(&file, by(revision)).unwrap();
            assert!(compiled() && !compiled(), "{revision:?}");
        }
        let mut changed = by(REVISION);
        *changed.last_mut().unwrap() ^= 1;
        std::fs::write(&file, changed).unwrap();
        assert!(compiled());
        std::fs::remove_dir_all(data).unwrap();
    }
}
