//! Frame parsers against those of others on generated traffic: SPDY against upstream's framer, WebSocket against tungstenite.

use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postern::wire::Channel;
use postern::wire::codec::{Codec, Part, Protocol};
use postern::wire::frames::{self, Frames, Sender, Step};
use postern::wire::spdy::{self, Blocks, Spdy};
use serde_json::{Value, json};
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};
use tungstenite::protocol::{Role, WebSocket};
use tungstenite::{Bytes, Message};

const SEEDS: i64 = 200;

fn helper(args: &[&str], input: &[u8]) -> Vec<Value> {
    let mut child = Command::new(testbed::binary("frames")).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Numbers without end, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

#[test]
fn spdy_is_read_as_upstream_writes_it() {
    let mut compared = 0;
    for seed in 0..SEEDS {
        let mut lines = helper(&["write", &seed.to_string()], b"").into_iter();
        let bytes = STANDARD.decode(lines.next().unwrap()["bytes"].as_str().unwrap()).unwrap();
        let expected: Vec<Value> = lines.collect();
        let (mut seen, mut spdy, mut random) = (Vec::<Value>::new(), Spdy::default(), Random(seed as u64));
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((random.below(3000) + 1).min(rest.len()));
            rest = after;
            spdy.push(Sender::Client, piece, &mut |part| match part {
                spdy::Part::Control(1, _) => {}
                spdy::Part::Control(..) => seen.push(json!({"kind": "control"})),
                spdy::Part::Opened(stream) => {
                    seen.push(json!({"kind": "open", "stream": stream.id, "channel": format!("{:?}", stream.channel).to_lowercase()}))
                }
                spdy::Part::DataHead(_, head) => {
                    let stream = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
                    seen.push(json!({"kind": "data", "stream": stream, "data": "", "fin": false}));
                }
                spdy::Part::Data(_, data) => {
                    let last = seen.last_mut().unwrap();
                    let mut sum = STANDARD.decode(last["data"].as_str().unwrap()).unwrap();
                    sum.extend_from_slice(data);
                    last["data"] = STANDARD.encode(sum).into();
                }
                spdy::Part::Fin(_) => seen.last_mut().unwrap()["fin"] = true.into(),
            })
            .unwrap();
        }
        assert_eq!(seen.len(), expected.len(), "seed {seed}");
        for (ours, theirs) in seen.iter().zip(&expected) {
            let same = match theirs["kind"].as_str().unwrap() {
                "data" => {
                    let theirs = (&theirs["stream"], theirs["data"].as_str().unwrap_or_default(), theirs["fin"].as_bool().unwrap_or(false));
                    (&ours["stream"], ours["data"].as_str().unwrap(), ours["fin"].as_bool().unwrap()) == theirs
                }
                "open" => {
                    let channel = theirs["channel"].as_str().unwrap().replace("data", "other");
                    ours["stream"] == theirs["stream"] && ours["channel"] == channel.as_str()
                }
                kind => ours["kind"] == kind,
            };
            assert!(same, "seed {seed}: ours {ours:.300}, theirs {theirs:.300}");
            compared += 1;
        }
    }
    println!("compared {compared} SPDY frames with upstream's framer: no difference");
}

#[test]
fn upstream_reads_the_spdy_that_is_written_here() {
    let mut bytes = Vec::new();
    let (mut blocks, mut opens) = (Blocks::default(), Blocks::default());
    for id in [1, 3, 5] {
        blocks.reply(id, &mut bytes);
    }
    spdy::data(3, b"hello", false, &mut bytes);
    spdy::data(3, b"", true, &mut bytes);
    spdy::go_away(&mut bytes);
    let kinds: Vec<Value> = helper(&["read"], &bytes).iter().map(|frame| json!([frame["kind"], frame["stream"]])).collect();
    assert_eq!(
        kinds,
        [json!(["reply", 1]), json!(["reply", 3]), json!(["reply", 5]), json!(["data", 3]), json!(["data", 3]), json!(["goaway", 0])]
    );
    let mut bytes = Vec::new();
    opens.open(1, &[("streamtype", "error")], &mut bytes);
    opens.open(3, &[("streamtype", "stdout"), ("port", "80")], &mut bytes);
    let opened: Vec<Value> = helper(&["read"], &bytes).iter().map(|frame| frame["channel"].clone()).collect();
    assert_eq!(opened, ["error", "stdout"]);
}

