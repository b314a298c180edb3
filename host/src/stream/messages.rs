//! A watch or a log told in WebSocket messages, as kube-apiserver offers them to browsers and as informers in Java ask for them.
//!
//! What is told is the answer to the same request without the upgrade: decided, masked, recorded and limited like any other. Only how it is written differs:
//! an event is a text message (`k8s.io/apiserver/pkg/endpoints/handlers/watch.go`, HandleWS); a log is binary messages, or base64 in text messages
//! (`k8s.io/streaming/pkg/httpstream/wsstream`, Reader).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, header};
use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::body::Body;
use crate::classify::Shape;
use crate::status::Refusal;
use crate::wire::frames;
use crate::wire::websocket::{Heard, Inbox, accept_of, close, pong, switching};

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
/// What a log is told in at a time.
const PIECE: usize = 32 << 10;

/// How an answer is written in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// An event is a message.
    Events,
    /// What comes is a message.
    Binary,
    /// Each in a message of text, in base64.
    Base64,
}

/// A handshake for a watch or a log.
#[derive(Debug)]
pub struct Opening {
    accept: HeaderValue,
    protocol: Option<HeaderValue>,
    form: Form,
}

impl Opening {
    /// Reads a request's headers; none when it is no WebSocket, or what is asked for is told in no messages.
    pub fn of(method: &Method, headers: &HeaderMap, shape: Shape) -> Result<Option<Self>, Refusal> {
        let is_websocket = headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
        if !is_websocket || !matches!(shape, Shape::Watch | Shape::Log) {
            return Ok(None);
        }
        let is_13 = headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
        let accept = headers.get(header::SEC_WEBSOCKET_KEY).and_then(accept_of).filter(|_| is_13 && method == Method::GET);
        let accept = accept
            .ok_or_else(|| Refusal::bad_request("a WebSocket is opened by GET, in version 13 and with a Sec-WebSocket-Key (RFC 6455)"))?;
        let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
        let offered: Vec<&str> = offered.flat_map(|value| value.split(',')).map(str::trim).filter(|value| !value.is_empty()).collect();
        let (chosen, form) = match (shape, offered.as_slice()) {
            (Shape::Watch, offered) => (offered.first().copied(), Form::Events),
            (_, []) => (None, Form::Binary),
            (_, offered) => match offered.iter().find(|name| matches!(**name, "binary.k8s.io" | "base64.binary.k8s.io")) {
                Some(&name) => (Some(name), if name == "binary.k8s.io" { Form::Binary } else { Form::Base64 }),
                None => {
                    return Err(Refusal::bad_request(
                        "a log is told over WebSocket as binary.k8s.io or base64.binary.k8s.io; offer one of them, or none",
                    ));
                }
            },
        };
        Ok(Some(Self { accept, protocol: chosen.and_then(|name| HeaderValue::from_str(name).ok()), form }))
    }

    /// The answer that opens the connection.
    pub fn response(&self) -> Response<Body> {
        switching(&self.accept, self.protocol.as_ref())
    }

    /// Tells an answer to its end, or until the caller goes away: then the answer is dropped, and is recorded as one whose client is gone.
    pub async fn tell(self, mut caller: impl AsyncRead + AsyncWrite + Unpin, mut answer: Body) {
        let (mut inbox, mut heard) = (Inbox::default(), [0; 4096]);
        let (mut event, mut out) = (Vec::new(), Vec::new());
        if self.form != Form::Events {
            // Upstream begins with an empty message, so that a client knows that it is there.
            self.message(b"", &mut out);
        }
        loop {
            if !out.is_empty() {
                if caller.write_all(&out).await.is_err() || caller.flush().await.is_err() {
                    return;
                }
                out.clear();
            }
            tokio::select! {
                frame = answer.frame() => match frame {
                    Some(Ok(frame)) => {
                        let data = frame.into_data().unwrap_or_default();
                        self.take(data, &mut event, &mut out);
                    }
                    Some(Err(_)) | None => break,
                },
                read = caller.read(&mut heard) => {
                    let Ok(length @ 1..) = read else { return };
                    // A client says nothing here; what it says all the same is passed over.
                    let Ok(all) = inbox.push(&heard[..length]) else { return };
                    inbox.forget();
                    for one in all {
                        match one {
                            Heard::Ping(payload) => pong(&payload, &mut out),
                            Heard::Close => return,
                        }
                    }
                }
            }
        }
        close(&mut out);
        let _ = caller.write_all(&out).await;
        let _ = caller.shutdown().await;
    }

