//! Which operations a policy is called for.

use serde::Deserialize;

use crate::classify::Operation;

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
    pub fn matches(&self, operation: &Operation) -> bool {
        let among = |list: &[String], value: &str| list.is_empty() || list.iter().any(|l| l == "*" || l == value);
        if !among(&self.clusters, &operation.cluster) || !among(&self.verbs, &operation.verb) {
            return false;
        }
        let Some(target) = &operation.target else {
            return self.api_groups.is_empty() && self.resources.is_empty() && self.namespaces.is_empty();
        };
        among(&self.api_groups, &target.api_group)
            && (self.resources.is_empty()
                || self.resources.iter().any(|pattern| resource_matches(pattern, &target.resource, target.subresource.as_deref())))
            && target.namespace.as_deref().is_none_or(|namespace| among(&self.namespaces, namespace))
    }
}

impl Rule {
    /// The first part of the rule that is not for an operation; none when the rule is for it.
    pub fn misses(&self, operation: &Operation) -> Option<&'static str> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    fn matches(rule: &Rule, uri: &str) -> bool {
        rule.matches(&Operation::classify(&Method::GET, &uri.parse().unwrap()).unwrap())
    }

    #[test]
    fn resources_match_as_rbac_writes_them() {
        let rule = |resource: &str| Rule { resources: vec![resource.into()], ..Rule::default() };
        assert!(matches(&rule("pods"), "/api/v1/pods"));
        assert!(!matches(&rule("pods"), "/api/v1/namespaces/a/pods/b/exec"));
        assert!(matches(&rule("pods/*"), "/api/v1/namespaces/a/pods/b/exec"));
        assert!(matches(&rule("*/proxy"), "/api/v1/nodes/n/proxy/x"));
        assert!(matches(&rule("*"), "/api/v1/nodes/n/proxy/x"));
        assert!(!matches(&rule("*"), "/version"), "no resource is addressed");
    }

    #[test]
    fn a_rule_for_clusters_is_for_no_other() {
        let rule = Rule { clusters: vec!["prod".into()], ..Rule::default() };
        let operation = |cluster: &str, path: &str| Operation::classify(&Method::GET, &path.parse().unwrap()).unwrap().of(&cluster.into());
        for path in ["/api/v1/pods", "/version"] {
            assert!(rule.matches(&operation("prod", path)), "{path}");
            for other in ["dev", "prod2", "", "PROD"] {
                assert!(!rule.matches(&operation(other, path)), "{other}{path}");
                assert_eq!(rule.misses(&operation(other, path)), Some("clusters"));
            }
        }
        let every = Rule { clusters: vec!["*".into()], ..Rule::default() };
        assert!(every.matches(&operation("dev", "/api/v1/pods")));
    }

    #[test]
    fn all_namespaces_are_each_namespace() {
        let rule = Rule { namespaces: vec!["prod".into()], ..Rule::default() };
        assert!(matches(&rule, "/api/v1/secrets"));
        assert!(matches(&rule, "/api/v1/namespaces/prod/secrets"));
        assert!(!matches(&rule, "/api/v1/namespaces/dev/secrets"));
    }
}
