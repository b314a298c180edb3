//! A caller who waits in an upgraded connection, before there is anything at its other end: it is told on its terminal, what its protocol asks
//! is answered, and what it sends is kept.

use std::collections::HashSet;

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use crate::frames::Sender;
use crate::spdy::{self, Blocks, Part, Spdy};
use crate::websocket::{self, Heard, Inbox, MOST_KEPT};
use crate::{Channel, Violation};

/// The one SPDY protocol in which a caller can be told: it ends in a Status.
const SPDY: &str = "v4.channel.k8s.io";
/// Frame types of SPDY that are answered or heard.
const PING: u16 = 6;
const GO_AWAY: u16 = 7;

/// A handshake the gateway can answer itself.
#[derive(Debug)]
pub enum Handshake {
    /// WebSocket.
    WebSocket(websocket::Handshake),
    /// SPDY/3.1.
    Spdy,
}

impl Handshake {
    /// Reads a request's headers; none when it offers no protocol in which a caller can be told.
    pub fn offered(method: &Method, headers: &HeaderMap) -> Option<Self> {
        let upgrade = headers.get(header::UPGRADE)?.to_str().ok()?;
        if !upgrade.eq_ignore_ascii_case("spdy/3.1") {
            return websocket::Handshake::offered(method, headers).map(Self::WebSocket);
        }
        let values = headers.get_all("x-stream-protocol-version").iter().filter_map(|v| v.to_str().ok());
        values.flat_map(|v| v.split(',')).any(|v| v.trim() == SPDY).then_some(Self::Spdy)
    }

    /// Leaves in a request only the protocol that was chosen: the API server must speak the same.
    pub fn narrow(&self, headers: &mut HeaderMap) {
        match self {
            Self::WebSocket(handshake) => handshake.narrow(headers),
            Self::Spdy => drop(headers.insert("x-stream-protocol-version", HeaderValue::from_static(SPDY))),
        }
    }

    /// The answer that opens the connection.
    pub fn response<B: Default>(&self) -> Response<B> {
        match self {
            Self::WebSocket(handshake) => handshake.response(),
            Self::Spdy => {
                let mut response = Response::new(B::default());
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                let headers = response.headers_mut();
                headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
                headers.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
                headers.insert("x-stream-protocol-version", HeaderValue::from_static(SPDY));
                response
            }
        }
    }
}

/// The streams of a SPDY connection that the gateway has answered itself. The answers of the API server are for nobody, and header blocks
/// are written in the gateway's own compression from there on.
#[derive(Default)]
pub struct Answered {
    pub(super) streams: HashSet<u32>,
    pub(super) blocks: Blocks,
}

/// What a caller who waits has said, and what it is told.
pub struct Waiting(Wire);

enum Wire {
    WebSocket(Inbox),
    Spdy { spdy: Box<Spdy>, kept: Vec<u8>, answered: Answered },
}

impl Waiting {
    /// Begins with nothing said.
    pub fn new(handshake: &Handshake) -> Self {
        Self(match handshake {
            Handshake::WebSocket(_) => Wire::WebSocket(Inbox::default()),
            Handshake::Spdy => Wire::Spdy { spdy: Box::default(), kept: Vec::new(), answered: Answered::default() },
        })
    }

    /// Whether more may be read.
    pub fn has_room(&self) -> bool {
        match &self.0 {
            Wire::WebSocket(inbox) => inbox.has_room(),
            Wire::Spdy { kept, .. } => kept.len() < MOST_KEPT,
        }
    }

    /// Takes bytes; answers are appended to `out`. False when the caller ends the connection.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<bool, Violation> {
        match &mut self.0 {
            Wire::WebSocket(inbox) => {
                for heard in inbox.push(bytes)? {
                    match heard {
                        Heard::Ping(payload) => websocket::pong(&payload, out),
                        Heard::Close => return Ok(false),
                    }
                }
                Ok(true)
            }
            Wire::Spdy { spdy, kept, answered } => {
                // A ping is kept too: answered a second time, it is for nobody.
                kept.extend_from_slice(bytes);
                let mut goes_on = true;
                spdy.push(Sender::Client, bytes, &mut |part| match part {
                    Part::Opened(stream) => {
                        answered.streams.insert(stream.id);
                        answered.blocks.reply(stream.id, out);
                    }
                    Part::Control(PING, frame) => out.extend_from_slice(frame),
                    Part::Control(GO_AWAY, _) => goes_on = false,
                    _ => {}
                })?;
                Ok(goes_on)
            }
        }
    }

    /// Whether a channel is there to be told on.
    pub fn has(&self, channel: Channel) -> bool {
        match &self.0 {
            Wire::WebSocket(_) => true,
            Wire::Spdy { spdy, .. } => spdy.stream(channel).is_some(),
        }
    }

    /// Appends a text for a channel that is there.
    pub fn tell(&self, channel: Channel, text: &[u8], out: &mut Vec<u8>) {
        match &self.0 {
            Wire::WebSocket(_) => websocket::message(channel.number(), text, out),
            Wire::Spdy { spdy, .. } => {
                if let Some(id) = spdy.stream(channel) {
                    spdy::data(id, text, false, out);
                }
            }
        }
    }

    /// Appends the end: a Status, and the closing of the connection.
    pub fn finish(&self, status: &[u8], out: &mut Vec<u8>) {
        self.tell(Channel::Error, status, out);
        match &self.0 {
            Wire::WebSocket(_) => websocket::close(out),
            Wire::Spdy { spdy, .. } => {
                let streams = [Channel::Stdout, Channel::Stderr, Channel::Error].map(|channel| spdy.stream(channel));
                streams.into_iter().flatten().for_each(|id| spdy::data(id, b"", true, out));
                spdy::go_away(out);
            }
        }
    }

    /// What was sent, as it came, and the streams that were answered.
    pub fn into_kept(self) -> (Vec<u8>, Option<Answered>) {
        match self.0 {
            Wire::WebSocket(inbox) => (inbox.into_bytes(), None),
            Wire::Spdy { kept, answered, .. } => (kept, Some(answered)),
        }
    }
}
