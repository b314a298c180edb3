//! What stands beside an operation, for the policies that declared that they must know it.

use std::sync::Arc;

use super::Gateway;
use crate::classify::Operation;
use crate::policy::Surroundings;
use crate::policy::bindings::postern::policy::types::Surrounding;
use crate::status::Refusal;

impl Gateway {
    /// Fetches the objects beside an operation that its policies declared.
    pub(super) async fn look_around(&self, operation: &Operation, needs: &[Surrounding]) -> Result<Surroundings, Refusal> {
        let mut around = Surroundings::default();
        let Some(target) = operation.target.as_ref().filter(|_| !needs.is_empty()) else { return Ok(around) };
        let encode = |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let namespaced = target.namespace.as_deref().map(|n| format!("/namespaces/{}", encode(n))).unwrap_or_default();
        for need in needs {
            match need {
                Surrounding::Namespace => {
                    if let Some(namespace) = &target.namespace {
                        around.namespace = self.upstream.get_own(&format!("/api/v1/namespaces/{}", encode(namespace))).await?.map(Arc::new);
                    }
                }
                Surrounding::Stored => {
                    let is_change = matches!(operation.verb.as_str(), "update" | "patch" | "delete");
                    if let Some(name) = target.name.as_deref().filter(|_| is_change) {
                        let prefix =
                            if target.api_group.is_empty() { "/api".into() } else { format!("/apis/{}", encode(&target.api_group)) };
                        let within = if target.resource == "namespaces" { "" } else { &namespaced };
                        let path =
                            format!("{prefix}/{}{within}/{}/{}", encode(&target.api_version), encode(&target.resource), encode(name));
                        around.stored = self.upstream.get_own(&path).await?.map(Arc::new);
                    }
                }
                Surrounding::Pod => {
                    if let Some(name) = target.name.as_deref().filter(|_| target.resource == "pods") {
                        around.pod = self.upstream.get_own(&format!("/api/v1{namespaced}/pods/{}", encode(name))).await?.map(Arc::new);
                    }
                }
            }
        }
        Ok(around)
    }
}
