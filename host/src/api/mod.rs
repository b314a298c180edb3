//! The gateway's own API, under `/postern/v1/`: approvals, recordings, policies, and the gateway itself. It is never forwarded.
//!
//! `ROUTES` is all of it: requests are read by it, and its OpenAPI document is made of it (`openapi`).

pub mod approvals;
mod openapi;
mod recording_body;
mod routes;
pub mod sessions;
mod state;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, Uri, header};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::approve::Approvals;
use crate::body::Body;
use crate::classify::RequestTarget;
use crate::config::Subjects;
use crate::identify::Caller;
use crate::record::session::library::Library;
use crate::record::session::recent::RecentBodies;
use crate::slots::Slots;
use crate::status::Refusal;
pub use approvals::ApprovalRequest;
pub use openapi::document;
pub use recording_body::RecordingBody;
use routes::{ROUTES, RouteRequest};
pub use sessions::SessionRequest;
pub use sessions::{Bodies, CallBody, Detail, Found, Key, Listed};
pub use state::{ClusterState, Identity, Policies, PolicyDirectory, Status};

/// Recordings are read for so many at a time: each reading takes a thread that waits for the disk.
const READERS: usize = 4;
/// Recordings that are sent or followed at a time: each is a file that is open, and one that is followed is looked at five times a second.
const SENT: usize = 100;

/// What is asked of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiRequest {
    /// Something of tickets.
    Approval(ApprovalRequest),
    /// Something of recordings.
    Session(SessionRequest),
    /// Which policies are in force.
    Policies,
    /// How the gateway is.
    Status,
    /// Who the caller is to it.
    Identity,
    /// What can be asked.
    Document,
}

/// What is answered from.
pub struct Sources {
    /// Tickets.
    pub approvals: Arc<Approvals>,
    /// Recordings.
    pub library: Arc<Library>,
    /// The latest bodies of requests, where they are kept.
    pub recent_bodies: Arc<RecentBodies>,
    /// The public key that recordings are signed with, as its file has it.
    pub session_key: String,
    /// Who sees what is not their own.
    pub auditors: Subjects,
    readers: Arc<Semaphore>,
    /// What each caller has of them.
    readers_of: Arc<Slots>,
    /// Lists that are waited for.
    waits: Arc<Slots>,
    /// Recordings that are sent, or followed.
    reading: Arc<Semaphore>,
    /// Recordings that are fetched from the object store.
    fetching: Arc<Semaphore>,
}

/// Who asks, and about which cluster; none for all.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// The caller.
    pub caller: &'a Arc<Caller>,
    /// The cluster that the request's address names; none for all.
    pub cluster: Option<&'a str>,
}

impl ApiRequest {
    /// Reads a request.
    pub fn parse(method: &Method, uri: &Uri, body: &[u8]) -> Result<Self, Refusal> {
        let target = RequestTarget::parse(uri.path(), uri.query())
            .map_err(|why| Refusal::bad_request(format!("the request cannot be read: {why}")))?;
        let parts: Vec<&str> = target.path.split('/').filter(|part| !part.is_empty()).collect();
        let mut allowed = Vec::new();
        for route in ROUTES {
            let Some(captured) = route.match_path(&parts) else { continue };
            // HEAD is GET without the body, which the connection leaves out.
            if route.method != method.as_str() && !(method == Method::HEAD && route.method == "GET") {
                allowed.push(route.method);
                continue;
            }
            for (name, _) in &target.query {
                if !route.parameters.iter().any(|parameter| parameter.name == name) {
                    let known: Vec<&str> = route.parameters.iter().map(|parameter| parameter.name).collect();
                    let shown: String = name.chars().filter(|c| !c.is_control()).take(60).collect();
                    return Err(Refusal::bad_request(format!("{} has no parameter {shown:?}; it has {}", route.path, list(&known))));
                }
            }
            return (route.parse)(&RouteRequest { captured: &captured, query: &target.query, body });
        }
        match allowed.as_slice() {
            [] => Err(Refusal::not_found("the gateway has nothing at this path; GET /postern/v1/openapi says what there is")),
            allowed => Err(Refusal::method_not_allowed(format!("it takes {}", list(allowed)))),
        }
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

impl Sources {
    /// Answers from these.
    pub fn new(
        approvals: Arc<Approvals>,
        library: Library,
        recent_bodies: Arc<RecentBodies>,
        session_key: String,
        auditors: Subjects,
    ) -> Self {
        Self {
            approvals,
            library: Arc::new(library),
            recent_bodies,
            session_key,
            auditors,
            readers: Arc::new(Semaphore::new(READERS)),
            readers_of: Slots::new(usize::MAX),
            waits: Slots::new(approvals::WAITS),
            reading: Arc::new(Semaphore::new(SENT)),
            fetching: Arc::new(Semaphore::new(READERS)),
        }
    }

    /// Whether somebody sees what is not their own.
    pub fn is_auditor(&self, caller: &Caller) -> bool {
        self.auditors.contains(&caller.username, &caller.groups)
    }

    /// Refuses what only auditors see.
    pub fn only_auditors(&self, caller: &Caller) -> Result<(), Refusal> {
        match self.is_auditor(caller) {
            true => Ok(()),
            false => Err(Refusal::forbidden(format!(
                "{} may not see this; name who may under auditors in the gateway's configuration",
                caller.username
            ))),
        }
    }
}

/// An answer in JSON.
pub fn json(value: &impl Serialize) -> Result<Response<Body>, Refusal> {
    let text = serde_json::to_string(value).map_err(|error| Refusal::internal(format!("the answer cannot be written: {error}")))?;
    Ok(json_text(text))
}

/// The same of what is written already.
fn json_text(text: String) -> Response<Body> {
    let mut response = Response::new(Body::full(Bytes::from(text + "\n")));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
