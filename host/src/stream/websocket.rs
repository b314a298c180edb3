//! WebSocket (RFC 6455), as far as a caller needs it who waits in an upgraded connection: it is told on its terminal, its pings are
//! answered, and what it sends meanwhile is kept.

use aws_lc_rs::digest;
use base64::Engine;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use crate::body::Body;

/// Protocols in which a caller can be told: binary channels, and a Status on the error channel.
/// Source: `k8s.io/apimachinery/pkg/util/remotecommand/constants.go`.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// RFC 6455, section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// What is kept of a waiting caller's input. More is left in the network until there is somebody to take it.
pub const MOST_KEPT: usize = 1 << 20;

/// A handshake the gateway can answer itself.
#[derive(Debug)]
pub struct Handshake {
    protocol: &'static str,
    accept: HeaderValue,
}

impl Handshake {
    /// Reads a request's headers; none when it is no WebSocket, or offers no protocol in which a caller can be told.
    pub fn offered(method: &Method, headers: &HeaderMap) -> Option<Self> {
        let is = |name, wanted: &str| headers.get(name).and_then(|v| v.to_str().ok()).is_some_and(|v| v.eq_ignore_ascii_case(wanted));
        if method != Method::GET || !is(header::UPGRADE, "websocket") || !is(header::SEC_WEBSOCKET_VERSION, "13") {
            return None;
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY)?.to_str().ok()?.trim();
        let offered = || {
            let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
            values.flat_map(|v| v.split(',')).map(str::trim)
        };
        let protocol = PROTOCOLS.into_iter().find(|protocol| offered().any(|o| o == *protocol))?;
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
        let accept = HeaderValue::from_str(&base64::engine::general_purpose::STANDARD.encode(hash)).ok()?;
        Some(Self { protocol, accept })
    }

    /// Leaves in a request only the protocol that was chosen: the API server must speak the same.
    pub fn narrow(&self, headers: &mut HeaderMap) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(self.protocol));
        headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    }

    /// The answer that opens the connection.
    pub fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept.clone());
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(self.protocol));
        response
    }
}

/// A message to the caller on a channel.
pub fn message(channel: u8, text: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(text.len() + 1);
    payload.push(channel);
    payload.extend_from_slice(text);
    frame(0x2, &payload)
}

/// The end of the connection: 1000, a normal closure.
pub fn close() -> Vec<u8> {
    frame(0x8, &1000u16.to_be_bytes())
}

/// The answer to a ping.
pub fn pong(payload: &[u8]) -> Vec<u8> {
    frame(0xA, payload)
}

/// A whole frame, unmasked as a server's are.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..=125 => frame.push(length as u8),
        length @ 126..=0xFFFF => {
            frame.push(126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// What a waiting caller sends.
#[derive(Debug, Default)]
pub struct Inbox {
    buffer: Vec<u8>,
    kept: Vec<u8>,
}

/// Something to react to.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A ping, with its payload.
    Ping(Vec<u8>),
    /// The caller ends the connection.
    Close,
}

/// The caller does not speak WebSocket.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation;

impl Inbox {
    /// Takes bytes; what is data is kept, the rest is told.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Heard>, Violation> {
        self.buffer.extend_from_slice(bytes);
        let mut heard = Vec::new();
        while let Some(frame) = Frame::parse(&self.buffer)? {
            match frame.opcode {
                0x8 => heard.push(Heard::Close),
                0x9 => heard.push(Heard::Ping(frame.payload(&self.buffer))),
                0xA => {}
                _ => self.kept.extend_from_slice(&self.buffer[..frame.end]),
            }
            self.buffer.drain(..frame.end);
        }
        Ok(heard)
    }

    /// Whether more may be read.
    pub fn has_room(&self) -> bool {
        self.kept.len() + self.buffer.len() < MOST_KEPT
    }

    /// The frames to pass on, as they came, with the beginning of one that is not whole yet.
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.kept.append(&mut self.buffer);
        self.kept
    }
}

struct Frame {
    opcode: u8,
    mask: [u8; 4],
    start: usize,
    end: usize,
}

