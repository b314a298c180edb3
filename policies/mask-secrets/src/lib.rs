//! Hides the values of Secrets.
//!
//! Helm keeps releases in Secrets; a masked release breaks `helm upgrade`. They are given whole to the groups the settings name and
//! refused to everybody else, never masked.

use postern_policy_sdk::*;

const HELM: &str = "helm.sh/release.v1";
/// Where a container's output comes back.
const STREAMS: [&str; 3] = ["pods/exec", "pods/attach", "pods/log"];

/// The settings.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Groups that get Helm releases whole.
    helm_groups: Vec<String>,
    /// Groups that see every value.
    unmasked_groups: Vec<String>,
    /// redact, tokenize or keep-last. Unless it is said: tokens in objects, so that a value that changed reads differently, and the placeholder in streams.
    how: Option<How>,
    /// Further fields to hide, by resource.
    fields: Vec<Fields>,
    /// Whether the values of the Secrets a pod mounts or takes its environment from are hidden in what its containers write: exec, attach
    /// and logs.
    pod_secrets: bool,
}

/// Fields of a resource.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Fields {
    /// The resource, in the plural.
    resource: String,
    /// JSONPaths.
    paths: Vec<String>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum How {
    Redact,
    Tokenize,
    KeepLast(u8),
}

/// The policy.
pub struct MaskSecrets(Settings);

impl Policy for MaskSecrets {
    type Settings = Settings;
    const SUMMARY: &'static str = "Hides the values of Secrets";

    fn new(settings: Settings) -> Result<Self, String> {
        match settings.fields.iter().flat_map(|f| &f.paths).find(|p| !p.starts_with("$.")) {
            Some(path) => Err(format!("fields: {path:?} is not a JSONPath; write it like $.spec.token")),
            None => Ok(Self(settings)),
        }
    }

    fn rules(&self) -> Vec<Rule> {
        let streams: &[&str] = if self.0.pod_secrets { &STREAMS } else { &[] };
        let named = ["secrets"].into_iter().chain(streams.iter().copied()).map(str::to_owned);
        vec![rule().resources(named.chain(self.0.fields.iter().flat_map(|f| forms_of(&f.resource))))]
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::empty()
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let Settings { helm_groups, unmasked_groups, how, fields, pod_secrets: hides_pod_secrets } = &self.0;
        if request.caller.is_in(unmasked_groups) {
            return allow();
        }
        let Some(target) = &request.target else { return allow() };
        let is_stream = STREAMS.contains(&request.resource().as_str());
        let how = match how {
            Some(How::Redact) => Transform::Redact,
            Some(How::Tokenize) => Transform::Tokenize,
            Some(How::KeepLast(n)) => Transform::KeepLast(*n),
            // What is read, compared and written again must show a change.
            None => {
                if is_stream {
                    Transform::Redact
                } else {
                    Transform::Tokenize
                }
            }
        };
        if is_stream {
            return if *hides_pod_secrets { vec![pod_secrets().how(how)].into() } else { allow() };
        }
        let of_fields = fields.iter().filter(|f| f.resource == target.resource).flat_map(|f| &f.paths);
        let mut masks: Vec<Mask> = of_fields.map(|path| mask(path).how(how)).collect();
        if target.resource != "secrets" || !target.api_group.is_empty() {
            return masks.into();
        }
        let helm = request.caller.is_in(helm_groups);
        let is_release = |text: &str| text.starts_with("sh.helm.release.v1.") || text.contains("owner=helm");
        let asks_for_release = request.name().is_some_and(is_release)
            || ["labelSelector", "fieldSelector"].iter().any(|key| request.queries(key).any(is_release));
        if asks_for_release && !helm {
            return block("Helm releases hold every value of a chart and are given whole or not at all")
                .hint("ask to be put in a group of mask-secrets' helmGroups");
        }
        for path in ["$.data.*", "$.stringData.*"] {
            let masked = mask(path).how(how);
            masks.push(if helm { masked.unless("$.type", HELM) } else { masked });
        }
        masks.into()
    }
}

export_policy!(MaskSecrets);

#[cfg(test)]
mod tests;
