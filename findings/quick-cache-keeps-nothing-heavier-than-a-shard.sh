#!/bin/sh
# quick_cache 0.7.0: a cache is cut into parts, four for each processor unless told otherwise, and its weight with it: what weighs more than 97 of 100 of a part's
# share is not kept, and `insert` says nothing of it. A capacity of 32 MiB with items of 1 MiB keeps all of them on two processors and none on sixteen, where each
# part has half a MiB. Whether one item fits is told by `shard_capacity` alone; `capacity` is that of all parts. Seen 2026-11.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export CARGO_TARGET_DIR="$dir/target"
cd "$dir"
cargo init --quiet --name finding .
echo 'quick_cache = "=0.7.0"' >> Cargo.toml
cat > src/main.rs <<'RUST'
use std::hash::RandomState;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

#[derive(Clone)]
struct Length;

impl Weighter<u32, String> for Length {
    fn weight(&self, _: &u32, text: &String) -> u64 {
        text.len() as u64
    }
}

fn main() {
    // The parts that two and sixteen processors have.
    for shards in [8, 64] {
        let options = OptionsBuilder::new().estimated_items_capacity(4096).weight_capacity(32 << 20).shards(shards).build().unwrap();
        let cache = Cache::with_options(options, Length, RandomState::new(), DefaultLifecycle::default());
        cache.insert(1, "x".repeat(1 << 20));
        println!("{shards} parts: of {} bytes, {} for one; kept: {}", cache.capacity(), cache.shard_capacity(), cache.get(&1).is_some());
    }
}
RUST
cargo run --quiet > out
cat out
grep -q '^8 parts: of 33554432 bytes, 4194304 for one; kept: true$' out && grep -q '^64 parts: of 33554432 bytes, 524288 for one; kept: false$' out || { echo "it changed"; exit 1; }
