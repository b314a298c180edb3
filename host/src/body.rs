//! Bodies of responses, and of requests: read within limits, and once.

mod request;
mod strategic;

use std::any::Any;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::status::Refusal;
pub use request::RequestBody;

/// A response body on its way to the caller.
#[derive(Default)]
pub struct Body {
    kind: Kind,
    /// What is held until it is sent.
    _held: Option<Box<dyn Any>>,
}

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    Stream(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError>>>),
}

/// What is read of a request body that is over its limit, so that the client gets to the answer.
const MOST_DISCARDED: usize = 16 << 20;
/// And for how long.
const LINGER: Duration = Duration::from_secs(2);

/// The error that ends a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Body {
    /// A body that is all there.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self { kind: Kind::Full(bytes.into()), _held: None }
    }

    /// A body that comes piece by piece.
    pub fn stream(body: impl http_body::Body<Data = Bytes, Error = BoxError> + 'static) -> Self {
        Self { kind: Kind::Stream(Box::pin(body)), _held: None }
    }

    /// Holds something until it is sent, or given up.
    pub fn holding(self, held: impl Any) -> Self {
        Self { _held: Some(Box::new(held)), ..self }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = Kind::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Kind::Stream(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(bytes) => bytes.is_empty(),
            Kind::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream(body) => body.size_hint(),
        }
    }
}

impl Refusal {
    /// The answer on the wire.
    pub fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::full(Bytes::from(self.to_json())));
        *response.status_mut() = self.code;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"postern\""));
        }
        if matches!(self.code, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT | StatusCode::BAD_REQUEST) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Reads a request body whole, within a size and a time.
pub async fn read_request(mut body: Incoming, limit: usize, time: Duration) -> Result<Bytes, Refusal> {
    let too_large = || Refusal::too_large(format!("the request body is over the gateway's limit of {limit} bytes (limits.requestBody)"));
    if http_body::Body::size_hint(&body).lower() > limit as u64 {
        linger(body).await;
        return Err(too_large());
    }
    if http_body::Body::is_end_stream(&body) {
        return Ok(Bytes::new());
    }
    match tokio::time::timeout(time, collect_from(&mut body, limit)).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => {
            linger(body).await;
            Err(too_large())
        }
        Ok(Err(error)) => Err(Refusal::bad_request(format!("the request body could not be read: {error}"))),
        Err(_) => {
            Err(Refusal::timeout(format!("the request body did not arrive within {} seconds (limits.requestBodyTime)", time.as_secs())))
        }
    }
}

/// Takes in what comes of a body that nobody reads, for a while: see `discard`.
pub async fn linger(mut body: Incoming) {
    let _ = tokio::time::timeout(LINGER, discard(&mut body)).await;
}

/// Takes in the rest of a body that is too large, up to a point: a connection closed while its client still sends is reset, and the answer
/// that says why is lost.
async fn discard(body: &mut Incoming) {
    let mut left = MOST_DISCARDED;
    while let Some(Ok(frame)) = body.frame().await {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        if left == 0 {
            return;
        }
    }
}

/// Reads a body whole; none when it is over the limit.
pub async fn collect(mut body: Incoming, limit: usize) -> Result<Option<Bytes>, hyper::Error> {
    collect_from(&mut body, limit).await
}

async fn collect_from(body: &mut Incoming, limit: usize) -> Result<Option<Bytes>, hyper::Error> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if first.len() + rest.len() + data.len() > limit {
            return Ok(None);
        }
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(Some(if rest.is_empty() { first } else { rest.freeze() }))
}
