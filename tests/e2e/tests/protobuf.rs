//! Protobuf is decoded to what upstream's own code makes of it, for every type it knows.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

const PAIRS: &str = "24000";

fn upstream(args: &[&str]) -> Vec<u8> {
    let output = Command::new(testbed::binary("protobuf")).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn every_type_is_decoded_as_upstream_does() {
    let seed = std::env::var("POSTERN_SEED").unwrap_or_else(|_| e2e::now().to_string());
    let pairs = upstream(&["pairs", PAIRS, &seed]);
    let (mut rest, mut compared, mut kinds) = (&pairs[..], 0, BTreeMap::<String, u32>::new());
    let mut part = || -> Option<&[u8]> {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (part, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        rest = after;
        Some(part)
    };
    while let (Some(protobuf), Some(json)) = (part(), part()) {
        let expected: Value = serde_json::from_slice(json).unwrap();
        let kind = format!("{} {}", expected["apiVersion"], expected["kind"]);
        let decoded = postern::wire::protobuf::decode(protobuf).unwrap_or_else(|why| panic!("seed {seed}, {kind}: {why}\n{expected}"));
        assert!(decoded.unknown.is_empty(), "seed {seed}, {kind}: {:?}", decoded.unknown);
        let decoded = decoded.value;
        if decoded != expected {
            panic!("seed {seed}, {kind}: {}", difference("$", &decoded, &expected).unwrap_or_default());
        }
        compared += 1;
        *kinds.entry(kind).or_default() += 1;
    }
    println!("compared {compared} objects of {} types with upstream's protobuf codec: no difference (seed {seed})", kinds.len());
    assert!(compared >= 20_000);
}

#[test]
fn the_table_is_that_of_the_pinned_version() {
    let table = String::from_utf8(upstream(&["schema"])).unwrap();
    let kept = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../host/wire/src/protobuf/schema.txt")).unwrap();
    assert!(table == kept, "the table is not that of the pinned Kubernetes: run `cargo xtask schema`");
}

/// The first place where two values differ.
fn difference(at: &str, ours: &Value, theirs: &Value) -> Option<String> {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys());
            keys.filter(|key| a.get(*key) != b.get(*key)).find_map(|key| match (a.get(key), b.get(key)) {
                (Some(a), Some(b)) => difference(&format!("{at}.{key}"), a, b),
                (a, b) => Some(format!("{at}.{key}: ours {a:?}, theirs {b:?}")),
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().filter(|(_, (a, b))| a != b).find_map(|(n, (a, b))| difference(&format!("{at}[{n}]"), a, b))
        }
        _ => (ours != theirs).then(|| format!("{at}: ours {ours}, theirs {theirs}")),
    }
}
