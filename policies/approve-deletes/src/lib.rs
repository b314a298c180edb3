//! Says which operations need an approval, and whose.

use postern_policy_sdk::*;
use serde_json::Value;

/// The settings.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Groups one of whose members must approve.
    approvers: Vec<String>,
    /// How many must.
    #[serde(default = "one")]
    required: u32,
    /// Seconds a ticket lives.
    #[serde(default = "hour")]
    valid_seconds: u32,
    /// Verbs that need an approval.
    #[serde(default = "deletes")]
    verbs: Vec<String>,
    /// Resources that need one.
    #[serde(default = "workloads")]
    resources: Vec<String>,
    /// Namespaces in which they do; empty means all.
    #[serde(default)]
    namespaces: Vec<String>,
}

fn one() -> u32 {
    1
}

fn hour() -> u32 {
    3600
}

fn deletes() -> Vec<String> {
    ["delete", "deletecollection"].map(Into::into).into()
}

fn workloads() -> Vec<String> {
    ["deployments", "statefulsets", "daemonsets", "namespaces", "persistentvolumeclaims", "persistentvolumes"].map(Into::into).into()
}

/// The policy.
pub struct ApproveDeletes(Settings);

impl Policy for ApproveDeletes {
    type Settings = Settings;
    const SUMMARY: &'static str = "Says which operations need an approval";

    fn new(settings: Settings) -> Result<Self, String> {
        if settings.approvers.is_empty() || settings.required == 0 {
            return Err("approvers: name at least one group, and require at least one approval".into());
        }
        Ok(Self(settings))
    }

    fn rules(&self) -> Vec<Rule> {
        let Settings { verbs, resources, namespaces, .. } = &self.0;
        let mut rules = vec![rule().verbs(verbs.clone()).resources(resources.clone()).namespaces(namespaces.clone())];
        if verbs.iter().any(|verb| verb == "delete") {
            // To delete what cannot be read breaks more than it deletes: of whatever resource.
            rules.push(rule().verbs(["delete", "deletecollection"]).namespaces(namespaces.clone()));
            if resources.iter().any(|named| is_of(named, "pods") || is_of(named, "pods/eviction")) {
                // Two other ways to have a pod deleted.
                rules.push(rule().verbs(["create"]).resources(["pods/eviction", "evictionrequests"]).namespaces(namespaces.clone()));
            }
        }
        rules
    }

    fn on_request(&self, request: &Request) -> Verdict {
        if request.dry_run() {
            return allow();
        }
        let Settings { approvers, required, valid_seconds, resources, .. } = &self.0;
        let (resource, verb) = (request.resource(), request.verb());
        let is_unsafe = is_unsafe(request, &verb);
        let is_eviction = matches!(resource.as_str(), "pods/eviction" | "evictionrequests");
        let is_named = resources.iter().any(|named| is_of(named, &resource));
        if !is_unsafe && !is_eviction && !is_named {
            return allow();
        }
        let what = if is_unsafe { "delete without reading" } else { &verb };
        let name = request.object_name().unwrap_or_else(|| "(all)".into());
        require_approval(format!("{what} of {resource} {name} needs an approval"), approvers.clone())
            .required(*required)
            .valid_seconds(*valid_seconds)
            .into()
    }
}

/// Whether a resource is one that the settings name: `pods`, `pods/exec`, `pods/*`, `*/scale`, `*`.
fn is_of(named: &str, resource: &str) -> bool {
    let split =
        |text: &str| text.split_once('/').map_or((text.to_owned(), None), |(left, right)| (left.to_owned(), Some(right.to_owned())));
    let ((left, right), (of, sub)) = (split(named), split(resource));
    named == "*" || (left == "*" || left == of) && (right == sub || right.as_deref() == Some("*") && sub.is_some())
}

/// Whether a delete is to go on though the object cannot be read (KEP-3926): by its query, or by its body.
fn is_unsafe(request: &Request, verb: &str) -> bool {
    const OPTION: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";
    let asked = |value: &String| !matches!(value.as_str(), "" | "0" | "false" | "False" | "FALSE" | "f" | "F");
    matches!(verb, "delete" | "deletecollection")
        && (request.query_values(OPTION).iter().any(asked)
            || request
                .body()
                .and_then(|body| body.get(&format!("$.{OPTION}")))
                .is_some_and(|value| value != Value::Bool(false) && !value.is_null()))
}

export_policy!(ApproveDeletes);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delete_needs_an_approval_and_a_dry_run_does_not() {
        let policy: ApproveDeletes = kit::policy(r#"{"approvers":["sre"],"required":2}"#).unwrap();
        let delete = kit::operation("delete", "deployments.apps").named("web");
        let Verdict::RequireApproval(approval) = delete.ask(&policy) else { panic!() };
        assert_eq!((approval.approvers, approval.required), (vec!["sre".to_owned()], 2));
        assert!(approval.reason.contains("web"));
        assert_eq!(delete.dry_run().ask(&policy), allow());
    }

    #[test]
    fn other_ways_to_delete_need_one_too() {
        let of = |resources: &str| kit::policy::<ApproveDeletes>(&format!(r#"{{"approvers":["sre"],"resources":[{resources}]}}"#)).unwrap();
        let (pods, deployments) = (of(r#""pods""#), of(r#""deployments""#));
        for resource in ["pods/eviction", "evictionrequests.lifecycle.k8s.io"] {
            let evict = kit::operation("create", resource).named("web");
            assert!(matches!(evict.ask(&pods), Verdict::RequireApproval(_)), "{resource}");
        }
        assert_eq!(deployments.rules().len(), 2);
        for all in [r#""*""#, r#""pods/*""#, r#""*/eviction""#] {
            assert_eq!(of(all).rules().len(), 3, "{all}");
        }
        let delete = kit::operation("delete", "secrets").named("x");
        assert_eq!(delete.ask(&deployments), allow());
        for unsafe_delete in [
            delete.query("ignoreStoreReadErrorWithClusterBreakingPotential", "true"),
            delete.body(serde_json::json!({"ignoreStoreReadErrorWithClusterBreakingPotential": true})),
        ] {
            let Verdict::RequireApproval(approval) = unsafe_delete.ask(&deployments) else { panic!() };
            assert!(approval.reason.contains("without reading"), "{}", approval.reason);
        }
    }

    #[test]
    fn nobody_to_approve_is_an_error() {
        for settings in [r#"{"approvers":[]}"#, "{}"] {
            assert!(kit::policy::<ApproveDeletes>(settings).err().unwrap().contains("approvers"));
        }
    }
}
