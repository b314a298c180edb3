//! The two ways to the API server: for what a caller asks for, which is sealed, and for what the gateway asks itself, which changes nothing.

use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use hyper::body::Incoming;

use super::{As, Seal, Upload, Upstream, gone};
use crate::body::collect;
use crate::status::Refusal;
use crate::words::Step;

/// The longest answer to what the gateway asks itself, unless it is asked for as large an object as callers may have.
pub const LARGEST_ANSWER: usize = 16 << 20;

/// An operation as it goes to the API server.
pub struct Outgoing<'a> {
    /// As whom.
    pub who: &'a As,
    /// The HTTP method.
    pub method: &'a Method,
    /// The path and the query.
    pub path_and_query: &'a str,
    /// The caller's headers, stripped.
    pub headers: HeaderMap,
    /// How it goes, and with which body.
    pub way: Way,
}

/// How an operation goes to the API server.
pub enum Way {
    /// On a connection that is kept; the head of the answer must come within `limits.responseTime`.
    Plain(Bytes),
    /// The same for what is behind the API server, which may take its time.
    Proxied(Bytes),
    /// On a connection that it shares with other watches where the API server speaks HTTP/2.
    Watch,
    /// On a connection of its own, which is upgraded.
    Upgrade(Bytes),
    /// On a connection of its own, with a body that goes on as it comes.
    Upload(Upload),
}

/// What the gateway asks the API server itself.
pub enum Question<'a> {
    /// What is at a path, in JSON.
    Get(&'a str),
    /// What is at a path, in the form that headers ask for.
    GetWith(&'a str, HeaderMap),
    /// A SelfSubjectAccessReview.
    Access(Bytes),
}

/// The path of SelfSubjectAccessReviews.
const ACCESS_REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

impl Upstream {
    /// Sends an operation: the one way to the cluster for what a caller asks for.
    pub async fn send(&self, seal: &Seal, outgoing: Outgoing<'_>) -> Result<Response<Incoming>, Refusal> {
        let Outgoing { who, method, path_and_query, mut headers, way } = outgoing;
        let sending = seal.place().map(|place| place.sends(&mut headers));
        let began = Instant::now();
        let answer = match way {
            Way::Plain(body) => self.plain(who, method, path_and_query, headers, body, true).await,
            Way::Proxied(body) => self.plain(who, method, path_and_query, headers, body, false).await,
            Way::Watch => Box::pin(self.watch(who, path_and_query, headers)).await,
            Way::Upgrade(body) => Box::pin(self.upgrade(who, method, path_and_query, headers, body)).await,
            Way::Upload(upload) => Box::pin(self.upload(who, method, path_and_query, headers, upload)).await,
        };
        self.metrics.step(Step::Forward, began);
        if let Some(sending) = sending {
            sending.ended(answer.as_ref().ok().map(Response::status));
        }
        answer
    }

    /// Asks the API server something for the gateway itself, as somebody: the status and the body of its answer. Nothing that can be asked changes anything in the
    /// cluster.
    pub async fn read(&self, who: &As, question: Question<'_>, largest: usize) -> Result<(StatusCode, Bytes), Refusal> {
        let json = HeaderValue::from_static("application/json");
        let (method, path, headers, body) = match question {
            Question::Get(path) => (Method::GET, path, HeaderMap::from_iter([(header::ACCEPT, json)]), Bytes::new()),
            Question::GetWith(path, headers) => (Method::GET, path, headers, Bytes::new()),
            Question::Access(review) => {
                let headers = HeaderMap::from_iter([(header::ACCEPT, json.clone()), (header::CONTENT_TYPE, json)]);
                (Method::POST, ACCESS_REVIEWS, headers, review)
            }
        };
        let response = self.plain(who, &method, path, headers, body, true).await?;
        let status = response.status();
        let body = collect(response.into_body(), largest).await.map_err(|e| gone(&e))?;
        Ok((status, body.ok_or_else(|| Refusal::bad_gateway(format!("the API server's answer is over {largest} bytes long")))?))
    }

    /// Reads an object with the gateway's own credential; none when there is no such object.
    pub async fn get_own(&self, path: &str) -> Result<Option<serde_json::Value>, Refusal> {
        let (status, body) = self.read(&As::Gateway, Question::Get(path), LARGEST_ANSWER).await?;
        match status.as_u16() {
            200 => serde_json::from_slice(&body).map(Some).map_err(|_| Refusal::bad_gateway("the API server's answer is not JSON")),
            404 => Ok(None),
            code => Err(Refusal::bad_gateway(format!(
                "a policy needs {path}, and the gateway's own credential got {code} for it; let it read that"
            ))),
        }
    }
}
