//! The clusters behind the gateway, and as whom callers reach them.

use std::path::PathBuf;

use anyhow::{bail, ensure};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Config, Policies, Seconds, Unmatched};

/// Where a cluster is reached that has neither hosts nor a prefix: this, and its name.
const PREFIX: &str = "/clusters/";
/// The beginning of the gateway's own paths.
const OWN: &str = "/postern";

/// The cluster behind the gateway.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cluster {
    /// The name policies, approvals and audit events give it.
    #[serde(default = "default_cluster_name")]
    pub name: String,
    /// Kubeconfig with the gateway's own credential. Without it the gateway uses the ServiceAccount of its pod.
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context; its current one when absent.
    pub context: Option<String>,
    /// The issuers of the cluster's ServiceAccounts (kube-apiserver's `--service-account-issuer`): no other may name a ServiceAccount. Without them the
    /// API server is asked, by `/.well-known/openid-configuration`.
    #[serde(default)]
    pub service_account_issuers: Vec<String>,
}

fn default_cluster_name() -> String {
    "default".into()
}

/// Users and groups.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Subjects {
    /// User names, exact.
    pub users: Vec<String>,
    /// Group names, exact.
    pub groups: Vec<String>,
}

impl Subjects {
    /// Whether the user or one of the groups is named.
    pub fn contains(&self, username: &str, groups: &[String]) -> bool {
        self.users.iter().any(|u| u == username) || self.groups.iter().any(|g| groups.contains(g))
    }

    /// Whether nobody is named.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }
}

/// One line of the access table.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessRule {
    /// Users this rule is for, exact. With neither users nor groups it is for every caller.
    #[serde(default)]
    pub users: Vec<String>,
    /// Groups this rule is for, exact.
    #[serde(default)]
    pub groups: Vec<String>,
    /// As whom they reach the cluster.
    #[serde(rename = "as")]
    pub identity: AccessAs,
}

/// As whom a caller reaches the cluster. Exactly one field is set.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum AccessAs {
    /// A Kubernetes ServiceAccount, whose token the gateway asks for by TokenRequest.
    ServiceAccount(ServiceAccountRef),
    /// The caller's own name and groups, by impersonation with the gateway's credential.
    Impersonate(Impersonate),
    /// The gateway's own credential. For a gateway that one person runs for themselves.
    Gateway(Gateway),
}

/// A ServiceAccount.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceAccountRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Audiences asked for in the token; the API server's own when empty.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// Seconds the token lives; at least 600.
    #[serde(default = "default_token_life")]
    pub expiration: Seconds,
}

fn default_token_life() -> Seconds {
    Seconds(3600)
}

/// Impersonation. It has no settings yet.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Impersonate {}

/// The gateway's own credential. It has no settings.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gateway {}

/// One of several clusters behind the gateway.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OneOfSeveral {
    /// Its name: what policies, approvals, audit events, recordings, budgets and metrics know it by. Another cluster has another name.
    pub name: String,
    /// Host names and IP addresses that callers reach it by, exact and without a port. What a client names in TLS (SNI) and in the request must agree.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The beginning of paths that callers reach it by: `https://gateway.example/clusters/prod` is a server address of kubectl. Without hosts it is
    /// `/clusters/NAME`.
    pub path_prefix: Option<String>,
    /// Kubeconfig with the gateway's own credential. Without it the gateway uses the ServiceAccount of its pod.
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context; its current one when absent.
    pub context: Option<String>,
    /// The issuers of the cluster's ServiceAccounts (kube-apiserver's `--service-account-issuer`), which no other cluster has: no other may name a
    /// ServiceAccount, and without them nobody does.
    #[serde(default)]
    pub service_account_issuers: Vec<String>,
    /// As whom each caller reaches the cluster. The first rule that matches wins; without a match the answer is 403.
    #[serde(default)]
    pub access: Vec<AccessRule>,
    /// Who may use `nodes/*/proxy`, which reaches every container of a node. Nobody unless named here.
    #[serde(default)]
    pub nodes_proxy: Subjects,
    /// Policies of its own, in place of those that all clusters share.
    pub policies: Option<ClusterPolicies>,
}

