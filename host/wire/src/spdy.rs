//! SPDY/3.1 as far as `kubectl` and kube-apiserver speak it: streams with a header block, and data. Flow control is not used
//! (`github.com/moby/spdystream`). Data is read a piece at a time; control frames are short and read whole.

use std::collections::HashMap;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::frames::Sender;
use crate::{Channel, Violation};

/// The dictionary header blocks begin with (SPDY/3, section 2.6.10.1).
const DICTIONARY: &[u8] = include_bytes!("spdy.dictionary");
/// Longest control frame, and longest header block. kube-apiserver's are some hundred bytes long.
const LONGEST_CONTROL: usize = 64 << 10;
const LONGEST_BLOCK: usize = 256 << 10;
/// Most streams of a connection: a command has five, a forwarded port two for each connection it carries.
const MOST_STREAMS: usize = 100_000;

const SYN_STREAM: u16 = 1;
/// The answer to the opening of a stream.
pub const SYN_REPLY: u16 = 2;
/// Headers that come later.
pub const HEADERS: u16 = 8;
/// The flag of a frame that ends its side of a stream.
const FIN: u8 = 1;

/// A stream, as it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its id.
    pub id: u32,
    /// What it carries.
    pub channel: Channel,
    /// The port a port-forward's stream is for.
    pub port: Option<String>,
}

