//! Classification against upstream's own resolver.

use std::io::Write;
use std::process::{Command, Stdio};

use postern::classify::{RequestInfo, RequestTarget};

const METHODS: [&str; 10] = ["GET", "TRACE", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get", "CONNECT"];
const PATHS: [&str; 62] = [
    "/",
    "/healthz",
    "/version",
    "/openapi/v2",
    "/api",
    "/api/",
    "/api/v1",
    "/apis",
    "/apis/apps",
    "/apis/apps/v1",
    "/apis/apps/v1/",
    "/apiz/v1/pods",
    "/api/v1/pods",
    "/api/v1/pods/",
    "/api/v1/namespaces",
    "/api/v1/namespaces/",
    "/api/v1/namespaces/n",
    "/api/v1/namespaces/n/status",
    "/api/v1/namespaces/n/finalize",
    "/api/v1/namespaces/n/pods",
    "/api/v1/namespaces/n/pods/p",
    "/api/v1/namespaces/n/pods/p/exec",
    "/api/v1/namespaces/n/pods/p/log",
    "/api/v1/namespaces/n/pods/p/proxy",
    "/api/v1/namespaces/n/pods/p/proxy/a/b/c",
    "/api/v1/namespaces/n/secrets",
    "/api/v1/namespaces/n/secrets/s%20x",
    "/api/v1/namespaces/namespaces/namespaces/namespaces",
    "/api/v1/nodes",
    "/api/v1/nodes/n1",
    "/api/v1/nodes/n1/proxy/run/x",
    "/api/v1/watch",
    "/api/v1/watch/",
    "/api/v1/watch/pods",
    "/api/v1/watch/namespaces",
    "/api/v1/watch/namespaces/n",
    "/api/v1/watch/namespaces/n/pods",
    "/api/v1/watch/namespaces/n/pods/p",
    "/api/v1/proxy",
    "/api/v1/proxy/nodes/n1",
    "/api/v1/proxy/namespaces/n/pods/p/x/y",
    "/api/v1/proxy/namespaces/n/services/s",
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/namespaces/n/deployments",
    "/apis/apps/v1/namespaces/n/deployments/d",
    "/apis/apps/v1/namespaces/n/deployments/d/scale",
    "/apis/apps/v1/watch/namespaces/n/deployments/d",
    "/apis/apps/v1/watch",
    "/apis/apps/v1/proxy/x",
    "/apis/a.b.c/v1beta1/things/t/sub/resource/deep",
    "/apis/v1/namespaces/n",
    "/api/v1/namespaces/n/finalize/x",
    "/api/v1/namespaces/n/status/x",
    "/api/apis/v1/x",
    "/apis/api/v1/x/y",
    "/API/v1/pods",
    "/api/v1/%70ods",
    "/api/v1/namespaces/n/pods/p%3Ax",
    "/api/v1/namespaces/n/%73ecrets",
    "/logs/x",
    "/api/v1/namespaces/proxy/pods",
    "/api/v1/namespaces/watch/pods/x/y/z",
];
const QUERIES: &[&str] = &include!("queries.in");

#[test]
fn classification_equals_upstream_over_the_corpus() {
    let mut ours = Vec::new();
    let mut corpus = String::new();
    for method in METHODS {
        for path in PATHS {
            for query in QUERIES.iter().copied() {
                let Ok(target) = RequestTarget::parse(path, (!query.is_empty()).then_some(query)) else { continue };
                let mark = if query.is_empty() { "" } else { "?" };
                corpus.push_str(&format!("{method} {path}{mark}{query}\n"));
                ours.push(match RequestInfo::resolve(method, &target) {
                    Err(_) => "error".to_owned(),
                    Ok(i) => [
                        i.is_resource_request.to_string(),
                        i.verb,
                        i.api_prefix,
                        i.api_group,
                        i.api_version,
                        i.namespace,
                        i.resource,
                        i.subresource,
                        i.name,
                    ]
                    .join("\t"),
                });
            }
        }
    }
    let mut upstream = Command::new(testbed::binary("requestinfo"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the helper is built");
    let mut stdin = upstream.stdin.take().unwrap();
    let input = corpus.clone();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = upstream.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let theirs = String::from_utf8(output.stdout).unwrap();
    assert_eq!(theirs.lines().count(), ours.len());
    let different: Vec<_> = corpus.lines().zip(theirs.lines().zip(&ours)).filter(|(_, (t, o))| t != o).take(20).collect();
    assert!(different.is_empty(), "{different:#?}");
    assert!(ours.len() >= 100_000, "{} compared", ours.len());
    println!("compared {} requests with upstream's RequestInfoResolver: no difference", ours.len());
}