#[test]
fn websocket_is_read_as_tungstenite_writes_it() {
    let mut compared = 0;
    for seed in 0..SEEDS {
        let mut random = Random(seed as u64 + 7);
        let (mut expected, mut wire) = (Vec::<(Channel, Vec<u8>)>::new(), Vec::new());
        let mut socket = WebSocket::from_raw_socket(Pipe(&mut wire), Role::Client, None);
        for _ in 0..20 {
            let channel = random.below(5) as u8;
            let data: Vec<u8> = (0..[0, 1, 124, 125, 126, 1000, 65_534, 65_536, 70_000][random.below(9)]).map(|n| n as u8).collect();
            if random.below(5) == 0 {
                socket.write(Message::Ping(Bytes::from_static(b"ping"))).unwrap();
            }
            let payload = [&[channel][..], &data].concat();
            // Whole, or in pieces with a ping between them.
            if random.below(3) == 0 {
                let cut = random.below(payload.len()) + 1;
                let piece = |opcode, fin, bytes: &[u8]| {
                    let header =
                        FrameHeader { is_final: fin, opcode: OpCode::Data(opcode), mask: Some([9, 8, 7, 6]), ..FrameHeader::default() };
                    Message::Frame(Frame::from_payload(header, Bytes::copy_from_slice(bytes)))
                };
                socket.write(piece(Data::Binary, false, &payload[..cut])).unwrap();
                socket.write(Message::Ping(Bytes::from_static(b"between"))).unwrap();
                socket.write(piece(Data::Continue, true, &payload[cut..])).unwrap();
            } else {
                socket.write(Message::Binary(Bytes::from(payload))).unwrap();
            }
            if !data.is_empty() {
                expected.push((Channel::of_number(channel), data));
            }
        }
        socket.flush().unwrap();
        drop(socket);
        let (mut codec, mut seen, mut rest) =
            (Codec::new(Protocol::WebSocket { base64: false }, false, None), Vec::<(Channel, Vec<u8>)>::new(), &wire[..]);
        let mut raw = Vec::new();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((random.below(5000) + 1).min(rest.len()));
            rest = after;
            codec
                .push(Sender::Client, piece, &mut |part| match part {
                    Part::Data(channel, data) => seen.push((channel, data.to_vec())),
                    Part::Raw(bytes) => raw.extend_from_slice(bytes),
                    _ => {}
                })
                .unwrap();
        }
        assert!(raw == wire, "seed {seed}: what goes on raw is what came");
        // Pieces of a message are told as they come.
        let join = |pieces: &[(Channel, Vec<u8>)]| {
            let mut joined: Vec<(Channel, Vec<u8>)> = Vec::new();
            for (channel, data) in pieces {
                match joined.last_mut() {
                    Some((last, sum)) if last == channel => sum.extend_from_slice(data),
                    _ => joined.push((*channel, data.clone())),
                }
            }
            joined
        };
        assert!(join(&seen) == join(&expected), "seed {seed}");
        compared += expected.len();
    }
    println!("compared {compared} WebSocket messages with tungstenite: no difference");
}

#[test]
fn tungstenite_reads_the_websocket_that_is_written_here() {
    for length in [0usize, 1, 125, 126, 65_535, 65_536] {
        let (payload, mut bytes) = (vec![7u8; length], Vec::new());
        frames::write(2, &[&payload], &mut bytes);
        let mut frames = Frames::new(Sender::Server);
        let mut rest = &bytes[..];
        assert!(matches!(frames.next(&mut rest), Ok(Some(Step::Head(head))) if head.length == length as u64));
        let mut socket = WebSocket::from_raw_socket(std::io::Cursor::new(bytes), Role::Client, None);
        assert_eq!(socket.read().unwrap(), Message::Binary(Bytes::from(payload)));
    }
}

/// Takes what is written; there is nothing to read.
struct Pipe<'a>(&'a mut Vec<u8>);

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl std::io::Read for Pipe<'_> {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::WouldBlock.into())
    }
}
