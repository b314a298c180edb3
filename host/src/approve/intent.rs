//! What makes two requests the same, and what of it an approver is shown.

use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::{Requirement, Summary, identity};
use crate::body::RequestBody;
use crate::classify::{Operation, Shape, shown_query};
use crate::digest::sha256;
use crate::identify::Caller;
use crate::status::Refusal;

/// The longest body that is shown.
const LONGEST_SHOWN: usize = 64 << 10;
/// Headers that say how a client asks, and not what: they differ from one try to the next.
const OF_THE_CLIENT: [&str; 5] = ["accept-encoding", "kubectl-command", "kubectl-session", "sec-websocket-key", "user-agent"];

/// An operation as an approval is bound to it.
pub struct Intent<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// What is asked.
    pub operation: &'a Operation,
    /// The headers that go further.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: &'a RequestBody,
    /// The body as an approver may see it; none where it cannot be shown.
    pub shown: Option<Value>,
}

impl Intent<'_> {
    /// The digest of everything that decides what happens. Why an approval is asked for may be said in another way each time.
    pub(super) fn digest(&self, cluster: &str, requirements: &[Requirement]) -> Result<String, Refusal> {
        let Self { caller, operation, .. } = self;
        let mut query = operation.query.clone();
        if operation.shape != Shape::Proxy {
            // Of several values of one name the first counts: their order stays.
            query.sort_by(|one, other| one.0.cmp(&other.0));
        }
        let command = operation.command.as_ref().map(|c| (&c.container, &c.argv, c.stdin, c.tty));
        // kubectl asks for an exec by GET and then by POST: to the API server that is one thing.
        let method = if operation.shape == Shape::Stream { "" } else { operation.method.as_str() };
        let wanted: Vec<_> = requirements.iter().map(|r| (&r.policy, &r.approvers, r.required, r.valid_seconds)).collect();
        let parts = json!([
            identity(caller),
            cluster,
            method,
            operation.verb,
            operation.path,
            query,
            command,
            self.body.media_type(),
            sha256(&self.canonical_body()?),
            self.proxied_headers(),
            wanted
        ]);
        Ok(sha256(parts.to_string().as_bytes()))
    }

    /// Equal objects are one body, however a client spaces or orders them. One that the API server does not read, or in an encoding that is not decoded, is
    /// its bytes.
    fn canonical_body(&self) -> Result<Vec<u8>, Refusal> {
        let read = match self.operation.shape {
            Shape::Answer if !self.body.is_empty() => self.body.read_if_known()?,
            _ => None,
        };
        Ok(read.map_or_else(|| self.body.bytes().to_vec(), |value| value.to_string().into_bytes()))
    }

    /// What a server behind the API server is told beside path and body: any of it may decide what happens there.
    fn proxied_headers(&self) -> Vec<(&str, String)> {
        if self.operation.shape != Shape::Proxy {
            return Vec::new();
        }
        let mut headers: Vec<_> = self
            .headers
            .iter()
            .filter(|(name, value)| !(OF_THE_CLIENT.contains(&name.as_str()) || *name == "traceparent" && is_place_in_a_trace(value)))
            .map(|(name, value)| (name.as_str(), sha256(value.as_bytes())))
            .collect();
        headers.sort();
        headers
    }

    pub(super) fn summary(&self, cluster: &str) -> Summary {
        let Self { operation, body, .. } = self;
        let target = operation.target.as_ref();
        let is_secret = target.is_some_and(|t| t.resource == "secrets");
        let is_short = body.bytes().len() <= LONGEST_SHOWN;
        Summary {
            cluster: cluster.into(),
            verb: operation.verb.clone(),
            method: operation.method.as_str().into(),
            resource: operation.resource_path().unwrap_or_default(),
            namespace: target.and_then(|t| t.namespace.clone()),
            name: target.and_then(|t| t.name.clone()),
            path: operation.path.clone(),
            query: shown_query(&operation.query),
            command: operation.command.as_ref().map(|c| c.argv.clone()),
            media_type: (!body.is_empty()).then(|| body.media_type().to_owned()),
            // Names only: what is sent to a server behind the API server may be a credential for it.
            headers: self.proxied_headers().into_iter().map(|(name, _)| name.to_owned()).collect(),
            body_digest: (!body.is_empty()).then(|| sha256(body.bytes())),
            body: self.shown.clone().filter(|_| !is_secret && is_short),
        }
    }
}

/// Whether a header says nothing but which trace a request is part of (W3C Trace Context, version 00): it is another with each try, and has no room for anything else.
fn is_place_in_a_trace(value: &HeaderValue) -> bool {
    let hexadecimal = |part: &str, length| part.len() == length && part.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    let Ok(text) = value.to_str() else { return false };
    let parts: Vec<_> = text.split('-').collect();
    matches!(parts[..], ["00", trace, span, flags] if hexadecimal(trace, 32) && hexadecimal(span, 16) && hexadecimal(flags, 2))
}
