//! Says who may have credentials issued: ServiceAccount tokens and client certificates.

use postern_policy_sdk::*;

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Groups that may.
    groups: Vec<String>,
    /// The longest life of a token, in seconds, for those who may.
    longest_seconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { groups: Vec::new(), longest_seconds: 3600 }
    }
}

/// The policy.
pub struct GuardTokens(Settings);

impl Policy for GuardTokens {
    type Settings = Settings;
    const SUMMARY: &'static str = "Says who may have credentials issued";

    fn new(settings: Settings) -> Result<Self, String> {
        Ok(Self(settings))
    }

    fn rules(&self) -> Vec<Rule> {
        let requests = [
            "certificatesigningrequests",
            "certificatesigningrequests/approval",
            "certificatesigningrequests/status",
            "podcertificaterequests",
            "podcertificaterequests/status",
        ];
        vec![
            rule().resources(["serviceaccounts/token"]),
            rule().verbs(["create", "update", "patch"]).api_groups(["certificates.k8s.io"]).resources(requests),
            // What a pod has in memory, its credentials among it (KEP-5823).
            rule().verbs(["create", "update", "patch"]).resources(["pods/checkpoint", "podcheckpoints"]),
            // A Secret of this type is filled with a token that never ends.
            rule().verbs(["create", "update", "patch"]).api_groups([""]).resources(["secrets"]),
        ]
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let hint = "ask to be put in a group of guard-tokens' groups";
        let resource = request.resource();
        match (resource.as_str(), request.body()) {
            ("secrets", Some(body)) => match body.text("$.type") {
                Some(kind) if kind == "kubernetes.io/service-account-token" => {
                    block("a ServiceAccount token in a Secret never ends").hint("kubectl create token makes one that does")
                }
                _ => allow(),
            },
            ("secrets", None) => allow(),
            _ if !request.caller.is_in(&self.0.groups) => block(format!("{} of {resource} issues a credential", request.verb())).hint(hint),
            (_, Some(body)) => {
                let longest = self.0.longest_seconds;
                match body.get("$.spec.expirationSeconds").and_then(|seconds| seconds.as_u64()) {
                    Some(seconds) if seconds > longest => {
                        block(format!("a credential of {seconds} seconds is longer than the {longest} allowed"))
                            .hint("ask for a shorter one")
                    }
                    _ => allow(),
                }
            }
            (_, None) => allow(),
        }
    }
}

export_policy!(GuardTokens);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn credentials_are_issued_to_those_named_and_not_for_long() {
        let policy: GuardTokens = kit::policy(r#"{"groups":["sre"]}"#).unwrap();
        for resource in [
            "serviceaccounts/token",
            "certificatesigningrequests.certificates.k8s.io",
            "certificatesigningrequests.certificates.k8s.io/approval",
            "podcertificaterequests.certificates.k8s.io",
            "podcheckpoints.node.k8s.io",
        ] {
            let create = kit::operation("create", resource).named("x");
            assert!(create.ask(&policy).is_block(), "{resource}");
            assert_eq!(create.by("ann", &["sre"]).ask(&policy), allow());
            let long = create.by("ann", &["sre"]).body(json!({"spec": {"expirationSeconds": 86400}}));
            assert!(long.ask(&policy).reason().unwrap().contains("86400"));
        }
    }

    #[test]
    fn a_token_that_never_ends_is_made_by_nobody() {
        let policy: GuardTokens = kit::policy(r#"{"groups":["sre"]}"#).unwrap();
        let secret = |kind: &str| kit::operation("create", "secrets").by("ann", &["sre"]).body(json!({"type": kind}));
        assert!(secret("kubernetes.io/service-account-token").ask(&policy).is_block());
        assert_eq!(secret("Opaque").ask(&policy), allow());
    }
}
