//! Which operations a policy is called for.

use serde::Deserialize;

/// An operation, as far as rules name it.
pub trait Addressed {
    /// The name of its cluster.
    fn cluster(&self) -> &str;
    /// Its verb.
    fn verb(&self) -> &str;
    /// The resource it addresses, where it addresses one.
    fn target(&self) -> Option<Target<'_>>;
}

/// A resource that is addressed.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its API group; empty for the core group.
    pub api_group: &'a str,
    /// The resource's plural name.
    pub resource: &'a str,
    /// The subresource.
    pub subresource: Option<&'a str>,
    /// The namespace; none for what has none and for all of them.
    pub namespace: Option<&'a str>,
}

/// A rule; an empty list means any.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rule {
    /// Names of clusters. Only a policy's file has them: the policy itself knows no cluster.
    pub clusters: Vec<String>,
    /// Verbs.
    pub verbs: Vec<String>,
    /// API groups; the core group is the empty text.
    pub api_groups: Vec<String>,
    /// `pods`, `pods/exec`, `pods/*`, `*/proxy`, `*`.
    pub resources: Vec<String>,
    /// Namespaces. An operation over all namespaces touches each of them.
    pub namespaces: Vec<String>,
}

impl Rule {
    /// Whether the rule is for an operation.
    pub fn matches(&self, operation: &impl Addressed) -> bool {
        let among = |list: &[String], value: &str| list.is_empty() || list.iter().any(|l| l == "*" || l == value);
        if !among(&self.clusters, operation.cluster()) || !among(&self.verbs, operation.verb()) {
            return false;
        }
        let Some(target) = operation.target() else {
            return self.api_groups.is_empty() && self.resources.is_empty() && self.namespaces.is_empty();
        };
        among(&self.api_groups, target.api_group)
            && (self.resources.is_empty()
                || self.resources.iter().any(|pattern| resource_matches(pattern, target.resource, target.subresource)))
            && target.namespace.is_none_or(|namespace| among(&self.namespaces, namespace))
    }
}

impl Rule {
    /// The first part of the rule that is not for an operation; none when the rule is for it.
    pub fn misses(&self, operation: &impl Addressed) -> Option<&'static str> {
        let mut wider = Self { clusters: self.clusters.clone(), ..Self::default() };
        if !wider.matches(operation) {
            return Some("clusters");
        }
        wider.verbs = self.verbs.clone();
        if !wider.matches(operation) {
            return Some("verbs");
        }
        wider.api_groups = self.api_groups.clone();
        if !wider.matches(operation) {
            return Some("apiGroups");
        }
        wider.resources = self.resources.clone();
        if !wider.matches(operation) {
            return Some("resources");
        }
        (!self.matches(operation)).then_some("namespaces")
    }
}

fn resource_matches(pattern: &str, resource: &str, subresource: Option<&str>) -> bool {
    if pattern == "*" {
        return true;
    }
    let (left, right) = pattern.split_once('/').map_or((pattern, None), |(l, r)| (l, Some(r)));
    (left == "*" || left == resource)
        && match (right, subresource) {
            (None, None) => true,
            (Some("*"), Some(_)) => true,
            (Some(wanted), Some(sub)) => wanted == sub,
            _ => false,
        }
}
