//! Properties of every parser that reads what a peer sends. Each takes any bytes, and panics where its property does not hold.
//!
//! `cargo xtask fuzz` drives them with libFuzzer; `tests/corpus.rs` runs what is stored in `corpus/` through them, without it.

mod requests;
mod responses;
mod streams;

/// A property of any bytes.
pub type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 11] = [
    ("body", requests::body),
    ("config", requests::config),
    ("json", responses::json),
    ("jwt", requests::jwt),
    ("path", requests::path),
    ("protobuf", requests::protobuf),
    ("recording", streams::recording),
    ("spdy", streams::spdy),
    ("text", streams::text),
    ("watch", responses::watch),
    ("websocket", streams::websocket),
];

/// The names of all targets.
pub fn names() -> [&'static str; 11] {
    TARGETS.map(|(name, _)| name)
}

/// A target.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find_map(|(known, target)| (known == name).then_some(target))
}

/// The rest of the bytes in pieces, of sizes that the first bytes say.
fn pieces(data: &[u8]) -> (&[u8], Vec<&[u8]>) {
    let (sizes, rest) = data.split_at(data.len().min(4));
    let mut sizes = sizes.iter().map(|size| usize::from(*size) + 1).cycle();
    let (mut left, mut pieces) = (rest, Vec::new());
    while !left.is_empty() {
        let (piece, after) = left.split_at(sizes.next().unwrap_or(1).min(left.len()));
        pieces.push(piece);
        left = after;
    }
    (rest, pieces)
}
