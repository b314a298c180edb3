//! Machine code of policies, kept on disk so that a restart does not compile again.
//!
//! The code is run as it is found, so nothing is taken from the directory that this gateway did not write: each file begins with
//! an HMAC under a key only the gateway can read.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

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
    /// What is being written, by its id: tens of megabytes, for which nobody waits who has the policy already.
    writing: Mutex<Option<(String, JoinHandle<()>)>>,
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.settle();
    }
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
        let key = hmac::Key::new(hmac::HMAC_SHA256, &files::secret(&data_directory.join("cache.key"))?);
        Ok(Self { directory, functions, key, writing: Mutex::default() })
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
        self.keep(id, file, component.clone());
        Ok(component)
    }

    /// Has it written, once what is being written is.
    fn keep(&self, id: &str, file: PathBuf, component: Component) {
        self.settle();
        let (key, of) = (self.key.clone(), id.to_owned());
        let write = move || {
            if let Err(error) = write(&key, &of, &file, &component) {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the compiled policy could not be kept; it will be compiled again after a restart"
                );
            }
        };
        match std::thread::Builder::new().name("keep".into()).spawn(write) {
            Ok(thread) => *self.writing.lock().unwrap_or_else(PoisonError::into_inner) = Some((id.to_owned(), thread)),
            Err(error) => tracing::warn!(%error, "the compiled policy could not be kept; it will be compiled again after a restart"),
        }
    }

    /// Waits until all is written.
    fn settle(&self) {
        self.wait(|_| true);
    }

    /// Waits for what is being written, if it is that. Meanwhile others may ask for what they have.
    fn wait(&self, is_that: impl FnOnce(&str) -> bool) {
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner).take_if(|(id, _)| is_that(id));
        if let Some((_, thread)) = writing {
            let _ = thread.join();
        }
    }

    fn load(&self, runtime: &Runtime, id: &str, file: &Path) -> Option<Component> {
        self.wait(|writing| writing == id);
        let bytes = std::fs::read(file).ok()?;
        let (tag, code) = bytes.split_at_checked(TAG)?;
        let is_by = |revision| constant_time::verify_slices_are_equal(tag, tagged(&self.key, id, code, revision).as_ref()).is_ok();
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
}

fn write(key: &hmac::Key, id: &str, file: &Path, component: &Component) -> anyhow::Result<()> {
    let code = component.serialize()?;
    let mut bytes = tagged(key, id, &code, REVISION).as_ref().to_vec();
    bytes.extend_from_slice(&code);
    files::write_private(file, &bytes)
}

fn tagged(key: &hmac::Key, id: &str, code: &[u8], revision: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(revision);
    context.update(id.as_bytes());
    context.update(code);
    context.sign()
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
        cache.settle();
        let code = std::fs::read(&file).unwrap()[TAG..].to_vec();
        let by = |revision: &[u8]| [tagged(&cache.key, "id", &code, revision).as_ref(), &code].concat();
        for revision in [&b""[..], b"another"] {
            std::fs::write(&file, by(revision)).unwrap();
            assert!(compiled() && !compiled(), "{revision:?}");
            cache.settle();
        }
        let mut changed = by(REVISION);
        *changed.last_mut().unwrap() ^= 1;
        std::fs::write(&file, changed).unwrap();
        assert!(compiled());
        cache.settle();
        // Who ends has kept it.
        std::fs::remove_file(&file).unwrap();
        assert!(compiled());
        drop(cache);
        assert!(file.exists());
        std::fs::remove_dir_all(data).unwrap();
    }
}
