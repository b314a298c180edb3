#!/bin/sh
# serde-saphyr 2.1.1 (YAML for serde, a successor of serde_yaml in many programs): the text of an error from `from_str` is a picture of the file, two lines before the mistake and two
# behind it, though only a field's name is wrong. Where a file holds a password beside a mistaken key, whatever shows or logs the error with `{}` shows the password, and an error
# is several lines long. serde_yaml 0.9 and serde_json say line and column alone. `from_str_with_options` with `with_snippet: false` does that too. Seen 2026-11: the
# password is in the text; without snippets it is not, and the text is one line.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.1.0"
edition = "2024"

[dependencies]
serde = { version = "1", features = ["derive"] }
serde-saphyr = "=2.1.1"
TOML
cat > src/main.rs <<'RUST'
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Settings {
    user: String,
    password: String,
    mode: Option<String>,
}

fn main() {
    let text = "user: ann\npassword: correct-horse\nmodee: strict\n";
    let said = serde_saphyr::from_str::<Settings>(text).unwrap_err().to_string();
    println!("password in the error: {}, lines: {}", said.contains("correct-horse"), said.lines().count() > 1);
    let options = serde_saphyr::options! { with_snippet: false };
    let said = serde_saphyr::from_str_with_options::<Settings>(text, options).unwrap_err().to_string();
    println!("password in the error: {}, lines: {}", said.contains("correct-horse"), said.lines().count() > 1);
}
RUST
cargo run --release --quiet > out
cat out
expected='password in the error: true, lines: true
password in the error: false, lines: false'
[ "$(cat out)" = "$expected" ] || { echo "it changed"; exit 1; }
