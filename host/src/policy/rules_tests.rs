//! Rules, held against operations as the gateway reads them off requests.

use http::Method;

use super::rules::Rule;
use crate::classify::Operation;

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
