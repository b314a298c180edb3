#!/bin/sh
# wasmtime 48.0.8 (cranelift 0.135.8): with a cache of compiled functions (`Config::enable_incremental_compilation`) one and the same module, compiled again in the same
# process with the same settings, asks for some of its functions under keys that were not asked for before, so that these are compiled anew, and again the next time:
# three to eight of a hundred functions of SQLite (sql.js 1.13.0) on two threads, two or three on one (RAYON_NUM_THREADS=1). The cache grows by them with each compilation, and a module that was not
# changed at all never comes from it whole. Why the keys differ was not found. It builds wasmtime, which takes some minutes. Seen 2026-11.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export CARGO_TARGET_DIR="$dir/target"
cd "$dir"
npm pack --silent sql.js@1.13.0 > /dev/null
tar xzf sql.js-1.13.0.tgz package/dist/sql-wasm.wasm
cargo init --quiet --name finding .
cat >> Cargo.toml <<'TOML'
wasmtime = { version = "=48.0.8", default-features = false, features = ["cranelift", "incremental-cache", "parallel-compilation", "runtime", "std"] }
TOML
cat > src/main.rs <<'RUST'
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use wasmtime::{CacheStore, Config, Engine, Module};

#[derive(Debug, Default)]
struct Kept {
    code: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
    hits: AtomicUsize,
}

impl CacheStore for Kept {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let found = self.code.lock().unwrap().get(key).cloned();
        self.hits.fetch_add(usize::from(found.is_some()), Ordering::Relaxed);
        found.map(Cow::Owned)
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        self.code.lock().unwrap().insert(key.to_vec(), value);
        true
    }
}

fn main() {
    let module = std::fs::read("package/dist/sql-wasm.wasm").unwrap();
    let kept = Arc::new(Kept::default());
    for time in 1..=3 {
        let before = kept.code.lock().unwrap().len();
        kept.hits.store(0, Ordering::Relaxed);
        let mut config = Config::new();
        config.enable_incremental_compilation(kept.clone()).unwrap();
        Module::new(&Engine::new(&config).unwrap(), &module).unwrap();
        let new = kept.code.lock().unwrap().len() - before;
        println!("compilation {time}: {} functions taken, {new} compiled under a new key", kept.hits.load(Ordering::Relaxed));
    }
}
RUST
cargo run --quiet --release > out
cat out
grep -Eq '^compilation 3: [0-9]+ functions taken, [1-9][0-9]* compiled under a new key$' out || { echo "it changed"; exit 1; }
# 2026-11: compilation 1: 508 functions taken, 1970 compiled under a new key
#          compilation 2: 2297 functions taken, 181 compiled under a new key
#          compilation 3: 2381 functions taken, 97 compiled under a new key
