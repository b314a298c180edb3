use super::*;

fn policy(settings: &str) -> MaskSecrets {
    kit::policy(settings).unwrap()
}

#[test]
fn secrets_are_masked_for_all_but_the_named_groups() {
    let secret = kit::operation("get", "secrets").named("db");
    assert!(matches!(secret.ask(&policy("{}")), Verdict::Mask(masks) if masks.len() == 2));
    assert_eq!(kit::operation("get", "pods").named("db").ask(&policy("{}")), allow());
    let settings = r#"{"unmaskedGroups": ["dba"]}"#;
    assert_eq!(secret.by("ann", &["dba"]).ask(&policy(settings)), allow());
    assert_ne!(secret.by("ann", &["dev"]).ask(&policy(settings)), allow());
}

#[test]
fn releases_are_whole_or_refused() {
    let policy = policy(r#"{"helmGroups": ["deployers"]}"#);
    let release = kit::operation("get", "secrets").named("sh.helm.release.v1.web.v1");
    let listed = kit::operation("list", "secrets").query("labelSelector", "a=b").query("labelSelector", "owner=helm");
    for asked in [release, listed] {
        assert!(asked.ask(&policy).is_block());
        let given = asked.by("ci", &["deployers"]).ask(&policy);
        assert!(matches!(given, Verdict::Mask(masks) if masks.iter().all(|m| m.when[0].value == HELM)));
    }
}

#[test]
fn what_a_pod_writes_hides_its_secrets_where_that_is_asked_for() {
    let exec = kit::exec(&["env"]);
    assert_eq!(exec.ask(&policy("{}")), allow());
    assert_eq!(exec.ask(&policy(r#"{"podSecrets": true}"#)), mask([pod_secrets()]));
}

#[test]
fn wrong_settings_are_told() {
    let why = |settings: &str| kit::policy::<MaskSecrets>(settings).err().unwrap();
    assert!(why(r#"{"helmGroup": []}"#).contains("helmGroup"));
    assert!(why(r#"{"fields": [{"resource": "x", "paths": ["spec"]}]}"#).contains("JSONPath"));
}
