//! Says which operations need an approval, and whose.

use postern_policy_sdk::*;
use serde::Deserialize;

/// The settings.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApproveDeletes {
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

impl Policy for ApproveDeletes {
    fn configure(settings: &str) -> Result<Self, String> {
        let this: Self = serde_json::from_str(settings).map_err(|e| format!("{e}; see policies/approve-deletes/README.md"))?;
        if this.approvers.is_empty() || this.required == 0 {
            return Err("approvers: name at least one group, and require at least one approval".into());
        }
        Ok(this)
    }

    fn describe(&self) -> Manifest {
        let rules =
            vec![Rule { namespaces: self.namespaces.clone(), ..rule().verbs(self.verbs.clone()).resources(self.resources.clone()) }];
        manifest("approve-deletes", env!("CARGO_PKG_VERSION"), "Says which operations need an approval", rules)
    }

    fn on_request(&self, operation: &Operation, _: Option<&Object>, _: &dyn Host) -> Verdict {
        let Some(target) = operation.target.as_ref().filter(|_| !operation.dry_run) else { return Verdict::Allow };
        let name = target.name.as_deref().unwrap_or("(all)");
        Verdict::RequireApproval(Approval {
            reason: format!("{} of {} {name} needs an approval", operation.verb, target.resource),
            approvers: self.approvers.clone(),
            required: self.required,
            valid_seconds: self.valid_seconds,
        })
    }
}

export_policy!(ApproveDeletes);

#[cfg(test)]
mod tests {
    use super::*;

    fn delete(dry_run: bool) -> Operation {
        Operation {
            id: "1".into(),
            cluster: "c".into(),
            received_at: 0,
            caller: Caller { username: "ann".into(), groups: vec![], issuer: "i".into(), claims: vec![] },
            verb: "delete".into(),
            target: Some(Target {
                api_group: "apps".into(),
                api_version: "v1".into(),
                resource: "deployments".into(),
                subresource: None,
                namespace: Some("n".into()),
                name: Some("web".into()),
            }),
            path: "/".into(),
            query: vec![],
            dry_run,
            command: None,
        }
    }

    #[test]
    fn a_delete_needs_an_approval_and_a_dry_run_does_not() {
        let policy = ApproveDeletes::configure(r#"{"approvers":["sre"],"required":2}"#).unwrap();
        let Verdict::RequireApproval(approval) = policy.on_request(&delete(false), None, &NoHost) else { panic!() };
        assert_eq!((approval.approvers, approval.required), (vec!["sre".to_owned()], 2));
        assert!(approval.reason.contains("web"));
        assert!(matches!(policy.on_request(&delete(true), None, &NoHost), Verdict::Allow));
    }

    #[test]
    fn nobody_to_approve_is_an_error() {
        assert!(ApproveDeletes::configure(r#"{"approvers":[]}"#).err().unwrap().contains("approvers"));
        assert!(ApproveDeletes::configure("{}").err().unwrap().contains("approvers"));
    }
}
