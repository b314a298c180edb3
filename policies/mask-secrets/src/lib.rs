//! Hides the values of Secrets.
//!
//! Helm keeps releases in Secrets; a masked release breaks `helm upgrade`. They are given whole to the groups the settings name and
//! refused to everybody else, never masked.

use postern_policy_sdk::*;
use serde::Deserialize;

const HELM: &str = "helm.sh/release.v1";
/// Where a container's output comes back.
const STREAMS: [&str; 3] = ["pods/exec", "pods/attach", "pods/log"];

/// The settings.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MaskSecrets {
    /// Groups that get Helm releases whole.
    helm_groups: Vec<String>,
    /// Groups that see every value.
    unmasked_groups: Vec<String>,
    /// redact, tokenize or keep-last.
    how: How,
    /// Further fields to hide, by resource.
    fields: Vec<Fields>,
    /// Whether the values of the Secrets a pod mounts or takes its environment from are hidden in what its containers write: exec, attach
    /// and logs.
    pod_secrets: bool,
}

/// Fields of a resource.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Fields {
    resource: String,
    paths: Vec<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum How {
    #[default]
    Redact,
    Tokenize,
    KeepLast(u8),
}

impl Default for MaskSecrets {
    fn default() -> Self {
        Self { helm_groups: Vec::new(), unmasked_groups: Vec::new(), how: How::Redact, fields: Vec::new(), pod_secrets: false }
    }
}

impl Policy for MaskSecrets {
    fn configure(settings: &str) -> Result<Self, String> {
        let this: Self = serde_json::from_str(settings).map_err(|e| format!("{e}; see policies/mask-secrets/README.md"))?;
        match this.fields.iter().flat_map(|f| &f.paths).find(|p| !p.starts_with("$.")) {
            Some(path) => Err(format!("fields: {path:?} is not a JSONPath; write it like $.spec.token")),
            None => Ok(this),
        }
    }

    fn describe(&self) -> Manifest {
        let streams: &[&str] = if self.pod_secrets { &STREAMS } else { &[] };
        let resources = ["secrets"].into_iter().chain(streams.iter().copied()).chain(self.fields.iter().map(|f| f.resource.as_str()));
        manifest("mask-secrets", env!("CARGO_PKG_VERSION"), "Hides the values of Secrets", vec![rule().resources(resources)])
    }

    fn on_request(&self, operation: &Operation, _: Option<&Object>, _: &dyn Host) -> Verdict {
        let groups = &operation.caller.groups;
        let among = |list: &[String]| list.iter().any(|g| groups.contains(g));
        if among(&self.unmasked_groups) {
            return Verdict::Allow;
        }
        let Some(target) = &operation.target else { return Verdict::Allow };
        let how = match self.how {
            How::Redact => Transform::Redact,
            How::Tokenize => Transform::Tokenize,
            How::KeepLast(n) => Transform::KeepLast(n),
        };
        if target.resource == "pods" && target.subresource.as_deref().is_some_and(|s| matches!(s, "exec" | "attach" | "log")) {
            return match self.pod_secrets {
                true => Verdict::Mask(vec![Mask { what: Selector::PodSecrets, how, when: Vec::new() }]),
                false => Verdict::Allow,
            };
        }
        let mut masks: Vec<Mask> =
            self.fields.iter().filter(|f| f.resource == target.resource).flat_map(|f| &f.paths).map(|path| field_mask(path, how)).collect();
        if target.resource != "secrets" || !target.api_group.is_empty() {
            return if masks.is_empty() { Verdict::Allow } else { Verdict::Mask(masks) };
        }
        let helm = among(&self.helm_groups);
        let is_release = |text: &str| text.starts_with("sh.helm.release.v1.") || text.contains("owner=helm");
        let asks_for_release = target.name.as_deref().is_some_and(is_release)
            || operation.query.iter().any(|(key, value)| matches!(key.as_str(), "labelSelector" | "fieldSelector") && is_release(value));
        if asks_for_release && !helm {
            return block(
                "Helm releases hold every value of a chart and are given whole or not at all",
                "ask to be put in a group of mask-secrets' helmGroups",
            );
        }
        let not_helm = || vec![Condition { path: "$.type".into(), is: Comparison::NotEqual, value: HELM.into() }];
        for path in ["$.data.*", "$.stringData.*"] {
            let when = if helm { not_helm() } else { Vec::new() };
            masks.push(Mask { when, ..field_mask(path, how) });
        }
        Verdict::Mask(masks)
    }
}

export_policy!(MaskSecrets);

#[cfg(test)]
mod tests;
