//! An operation that somebody asks about, before it is under way: the attributes of a review of rights.

use std::sync::Arc;

use http::Method;

use super::{Command, Operation, Shape, Target, escape};

impl Operation {
    /// What a request to a cluster with these attributes would be; none for a verb that is no request of its own (`bind`, `impersonate`), and for attributes that stand for
    /// several.
    pub fn would_be(cluster: &Arc<str>, verb: &str, target: Target) -> Option<Self> {
        let texts = [verb, &target.api_group, &target.resource, target.subresource.as_deref().unwrap_or_default()];
        if texts.contains(&"*") || target.resource.is_empty() {
            return None;
        }
        let shape = match (target.resource.as_str(), target.subresource.as_deref()) {
            ("pods", Some("exec" | "attach" | "portforward")) => Shape::Stream,
            ("pods" | "services" | "nodes", Some("proxy")) => Shape::Proxy,
            ("pods", Some("log")) => Shape::Log,
            _ if verb == "watch" => Shape::Watch,
            _ => Shape::Answer,
        };
        let method = match verb {
            "get" | "list" | "watch" => Method::GET,
            "create" => Method::POST,
            "update" => Method::PUT,
            "patch" => Method::PATCH,
            "delete" | "deletecollection" => Method::DELETE,
            _ => return None,
        };
        // As a request for it is classified, however it arrives.
        let verb = if shape == Shape::Stream { "create" } else { verb };
        let command = (shape == Shape::Stream && target.subresource.as_deref() != Some("portforward")).then(Command::default);
        let parts = [target.name.as_deref(), target.subresource.as_deref()].into_iter().flatten();
        let path = parts.fold(target.collection(), |path, part| format!("{path}/{}", escape(part)));
        Some(Self {
            cluster: Arc::clone(cluster),
            verb: verb.to_owned(),
            target: Some(target),
            path_and_query: path.clone(),
            path,
            query: Vec::new(),
            dry_run: false,
            command,
            shape,
            method,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_what_their_request_would_be() {
        let of = |verb: &str, group: &str, resource: &str, subresource: Option<&str>, name: Option<&str>| {
            let target = Target {
                api_group: group.into(),
                api_version: "v1".into(),
                resource: resource.into(),
                subresource: subresource.map(Into::into),
                namespace: Some("shop".into()),
                name: name.map(Into::into),
            };
            Operation::would_be(&"c".into(), verb, target)
        };
        for (asked, method, path) in [
            (of("delete", "apps", "deployments", None, Some("web")), Method::DELETE, "/apis/apps/v1/namespaces/shop/deployments/web"),
            (of("list", "", "secrets", None, None), Method::GET, "/api/v1/namespaces/shop/secrets"),
            (of("get", "", "pods", Some("exec"), Some("web")), Method::POST, "/api/v1/namespaces/shop/pods/web/exec?command=true"),
            (of("watch", "", "pods", None, None), Method::GET, "/api/v1/namespaces/shop/pods?watch=true"),
        ] {
            let (asked, real) = (asked.unwrap(), Operation::classify(&method, &path.parse().unwrap()).unwrap());
            assert_eq!((asked.verb, asked.target, asked.path, asked.shape), (real.verb, real.target, real.path, real.shape), "{path}");
        }
        for nothing in [
            of("*", "", "pods", None, None),
            of("get", "*", "pods", None, None),
            of("bind", "", "roles", None, None),
            of("get", "", "pods", Some("*"), None),
        ] {
            assert!(nothing.is_none());
        }
    }
}
