//! Hides the values of Secrets.
//!
//! Helm keeps releases in Secrets; a masked release breaks `helm upgrade`. They are given whole to the groups the settings name and
//! refused to everybody else, never masked.

use postern_policy_sdk::*;

const HELM: &str = "helm.sh/release.v1";
/// A release by its name, and the label by which releases are looked for.
const RELEASES: [&str; 2] = ["sh.helm.release.v1.*", "*owner=helm*"];
/// Where a container's output comes back.
const STREAMS: [&str; 3] = ["pods/exec", "pods/attach", "pods/log"];
/// What a container left when it ended: its last words, or the end of its log (`terminationMessagePolicy`); and, while it waits, the output of a hook that failed
/// (`k8s.io/kubernetes/pkg/kubelet/lifecycle`, kuberuntime_container.go).
const LAST_WORDS: &str = "$.status.*[*].*.*.message";
/// Events that quote what a container wrote, by their reasons (`k8s.io/kubernetes/pkg/kubelet/events`): probes and hooks that are commands.
const QUOTING: [&str; 4] = ["Unhealthy", "ProbeWarning", "FailedPostStartHook", "FailedPreStopHook"];
/// Where an Event says it: the core group's, and the one of events.k8s.io.
const SAID: [&str; 2] = ["$.message", "$.note"];

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
    /// and logs. What is left of it in the pod's status and quoted in Events is hidden whole.
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
        let mut named = vec!["secrets".to_owned()];
        if self.0.pod_secrets {
            named.extend(STREAMS.map(str::to_owned));
            named.extend(["pods", "events"].into_iter().flat_map(forms_of));
        }
        named.extend(self.0.fields.iter().flat_map(|f| forms_of(&f.resource)));
        vec![rule().resources(named)]
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::empty()
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let Settings { helm_groups, unmasked_groups, how, fields, pod_secrets: hides_pod_secrets } = &self.0;
        if request.caller.is_in(unmasked_groups) {
            return allow();
        }
        let is_stream = request.is(Text::Kind, &STREAMS);
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
            return if *hides_pod_secrets { mask([pod_secrets().how(how)]) } else { allow() };
        }
        let of_fields = fields.iter().filter(|f| request.is(Text::Resource, &[&f.resource])).flat_map(|f| &f.paths);
        let mut masks: Vec<Mask> = of_fields.map(|path| field(path).how(how)).collect();
        if *hides_pod_secrets {
            masks.extend(of_what_was_written(request).into_iter().map(|mask| mask.how(how)));
        }
        if !request.is(Text::Resource, &["secrets"]) || !request.is(Text::ApiGroup, &[""]) {
            return masks.into();
        }
        let helm = request.caller.is_in(helm_groups);
        let asks_for_release = request.like(Text::Name, &RELEASES).is_some()
            || ["labelSelector", "fieldSelector"].iter().any(|key| request.query_like(key, &RELEASES).is_some());
        if asks_for_release && !helm {
            return block("Helm releases hold every value of a chart and are given whole or not at all")
                .hint("ask to be put in a group of mask-secrets' helmGroups");
        }
        for path in ["$.data.*", "$.stringData.*"] {
            let masked = field(path).how(how);
            masks.push(if helm { masked.unless("$.type", HELM) } else { masked });
        }
        masks.into()
    }
}

/// What hides what a container wrote, where it is kept in an object.
fn of_what_was_written(request: &Request) -> Vec<Mask> {
    match request.which(Text::Resource, &["pods", "events"]) {
        Some(0) if request.is(Text::ApiGroup, &[""]) => vec![field(LAST_WORDS)],
        Some(1) if request.is(Text::ApiGroup, &["", "events.k8s.io"]) => {
            SAID.into_iter().flat_map(|said| QUOTING.map(|reason| field(said).when("$.reason", reason))).collect()
        }
        _ => Vec::new(),
    }
}

export_policy!(MaskSecrets);

#[cfg(test)]
mod tests;
