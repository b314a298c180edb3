//! Machine code of single functions, kept from one compilation to the next: of a module that was changed in one place, or that has the same interpreter in it as another,
//! only what differs is compiled. Each is known by the digest of what it was compiled from.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use aws_lc_rs::{constant_time, hmac};
use postern_ground::files;
use wasmtime::CacheStore;

const TAG: usize = 32;
/// What is vouched for, of all that the key vouches for.
const WHAT: &[u8] = b"postern-functions-1";
/// The most bytes that are kept: those of two interpreters. What was not used last goes first.
const MOST: usize = 192 << 20;

/// Less than one part in so many is few.
const FEW: usize = 50;

/// What is known while modules are compiled; nothing at any other time, as it is large.
#[derive(Default)]
pub(super) struct Functions {
    known: RwLock<Option<Known>>,
    /// Compilations, one at a time: each takes all cores.
    turn: Mutex<()>,
}

/// Functions by their digests. All code lies in two blocks: thousands of small ones would stay with the allocator when they are let go of.
#[derive(Default)]
struct Known {
    /// What was read.
    text: Vec<u8>,
    /// What was not read.
    new: Vec<u8>,
    by_key: HashMap<Key, Kept>,
    /// How many were not read.
    count: usize,
}

type Key = [u8; 32];

/// Where the code of a function is, and whether it was asked for.
struct Kept {
    is_new: bool,
    at: usize,
    length: usize,
    is_used: AtomicBool,
}

impl Known {
    fn code(&self, kept: &Kept) -> &[u8] {
        let of = if kept.is_new { &self.new } else { &self.text };
        &of[kept.at..kept.at + kept.length]
    }

    fn add(&mut self, key: Key, code: &[u8]) {
        // Two threads may have compiled the same.
        let Entry::Vacant(place) = self.by_key.entry(key) else { return };
        place.insert(Kept { is_new: true, at: self.new.len(), length: code.len(), is_used: AtomicBool::new(true) });
        self.new.extend_from_slice(code);
        self.count += 1;
    }

    /// Whether there is so much new that it is worth writing down: a module that was changed has some functions of its own, and what is read and written is large.
    fn is_worth_keeping(&self) -> bool {
        self.count > 0 && (self.new.len() * FEW > self.text.len() || self.count * FEW > self.by_key.len())
    }
}

/// A compilation. When it ends what it has learnt is kept.
pub(super) struct Compiling<'a> {
    functions: &'a Functions,
    file: PathBuf,
    key: &'a hmac::Key,
    _turn: MutexGuard<'a, ()>,
}

impl Functions {
    /// Begins a compilation with what a file has. A file that somebody else wrote is as good as none. It is read while the module is looked at: who asks for a function waits
    /// until it is.
    pub(super) fn compiling<'a>(self: &'a Arc<Self>, file: &Path, key: &'a hmac::Key) -> Compiling<'a> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (held, is_held) = sync_channel(0);
        let (this, from, by) = (Arc::clone(self), file.to_owned(), key.clone());
        let reading = std::thread::Builder::new().name("functions".into()).spawn(move || {
            let mut known = this.known.write().unwrap_or_else(PoisonError::into_inner);
            let _ = held.send(());
            *known = Some(read_file(&from, &by));
        });
        match reading {
            Ok(_) => drop(is_held.recv()),
            Err(_) => *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(read_file(file, key)),
        }
        Compiling { functions: self, file: file.to_owned(), key, _turn: turn }
    }
}

impl Drop for Compiling<'_> {
    fn drop(&mut self) {
        let known = self.functions.known.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(known) = known.filter(Known::is_worth_keeping)
            && let Err(error) = files::write_private(&self.file, &written(&known, self.key))
        {
            tracing::warn!(error = format!("{error:#}"), "compiled functions could not be kept; they will be compiled again");
        }
    }
}

impl CacheStore for Functions {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let known = known.as_ref()?;
        let kept = known.by_key.get(key)?;
        kept.is_used.store(true, Ordering::Relaxed);
        Some(Cow::Owned(known.code(kept).to_vec()))
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        match (known.as_mut(), key.try_into()) {
            (Some(known), Ok(key)) => {
                known.add(key, &value);
                true
            }
            _ => false,
        }
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Functions").finish_non_exhaustive()
    }
}

fn read_file(file: &Path, key: &hmac::Key) -> Known {
    let Ok(text) = std::fs::read(file) else { return Known::default() };
    read(text, key).unwrap_or_else(|| {
        tracing::warn!(file = %file.display(), "compiled functions were changed by somebody else; they are compiled anew");
        Known::default()
    })
}