/// Policies of one of several clusters.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterPolicies {
    /// The watched directory of `NAME.wasm` and `NAME.yaml`.
    pub directory: PathBuf,
    /// Policies without which nothing passes.
    #[serde(default)]
    pub required: Vec<String>,
    /// What an operation that no policy matches gets; what the shared policies say when absent.
    pub unmatched: Option<Unmatched>,
}

/// A cluster with all that is its own, however the configuration says it.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The cluster.
    pub cluster: Cluster,
    /// Whether it is the only one a gateway has: then every host and path is its own.
    pub is_alone: bool,
    /// Hosts it is reached by, in lower case.
    pub hosts: Vec<String>,
    /// The beginning of the paths it is reached by.
    pub path_prefix: Option<String>,
    /// As whom each caller reaches it.
    pub access: Vec<AccessRule>,
    /// Who may use `nodes/*/proxy`.
    pub nodes_proxy: Subjects,
    /// Its policies.
    pub policies: Policies,
    /// Whether those are its own, and not those that all clusters share.
    pub has_own_policies: bool,
}

impl Config {
    /// The clusters of another configuration as this one has them: all that is not under `clusters` stays as it is. Whether the policies that clusters share
    /// would be others is told beside.
    pub fn members_of(&self, other: &Self) -> (Vec<Member>, bool) {
        let as_other = Self { cluster: None, clusters: other.clusters.clone(), ..self.clone() };
        (as_other.members(), self.policies != other.policies)
    }

    /// The clusters, in the order the configuration has them.
    pub fn members(&self) -> Vec<Member> {
        let alone = self.cluster.iter().map(|cluster| Member {
            cluster: cluster.clone(),
            is_alone: true,
            hosts: Vec::new(),
            path_prefix: None,
            access: self.access.clone(),
            nodes_proxy: self.nodes_proxy.clone(),
            policies: self.policies.clone(),
            has_own_policies: false,
        });
        alone.chain(self.clusters.iter().flatten().map(|one| one.member(&self.policies))).collect()
    }

    /// The policies of one of the clusters, by its name, and where what belongs to them is kept; those that clusters share where none is named.
    pub fn policies_of(&self, cluster: Option<&str>) -> anyhow::Result<(Policies, PathBuf)> {
        let Some(name) = cluster else { return Ok((self.policies.clone(), self.data_directory.clone())) };
        let members = self.members();
        let Some(member) = members.iter().find(|member| member.cluster.name == name) else {
            let known: Vec<&str> = members.iter().map(|member| member.cluster.name.as_str()).collect();
            bail!("the configuration has no cluster {name:?}; it has {}", known.join(", "));
        };
        let data = if member.has_own_policies { self.cluster_directory(name) } else { self.data_directory.clone() };
        Ok((member.policies.clone(), data))
    }

    /// Where a gateway keeps what belongs to one of several clusters.
    pub fn cluster_directory(&self, cluster: &str) -> PathBuf {
        self.data_directory.join("clusters").join(cluster)
    }

    pub(super) fn check_clusters(&self) -> anyhow::Result<()> {
        match (&self.cluster, &self.clusters) {
            (None, None) => {
                bail!("cluster: is missing; name the cluster behind the gateway (cluster: {{kubeconfig: FILE}}), or several under clusters")
            }
            (Some(_), Some(_)) => bail!("clusters: does not go with cluster; move that under clusters, with a name"),
            (Some(_), None) => {}
            (None, Some(_)) => {
                ensure!(self.access.is_empty(), "access: each of several clusters has its own; move it under clusters");
                ensure!(self.nodes_proxy.is_empty(), "nodesProxy: each of several clusters has its own; move it under clusters");
                let without = self
                    .authentication
                    .jwt
                    .iter()
                    .position(|jwt| jwt.issuer.certificate_authority.as_deref().unwrap_or_default().is_empty());
                if let Some(index) = without {
                    bail!(
                        "authentication.jwt[{index}].issuer.certificateAuthority: is missing; write its CA's certificate there, as PEM text. The CA of one of several clusters is not trusted for who calls the others"
                    );
                }
            }
        }
        let members = self.members();
        for (index, member) in members.iter().enumerate() {
            let at = if member.is_alone { String::new() } else { format!("clusters[{index}].") };
            member.check(&at)?;
            for other in &members[..index] {
                ensure!(other.cluster.name != member.cluster.name, "{at}name: {:?} is there twice", member.cluster.name);
                let issuers = &other.cluster.service_account_issuers;
                if let Some(issuer) = member.cluster.service_account_issuers.iter().find(|issuer| issuers.contains(issuer)) {
                    bail!(
                        "{at}serviceAccountIssuers: {issuer} is that of {} already; a ServiceAccount of the one would be known in the other. Give the API servers issuers of their own",
                        other.cluster.name
                    );
                }
                if let Some(host) = member.hosts.iter().find(|host| other.hosts.contains(host)) {
                    bail!("{at}hosts: {host:?} is that of {} already", other.cluster.name);
                }
                if let (Some(one), Some(two)) = (&member.path_prefix, &other.path_prefix)
                    && (within(one, two).is_some() || within(two, one).is_some())
                {
                    bail!("{at}pathPrefix: {one} and {two}, that of {}, lie within each other", other.cluster.name);
                }
            }
        }
        Ok(())
    }
}

