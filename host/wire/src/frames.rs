//! WebSocket frames (RFC 6455, section 5), read a piece at a time: a frame may be as long as it likes and is never kept whole.

use crate::Violation;

/// Who sends: a client masks its frames, a server does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The client.
    Client,
    /// The server.
    Server,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// 0 continuation, 1 text, 2 binary, 8 close, 9 ping, 10 pong.
    pub opcode: u8,
    /// Whether the message ends with it.
    pub fin: bool,
    /// Bytes of its payload.
    pub length: u64,
}

impl Head {
    /// Whether it is a close, a ping or a pong, which may come between the frames of a message.
    pub fn is_control(&self) -> bool {
        self.opcode >= 0x8
    }
}

/// Something read.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A frame begins; its head as it was sent.
    Head(Head),
    /// A piece of its payload, as it was sent.
    Payload(&'a [u8]),
    /// The frame ended.
    End,
}

/// Reads the frames of one side.
#[derive(Debug)]
pub struct Frames {
    from: Sender,
    head: [u8; 14],
    have: usize,
    /// Payload still to come; none while a head is read.
    left: Option<u64>,
    mask: [u8; 4],
    /// Where in the mask the next byte of the payload is.
    turn: usize,
    /// Whether a message has begun and not ended.
    within: bool,
}

impl Frames {
    /// Begins at the first frame.
    pub fn new(from: Sender) -> Self {
        Self { from, head: [0; 14], have: 0, left: None, mask: [0; 4], turn: 0, within: false }
    }

    /// Reads the next frame, or a piece of one, from the front of `bytes`, which moves past what was read. None when more must come.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Step<'a>>, Violation> {
        match self.left {
            Some(0) => {
                self.left = None;
                Ok(Some(Step::End))
            }
            Some(left) => {
                if bytes.is_empty() {
                    return Ok(None);
                }
                let size = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let (payload, rest) = bytes.split_at(size);
                *bytes = rest;
                self.left = Some(left - size as u64);
                Ok(Some(Step::Payload(payload)))
            }
            None => self.head(bytes),
        }
    }

    /// The head read last, as it was sent.
    pub fn head_bytes(&self) -> &[u8] {
        &self.head[..self.have]
    }

    /// Whether the frame read last is a close, a ping or a pong.
    pub fn in_control(&self) -> bool {
        self.head[0] & 0x0F >= 0x8
    }

    /// What has come of a head that is not whole yet.
    pub fn begun_head(&self) -> &[u8] {
        if self.left.is_none() && !self.is_whole() { self.head_bytes() } else { &[] }
    }

    /// Whether nothing is begun: neither a frame nor a message.
    pub fn at_rest(&self) -> bool {
        self.left.is_none() && (self.have == 0 || self.is_whole()) && !self.within
    }

    /// Takes the mask off a piece of payload that was just read.
    pub fn unmask(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        let turn = self.turn;
        out.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ self.mask[(turn + at) & 3]));
        self.turn = (turn + payload.len()) & 3;
    }

    fn is_whole(&self) -> bool {
        self.have >= 2 && self.have == head_size(&self.head)
    }

    fn head<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Step<'a>>, Violation> {
        if self.is_whole() {
            self.have = 0;
        }
        loop {
            let wanted = if self.have < 2 { 2 } else { head_size(&self.head) };
            if self.have == wanted {
                break;
            }
            let size = (wanted - self.have).min(bytes.len());
            if size == 0 {
                return Ok(None);
            }
            self.head[self.have..self.have + size].copy_from_slice(&bytes[..size]);
            self.have += size;
            *bytes = &bytes[size..];
            if self.have == 2 {
                self.check()?;
            }
        }
        let length = match self.head[1] & 0x7F {
            126 => u64::from(u16::from_be_bytes([self.head[2], self.head[3]])),
            127 => {
                let mut length = [0; 8];
                length.copy_from_slice(&self.head[2..10]);
                u64::from_be_bytes(length)
            }
            short => u64::from(short),
        };
        if length >> 63 != 0 {
            return Err(Violation("a WebSocket frame's length has its highest bit set"));
        }
        if self.from == Sender::Client {
            self.mask.copy_from_slice(&self.head[self.have - 4..self.have]);
        }
        (self.turn, self.left) = (0, Some(length));
        let head = Head { opcode: self.head[0] & 0x0F, fin: self.head[0] & 0x80 != 0, length };
        if !head.is_control() {
            // A message begins with an opcode and goes on with none.
            if (head.opcode == 0) != self.within {
                return Err(Violation("a WebSocket message is broken off or goes on from nowhere"));
            }
            self.within = !head.fin;
        }
        Ok(Some(Step::Head(head)))
    }

    fn check(&self) -> Result<(), Violation> {
        let [first, second, ..] = self.head;
        let opcode = first & 0x0F;
        // Reserved bits and opcodes mean something nobody agreed on.
        if first & 0x70 != 0 || !matches!(opcode, 0x0..=0x2 | 0x8..=0xA) {
            return Err(Violation("a WebSocket frame with reserved bits or an unknown opcode"));
        }
        if (second & 0x80 != 0) != (self.from == Sender::Client) {
            return Err(Violation("a client masks its WebSocket frames and a server does not"));
        }
        if opcode >= 0x8 && (first & 0x80 == 0 || second & 0x7F > 125) {
            return Err(Violation("a WebSocket control frame is in pieces or over 125 bytes long"));
        }
        Ok(())
    }
}

