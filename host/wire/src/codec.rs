//! Either protocol of a stream, read as pieces of channels.
//!
//! What a policy does not touch goes on as the bytes it came in. Where something may be replaced, standard output and error are taken out
//! and written anew; everything else stays as it was.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};

use crate::frames::{self, Frames, Sender, Step};
use crate::spdy::{self, Spdy, Within};
use crate::waiting::Answered;
use crate::{Channel, Violation};

/// How a stream was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Channels over WebSocket: binary messages, or text messages in base64.
    WebSocket {
        /// Whether messages are text in base64.
        base64: bool,
    },
    /// SPDY/3.1 on the connection itself.
    Spdy,
    /// SPDY/3.1 in the binary messages of a WebSocket, as port-forward has it (KEP-4006).
    Tunnel,
}

impl Protocol {
    /// Reads what an answer agreed to; none when it is no protocol the gateway can read.
    pub fn agreed(answer: &HeaderMap) -> Option<Self> {
        let upgrade = answer.get(header::UPGRADE)?.to_str().ok()?;
        if upgrade.eq_ignore_ascii_case("spdy/3.1") {
            return Some(Self::Spdy);
        }
        if !upgrade.eq_ignore_ascii_case("websocket") || answer.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
            return None;
        }
        Self::of_websocket(answer.get(header::SEC_WEBSOCKET_PROTOCOL).map_or("", |v| v.to_str().unwrap_or("?")))
    }

    /// What a WebSocket's protocol says. Sources: `k8s.io/apimachinery/pkg/util/remotecommand`,
    /// `k8s.io/cri-streaming/pkg/streaming/remotecommand/websocket.go`, `k8s.io/client-go/tools/portforward`.
    pub fn of_websocket(protocol: &str) -> Option<Self> {
        match protocol {
            "" | "channel.k8s.io" | "v4.channel.k8s.io" | "v5.channel.k8s.io" => Some(Self::WebSocket { base64: false }),
            "base64.channel.k8s.io" | "v4.base64.channel.k8s.io" => Some(Self::WebSocket { base64: true }),
            "SPDY/3.1+portforward.k8s.io" => Some(Self::Tunnel),
            _ => None,
        }
    }
}

