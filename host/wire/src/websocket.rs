//! WebSocket (RFC 6455), as far as a caller needs it who waits in an upgraded connection: it is told on its terminal, its pings are
//! answered, and what it sends meanwhile is kept.

use aws_lc_rs::digest;
use base64::Engine;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use crate::Violation;
use crate::frames::{self, Frames, Sender, Step};

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
        let accept = accept_of(headers.get(header::SEC_WEBSOCKET_KEY)?)?;
        let offered = || {
            let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
            values.flat_map(|v| v.split(',')).map(str::trim)
        };
        let protocol = PROTOCOLS.into_iter().find(|protocol| offered().any(|o| o == *protocol))?;
        Some(Self { protocol, accept })
    }

    /// Leaves in a request only the protocol that was chosen: the API server must speak the same.
    pub fn narrow(&self, headers: &mut HeaderMap) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(self.protocol));
        headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    }

    /// The answer that opens the connection.
    pub fn response<B: Default>(&self) -> Response<B> {
        switching(&self.accept, Some(&HeaderValue::from_static(self.protocol)))
    }
}

/// The answer that opens a connection, in a protocol if one was agreed on.
pub fn switching<B: Default>(accept: &HeaderValue, protocol: Option<&HeaderValue>) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.clone());
    if let Some(protocol) = protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol.clone());
    }
    response
}

/// What a handshake is accepted with, of its key (RFC 6455, section 4.2.2).
pub fn accept_of(key: &HeaderValue) -> Option<HeaderValue> {
    let key = key.to_str().ok()?.trim();
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    HeaderValue::from_str(&base64::engine::general_purpose::STANDARD.encode(hash)).ok()
}

/// Appends a message to the caller on a channel.
pub fn message(channel: u8, text: &[u8], out: &mut Vec<u8>) {
    frames::write(0x2, &[&[channel], text], out);
}

/// Appends the end of the connection: 1000, a normal closure.
pub fn close(out: &mut Vec<u8>) {
    frames::write(0x8, &[&1000u16.to_be_bytes()], out);
}

/// Appends the answer to a ping.
pub fn pong(payload: &[u8], out: &mut Vec<u8>) {
    frames::write(0xA, &[payload], out);
}

/// What a waiting caller sends.
#[derive(Debug)]
pub struct Inbox {
    frames: Frames,
    /// Data, in frames as they came; of the last one as much as has come.
    kept: Vec<u8>,
    /// The close, ping or pong that is being read, as it comes, and its payload.
    control: Option<(u8, Vec<u8>, Vec<u8>)>,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { frames: Frames::new(Sender::Client), kept: Vec::new(), control: None }
    }
}

/// Something to react to.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A ping, with its payload.
    Ping(Vec<u8>),
    /// The caller ends the connection.
    Close,
}

impl Inbox {
    /// Takes bytes; what is data is kept, the rest is told.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<Heard>, Violation> {
        let mut heard = Vec::new();
        while let Some(step) = self.frames.next(&mut bytes)? {
            match (step, &mut self.control) {
                (Step::Head(head), _) if head.is_control() => {
                    self.control = Some((head.opcode, self.frames.head_bytes().to_vec(), Vec::new()));
                }
                (Step::Head(_), _) => self.kept.extend_from_slice(self.frames.head_bytes()),
                (Step::Payload(payload), Some((_, raw, plain))) => {
                    raw.extend_from_slice(payload);
                    self.frames.unmask(payload, plain);
                }
                (Step::Payload(payload), None) => self.kept.extend_from_slice(payload),
                (Step::End, control) => match control.take() {
                    Some((0x8, ..)) => heard.push(Heard::Close),
                    Some((0x9, _, plain)) => heard.push(Heard::Ping(plain)),
                    _ => {}
                },
            }
        }
        Ok(heard)
    }

    /// Forgets data that nobody takes.
    pub fn forget(&mut self) {
        self.kept.clear();
    }

    /// Whether more may be read.
    pub fn has_room(&self) -> bool {
        self.kept.len() < MOST_KEPT
    }

    /// The frames to pass on, as they came, with the beginning of one that is not whole yet.
    pub fn into_bytes(mut self) -> Vec<u8> {
        if let Some((_, raw, _)) = &self.control {
            self.kept.extend_from_slice(raw);
        }
        self.kept.extend_from_slice(self.frames.begun_head());
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frames::write(opcode, &[payload], &mut bytes);
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
    fn the_beginning_of_a_frame_is_passed_on_wherever_it_is_cut() {
        let (data, ping) = (client_frame(0x2, &[5; 300]), client_frame(0x9, b"hello"));
        let all = [data.clone(), ping.clone()].concat();
        for end in 0..all.len() {
            let mut inbox = Inbox::default();
            assert_eq!(inbox.push(&all[..end]).unwrap(), []);
            assert!(inbox.into_bytes() == all[..end], "cut at {end}");
        }
    }

    #[test]
    fn what_is_no_client_frame_is_told() {
        for bytes in [
            b"\x82\x08unmasked".to_vec(),
            vec![0xC2, 0x80, 0, 0, 0, 0],
            vec![0x83, 0x80, 0, 0, 0, 0],
            vec![0x09, 0x80, 0, 0, 0, 0],
            vec![0x89, 0xFE, 0, 200],
            vec![0x82, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0],
        ] {
            assert!(Inbox::default().push(&bytes).is_err(), "{bytes:?}");
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