impl Frame {
    /// The frame at the beginning of a buffer; none while it is not whole. Every byte is the caller's.
    fn parse(buffer: &[u8]) -> Result<Option<Self>, Violation> {
        let &[first, second, ..] = buffer else { return Ok(None) };
        let opcode = first & 0x0F;
        let is_control = opcode >= 0x8;
        // RFC 6455: a client masks what it sends; reserved bits and opcodes mean something nobody agreed on.
        if second & 0x80 == 0 || first & 0x70 != 0 || !matches!(opcode, 0x0..=0x2 | 0x8..=0xA) {
            return Err(Violation);
        }
        if is_control && (first & 0x80 == 0 || second & 0x7F > 125) {
            return Err(Violation);
        }
        let (length, at) = match second & 0x7F {
            126 => match buffer.get(2..4) {
                Some(&[a, b]) => (u64::from(u16::from_be_bytes([a, b])), 4),
                _ => return Ok(None),
            },
            127 => match buffer.get(2..10).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()) {
                Some(bytes) => (u64::from_be_bytes(bytes), 10),
                None => return Ok(None),
            },
            short => (u64::from(short), 2),
        };
        // A frame that can never be kept whole is passed on in pieces: it stays in the buffer, and the buffer is full.
        let Some(mask) = buffer.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()) else { return Ok(None) };
        let start = at + 4;
        let end = usize::try_from(length).ok().and_then(|length| start.checked_add(length)).ok_or(Violation)?;
        Ok((buffer.len() >= end).then_some(Self { opcode, mask, start, end }))
    }

    fn payload(&self, buffer: &[u8]) -> Vec<u8> {
        buffer[self.start..self.end].iter().zip(self.mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = frame(opcode, payload);
        let mask = [7, 11, 13, 17];
        let header = bytes.len() - payload.len();
        bytes[1] |= 0x80;
        bytes.splice(header..header, mask);
        bytes[header + 4..].iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        bytes
    }

    #[test]
    fn the_handshake_is_that_of_the_rfc() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "v4.channel.k8s.io, v5.channel.k8s.io"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let handshake = Handshake::offered(&Method::GET, &headers).unwrap();
        // The example of RFC 6455, section 1.3.
        assert_eq!((handshake.accept.to_str().unwrap(), handshake.protocol), ("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "v5.channel.k8s.io"));
        assert!(Handshake::offered(&Method::POST, &headers).is_none());
        headers.insert("sec-websocket-protocol", HeaderValue::from_static("base64.channel.k8s.io"));
        assert!(Handshake::offered(&Method::GET, &headers).is_none());
    }

    #[test]
    fn data_is_kept_and_pings_are_told_however_the_bytes_are_cut() {
        let data = [client_frame(0x2, b"\0input"), client_frame(0x2, &[0; 300]), client_frame(0x2, &vec![1; 70_000])].concat();
        let all = [client_frame(0x9, b"hello"), data.clone(), client_frame(0xA, b""), client_frame(0x8, &[3, 232])].concat();
        for size in [1, 2, 3, 7, 1000, all.len()] {
            let mut inbox = Inbox::default();
            let heard: Vec<_> = all.chunks(size).flat_map(|piece| inbox.push(piece).unwrap()).collect();
            assert_eq!(heard, [Heard::Ping(b"hello".to_vec()), Heard::Close], "pieces of {size}");
            assert!(inbox.into_bytes() == data, "pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_client_frame_is_told() {
        for bytes in [
            frame(0x2, b"unmasked"),
            vec![0xC2, 0x80, 0, 0, 0, 0],
            vec![0x83, 0x80, 0, 0, 0, 0],
            vec![0x09, 0x80, 0, 0, 0, 0],
            vec![0x89, 0xFE, 0, 200],
            vec![0x82, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0],
        ] {
            assert_eq!(Inbox::default().push(&bytes), Err(Violation), "{bytes:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_a_caller_sends_panics(pieces in proptest::collection::vec(proptest::collection::vec(0u8..=255, 0..40), 0..10)) {
            let mut inbox = Inbox::default();
            for piece in pieces {
                if inbox.push(&piece).is_err() {
                    break;
                }
            }
        }
    }
}
