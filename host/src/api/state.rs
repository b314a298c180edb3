//! How the gateway is, and who somebody is to it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::identify::Caller;
use crate::policy::report::PolicyReport;

/// Who a caller is to the gateway.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The user's name.
    pub username: String,
    /// The user's groups.
    pub groups: Vec<String>,
    /// The verified issuer.
    pub issuer: String,
    /// Unix seconds at which the credential ends.
    pub expires: u64,
    /// The session that what is done with this credential belongs to: of a gateway with several clusters, in the one that is asked about.
    pub session: String,
    /// The cluster that is asked about; none where it is the gateway itself.
    pub cluster: Option<String>,
    /// Whether they see what is not their own.
    pub is_auditor: bool,
}

impl Identity {
    /// Of a caller.
    pub fn of(caller: &Caller, cluster: Option<&str>, is_auditor: bool) -> Self {
        let Caller { username, groups, issuer, expires, credential, .. } = caller.clone();
        Self { username, groups, issuer, expires, session: credential, cluster: cluster.map(str::to_owned), is_auditor }
    }
}

/// How the gateway is.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The version that runs.
    pub version: String,
    /// Whether it is about to end.
    pub draining: bool,
    /// Whether the audit log can be written; while it cannot, nothing passes.
    pub audit_writable: bool,
    /// Requests that wait for an approval at this moment, in all clusters; none where one is asked about.
    pub approvals_waiting: Option<usize>,
    /// Issuers whose keys were not fetched yet; none where one cluster is asked about.
    pub issuers_without_keys: Option<Vec<String>>,
    /// Its clusters.
    pub clusters: Vec<ClusterState>,
}

/// How a cluster is.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterState {
    /// Its name.
    pub name: String,
    /// Where its API server is: `host:port`.
    pub api_server: Option<String>,
    /// Why it could not be set up.
    pub not_set_up: Option<String>,
    /// Hosts it is reached by.
    pub hosts: Vec<String>,
    /// The beginning of the paths it is reached by.
    pub path_prefix: Option<String>,
    /// Requests that are under way.
    pub requests: usize,
    /// Watches and followed logs that are open.
    pub watches: usize,
    /// Streams that are open.
    pub streams: usize,
}

/// Which policies are in force.
#[derive(Deserialize, Serialize, JsonSchema)]
pub struct Policies {
    /// The directories they lie in.
    pub directories: Vec<PolicyDirectory>,
}

/// The policies of a directory.
#[derive(Deserialize, Serialize, JsonSchema)]
pub struct PolicyDirectory {
    /// The cluster that has it for itself; none for the one that clusters share.
    pub cluster: Option<String>,
    /// What is in force.
    pub report: PolicyReport,
}