/// A part of what one side sends.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// It goes on as it is.
    Raw(&'a [u8]),
    /// A piece of a channel. Of one that was taken out its bytes are in no `Raw`.
    Data(Channel, &'a [u8]),
    /// A side of a channel ended. Of one that was taken out the end is in no `Raw` either.
    End(Channel),
    /// A connection to a port of the pod was opened.
    Port(&'a str),
}

/// Reads both sides of a stream, and writes to the caller.
pub struct Codec {
    wire: Wire,
    interpose: bool,
    answered: Option<Answered>,
}

enum Wire {
    WebSocket { client: Messages, server: Messages, base64: bool },
    Spdy(Box<Spdy>),
    Tunnel { client: Frames, server: Frames, spdy: Box<Spdy> },
}

impl Codec {
    /// Begins with a connection. `interpose` takes standard output, standard error and the final Status out of what the server sends.
    /// `answered` are the streams whose opening the gateway has answered already.
    pub fn new(protocol: Protocol, interpose: bool, answered: Option<Answered>) -> Self {
        let wire = match protocol {
            Protocol::WebSocket { base64 } => {
                Wire::WebSocket { client: Messages::new(Sender::Client, base64), server: Messages::new(Sender::Server, base64), base64 }
            }
            Protocol::Spdy => Wire::Spdy(Box::default()),
            Protocol::Tunnel => {
                Wire::Tunnel { client: Frames::new(Sender::Client), server: Frames::new(Sender::Server), spdy: Box::default() }
            }
        };
        Self { wire, interpose, answered }
    }

    /// Reads what a sender sent next, and hands out the parts that are in it.
    pub fn push(&mut self, from: Sender, bytes: &[u8], parts: &mut dyn FnMut(Part<'_>)) -> Result<(), Violation> {
        let interpose = self.interpose && from == Sender::Server;
        let takes = |channel| interpose && is_taken(channel);
        match &mut self.wire {
            Wire::WebSocket { client, server, .. } => {
                let side = if from == Sender::Client { client } else { server };
                side.push(bytes, &takes, parts)
            }
            Wire::Spdy(spdy) => {
                let answered = self.answered.as_mut().filter(|_| from == Sender::Server);
                read_spdy(spdy, from, bytes, &takes, answered, parts)
            }
            Wire::Tunnel { client, server, spdy } => {
                let frames = if from == Sender::Client { client } else { server };
                parts(Part::Raw(bytes));
                let (mut rest, mut plain) = (bytes, Vec::new());
                while let Some(step) = frames.next(&mut rest)? {
                    match step {
                        Step::Payload(payload) if !frames.in_control() => match from {
                            Sender::Client => frames.unmask(payload, &mut plain),
                            Sender::Server => plain.extend_from_slice(payload),
                        },
                        Step::Head(_) | Step::Payload(_) | Step::End => {}
                    }
                }
                read_spdy(spdy, from, &plain, &|_| false, None, &mut |part| {
                    if !matches!(part, Part::Raw(_)) {
                        parts(part);
                    }
                })
            }
        }
    }

    /// Whether something may be put in between what the server sends: the caller is not in the middle of a frame or a message.
    pub fn at_rest(&self) -> bool {
        match &self.wire {
            Wire::WebSocket { server, .. } => {
                server.frames.at_rest() || server.channel.is_none() && !server.control || server.taken && !server.control
            }
            Wire::Spdy(spdy) => match spdy.within(Sender::Server) {
                Within::Nothing => true,
                Within::Data(channel) => self.takes(channel),
                Within::Frame => false,
            },
            Wire::Tunnel { server, .. } => server.at_rest(),
        }
    }

    fn takes(&self, channel: Channel) -> bool {
        self.interpose && is_taken(channel)
    }

    /// Appends a piece of a channel for the caller.
    pub fn write(&self, channel: Channel, text: &[u8], out: &mut Vec<u8>) {
        match &self.wire {
            Wire::WebSocket { base64: false, .. } => frames::write(2, &[&[channel.number()], text], out),
            Wire::WebSocket { base64: true, .. } => {
                frames::write(1, &[&[b'0' + channel.number()], STANDARD.encode(text).as_bytes()], out);
            }
            Wire::Spdy(spdy) => {
                if let Some(id) = spdy.stream(channel) {
                    spdy::data(id, text, false, out);
                }
            }
            Wire::Tunnel { .. } => {}
        }
    }

    /// Appends the end of a channel.
    pub fn end(&self, channel: Channel, out: &mut Vec<u8>) {
        if let Wire::Spdy(spdy) = &self.wire
            && let Some(id) = spdy.stream(channel)
        {
            spdy::data(id, b"", true, out);
        }
    }

    /// Appends the end of the whole: a Status, and the closing of the connection.
    pub fn finish(&self, status: &[u8], out: &mut Vec<u8>) {
        self.write(Channel::Error, status, out);
        for channel in [Channel::Stdout, Channel::Stderr, Channel::Error] {
            self.end(channel, out);
        }
        match &self.wire {
            Wire::WebSocket { .. } | Wire::Tunnel { .. } => frames::write(8, &[&1000u16.to_be_bytes()], out),
            Wire::Spdy(_) => spdy::go_away(out),
        }
    }
}

fn is_taken(channel: Channel) -> bool {
    matches!(channel, Channel::Stdout | Channel::Stderr | Channel::Error)
}

fn read_spdy(
    spdy: &mut Spdy,
    from: Sender,
    bytes: &[u8],
    takes: &dyn Fn(Channel) -> bool,
    mut answered: Option<&mut Answered>,
    parts: &mut dyn FnMut(Part<'_>),
) -> Result<(), Violation> {
    spdy.push(from, bytes, &mut |part| match part {
        spdy::Part::Control(kind, frame) => match &mut answered {
            Some(answered) if kind == spdy::SYN_REPLY => {
                let id = u32::from_be_bytes([frame[8], frame[9], frame[10], frame[11]]) & 0x7FFF_FFFF;
                if !answered.streams.remove(&id) {
                    let mut reply = Vec::new();
                    answered.blocks.reply(id, &mut reply);
                    parts(Part::Raw(&reply));
                }
            }
            // Its block is compressed with what the caller has not seen.
            Some(_) if kind == spdy::HEADERS => {}
            _ => parts(Part::Raw(frame)),
        },
        spdy::Part::Opened(stream) => {
            if let Some(port) = &stream.port {
                parts(Part::Port(port));
            }
        }
        spdy::Part::DataHead(channel, head) if !takes(channel) => parts(Part::Raw(head)),
        spdy::Part::DataHead(..) => {}
        spdy::Part::Data(channel, data) => {
            if !takes(channel) {
                parts(Part::Raw(data));
            }
            parts(Part::Data(channel, data));
        }
        spdy::Part::Fin(channel) => parts(Part::End(channel)),
    })
}

/// The messages of one side of a WebSocket, each with its channel in the first byte.
struct Messages {
    from: Sender,
    base64: bool,
    frames: Frames,
    control: bool,
    /// Whether the frame that is read is the last of its message.
    last: bool,
    /// The channel of the message; none until its first byte is there.
    channel: Option<u8>,
    taken: bool,
    /// Whether anything of the message came after its channel.
    filled: bool,
    /// Heads of frames of a message whose channel is not known yet.
    held: Vec<u8>,
    /// What of base64 does not make three bytes yet.
    quad: Vec<u8>,
    /// Whether the base64 of the message has ended.
    padded: bool,
    plain: Vec<u8>,
}

/// The channel on which a caller of v5 says that it ended another.
const CLOSE: u8 = 255;

impl Messages {
    fn new(from: Sender, base64: bool) -> Self {
        Self {
            from,
            base64,
            frames: Frames::new(from),
            control: false,
            last: false,
            channel: None,
            taken: false,
            filled: false,
            held: Vec::new(),
            quad: Vec::new(),
            padded: false,
            plain: Vec::new(),
        }
    }

    fn push(&mut self, mut bytes: &[u8], takes: &dyn Fn(Channel) -> bool, parts: &mut dyn FnMut(Part<'_>)) -> Result<(), Violation> {
        while let Some(step) = self.frames.next(&mut bytes)? {
            match step {
                Step::Head(head) => {
                    self.control = head.is_control();
                    if self.control {
                        parts(Part::Raw(self.frames.head_bytes()));
                        continue;
                    }
                    self.last = head.fin;
                    if head.opcode != 0 {
                        (self.channel, self.taken, self.filled, self.padded) = (None, false, false, false);
                    }
                    match self.channel {
                        None => {
                            self.held.extend_from_slice(self.frames.head_bytes());
                            if self.held.len() > 4096 {
                                return Err(Violation("a WebSocket message of nothing but empty frames"));
                            }
                        }
                        Some(_) if self.taken => {}
                        Some(_) => parts(Part::Raw(self.frames.head_bytes())),
                    }
                }
                Step::Payload(payload) if self.control => parts(Part::Raw(payload)),
                Step::Payload(payload) => self.payload(payload, takes, parts)?,
                Step::End if self.control || !self.last => {}
                Step::End => self.end(parts)?,
            }
        }
        Ok(())
    }

    fn payload(&mut self, payload: &[u8], takes: &dyn Fn(Channel) -> bool, parts: &mut dyn FnMut(Part<'_>)) -> Result<(), Violation> {
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let mut data = match self.from {
            Sender::Client => {
                self.frames.unmask(payload, &mut plain);
                &plain[..]
            }
            Sender::Server => payload,
        };
        if self.channel.is_none() {
            let Some((first, rest)) = data.split_first() else { return Ok(()) };
            let number = if self.base64 { first.wrapping_sub(b'0') } else { *first };
            (self.channel, self.taken) = (Some(number), takes(Channel::of_number(number)));
            data = rest;
            let held = std::mem::take(&mut self.held);
            if !self.taken {
                parts(Part::Raw(&held));
            }
        }
        if !self.taken {
            parts(Part::Raw(payload));
        }
        let decoded;
        if self.base64 {
            if self.padded && !data.is_empty() {
                return Err(NO_BASE64);
            }
            self.quad.extend_from_slice(data);
            let whole = self.quad.len() / 4 * 4;
            decoded = decode(&self.quad[..whole])?;
            self.padded = self.quad[..whole].ends_with(b"=");
            if self.padded && whole < self.quad.len() {
                return Err(NO_BASE64);
            }
            self.quad.drain(..whole);
            data = &decoded;
        }
        match self.channel {
            Some(CLOSE) if self.from == Sender::Client => {
                if let Some(ended) = data.first() {
                    parts(Part::End(Channel::of_number(*ended)));
                }
            }
            Some(number) if !data.is_empty() => {
                self.filled = true;
                parts(Part::Data(Channel::of_number(number), data));
            }
            _ => {}
        }
        self.plain = plain;
        Ok(())
    }

    fn end(&mut self, parts: &mut dyn FnMut(Part<'_>)) -> Result<(), Violation> {
        if !self.quad.is_empty() {
            let rest = decode(&std::mem::take(&mut self.quad))?;
            parts(Part::Data(Channel::of_number(self.channel.unwrap_or(CLOSE)), &rest));
        } else if self.taken && !self.filled {
            // An empty message says that the connection is there.
            parts(Part::Data(Channel::of_number(self.channel.unwrap_or(CLOSE)), b""));
        }
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            parts(Part::Raw(&held));
        }
        Ok(())
    }
}

const NO_BASE64: Violation = Violation("a message that is no base64");

fn decode(text: &[u8]) -> Result<Vec<u8>, Violation> {
    STANDARD.decode(text).map_err(|_| NO_BASE64)
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
