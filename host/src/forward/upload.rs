//! A request body that goes to a proxied server as it comes: the gateway does not keep it, and does not read it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{As, Upstream, gone};
use crate::body::BoxError;
use crate::status::Refusal;

/// What a caller sends.
pub struct Upload {
    body: Incoming,
    /// How long nothing may come.
    idle: Duration,
    /// When it is over at the latest: its answer may end before it does.
    end: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Upload {
    /// Takes a body, how long it may stand still, and how long it may take.
    pub fn new(body: Incoming, idle: Duration, longest: Duration) -> Self {
        let (now, end) = (Instant::now(), Instant::now() + longest);
        Self { body, idle, end, timer: Box::pin(sleep_until(end.min(now + idle))) }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let now = Instant::now();
        if now < self.end
            && let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx)
        {
            let next = self.end.min(now + self.idle);
            self.timer.as_mut().reset(next);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        // What stands still holds a connection to the API server.
        std::task::ready!(self.timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(
            "nothing came of the request's body for too long, or it took too long (limits.streamIdleTime, streamTime)".into()
        )))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Upstream {
    /// Sends a request whose body comes piece by piece, on a connection of its own. It cannot be sent again: where the API server does not take the gateway's
    /// credential, that is forgotten, and the caller told to try again.
    pub(super) async fn upload(
        &self,
        who: &As,
        method: &Method,
        path_and_query: &str,
        headers: HeaderMap,
        upload: Upload,
    ) -> Result<Response<Incoming>, Refusal> {
        let (kind, mut request) = self.request(who, method, path_and_query, headers, upload).await?;
        if request.body().size_hint().exact().is_none() {
            // Of a GET the client's library would leave out a body whose length nobody knows.
            request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let sent_with = request.headers().clone();
        let mut sender = self.connect(kind).await?;
        let answer = sender.send_request(request).await.map_err(|error| match error.is_user() {
            // What went wrong is on the caller's side.
            true => Refusal::timeout(
                "the request's body broke off, or nothing came of it for longer than limits.streamIdleTime, or it took longer than limits.streamTime; the operation may have been carried out in part",
            ),
            false => gone(&error),
        })?;
        match answer.status() == StatusCode::UNAUTHORIZED && !self.takes_credential(kind, &sent_with).await {
            true => Err(self.forget(who, &sent_with).await),
            false => Ok(answer),
        }
    }
}
