//! Hides the values of environment variables that stand in pods and their templates as they are.

use postern_policy_sdk::*;

/// The settings.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Groups that see them.
    unmasked_groups: Vec<String>,
}

/// The policy.
pub struct MaskEnv(Settings);

/// Where a resource has its pod.
const PODS: [(&str, &str); 11] = [
    ("pods", "$.spec"),
    ("podtemplates", "$.template.spec"),
    ("replicationcontrollers", "$.spec.template.spec"),
    ("deployments", "$.spec.template.spec"),
    ("replicasets", "$.spec.template.spec"),
    ("statefulsets", "$.spec.template.spec"),
    ("daemonsets", "$.spec.template.spec"),
    ("jobs", "$.spec.template.spec"),
    // What StatefulSets and DaemonSets were before.
    ("controllerrevisions", "$.data.spec.template.spec"),
    // And in what was last applied of them, which they carry along.
    ("controllerrevisions", "$.spec.template.spec"),
    ("cronjobs", "$.spec.jobTemplate.spec.template.spec"),
];

impl Policy for MaskEnv {
    type Settings = Settings;
    const SUMMARY: &'static str = "Hides the values of environment variables in pods";

    fn new(settings: Settings) -> Result<Self, String> {
        Ok(Self(settings))
    }

    fn rules(&self) -> Vec<Rule> {
        vec![rule().resources(PODS.iter().flat_map(|(resource, _)| forms_of(resource)))]
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::empty()
    }

    fn on_request(&self, request: &Request) -> Verdict {
        if request.caller.is_in(&self.0.unmasked_groups) {
            return allow();
        }
        let Some(at) = request.which(Text::Resource, &PODS.map(|(resource, _)| resource)) else { return allow() };
        // What was last applied of an owner stands in a second place.
        let pods = PODS.iter().filter(|(resource, _)| *resource == PODS[at].0);
        let masks: Vec<Mask> = pods
            .flat_map(|(_, spec)| {
                let kinds = ["containers", "initContainers", "ephemeralContainers"];
                // A token, so that whoever reads, compares and writes sees what changed.
                kinds.map(|of| field(format!("{spec}.{of}[*].env[*].value")).how(Transform::Tokenize))
            })
            .collect();
        masks.into()
    }
}

export_policy!(MaskEnv);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_container_is_masked() {
        let policy: MaskEnv = kit::policy(r#"{"unmaskedGroups":["dev"]}"#).unwrap();
        let get = kit::operation("get", "cronjobs.batch").named("x");
        let Verdict::Mask(masks) = get.ask(&policy) else { panic!() };
        assert_eq!(masks.len(), 3);
        assert!(masks.contains(&field("$.spec.jobTemplate.spec.template.spec.initContainers[*].env[*].value").how(Transform::Tokenize)));
        assert_eq!(get.by("ann", &["dev"]).ask(&policy), allow());
        let revision = kit::operation("get", "controllerrevisions.apps").ask(&policy);
        assert!(
            matches!(revision, Verdict::Mask(masks) if masks.contains(&field("$.data.spec.template.spec.containers[*].env[*].value").how(Transform::Tokenize)))
        );
        // Each of these answers with the pod itself.
        for form in ["pods", "pods/status", "pods/ephemeralcontainers", "pods/resize"] {
            assert!(policy.rules()[0].resources.contains(&form.to_owned()), "{form}");
            assert_ne!(kit::operation("get", form).ask(&policy), allow());
        }
        assert_eq!(kit::operation("get", "services").ask(&policy), allow());
    }
}
