//! What flows into and out of containers, and what is kept of it.

use std::sync::{Arc, OnceLock};

use http::{HeaderMap, HeaderValue, Method, header};
use postern::mask::{Mask, Plan, Scope, Selector, TextMask, TextRules, TokenKey, Transform};
use postern::record::session::format::MAGIC;
use postern::record::session::read::Recorded;
use postern::record::session::seal::{Verification, verify};
use postern::wire::Channel;
use postern::wire::codec::{Codec, Part, Protocol};
use postern::wire::frames::Sender;
use postern::wire::waiting::{Handshake, Waiting};

use crate::pieces;

/// What nobody touches goes on byte for byte, and how it is cut changes nothing; an output that is taken out is in nothing that goes on.
pub fn websocket(data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    let protocol = Protocol::WebSocket { base64: how & 1 != 0 };
    carried(protocol, from(*how), data);
    waits(true, data);
}

/// The same for SPDY, on the connection itself and in a WebSocket.
pub fn spdy(data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    let protocol = if how & 1 != 0 { Protocol::Tunnel } else { Protocol::Spdy };
    carried(protocol, from(*how), data);
    waits(false, data);
}

fn from(how: u8) -> Sender {
    if how & 2 != 0 { Sender::Client } else { Sender::Server }
}

fn carried(protocol: Protocol, from: Sender, data: &[u8]) {
    let (whole, cut) = pieces(data);
    for interpose in [false, true] {
        let (read, raw, channels) = read(protocol, interpose, from, &[whole]);
        let (read_cut, raw_cut, channels_cut) = self::read(protocol, interpose, from, &cut);
        assert_eq!(read, read_cut, "whole and in pieces");
        if read {
            assert_eq!((&raw, &channels), (&raw_cut, &channels_cut));
        }
        if read {
            let takes = interpose && from == Sender::Server && shows_output(&channels);
            assert!(if takes { raw.len() < whole.len() } else { raw.len() <= whole.len() });
        }
    }
}

fn shows_output(channels: &[(Channel, Vec<u8>)]) -> bool {
    channels.iter().any(|(channel, text)| matches!(channel, Channel::Stdout | Channel::Stderr) && !text.is_empty())
}

type Read = (bool, Vec<u8>, Vec<(Channel, Vec<u8>)>);

fn read(protocol: Protocol, interpose: bool, from: Sender, pieces: &[&[u8]]) -> Read {
    let mut codec = Codec::new(protocol, interpose, None);
    let (mut raw, mut channels): (Vec<u8>, Vec<(Channel, Vec<u8>)>) = (Vec::new(), Vec::new());
    let read = pieces.iter().try_for_each(|piece| {
        let done = codec.push(from, piece, &mut |part| match part {
            Part::Raw(bytes) => raw.extend_from_slice(bytes),
            Part::Data(_, []) => {}
            Part::Data(channel, data) => match channels.last_mut() {
                Some((last, text)) if *last == channel => text.extend_from_slice(data),
                _ => channels.push((channel, data.to_vec())),
            },
            Part::End(_) | Part::Port(_) => {}
        });
        let _ = codec.at_rest();
        done
    });
    (read.is_ok(), raw, channels)
}

/// A caller who waits: what it sent is kept as it came, in a bounded room.
fn waits(websocket: bool, data: &[u8]) {
    let mut headers = HeaderMap::new();
    let (upgrade, name, protocol) = match websocket {
        true => ("websocket", header::SEC_WEBSOCKET_PROTOCOL, "v5.channel.k8s.io"),
        false => ("SPDY/3.1", header::HeaderName::from_static("x-stream-protocol-version"), "v4.channel.k8s.io"),
    };
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(upgrade));
    headers.insert(name, HeaderValue::from_static(protocol));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
    let handshake = Handshake::offered(&Method::GET, &headers).expect("the handshake is one");
    let mut waiting = Waiting::new(&handshake);
    let (whole, cut) = pieces(data);
    let mut out = Vec::new();
    for piece in cut {
        if !waiting.has_room() || !matches!(waiting.push(piece, &mut out), Ok(true)) {
            break;
        }
    }
    for channel in [Channel::Stdout, Channel::Stderr, Channel::Error] {
        if waiting.has(channel) {
            waiting.tell(channel, b"told", &mut out);
        }
    }
    waiting.finish(b"{}", &mut out);
    let (kept, _) = waiting.into_kept();
    assert!(kept.len() <= whole.len());
}

/// However text is cut and whatever stands in it, a hidden value is in nothing that goes on.
pub fn text(data: &[u8]) {
    static RULES: OnceLock<Arc<TextRules>> = OnceLock::new();
    let rules = RULES.get_or_init(|| {
        let masks = ["tok-[0-9]{6}", "(?i)key=[a-z]{8}"].map(|pattern| Mask {
            what: Selector::Text(pattern.into()),
            how: Transform::Redact,
            when: vec![],
        });
        let plan = Plan::compile(&masks, &TokenKey::new(&[1; 32])).expect("the masks compile");
        plan.text_rules(None, Scope::default())
    });
    let Some((how, data)) = data.split_first() else { return };
    let (whole, cut) = pieces(data);
    let run = |pieces: &[&[u8]]| {
        let (mut mask, mut out) = (TextMask::new(Arc::clone(rules), how & 1 != 0), Vec::new());
        for piece in pieces {
            mask.push(piece, &mut out);
            let _ = mask.wait();
        }
        mask.flush(&mut out);
        out
    };
    let (out, out_cut) = (run(&[whole]), run(&cut));
    for shown in [&out, &out_cut] {
        assert!(!has_token(shown), "{:?}", String::from_utf8_lossy(shown));
    }
    if !whole.iter().any(|byte| matches!(byte, 0 | 0x1B)) {
        assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&out_cut));
    }
}

fn has_token(text: &[u8]) -> bool {
    text.windows(10).any(|word| word.starts_with(b"tok-") && word[4..].iter().all(u8::is_ascii_digit))
}

/// Any file is shown as far as it can be read, and nothing that this gateway did not sign is taken for whole.
pub fn recording(data: &[u8]) {
    let file = if data.starts_with(b"postern") { data.to_vec() } else { [MAGIC, data].concat() };
    assert!(!matches!(verify("a/b.stream", &file, &[7; 32]), Ok(Verification::Whole(_))));
    if let Ok(recorded) = Recorded::new("a.session", file) {
        let _ = (recorded.is_stream(), recorded.name(), recorded.is_unfinished(), recorded.ended());
        let frames = recorded.frames().count();
        assert!(recorded.entries().len() <= frames.max(1));
        assert!(recorded.bodies().count() <= frames);
    }
}
