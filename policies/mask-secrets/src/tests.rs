use super::*;

fn operation(resource: &str, name: Option<&str>, groups: &[&str]) -> Operation {
    Operation {
        id: "1".into(),
        cluster: "c".into(),
        received_at: 0,
        caller: Caller { username: "ann".into(), groups: groups.iter().map(|g| (*g).into()).collect(), issuer: "i".into(), claims: vec![] },
        verb: "get".into(),
        target: Some(Target {
            api_group: String::new(),
            api_version: "v1".into(),
            resource: resource.into(),
            subresource: None,
            namespace: Some("n".into()),
            name: name.map(Into::into),
        }),
        path: "/".into(),
        query: vec![],
        dry_run: false,
        command: None,
    }
}

fn answer(settings: &str, operation: &Operation) -> Verdict {
    MaskSecrets::configure(settings).unwrap().on_request(operation, None, &NoHost)
}

#[test]
fn secrets_are_masked_for_all_but_the_named_groups() {
    assert!(matches!(answer("{}", &operation("secrets", Some("db"), &[])), Verdict::Mask(m) if m.len() == 2));
    assert!(matches!(answer("{}", &operation("pods", Some("db"), &[])), Verdict::Allow));
    let settings = r#"{"unmaskedGroups": ["dba"]}"#;
    assert!(matches!(answer(settings, &operation("secrets", Some("db"), &["dba"])), Verdict::Allow));
}

#[test]
fn releases_are_whole_or_refused() {
    let settings = r#"{"helmGroups": ["deployers"]}"#;
    let release = |groups: &[&str]| answer(settings, &operation("secrets", Some("sh.helm.release.v1.web.v1"), groups));
    assert!(matches!(release(&[]), Verdict::Block(_)));
    assert!(matches!(release(&["deployers"]), Verdict::Mask(masks) if masks.iter().all(|m| m.when[0].value == HELM)));
}

#[test]
fn wrong_settings_are_told() {
    assert!(MaskSecrets::configure(r#"{"helmGroup": []}"#).err().unwrap().contains("helmGroup"));
    assert!(MaskSecrets::configure(r#"{"fields": [{"resource": "x", "paths": ["spec"]}]}"#).err().unwrap().contains("JSONPath"));
}