    /// Takes a piece of the answer; what is whole is written.
    fn take(&self, data: Bytes, event: &mut Vec<u8>, out: &mut Vec<u8>) {
        if self.form != Form::Events {
            data.chunks(PIECE).for_each(|piece| self.message(piece, out));
            return;
        }
        let mut rest = &data[..];
        while let Some(end) = memchr::memchr(b'\n', rest) {
            event.extend_from_slice(&rest[..=end]);
            if !event.iter().all(u8::is_ascii_whitespace) {
                self.message(event, out);
            }
            event.clear();
            rest = &rest[end + 1..];
        }
        event.extend_from_slice(rest);
    }

    fn message(&self, payload: &[u8], out: &mut Vec<u8>) {
        match self.form {
            Form::Events => frames::write(TEXT, &[payload], out),
            Form::Binary => frames::write(BINARY, &[payload], out),
            Form::Base64 => frames::write(TEXT, &[STANDARD.encode(payload).as_bytes()], out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::StreamBody;

    fn headers(protocols: &str) -> HeaderMap {
        let mut headers = HeaderMap::from_iter([
            (header::UPGRADE, HeaderValue::from_static("WebSocket")),
            (header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
            (header::SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==")),
        ]);
        if !protocols.is_empty() {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocols.parse().unwrap());
        }
        headers
    }

    async fn told(protocols: &str, shape: Shape, pieces: &[&'static str]) -> Vec<u8> {
        let opening = Opening::of(&Method::GET, &headers(protocols), shape).unwrap().unwrap();
        let frames: Vec<Result<_, crate::body::BoxError>> =
            pieces.iter().map(|piece| Ok(http_body::Frame::data(Bytes::from_static(piece.as_bytes())))).collect();
        let body = Body::stream(StreamBody::new(futures_util::stream::iter(frames)));
        let (mut here, there) = tokio::io::duplex(1 << 16);
        let (_, all) = tokio::join!(opening.tell(there, body), async {
            let mut all = Vec::new();
            here.read_to_end(&mut all).await.unwrap();
            all
        });
        all
    }

    #[tokio::test]
    async fn an_event_is_a_message_however_it_comes_in_pieces() {
        let all = told("", Shape::Watch, &["{\"type\":\"AD", "DED\"}\n{\"type\":\"X\"}", "\n\n"]).await;
        let mut expected = Vec::new();
        frames::write(TEXT, &[b"{\"type\":\"ADDED\"}\n"], &mut expected);
        frames::write(TEXT, &[b"{\"type\":\"X\"}\n"], &mut expected);
        close(&mut expected);
        assert_eq!(all, expected);
    }

    #[tokio::test]
    async fn a_log_is_told_in_the_protocol_that_was_chosen() {
        for (protocols, opcode, text) in [("", BINARY, "abc"), ("x, binary.k8s.io", BINARY, "abc"), ("base64.binary.k8s.io", TEXT, "YWJj")]
        {
            let mut expected = Vec::new();
            frames::write(opcode, &[b""], &mut expected);
            frames::write(opcode, &[text.as_bytes()], &mut expected);
            close(&mut expected);
            assert_eq!(told(protocols, Shape::Log, &["abc"]).await, expected, "{protocols}");
        }
        assert!(Opening::of(&Method::GET, &headers("channel.k8s.io"), Shape::Log).is_err());
        assert!(Opening::of(&Method::GET, &headers(""), Shape::Answer).unwrap().is_none());
        assert!(Opening::of(&Method::POST, &headers(""), Shape::Watch).is_err());
        assert_eq!(
            Opening::of(&Method::GET, &headers(""), Shape::Watch).unwrap().unwrap().response().headers()["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }
}
