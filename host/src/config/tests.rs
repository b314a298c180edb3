use super::*;

const MINIMAL: &str = "cluster: {kubeconfig: k}\ndataDirectory: data\n";

#[test]
fn minimal_has_safe_defaults() {
    let config = Config::parse(MINIMAL).unwrap();
    assert!(config.access.is_empty(), "nobody reaches the cluster unless a rule says so");
    assert!(config.nodes_proxy.is_empty());
    assert_eq!(config.policies.unmatched, Unmatched::Allow);
    assert_eq!(config.limits.request_body, ByteSize(3 << 20));
}

#[test]
fn an_unknown_key_names_its_line_and_column() {
    let error = Config::parse("cluster: {kubeconfig: k}\ndataDirectory: data\nlisten:\n  adress: x\n").unwrap_err().to_string();
    assert!(error.contains("adress"), "{error}");
    assert!(error.contains("4") && error.contains("3"), "line 4, column 3 expected: {error}");
}

#[test]
fn an_empty_audience_list_and_symmetric_algorithms_are_refused() {
    let jwt = |audiences: &str| {
        format!(
            "{MINIMAL}authentication:\n  jwt:\n  - issuer: {{url: 'https://i', audiences: {audiences}}}\n    claimMappings: {{username: {{claim: sub, prefix: ''}}}}\n"
        )
    };
    assert!(Config::parse(&jwt("[a]")).is_ok());
    assert!(Config::parse(&jwt("[]")).unwrap_err().root_cause().to_string().contains("audiences"));
    let error = Config::parse(&format!("{MINIMAL}authentication: {{algorithms: [HS256]}}\n")).unwrap_err();
    assert!(error.to_string().contains("HS256"));
}

#[test]
fn sizes_take_binary_suffixes() {
    let config = Config::parse(&format!("{MINIMAL}limits: {{requestBody: 5Mi, object: 1024}}\n")).unwrap();
    assert_eq!((config.limits.request_body.0, config.limits.object.0), (5 << 20, 1024));
    assert!(Config::parse(&format!("{MINIMAL}limits: {{requestBody: 5MB}}\n")).is_err());
}

#[test]
fn the_published_schema_is_current() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/config.schema.json");
    let published = std::fs::read_to_string(file).unwrap_or_default();
    assert!(published == Config::schema(), "run `postern config schema > docs/config.schema.json`");
}

proptest::proptest! {
    #[test]
    fn no_configuration_panics(text in r#"[a-z:{}\[\]'"&*!|> \n-]{0,80}"#) {
        let _ = Config::parse(&text);
        let _ = Config::parse(&format!("{MINIMAL}{text}"));
    }
}

#[test]
fn an_object_store_without_tls_and_a_bad_url_are_refused() {
    let with = |store: &str| Config::parse(&format!("{MINIMAL}sessions: {{objectStore: {store}}}\n"));
    let config = with("{url: 's3://my-bucket/a/b/', endpoint: 'https://minio:9000'}").unwrap();
    assert_eq!(config.sessions.object_store.unwrap().place().unwrap(), ("my-bucket", "a/b"));
    assert!(with("{url: s3://my-bucket, endpoint: 'http://minio:9000', allowHttp: true}").is_ok());
    for (store, says) in [
        ("{url: s3://my-bucket, endpoint: 'http://minio:9000'}", "has no TLS"),
        ("{url: s3://my-bucket, endpoint: minio}", "does not begin with https"),
        ("{url: s3://my-bucket, endpoint: 'https://user:password@minio'}", "holds a credential"),
        ("{url: gs://my-bucket}", "sessions.objectStore.url"),
        ("{url: 's3://My Bucket'}", "sessions.objectStore.url"),
        ("{url: s3://}", "sessions.objectStore.url"),
    ] {
        let error = format!("{:#}", with(store).unwrap_err());
        assert!(error.contains(says), "{store}: {error}");
    }
}