/// A part of what one side sends.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// A control frame, whole: its type and itself.
    Control(u16, &'a [u8]),
    /// A stream was opened by the control frame before.
    Opened(&'a Opened),
    /// The head of a data frame.
    DataHead(Channel, &'a [u8]),
    /// A piece of its payload.
    Data(Channel, &'a [u8]),
    /// Its side of the stream ended.
    Fin(Channel),
}

/// Where a side is in its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// Between two, as far as anything was told.
    Nothing,
    /// In the data of a channel.
    Data(Channel),
    /// In a control frame.
    Frame,
}

/// Both sides of a connection.
#[derive(Default)]
pub struct Spdy {
    streams: HashMap<u32, Stream>,
    client: Side,
    server: Side,
}

struct Stream {
    channel: Channel,
    /// Which sides have ended.
    ended: [bool; 2],
}

struct Side {
    head: Vec<u8>,
    /// A control frame in the making.
    control: Vec<u8>,
    state: State,
    inflate: Decompress,
    inflated_before: bool,
}

enum State {
    Head,
    Control { length: usize },
    Data { id: u32, channel: Channel, left: usize, fin: bool },
}

impl Default for Side {
    fn default() -> Self {
        Self {
            head: Vec::with_capacity(8),
            control: Vec::new(),
            state: State::Head,
            inflate: Decompress::new(true),
            inflated_before: false,
        }
    }
}

impl Spdy {
    /// The stream that carries a channel.
    pub fn stream(&self, channel: Channel) -> Option<u32> {
        self.streams.iter().filter(|(_, stream)| stream.channel == channel).map(|(id, _)| *id).max()
    }

    /// Where a side is.
    pub fn within(&self, from: Sender) -> Within {
        let side = match from {
            Sender::Client => &self.client,
            Sender::Server => &self.server,
        };
        match &side.state {
            // Of a frame that begins nothing is told before its head is whole.
            State::Head => Within::Nothing,
            State::Data { channel, .. } => Within::Data(*channel),
            State::Control { .. } => Within::Frame,
        }
    }

    /// Reads what a sender sent next, and hands out the parts that are in it.
    pub fn push(&mut self, from: Sender, mut bytes: &[u8], parts: &mut dyn FnMut(Part<'_>)) -> Result<(), Violation> {
        let Self { streams, client, server } = self;
        let side = match from {
            Sender::Client => client,
            Sender::Server => server,
        };
        loop {
            match &mut side.state {
                State::Head => {
                    let size = (8 - side.head.len()).min(bytes.len());
                    side.head.extend_from_slice(&bytes[..size]);
                    bytes = &bytes[size..];
                    if side.head.len() < 8 {
                        return Ok(());
                    }
                    side.begin(streams, parts)?;
                }
                State::Control { length } => {
                    let size = (*length - (side.control.len() - 8)).min(bytes.len());
                    side.control.extend_from_slice(&bytes[..size]);
                    bytes = &bytes[size..];
                    if side.control.len() - 8 < *length {
                        return Ok(());
                    }
                    let frame = std::mem::take(&mut side.control);
                    side.state = State::Head;
                    side.head.clear();
                    let (opened, fin) = side.control(&frame)?;
                    parts(Part::Control(u16::from_be_bytes([frame[2], frame[3]]), &frame));
                    if let Some(opened) = opened {
                        if from == Sender::Server || opened.id % 2 == 0 {
                            return Err(Violation("a SPDY stream that the server opens"));
                        }
                        let stream = Stream { channel: opened.channel, ended: [false; 2] };
                        if streams.len() >= MOST_STREAMS || streams.insert(opened.id, stream).is_some() {
                            return Err(Violation("a SPDY stream is opened twice, or there are too many"));
                        }
                        parts(Part::Opened(&opened));
                    }
                    if let Some(id) = fin {
                        parts(Part::Fin(end(streams, from, id)));
                    }
                }
                State::Data { id, channel, left, fin } => {
                    let size = (*left).min(bytes.len());
                    if size > 0 {
                        parts(Part::Data(*channel, &bytes[..size]));
                    }
                    bytes = &bytes[size..];
                    *left -= size;
                    if *left > 0 {
                        return Ok(());
                    }
                    if *fin {
                        parts(Part::Fin(end(streams, from, *id)));
                    }
                    side.state = State::Head;
                    side.head.clear();
                }
            }
            if bytes.is_empty() && !matches!(side.state, State::Data { left: 0, .. } | State::Control { length: 0 }) {
                return Ok(());
            }
        }
    }
}

/// One side of a stream ended. A port's stream that both ended is forgotten: a command has but five, which may still be written to.
fn end(streams: &mut HashMap<u32, Stream>, from: Sender, id: u32) -> Channel {
    let Some(stream) = streams.get_mut(&id) else { return Channel::Other };
    stream.ended[usize::from(from == Sender::Server)] = true;
    let channel = stream.channel;
    if stream.ended == [true; 2] && channel == Channel::Other {
        streams.remove(&id);
    }
    channel
}

impl Side {
    /// A head is whole.
    fn begin(&mut self, streams: &HashMap<u32, Stream>, parts: &mut dyn FnMut(Part<'_>)) -> Result<(), Violation> {
        let word = u32::from_be_bytes([self.head[0], self.head[1], self.head[2], self.head[3]]);
        let (flags, length) = (self.head[4], usize::from(self.head[5]) << 16 | usize::from(self.head[6]) << 8 | usize::from(self.head[7]));
        if word & 0x8000_0000 == 0 {
            if word == 0 || flags & !FIN != 0 {
                return Err(Violation("a SPDY data frame of stream 0, or with unknown flags"));
            }
            let channel = streams.get(&word).map_or(Channel::Other, |stream| stream.channel);
            parts(Part::DataHead(channel, &self.head));
            self.state = State::Data { id: word, channel, left: length, fin: flags & FIN != 0 };
            return Ok(());
        }
        if word >> 16 & 0x7FFF != 3 {
            return Err(Violation("a SPDY control frame of another version than 3"));
        }
        if length > LONGEST_CONTROL {
            return Err(Violation("a SPDY control frame over 64 KiB"));
        }
        self.control.clear();
        self.control.extend_from_slice(&self.head);
        self.state = State::Control { length };
        Ok(())
    }

    /// A control frame is whole: every header block must be read, for each is compressed with what came before.
    fn control(&mut self, frame: &[u8]) -> Result<(Option<Opened>, Option<u32>), Violation> {
        let kind = u16::from_be_bytes([frame[2], frame[3]]);
        let at = match kind {
            SYN_STREAM => 18,
            SYN_REPLY | HEADERS => 12,
            3..=7 | 9 => return Ok((None, None)),
            _ => return Err(Violation("a SPDY control frame of an unknown type")),
        };
        let block = frame.get(at..).ok_or(Violation("a SPDY frame shorter than its fields"))?;
        let id = u32::from_be_bytes([frame[8], frame[9], frame[10], frame[11]]) & 0x7FFF_FFFF;
        let block = self.inflate(block)?;
        let headers = parse_headers(&block)?;
        let header = |wanted: &str| headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.clone());
        let opened = (kind == SYN_STREAM).then(|| Opened {
            id,
            channel: Channel::of_stream_type(&header("streamType").unwrap_or_default()),
            port: header("port").filter(|_| header("streamType").as_deref() == Some("data")),
        });
        Ok((opened, (frame[4] & FIN != 0).then_some(id)))
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, Violation> {
        let garbled = Violation("a SPDY header block that is not compressed as it must be");
        let (mut out, mut read) = (Vec::with_capacity(1024), 0);
        while read < block.len() {
            let before = self.inflate.total_in();
            let status = self.inflate.decompress_vec(&block[read..], &mut out, FlushDecompress::Sync);
            read += usize::try_from(self.inflate.total_in() - before).unwrap_or(usize::MAX);
            match status {
                Ok(Status::Ok) => {}
                Ok(Status::BufError) if out.len() == out.capacity() => {}
                Err(_) if !self.inflated_before => {
                    self.inflate.set_dictionary(DICTIONARY).map_err(|_| garbled)?;
                    self.inflated_before = true;
                }
                _ => return Err(garbled),
            }
            if out.len() > LONGEST_BLOCK {
                return Err(Violation("a SPDY header block over 256 KiB"));
            }
            out.reserve(1024);
        }
        Ok(out)
    }
}

fn parse_headers(block: &[u8]) -> Result<Vec<(String, String)>, Violation> {
    const GARBLED: Violation = Violation("a SPDY header block that ends early");
    let mut rest = block;
    let mut number = || -> Result<usize, Violation> {
        let (number, after) = rest.split_first_chunk::<4>().ok_or(GARBLED)?;
        rest = after;
        Ok(u32::from_be_bytes(*number) as usize)
    };
    let count = number()?;
    let mut headers: Vec<(String, String)> = Vec::new();
    for _ in 0..count {
        let mut text = || -> Result<String, Violation> {
            let (length, after) = rest.split_first_chunk::<4>().ok_or(GARBLED)?;
            let (text, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or(GARBLED)?;
            rest = after;
            Ok(String::from_utf8_lossy(text).into_owned())
        };
        let (name, value) = (text()?, text()?);
        if headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name)) {
            return Err(Violation("a SPDY header that comes twice"));
        }
        // Several values of a header are divided by NUL; upstream takes the first.
        headers.push((name, value.split('\0').next().unwrap_or_default().to_owned()));
    }
    Ok(headers)
}

/// Writes header blocks, each compressed with what went before.
pub struct Blocks(Compress);

impl Default for Blocks {
    fn default() -> Self {
        let mut compress = Compress::new(Compression::fast(), true);
        let _ = compress.set_dictionary(DICTIONARY);
        Self(compress)
    }
}

impl Blocks {
    /// Appends the answer that opens a stream from the other side: no headers.
    pub fn reply(&mut self, id: u32, out: &mut Vec<u8>) {
        let mut block = Vec::with_capacity(256);
        let _ = self.0.compress_vec(&0u32.to_be_bytes(), &mut block, FlushCompress::Sync);
        control(SYN_REPLY, 0, &[&id.to_be_bytes(), &block], out);
    }

    /// Appends a SYN_STREAM as a client sends it.
    pub fn open(&mut self, id: u32, headers: &[(&str, &str)], out: &mut Vec<u8>) {
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&(text.len() as u32).to_be_bytes());
            plain.extend_from_slice(text.as_bytes());
        }
        let mut block = Vec::with_capacity(plain.len() + 256);
        let _ = self.0.compress_vec(&plain, &mut block, FlushCompress::Sync);
        control(SYN_STREAM, 0, &[&id.to_be_bytes(), &[0; 6], &block], out);
    }
}

fn control(kind: u16, flags: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.extend_from_slice(&[0x80, 3]);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(u32::from(flags) << 24 | length as u32).to_be_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Appends data of a stream, in as many frames as it takes; an empty text with `fin` ends this side of it.
pub fn data(id: u32, text: &[u8], fin: bool, out: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        let (piece, after) = rest.split_at(rest.len().min(0xFF_FFFF));
        let last = after.is_empty();
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&(u32::from(u8::from(fin && last)) << 24 | piece.len() as u32).to_be_bytes());
        out.extend_from_slice(piece);
        rest = after;
        if last {
            return;
        }
    }
}

