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

const SEVERAL: &str = "dataDirectory: data\npolicies: {directory: shared, required: [a], unmatched: block}\nclusters:\n";

#[test]
fn several_clusters_have_their_own_and_share_the_rest() {
    let config = Config::parse(&format!(
        "{SEVERAL}- {{name: prod, hosts: [Prod.Example], kubeconfig: k, access: [{{as: {{impersonate: {{}}}}}}]}}\n- {{name: dev, policies: {{directory: own}}}}\n- {{name: x, hosts: [x], pathPrefix: /x, policies: {{directory: o, required: [b], unmatched: allow}}}}\n"
    ))
    .unwrap();
    let [prod, dev, x] = config.members().try_into().unwrap();
    assert_eq!((prod.hosts, prod.path_prefix, prod.access.len(), prod.has_own_policies), (vec!["prod.example".to_owned()], None, 1, false));
    assert_eq!(
        (prod.policies.directory, prod.policies.required, prod.policies.unmatched),
        (Some("shared".into()), vec!["a".to_owned()], Unmatched::Block)
    );
    assert_eq!((dev.path_prefix.as_deref(), dev.access.len(), dev.has_own_policies), (Some("/clusters/dev"), 0, true));
    assert_eq!((dev.policies.directory, dev.policies.required.len(), dev.policies.unmatched), (Some("own".into()), 0, Unmatched::Block));
    assert_eq!((x.path_prefix.as_deref(), x.policies.required, x.policies.unmatched), (Some("/x"), vec!["b".to_owned()], Unmatched::Allow));
    assert_eq!(Config::parse("dataDirectory: d\nclusters: []\n").unwrap().members().len(), 0);
    let [alone] = Config::parse(MINIMAL).unwrap().members().try_into().unwrap();
    assert!(alone.is_alone && alone.cluster.name == "default" && alone.path_prefix.is_none());
}

#[test]
fn clusters_that_could_be_taken_for_each_other_are_refused() {
    for (text, says) in [
        ("dataDirectory: d\n", "cluster: is missing"),
        ("dataDirectory: d\ncluster: {}\nclusters: []\n", "clusters: does not go with cluster"),
        ("dataDirectory: d\nclusters: []\naccess: [{as: {impersonate: {}}}]\n", "access: each of several"),
        ("dataDirectory: d\nclusters: []\nnodesProxy: {users: [a]}\n", "nodesProxy: each of several"),
        (
            "dataDirectory: d\nclusters: []\nauthentication: {jwt: [{issuer: {url: 'https://i', audiences: [a]}, claimMappings: {username: {claim: sub, prefix: ''}}}]}\n",
            "authentication.jwt[0].issuer.certificateAuthority",
        ),
        ("- {name: a}\n- {name: a, pathPrefix: /b}\n", "clusters[1].name: \"a\" is there twice"),
        ("- {name: A}\n", "clusters[0].name: \"A\" is no name"),
        ("- {name: a/b}\n", "is no name"),
        ("- {name: ''}\n", "is no name"),
        ("- {name: a, hosts: [h]}\n- {name: b, hosts: [H]}\n", "clusters[1].hosts: \"h\" is that of a already"),
        ("- {name: a, hosts: ['h:1']}\n", "is no host name"),
        ("- {name: a, hosts: ['*.h']}\n", "is no host name"),
        ("- {name: a, hosts: ['']}\n", "is no host name"),
        ("- {name: a, hosts: ['h.']}\n", "is no host name"),
        ("- {name: a, pathPrefix: /x}\n- {name: b, pathPrefix: /x/y}\n", "lie within each other"),
        ("- {name: a, pathPrefix: /x}\n- {name: b, pathPrefix: /x}\n", "lie within each other"),
        ("- {name: a, pathPrefix: /clusters}\n- {name: b}\n", "lie within each other"),
        ("- {name: a, pathPrefix: /postern}\n", "one of the gateway's own"),
        ("- {name: a, pathPrefix: /postern/x}\n", "one of the gateway's own"),
        ("- {name: a, pathPrefix: /}\n", "is no path"),
        ("- {name: a, pathPrefix: x}\n", "is no path"),
        ("- {name: a, pathPrefix: /x/}\n", "is no path"),
        ("- {name: a, pathPrefix: /x/../y}\n", "is no path"),
        ("- {name: a, pathPrefix: '/x%2fy'}\n", "is no path"),
        ("- {name: a, access: [{as: {serviceAccount: {namespace: n, name: s, expiration: 60}}}]}\n", "clusters[0].access[0]"),
    ] {
        let whole = if text.starts_with('-') { format!("{SEVERAL}{text}") } else { text.to_owned() };
        let error = format!("{:#}", Config::parse(&whole).unwrap_err());
        assert!(error.contains(says), "{text}: {error}");
    }
    assert!(Config::parse(&format!("{SEVERAL}- {{name: a, pathPrefix: /x}}\n- {{name: b, pathPrefix: /xy}}\n")).is_ok());
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

#[test]
fn telemetry_that_would_not_work_or_tell_others_a_credential_is_refused() {
    let of = |settings: &str| Config::parse(&format!("{MINIMAL}telemetry: {{{settings}}}\n")).map_err(|error| format!("{error:#}"));
    for settings in [
        "endpoint: 'https://otel.example'",
        "endpoint: 'HTTPS://otel.example:4318/tenant', headersFile: h, caFile: ca",
        "endpoint: 'http://otel.monitoring.svc:4318'",
        "endpoint: 'http://LOCALHOST:4318', headersFile: h",
        "endpoint: 'http://127.8.0.1:4318', headersFile: h",
        "endpoint: 'http://[::1]:4318', headersFile: h, logs: false",
    ] {
        assert!(of(settings).is_ok(), "{settings}: {:?}", of(settings).err());
    }
    for (settings, why) in [
        ("endpoint: 'otel.example:4318'", "begins with neither"),
        ("endpoint: 'grpc://otel.example'", "begins with neither"),
        ("endpoint: 'https://u:p@otel.example'", "credentials go into"),
        ("endpoint: 'https://otel.example?key=k'", "credentials go into"),
        ("endpoint: 'https://otel.example:99999'", "its port is no number"),
        ("endpoint: 'https://otel.example/v1/traces/'", "are added to it"),
        ("endpoint: 'http://otel.example', headersFile: h", "in clear to otel.example"),
        ("endpoint: 'http://127.0.0.1.example', headersFile: h", "in clear"),
        ("endpoint: 'http://127.0.0.1', caFile: ca", "has none; use https"),
        ("endpoint: 'https://otel.example', traces: false, logs: false", "leave the section out"),
        ("endpoint: 'https://otel.example', samplingRatePerMillion: 1000001", "is over a million"),
    ] {
        let said = of(settings).unwrap_err();
        assert!(said.contains(why), "{settings}: {said}");
    }
}
