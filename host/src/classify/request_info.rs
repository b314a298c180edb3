//! RequestInfo: what kube-apiserver would take a request for.
//!
//! Source: `k8s.io/apiserver/pkg/endpoints/request/requestinfo.go`. `tests/e2e` compares this with upstream's own resolver.

use super::selector;
use super::target::RequestTarget;

/// What kube-apiserver takes a request for. Fields are empty where upstream's are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether it addresses a resource.
    pub is_resource_request: bool,
    /// get, list, watch, create, update, patch, delete, deletecollection, proxy, or the lower-case method.
    pub verb: String,
    /// `api` or `apis`.
    pub api_prefix: String,
    /// The API group; empty for the core group.
    pub api_group: String,
    /// The API version.
    pub api_version: String,
    /// The namespace; for a Namespace itself, its own name.
    pub namespace: String,
    /// The resource.
    pub resource: String,
    /// The subresource.
    pub subresource: String,
    /// The object's name, or the one a field selector requires.
    pub name: String,
}

/// A path that upstream refuses to resolve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unresolvable;

impl RequestInfo {
    /// Resolves a method and target as upstream's `RequestInfoFactory` does for a full API server.
    pub fn resolve(method: &str, target: &RequestTarget) -> Result<Self, Unresolvable> {
        let mut info = Self { verb: method.to_lowercase(), ..Self::default() };
        let trimmed = target.path.trim_matches('/');
        let parts: Vec<&str> = if trimmed.is_empty() { Vec::new() } else { trimmed.split('/').collect() };
        if parts.len() < 3 || !matches!(parts[0], "api" | "apis") {
            return Ok(info);
        }
        let (prefix, mut parts) = (parts[0], &parts[1..]);
        info.api_prefix = prefix.into();
        if prefix == "apis" {
            if parts.len() < 3 {
                return Ok(info);
            }
            info.api_group = parts[0].into();
            parts = &parts[1..];
        }
        info.is_resource_request = true;
        info.api_version = parts[0].into();
        parts = &parts[1..];

        if matches!(parts[0], "proxy" | "watch") {
            if parts.len() < 2 {
                return Err(Unresolvable);
            }
            info.verb = parts[0].into();
            parts = &parts[1..];
        } else {
            info.verb = match method {
                "POST" => "create",
                "GET" | "HEAD" => "get",
                "PUT" => "update",
                "PATCH" => "patch",
                "DELETE" => "delete",
                _ => "",
            }
            .into();
        }

        if parts[0] == "namespaces" && parts.len() > 1 {
            info.namespace = parts[1].into();
            if parts.len() > 2 && !matches!(parts[2], "status" | "finalize") {
                parts = &parts[2..];
            }
        }
        info.resource = parts[0].into();
        info.name = parts.get(1).copied().unwrap_or_default().into();
        if info.verb != "proxy" {
            info.subresource = parts.get(2).copied().unwrap_or_default().into();
        }

        if info.name.is_empty() && info.verb == "get" {
            info.resolve_list(target);
        }
        if info.name.is_empty() && info.verb == "delete" {
            info.verb = "deletecollection".into();
        }
        Ok(info)
    }

    /// A get without a name is a list or a watch, of one object where the field selector says so.
    fn resolve_list(&mut self, target: &RequestTarget) {
        let is_watch = target.first("watch").is_some_and(|v| v != "0" && !v.eq_ignore_ascii_case("false"));
        self.verb = if is_watch { "watch" } else { "list" }.into();
        if let Some(name) = ListOptions::required_name(target)
            && !matches!(name.as_str(), "." | "..")
            && !name.contains(['/', '%'])
        {
            self.name = name;
        }
    }
}

/// `metav1.ListOptions`, of which only what decides the classification is kept.
struct ListOptions;

impl ListOptions {
    /// The name the field selector requires; none when any of the options does not decode.
    fn required_name(target: &RequestTarget) -> Option<String> {
        let integer = |key| target.first(key).is_none_or(|v| v.parse::<i64>().is_ok());
        if !integer("limit") || !integer("timeoutSeconds") || !target.first("labelSelector").is_none_or(selector::labels_parse) {
            return None;
        }
        selector::required_name(target.first("fieldSelector")?).ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(method: &str, uri: &str) -> RequestInfo {
        let (path, query) = uri.split_once('?').map_or((uri, None), |(p, q)| (p, Some(q)));
        RequestInfo::resolve(method, &RequestTarget::parse(path, query).unwrap()).unwrap()
    }

    #[test]
    fn verbs_follow_method_name_and_query() {
        for (method, uri, verb) in [
            ("GET", "/api/v1/pods", "list"),
            ("GET", "/api/v1/pods?watch", "watch"),
            ("GET", "/api/v1/pods?watch=FALSE", "list"),
            ("GET", "/api/v1/namespaces/a/pods/b", "get"),
            ("HEAD", "/api/v1/namespaces/a/pods/b", "get"),
            ("DELETE", "/api/v1/namespaces/a/pods", "deletecollection"),
            ("GET", "/api/v1/watch/namespaces/a/secrets", "watch"),
            ("GET", "/version", "get"),
            ("OPTIONS", "/api/v1/pods", ""),
        ] {
            assert_eq!(resolve(method, uri).verb, verb, "{method} {uri}");
        }
    }

    #[test]
    fn subresources_and_groups_are_told_apart() {
        let info = resolve("POST", "/apis/apps/v1/namespaces/n/deployments/web/scale");
        assert_eq!((info.api_group.as_str(), info.resource.as_str(), info.subresource.as_str()), ("apps", "deployments", "scale"));
        let info = resolve("GET", "/api/v1/nodes/n1/proxy/run/a/b");
        assert_eq!((info.resource.as_str(), info.subresource.as_str(), info.name.as_str()), ("nodes", "proxy", "n1"));
        let info = resolve("GET", "/api/v1/namespaces/n/secrets?fieldSelector=metadata.name%3Ddb");
        assert_eq!((info.verb.as_str(), info.name.as_str()), ("list", "db"));
    }
}