/// Appends the end of the connection.
pub fn go_away(out: &mut Vec<u8>) {
    control(7, 0, &[&0u32.to_be_bytes(), &0u32.to_be_bytes()], out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    enum Seen {
        Control(u16),
        Opened(u32, Channel, Option<String>),
        Data(Channel, Vec<u8>),
        Fin(Channel),
    }

    fn read(spdy: &mut Spdy, from: Sender, pieces: impl Iterator<Item = Vec<u8>>) -> Result<Vec<Seen>, Violation> {
        let mut seen = Vec::new();
        for piece in pieces {
            spdy.push(from, &piece, &mut |part| match part {
                Part::Control(kind, _) => seen.push(Seen::Control(kind)),
                Part::Opened(opened) => seen.push(Seen::Opened(opened.id, opened.channel, opened.port.clone())),
                Part::DataHead(channel, _) => seen.push(Seen::Data(channel, Vec::new())),
                Part::Data(_, bytes) => match seen.last_mut() {
                    Some(Seen::Data(_, data)) => data.extend_from_slice(bytes),
                    _ => unreachable!(),
                },
                Part::Fin(channel) => seen.push(Seen::Fin(channel)),
            })?;
        }
        Ok(seen)
    }

    fn traffic() -> (Vec<u8>, Vec<Seen>) {
        let (mut blocks, mut bytes) = (Blocks::default(), Vec::new());
        blocks.open(1, &[("streamtype", "error")], &mut bytes);
        blocks.open(3, &[("streamtype", "stdin")], &mut bytes);
        data(3, b"hello", false, &mut bytes);
        blocks.open(5, &[("streamtype", "data"), ("port", "8080"), ("requestid", "0")], &mut bytes);
        data(3, b"", true, &mut bytes);
        data(5, &vec![7; 70_000], true, &mut bytes);
        let seen = vec![
            Seen::Control(1),
            Seen::Opened(1, Channel::Error, None),
            Seen::Control(1),
            Seen::Opened(3, Channel::Stdin, None),
            Seen::Data(Channel::Stdin, b"hello".to_vec()),
            Seen::Control(1),
            Seen::Opened(5, Channel::Other, Some("8080".into())),
            Seen::Data(Channel::Stdin, vec![]),
            Seen::Fin(Channel::Stdin),
            Seen::Data(Channel::Other, vec![7; 70_000]),
            Seen::Fin(Channel::Other),
        ];
        (bytes, seen)
    }

    #[test]
    fn streams_and_data_are_read_however_they_are_cut() {
        let (bytes, expected) = traffic();
        for size in [1, 2, 7, 8, 9, 1000, bytes.len()] {
            let mut spdy = Spdy::default();
            assert_eq!(read(&mut spdy, Sender::Client, bytes.chunks(size).map(<[u8]>::to_vec)).unwrap(), expected, "pieces of {size}");
            assert_eq!((spdy.stream(Channel::Stdin), spdy.stream(Channel::Stdout), spdy.stream(Channel::Error)), (Some(3), None, Some(1)));
            assert_eq!(spdy.within(Sender::Client), Within::Nothing);
        }
    }

    #[test]
    fn what_is_no_frame_is_told() {
        let error = |bytes: &[u8]| read(&mut Spdy::default(), Sender::Client, [bytes.to_vec()].into_iter()).unwrap_err().0;
        assert!(error(&[0x80, 2, 0, 1, 0, 0, 0, 0]).contains("version"));
        assert!(error(&[0x80, 3, 0, 1, 0, 1, 0, 1]).contains("64 KiB"));
        assert!(error(&[0x80, 3, 0, 42, 0, 0, 0, 0]).contains("unknown type"));
        assert!(error(&[0x80, 3, 0, 1, 0, 0, 0, 4, 0, 0, 0, 1]).contains("shorter"));
        assert!(error(&[0, 0, 0, 0, 0, 0, 0, 0]).contains("stream 0"));
        let mut twice = Vec::new();
        let mut blocks = Blocks::default();
        blocks.open(1, &[("streamtype", "stdout")], &mut twice);
        blocks.open(1, &[("streamtype", "stdin")], &mut twice);
        assert!(error(&twice).contains("twice"));
        let mut header_twice = Vec::new();
        Blocks::default().open(1, &[("streamtype", "stdout"), ("StreamType", "error")], &mut header_twice);
        assert!(error(&header_twice).contains("comes twice"));
        let mut garbled = vec![0x80, 3, 0, 1, 0, 0, 0, 20];
        garbled.extend([0xAA; 20]);
        assert!(error(&garbled).contains("compressed"));
    }

    #[test]
    fn a_server_s_replies_are_read_and_it_opens_nothing() {
        let (mut blocks, mut bytes) = (Blocks::default(), Vec::new());
        blocks.reply(1, &mut bytes);
        blocks.reply(3, &mut bytes);
        data(1, b"x", true, &mut bytes);
        let seen = read(&mut Spdy::default(), Sender::Server, [bytes].into_iter()).unwrap();
        let data = Seen::Data(Channel::Other, b"x".to_vec());
        assert_eq!(seen, [Seen::Control(2), Seen::Control(2), data, Seen::Fin(Channel::Other)]);
        let mut opens = Vec::new();
        Blocks::default().open(2, &[], &mut opens);
        assert!(read(&mut Spdy::default(), Sender::Server, [opens].into_iter()).is_err());
    }

    #[test]
    fn a_block_that_grows_without_end_is_refused() {
        let mut bytes = Vec::new();
        Blocks::default().open(1, &[("a", &"x".repeat(1 << 20))], &mut bytes);
        assert!(read(&mut Spdy::default(), Sender::Client, [bytes].into_iter()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn nothing_a_peer_sends_panics(at in 0usize..400, byte: u8, size in 1usize..50, noise in proptest::collection::vec(0u8..=255, 0..100)) {
            let (mut bytes, _) = traffic();
            bytes.truncate(600);
            bytes[at] = byte;
            bytes.extend(noise);
            let _ = read(&mut Spdy::default(), Sender::Client, bytes.chunks(size).map(<[u8]>::to_vec));
        }
    }
}
