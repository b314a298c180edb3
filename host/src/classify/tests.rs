use super::*;

fn with_options(mut operation: Operation, body: &'static [u8], media_type: &str) -> Result<Operation, Refusal> {
    operation.take_delete_options(&RequestBody::new(bytes::Bytes::from_static(body), media_type))?;
    Ok(operation)
}

fn classify(method: Method, uri: &str) -> Operation {
    Operation::classify(&method, &uri.parse().unwrap()).unwrap()
}

#[test]
fn exec_is_a_create_however_it_arrives() {
    let uri = "/api/v1/namespaces/n/pods/p/exec?command=sh&command=-c&command=id&stdin=true&container=c";
    for method in [Method::GET, Method::POST] {
        let operation = classify(method, uri);
        assert_eq!((operation.verb.as_str(), operation.shape), ("create", Shape::Stream));
        let command = operation.command.unwrap();
        assert_eq!(command.argv, ["sh", "-c", "id"]);
        assert!(command.stdin && !command.tty);
    }
}

#[test]
fn node_proxy_is_seen_in_both_spellings() {
    assert!(classify(Method::GET, "/api/v1/nodes/n1/proxy/run/a/b/c?cmd=id").is_node_proxy());
    assert!(classify(Method::GET, "/api/v1/proxy/nodes/n1/run").is_node_proxy());
    assert!(!classify(Method::GET, "/api/v1/namespaces/n/services/s/proxy/").is_node_proxy());
    assert!(classify(Method::GET, "/api/v1/namespaces/n/services/s/proxy/").is_mutating());
}

#[test]
fn a_delete_is_a_dry_run_only_where_the_api_server_reads_it() {
    let delete = || classify(Method::DELETE, "/api/v1/namespaces/n/pods/p?dryRun=All");
    assert!(with_options(delete(), b"", "").unwrap().dry_run);
    assert!(!with_options(delete(), b"{}", "").unwrap().dry_run, "with a body the query is not read");
    assert!(with_options(delete(), br#"{"dryRun":["All"]}"#, "application/json").unwrap().dry_run);
    assert!(!classify(Method::GET, "/api/v1/namespaces/n/pods/p?dryRun=All").dry_run);
}

#[test]
fn a_dry_run_is_not_believed_where_the_api_server_acts_all_the_same() {
    for path in
        ["/api/v1/namespaces/n/serviceaccounts/s/token", "/api/v1/namespaces/n/services/s/proxy/x", "/api/v1/nodes/n/proxy/x", "/unknown"]
    {
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            let operation = classify(method.clone(), &format!("{path}?dryRun=All"));
            assert!(!operation.dry_run, "{method} {path}");
            let with_body = with_options(operation, br#"{"dryRun":["All"]}"#, "").unwrap();
            assert!(!with_body.dry_run || path.ends_with("/token") && method == Method::DELETE, "{method} {path} with a body");
        }
    }
    assert!(classify(Method::POST, "/api/v1/namespaces/n/pods/p/eviction?dryRun=All").dry_run);
    // A stream has no such parameter.
    for stream in ["exec", "attach", "portforward"] {
        let uri = format!("/api/v1/namespaces/n/pods/p/{stream}?dryRun=All");
        let why = Operation::classify(&Method::POST, &uri.parse().unwrap()).unwrap_err();
        assert!(why.message.contains("dryRun"), "{}", why.message);
    }
}

proptest::proptest! {
    #[test]
    fn nothing_a_caller_writes_panics(path in "/[ -~]{0,60}", query in "[ -~]{0,60}") {
        let _ = RequestTarget::parse(&path, Some(&query)).map(|target| RequestInfo::resolve("GET", &target));
    }
}

#[test]
fn a_parameter_of_a_stream_that_nobody_knows_is_refused() {
    let refused = |path: &str| Operation::classify(&Method::GET, &format!("/api/v1/namespaces/n/pods/p/{path}").parse().unwrap()).is_err();
    for path in [
        "exec?command=sh&env=LD_PRELOAD%3Dx",
        "attach?command=sh",
        "portforward?port=80",
        "log?follow=true&Follow=x",
        "exec?command=a&%65nv=b",
    ] {
        assert!(refused(path), "{path}");
    }
    for path in [
        "exec?command=sh&command=-c&container=c&stdin=1&stdout=1&stderr=1&tty=1",
        "portforward?ports=80",
        "portforward",
        "log?stream=Stdout&pretty=true",
        "status?env=x",
    ] {
        assert!(!refused(path), "{path}");
    }
}
