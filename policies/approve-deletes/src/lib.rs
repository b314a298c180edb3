//! Says which operations need an approval, and whose.

use postern_policy_sdk::*;

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
        vec![rule().verbs(verbs.clone()).resources(resources.clone()).namespaces(namespaces.clone())]
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::empty()
    }

    fn on_request(&self, request: &Request) -> Verdict {
        if request.dry_run {
            return allow();
        }
        let name = request.name().unwrap_or("(all)");
        let Settings { approvers, required, valid_seconds, .. } = &self.0;
        approval(format!("{} of {} {name} needs an approval", request.verb, request.resource()), approvers.clone())
            .required(*required)
            .valid_seconds(*valid_seconds)
            .into()
    }
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
    fn nobody_to_approve_is_an_error() {
        for settings in [r#"{"approvers":[]}"#, "{}"] {
            assert!(kit::policy::<ApproveDeletes>(settings).err().unwrap().contains("approvers"));
        }
    }
}