impl OneOfSeveral {
    fn member(&self, shared: &Policies) -> Member {
        let Self { name, hosts, path_prefix, kubeconfig, context, service_account_issuers, access, nodes_proxy, policies } = self.clone();
        let path_prefix = path_prefix.or_else(|| hosts.is_empty().then(|| format!("{PREFIX}{name}")));
        Member {
            cluster: Cluster { name, kubeconfig, context, service_account_issuers },
            is_alone: false,
            hosts: hosts.iter().map(|host| canonical_host(host)).collect(),
            path_prefix,
            access,
            nodes_proxy,
            has_own_policies: policies.is_some(),
            policies: match policies {
                None => shared.clone(),
                Some(ClusterPolicies { directory, required, unmatched }) => {
                    Policies { directory: Some(directory), required, unmatched: unmatched.unwrap_or(shared.unmatched), ..shared.clone() }
                }
            },
        }
    }

    /// The files it names.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.kubeconfig.iter_mut().chain(self.policies.iter_mut().map(|policies| &mut policies.directory))
    }
}

impl Member {
    fn check(&self, at: &str) -> anyhow::Result<()> {
        for (index, rule) in self.access.iter().enumerate() {
            if let AccessAs::ServiceAccount(account) = &rule.identity
                && account.expiration.0 < 600
            {
                bail!("{at}access[{index}].as.serviceAccount.expiration: kube-apiserver issues no token for less than 600 seconds");
            }
        }
        if self.is_alone {
            return Ok(());
        }
        let name = &self.cluster.name;
        let is_label = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !name.is_empty()
            && name.len() <= 63
            && !name.starts_with('-')
            && !name.ends_with('-');
        ensure!(is_label, "{at}name: {name:?} is no name of at most 63 lower-case letters, digits and '-' (RFC 1123 label)");
        for host in &self.hosts {
            let is_name = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
            ensure!(
                is_name && !host.ends_with('.') || host.parse::<std::net::Ipv6Addr>().is_ok(),
                "{at}hosts: {host:?} is no host name or IP address; leave out ports, wildcards and brackets"
            );
        }
        let Some(prefix) = &self.path_prefix else { return Ok(()) };
        let is_segment = |part: &str| {
            !matches!(part, "" | "." | "..") && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'))
        };
        ensure!(
            prefix.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_segment)),
            "{at}pathPrefix: {prefix:?} is no path such as /clusters/prod: it begins with a slash, ends without one, and needs no escapes"
        );
        ensure!(!is_own(prefix), "{at}pathPrefix: {prefix} is one of the gateway's own paths");
        Ok(())
    }
}

/// A host as hosts are compared: names in lower case, addresses as they are written shortest.
pub(crate) fn canonical_host(text: &str) -> String {
    text.parse::<std::net::IpAddr>().map_or_else(|_| text.to_ascii_lowercase(), |address| address.to_string())
}

/// Whether a path is one of the gateway's own.
pub(crate) fn is_own(path: &str) -> bool {
    within(path, OWN).is_some()
}

/// What of a path comes behind a prefix; none where it does not begin with that.
pub(crate) fn within<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}
