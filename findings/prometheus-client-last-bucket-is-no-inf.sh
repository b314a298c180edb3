#!/bin/sh
# prometheus-client 0.26.0: a collector of one's own that hands `encode_histogram` the last bucket as f64::MAX, as the library's own histogram did up to
# 0.25, writes le="1.797...e308" and no le="+Inf", where 0.25.0 wrote le="+Inf". It compiles as before and nothing says so; OpenMetrics wants a +Inf bucket, and
# without it histogram_quantile has no answer. Since 0.26 the last bucket is f64::INFINITY. Seen 2026-11.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export CARGO_TARGET_DIR="$dir/target"
cat > "$dir/main.rs" <<'RUST'
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text::encode};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

#[derive(Debug)]
struct Waits;

impl Collector for Waits {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let mut metric = encoder.encode_descriptor("waits", "Waits", None, MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(1.5, 2, &[(1.0, 1), (f64::MAX, 1)], None)
    }
}

fn main() {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Waits));
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    print!("{text}");
}
RUST
run() {
    mkdir "$dir/$1" && cd "$dir/$1"
    cargo init --quiet --name finding .
    printf 'prometheus-client = "=%s"\n' "$1" >> Cargo.toml
    cp ../main.rs src/main.rs
    cargo run --quiet | grep le= > out
    echo "prometheus-client $1:" && cut -c1-60 out
}
run 0.25.0
grep -q 'le="+Inf"} 2' out || { echo "it changed"; exit 1; }
run 0.26.0
if grep -q 'le="+Inf"' out; then echo "it changed"; exit 1; fi
grep -q 'le="1.797' out || { echo "it changed"; exit 1; }