fn head_size(head: &[u8; 14]) -> usize {
    let length = match head[1] & 0x7F {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + length + if head[1] & 0x80 != 0 { 4 } else { 0 }
}

/// Appends a whole frame as a server sends it.
pub fn write(opcode: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.reserve(length + 10);
    out.push(0x80 | opcode);
    match length {
        0..=125 => out.push(length as u8),
        126..=0xFFFF => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as a client sends it.
    pub(crate) fn masked(opcode: u8, fin: bool, payload: &[u8]) -> Vec<u8> {
        let (mut frame, key) = (Vec::new(), [7u8, 11, 13, 17]);
        write(opcode, &[payload], &mut frame);
        let head = frame.len() - payload.len();
        frame[0] = frame[0] & 0x7F | if fin { 0x80 } else { 0 };
        frame[1] |= 0x80;
        frame[head..].iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        frame.splice(head..head, key);
        frame
    }

    fn messages(from: Sender, pieces: impl Iterator<Item = Vec<u8>>) -> Result<Vec<(u8, Vec<u8>)>, Violation> {
        let (mut frames, mut messages) = (Frames::new(from), Vec::new());
        for piece in pieces {
            let mut bytes = &piece[..];
            while let Some(step) = frames.next(&mut bytes)? {
                match step {
                    Step::Head(head) => messages.push((head.opcode, Vec::new())),
                    Step::Payload(payload) => {
                        let last = &mut messages.last_mut().unwrap().1;
                        match from {
                            Sender::Client => frames.unmask(payload, last),
                            Sender::Server => last.extend_from_slice(payload),
                        }
                    }
                    Step::End => {}
                }
            }
        }
        Ok(messages)
    }

    #[test]
    fn frames_of_every_length_are_read_however_they_are_cut() {
        let payloads = [vec![], vec![1; 125], vec![2; 126], vec![3; 65_535], vec![4; 65_536]];
        for from in [Sender::Client, Sender::Server] {
            let mut all = Vec::new();
            for payload in &payloads {
                match from {
                    Sender::Client => all.extend(masked(2, true, payload)),
                    Sender::Server => write(2, &[payload], &mut all),
                }
            }
            let expected: Vec<_> = payloads.iter().map(|p| (2, p.clone())).collect();
            for size in [1, 2, 3, 13, 4096, all.len()] {
                assert_eq!(messages(from, all.chunks(size).map(<[u8]>::to_vec)).unwrap(), expected, "pieces of {size}");
            }
        }
    }

    #[test]
    fn what_is_no_frame_is_told() {
        let server = |bytes: &[u8]| messages(Sender::Server, [bytes.to_vec()].into_iter());
        let client = |bytes: &[u8]| messages(Sender::Client, [bytes.to_vec()].into_iter());
        assert!(server(&[0xC2, 0]).is_err(), "reserved bits");
        assert!(server(&[0x83, 0]).is_err(), "reserved opcode");
        assert!(server(&[0x09, 0]).is_err(), "a ping in pieces");
        assert!(server(&[0x89, 126, 0, 126]).is_err(), "a long ping");
        assert!(server(&[0x82, 0x80, 0, 0, 0, 0]).is_err(), "masked by a server");
        assert!(client(&[0x82, 0]).is_err(), "plain from a client");
        assert!(server(&[0x80, 0]).is_err(), "goes on from nowhere");
        assert!(server(&[0x02, 0, 0x82, 0]).is_err(), "broken off");
        assert!(server(&[0x82, 127, 0xFF, 0, 0, 0, 0, 0, 0, 0]).is_err(), "a negative length");
        assert!(server(&[0x02, 0, 0x89, 0, 0x80, 0]).is_ok(), "a ping between the frames of a message");
    }

    proptest::proptest! {
        #[test]
        fn nothing_a_peer_sends_panics(pieces in proptest::collection::vec(proptest::collection::vec(0u8..=255, 0..40), 0..10), client: bool) {
            let from = if client { Sender::Client } else { Sender::Server };
            let _ = messages(from, pieces.into_iter());
        }
    }
}