/// What is in a file that this gateway wrote; none of any other.
fn read(text: Vec<u8>, key: &hmac::Key) -> Option<Known> {
    let (tag, rest) = text.split_at_checked(TAG)?;
    constant_time::verify_slices_are_equal(tag, vouched(rest, key).as_ref()).ok()?;
    let mut by_key = HashMap::new();
    let mut at = TAG;
    while at < text.len() {
        let name = part(&text, at)?;
        let code = part(&text, name.end)?;
        at = code.end;
        let kept = Kept { is_new: false, at: code.start, length: code.len(), is_used: AtomicBool::new(false) };
        by_key.insert(text[name].try_into().ok()?, kept);
    }
    Some(Known { text, by_key, ..Known::default() })
}

/// A part of a file: its length in four bytes, and itself.
fn part(text: &[u8], at: usize) -> Option<std::ops::Range<usize>> {
    let length = text.get(at..at.checked_add(4)?)?;
    let start = at + 4;
    let end = start.checked_add(u32::from_le_bytes(length.try_into().ok()?) as usize)?;
    (end <= text.len()).then_some(start..end)
}

/// The file that keeps what is known: what was used last, and then as much of the rest as there is room for.
fn written(known: &Known, key: &hmac::Key) -> Vec<u8> {
    let mut all: Vec<_> = known.by_key.iter().collect();
    all.sort_by_key(|(_, kept)| !kept.is_used.load(Ordering::Relaxed));
    let mut out = vec![0; TAG];
    for (name, kept) in all {
        let parts = [name.as_slice(), known.code(kept)];
        if out.len() + parts.iter().map(|part| part.len() + 4).sum::<usize>() > MOST {
            continue;
        }
        for part in parts {
            // What is longer than four bytes can say is over the most that is kept.
            out.extend_from_slice(&(part.len() as u32).to_le_bytes());
            out.extend_from_slice(part);
        }
    }
    let tag = vouched(&out[TAG..], key);
    out[..TAG].copy_from_slice(tag.as_ref());
    out
}

fn vouched(text: &[u8], key: &hmac::Key) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(WHAT);
    context.update(text);
    context.sign()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_compiled_is_known_again_and_what_somebody_changed_is_not() {
        let directory = std::env::temp_dir().join(format!("postern-functions-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (file, functions) = (directory.join("functions"), Arc::new(Functions::default()));
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
        let [a, b, c] = [1, 2, 3].map(|n| [n; 32]);
        assert!(!functions.insert(&a, b"code".to_vec()) && functions.get(&a).is_none(), "nothing is kept while nothing is compiled");
        let compiling = functions.compiling(&file, &key);
        assert!(functions.insert(&a, b"code of a".to_vec()) && functions.insert(&b, Vec::new()));
        drop(compiling);
        assert!(functions.get(&a).is_none(), "it is let go of");
        let begun = std::fs::metadata(&file).unwrap().modified().unwrap();
        let compiling = functions.compiling(&file, &key);
        let known: Vec<_> = [a, b, c].iter().map(|key| functions.get(key).map(Cow::into_owned)).collect();
        assert_eq!(known, [Some(b"code of a".to_vec()), Some(Vec::new()), None]);
        drop(compiling);
        assert_eq!(std::fs::metadata(&file).unwrap().modified().unwrap(), begun, "nothing new is not written");
        let whole = std::fs::read(&file).unwrap();
        for at in [0, TAG, whole.len() - 1] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&file, changed).unwrap();
            let _compiling = functions.compiling(&file, &key);
            assert!(functions.get(&a).is_none(), "byte {at}");
            assert!(!functions.insert(b"short", Vec::new()), "what is no digest is not kept");
        }
        std::fs::write(&file, &whole).unwrap();
        let other = hmac::Key::new(hmac::HMAC_SHA256, &[8; 32]);
        drop(functions.compiling(&file, &other));
        // What was used last stays where there is no room for all.
        let mut full = Known::default();
        for (key, size, is_used) in [(a, MOST / 2, false), (b, MOST / 2, true), (c, 9, false)] {
            full.add(key, &vec![1; size]);
            full.by_key[&key].is_used.store(is_used, Ordering::Relaxed);
        }
        let kept = read(written(&full, &key), &key).unwrap().by_key;
        assert!(kept.contains_key(&b) && !kept.contains_key(&a) && kept.contains_key(&c));
        std::fs::remove_dir_all(directory).unwrap();
    }
}
