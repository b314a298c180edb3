//! Which cluster a request is for: told by its host, or by how its path begins.
//!
//! What a request says in several places it says once, or it is refused: a client that means one cluster must never reach another.

use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Uri, header};

use super::cluster::Cluster;
use super::clusters::{Listed, Table};
use crate::config::{canonical_host, is_own};
use crate::status::Refusal;

/// Whom a request is for.
pub(super) enum Routed {
    /// One of the clusters; and whether its path led there, and not its host.
    Cluster(Arc<Cluster>, bool),
    /// None of those that can be asked.
    Elsewhere(Elsewhere),
}

/// What a request is for that goes to no cluster.
pub(super) enum Elsewhere {
    /// The gateway's own API: of a cluster, or of them all.
    Own(Option<Arc<Listed>>),
    /// A cluster that could not be set up.
    Broken(Arc<Listed>),
    /// Nothing that is known.
    Nowhere,
    /// One cluster by its connection and another by itself.
    Misdirected,
}

impl Table {
    /// Tells whom a request is for, and takes from its path what led there. `server_name` is the host that its connection was opened for.
    pub(super) fn route<B>(&self, server_name: Option<&str>, request: &mut Request<B>) -> Result<Routed, Refusal> {
        if let Some(alone) = self.alone() {
            return Ok(to(alone, is_own(request.uri().path()), false));
        }
        let host = host_of(request.uri(), request.headers())?;
        let by_host = host.as_deref().and_then(|host| self.of_host(host));
        if let Some(named) = server_name
            && name_of(self.of_host(named)) != name_of(by_host)
        {
            // Told to who is known only: it says that there is such a host.
            return Ok(Routed::Elsewhere(Elsewhere::Misdirected));
        }
        if let Some(cluster) = by_host {
            return Ok(to(cluster, is_own(request.uri().path()), false));
        }
        let path = request.uri().path();
        if is_own(path) {
            return Ok(Routed::Elsewhere(Elsewhere::Own(None)));
        }
        let Some((cluster, rest)) = self.of_path(path) else { return Ok(Routed::Elsewhere(Elsewhere::Nowhere)) };
        let own = is_own(rest);
        let rest = match (rest, request.uri().query()) {
            ("", None) => "/".to_owned(),
            ("", Some(query)) => format!("/?{query}"),
            (rest, None) => rest.to_owned(),
            (rest, Some(query)) => format!("{rest}?{query}"),
        };
        let rest: PathAndQuery = rest.parse().map_err(|_| Refusal::bad_request("the path of the request cannot be read"))?;
        *request.uri_mut() = Uri::from(rest);
        Ok(to(cluster, own, true))
    }
}

fn to(listed: &Arc<Listed>, own: bool, by_path: bool) -> Routed {
    match listed.cluster() {
        _ if own => Routed::Elsewhere(Elsewhere::Own(Some(Arc::clone(listed)))),
        Ok(cluster) => Routed::Cluster(Arc::clone(cluster), by_path),
        Err(_) => Routed::Elsewhere(Elsewhere::Broken(Arc::clone(listed))),
    }
}

fn name_of(listed: Option<&Arc<Listed>>) -> Option<&str> {
    listed.map(|listed| listed.name())
}

/// The host that a request names, without its port, in lower case. HTTP/2 has it in `:authority`, HTTP/1.1 in `Host` or in an absolute target (RFC 9112, section 3.2).
fn host_of(uri: &Uri, headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let unreadable = || Refusal::bad_request("the request's Host is no host name; send one");
    let of_header = match headers.get(header::HOST) {
        Some(value) => Some(host(value.to_str().map_err(|_| unreadable())?).ok_or_else(unreadable)?),
        None => None,
    };
    let of_target = match uri.authority() {
        Some(authority) => Some(host(authority.as_str()).ok_or_else(unreadable)?),
        None => None,
    };
    match (of_target, of_header) {
        (Some(one), Some(two)) if one != two => Err(Refusal::bad_request("the request names two hosts; send one")),
        (one, two) => Ok(one.or(two)),
    }
}

/// The host of an authority; none where it is none, or holds more than a host and a port.
fn host(authority: &str) -> Option<String> {
    let parsed: http::uri::Authority = authority.parse().ok()?;
    let host = parsed.host().trim_start_matches('[').trim_end_matches(']');
    let is_all = match parsed.port() {
        Some(port) => authority.strip_suffix(port.as_str()).is_some_and(|rest| rest.strip_suffix(':') == Some(parsed.host())),
        None => authority == parsed.host(),
    };
    // A name with the dot of the root is the same name.
    let host = host.strip_suffix('.').unwrap_or(host);
    (is_all && !host.is_empty()).then(|| canonical_host(host))
}

#[cfg(test)]
mod tests;
