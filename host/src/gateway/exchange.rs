//! What the stages learn of a request, and hand on.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use hyper::body::Incoming;

use super::restore::Restored;
use crate::body::RequestBody;
use crate::classify::{Operation, Shape, Target};
use crate::decide::{self, Terms};
use crate::forward::{As, Outgoing, Way};
use crate::identify::Caller;
use crate::mask::Scope;
use crate::policy::PolicyOperation;
use crate::respond::Permits;
use crate::stream::messages::Opening;

/// One request on its way through the stages.
pub(super) struct Exchange {
    pub(super) id: String,
    pub(super) received_at: u64,
    pub(super) caller: Arc<Caller>,
    pub(super) operation: Operation,
    pub(super) who: As,
    pub(super) headers: HeaderMap,
    pub(super) body: Arc<RequestBody>,
    /// A body that goes on to a proxied server as it comes, unless somebody reads it.
    pub(super) upload: Unread,
    /// What it holds until its answer is sent.
    pub(super) held: Permits,
    /// A watch or a log that is told over WebSocket.
    pub(super) opening: Option<Opening>,
    /// What the body was, where placeholders in it were put right.
    pub(super) restored: Option<Restored>,
    /// What policies are told of it, once one was asked.
    pub(super) subject: OnceCell<Arc<PolicyOperation>>,
}

impl Exchange {
    /// The API server takes this for its own audit event, so that the two logs can be laid beside each other.
    pub(super) fn audit_id(&self) -> HeaderValue {
        HeaderValue::from_str(&self.id).unwrap_or(HeaderValue::from_static("postern"))
    }

    /// The resource with its group, as masks know it; empty where there is none.
    pub(super) fn resource(&self) -> String {
        self.operation.target.as_ref().map(Target::full_resource).unwrap_or_default()
    }

    /// Where tokens in text that flows are compared: in what comes from one pod.
    pub(super) fn scope(&self) -> Scope {
        let target = self.operation.target.as_ref();
        let namespace = target.and_then(|t| t.namespace.as_deref()).unwrap_or_default();
        Scope::of(&self.resource(), namespace, target.and_then(|t| t.name.as_deref()).unwrap_or_default())
    }

    /// What policies are told of it, put together for the first that is asked.
    pub(super) fn subject(&self) -> Arc<PolicyOperation> {
        Arc::clone(self.subject.get_or_init(|| self.subject_of(&self.operation)))
    }

    /// What policies are told of another operation, which the same caller asks about.
    pub(super) fn subject_of(&self, operation: &Operation) -> Arc<PolicyOperation> {
        Arc::new(decide::subject(operation, &self.caller, &self.id, self.received_at))
    }

    /// What policies are told of the operation after the decision.
    pub(super) fn subject_after(&self, terms: &Terms) -> Arc<PolicyOperation> {
        let mut subject = self.subject();
        if terms.approved {
            Arc::make_mut(&mut subject).approve();
        }
        subject
    }

    /// What is sent for it, in a way.
    pub(super) fn outgoing<'a>(&'a self, path_and_query: &'a str, headers: HeaderMap, way: Way) -> Outgoing<'a> {
        Outgoing { who: &self.who, method: &self.operation.method, path_and_query, headers, way }
    }

    /// Its body, as it is sent. What a server behind the API server reads is none of its.
    pub(super) fn body_to_send(&self) -> Bytes {
        if self.operation.shape == Shape::Proxy { self.body.bytes().clone() } else { self.body.to_send() }
    }

    /// The headers of what is read for this operation, in JSON, as the caller.
    pub(super) fn headers_to_read(&self) -> HeaderMap {
        HeaderMap::from_iter([
            (header::ACCEPT, HeaderValue::from_static("application/json")),
            (header::ACCEPT_ENCODING, HeaderValue::from_static("identity")),
            (AUDIT_ID, self.audit_id()),
        ])
    }
}

/// A body that nobody has read yet. Whoever refuses its request takes it in for a while, so that the client gets to the answer.
pub(super) type Unread = Rc<Cell<Option<Incoming>>>;

/// Whether there is one.
pub(super) fn is_unread(body: &Unread) -> bool {
    let unread = body.take();
    let is_there = unread.is_some();
    body.set(unread);
    is_there
}

/// kube-apiserver's own header (`k8s.io/apiserver/pkg/apis/audit`, HeaderAuditID).
pub(super) const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
