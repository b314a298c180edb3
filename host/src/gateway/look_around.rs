//! What stands beside an operation, for the policies that declared that they must know it.

use std::sync::Arc;

use super::Cluster;
use crate::classify::{Operation, Shape, escape, path_of};
use crate::policy::Surroundings;
use crate::policy::contract::Surrounding;
use crate::status::Refusal;

impl Cluster {
    /// Fetches the objects beside an operation that its policies declared.
    pub(super) async fn look_around(&self, operation: &Operation, needs: &[Surrounding]) -> Result<Surroundings, Refusal> {
        let mut around = Surroundings::default();
        let Some(target) = operation.target.as_ref().filter(|_| !needs.is_empty()) else { return Ok(around) };
        let in_core =
            |namespace: Option<&str>, resource: &str, name: &str| format!("{}/{}", path_of("", "v1", namespace, resource), escape(name));
        for need in needs {
            match need {
                Surrounding::Namespace => {
                    if let Some(namespace) = &target.namespace {
                        around.namespace = self.upstream.get_own(&in_core(None, "namespaces", namespace)).await?.map(Arc::new);
                    }
                }
                Surrounding::Stored => {
                    let is_change = matches!(operation.verb.as_str(), "update" | "patch" | "delete");
                    if let Some(name) = target.name.as_deref().filter(|_| is_change) {
                        let path = format!("{}/{}", target.collection(), escape(name));
                        around.stored = self.upstream.get_own(&path).await?.map(Arc::new);
                    }
                }
                Surrounding::Pod => {
                    if let Some(name) = target.name.as_deref().filter(|_| target.resource == "pods") {
                        let name = if operation.shape == Shape::Proxy { proxied_name(name) } else { name };
                        let path = in_core(target.namespace.as_deref(), "pods", name);
                        around.pod = self.upstream.get_own(&path).await?.map(Arc::new);
                    }
                }
            }
        }
        Ok(around)
    }
}

/// The name in what a proxied request addresses: `NAME`, `NAME:PORT` or `SCHEME:NAME:PORT` (`k8s.io/apimachinery/pkg/util/net`, SplitSchemeNamePort).
fn proxied_name(text: &str) -> &str {
    match text.split(':').collect::<Vec<_>>()[..] {
        [_, name, _] | [name, _] => name,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_proxied_pod_is_looked_up_by_its_name() {
        for (text, name) in [("web", "web"), ("web:80", "web"), ("https:web:8443", "web"), ("http:web:", "web"), ("a:b:c:d", "a:b:c:d")] {
            assert_eq!(super::proxied_name(text), name);
        }
    }
}
