//! Answers in the forms clients ask for: discovery, lists by chunk, Tables that are watched.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use e2e::{cluster, code, raw_at, setup};
use serde_json::Value;

fn pack() -> Vec<(&'static str, &'static str, String)> {
    vec![
        ("20-mask-secrets", "mask-secrets", "settings: {fields: [{resource: configmaps, paths: ['$.data.token']}]}\n".into()),
        ("60-hide", "misbehaves", "settings: {does: hide}\nrules: [{resources: [configmaps]}]\n".into()),
    ]
}

/// An answer's status, what its headers say of its content, and its body. HTTP/1.0 has no chunks that would be cut in other places.
fn answer(address: &str, ca: &std::path::Path, token: &str, path: &str, headers: &str) -> (u16, Vec<String>, String) {
    let answer = raw_at(address, ca, &format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{headers}\r\n"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{path}: {answer}"));
    let told = |line: &&str| {
        ["content-type", "content-encoding", "etag", "vary", "x-from-cache"].iter().any(|h| line.to_lowercase().starts_with(h))
    };
    let mut head: Vec<String> = head.lines().filter(told).map(str::to_lowercase).collect();
    head.sort();
    (code(&answer), head, body.to_owned())
}

#[test]
fn discovery_is_what_the_api_server_says_in_every_form() {
    let s = setup(pack(), "");
    let direct = format!("127.0.0.1:{}", cluster().port);
    let token = cluster().token("acts-as", &cluster().issuer()).unwrap();
    let ca = cluster().directory.join("ca.crt");
    let aggregated = "g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let mut etag = None;
    for (path, accept) in [
        ("/api", "application/json".to_owned()),
        ("/apis", "application/json".into()),
        ("/api/v1", "application/json".into()),
        ("/apis/apps/v1", "application/vnd.kubernetes.protobuf".into()),
        ("/api", format!("application/json;{aggregated},application/json")),
        ("/apis", format!("application/json;{aggregated},application/json")),
        ("/apis", format!("application/vnd.kubernetes.protobuf;{aggregated}")),
        ("/openapi/v3", "application/json".into()),
        ("/openapi/v3/api/v1", "application/json".into()),
        ("/openapi/v2", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf".into()),
        ("/version", "application/json".into()),
        ("/apis/nobody.example.com/v1", "application/json".into()),
    ] {
        let headers = format!("Accept: {accept}\r\n");
        let through = answer(&s.gateway.address, &s.gateway.ca(), &s.token, path, &headers);
        assert_eq!(through, answer(&direct, &ca, &token, path, &headers), "{path} {accept}");
        assert_eq!(through.0, if path.contains("nobody") { 404 } else { 200 });
        if let Some(tag) = through.1.iter().find_map(|line| line.strip_prefix("etag: ")) {
            etag = Some((path, accept, tag.to_uppercase()));
        }
    }
    let (path, accept, etag) = etag.expect("aggregated discovery has a tag");
    let again = answer(&s.gateway.address, &s.gateway.ca(), &s.token, path, &format!("Accept: {accept}\r\nIf-None-Match: {etag}\r\n"));
    assert_eq!((again.0, again.2.as_str()), (304, ""), "{path} {etag}");
}

#[test]
fn lists_by_chunk_go_on_where_they_ended() {
    let s = setup(pack(), "");
    for n in 0..25 {
        s.direct(&["create", "configmap", &format!("c{n:02}"), "--from-literal=token=secret-token"]).success();
    }
    s.direct(&["label", "configmap", "c03", "c04", "c11", "c24", "hide=yes"]).success();
    let base = format!("/api/v1/namespaces/{}/configmaps?limit=10", s.namespace);
    let (mut path, mut names, mut chunks) = (base.clone(), Vec::new(), Vec::new());
    loop {
        let (code, _, body) = answer(&s.gateway.address, &s.gateway.ca(), &s.token, &path, "Accept: application/json\r\n");
        assert!(code == 200 && !body.contains("secret-token"), "{body}");
        let list: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}"));
        let items = list["items"].as_array().unwrap();
        names.extend(items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()));
        chunks.push((items.len(), list["metadata"]["remainingItemCount"].as_u64()));
        match list["metadata"]["continue"].as_str() {
            Some(more) if !more.is_empty() => path = format!("{base}&continue={more}"),
            _ => break,
        }
    }
    // With kube-root-ca.crt, if it has come: how many are left is what the API server says, and the hidden are among them.
    assert_eq!(chunks[0], (8, Some(15)), "{chunks:?}");
    assert_eq!(chunks.last().unwrap().1, None);
    let shown: BTreeSet<String> = (0..25).filter(|n| ![3, 4, 11, 24].contains(n)).map(|n| format!("c{n:02}")).collect();
    assert_eq!(names.iter().cloned().collect::<BTreeSet<_>>(), shown);
    let listed = s.kubectl(&["get", "configmaps", "--chunk-size=7", "-o", "name"]);
    assert_eq!(listed.success().lines().count(), 21);
    assert_eq!(s.kubectl(&["get", "configmaps", "--chunk-size=4"]).success().lines().count(), 22, "with its head");
}

#[test]
fn a_row_that_a_policy_hides_is_deleted_and_one_it_shows_is_added() {
    let s = setup(pack(), "");
    for (name, hide) in [("appears", "yes"), ("stays-hidden", "yes"), ("vanishes", "no")] {
        s.direct(&["create", "configmap", name, "--from-literal=token=secret-token"]).success();
        s.direct(&["label", "configmap", name, &format!("hide={hide}")]).success();
    }
    let watch = |more: &[&str]| {
        let mut command = Command::new(testbed::binary("kubectl"));
        command.arg("--kubeconfig").arg(&s.caller).args(["-n", &s.namespace, "get", "configmaps", "-l", "hide"]);
        let mut child = command.args(["--watch", "--output-watch-events"]).args(more).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines.map(Result::unwrap).map(|line| line.split_whitespace().take(3).collect::<Vec<_>>().join(" ")))
    };
    // Listed first and watched on from there, as kubectl does; and watched alone, from the beginning.
    let (mut listing, mut lines) = watch(&[]);
    let (mut alone, mut of_alone) = watch(&["--watch-only"]);
    for expected in ["EVENT NAME DATA", "ADDED vanishes 1"] {
        assert_eq!(lines.next().unwrap(), expected);
    }
    std::thread::sleep(std::time::Duration::from_millis(800));
    s.direct(&["annotate", "configmap", "stays-hidden", "a=b"]).success();
    s.direct(&["label", "configmap", "vanishes", "hide=yes", "--overwrite"]).success();
    s.direct(&["annotate", "configmap", "vanishes", "a=b"]).success();
    s.direct(&["label", "configmap", "appears", "hide=no", "--overwrite"]).success();
    s.direct(&["annotate", "configmap", "appears", "a=b"]).success();
    s.direct(&["delete", "configmap", "vanishes", "stays-hidden", "appears"]).success();
    let expected = ["DELETED vanishes", "ADDED appears 1", "MODIFIED appears 1", "DELETED appears 1"];
    for lines in [&mut lines as &mut dyn Iterator<Item = String>, &mut of_alone] {
        let got: Vec<String> = lines.filter(|line| !line.starts_with("EVENT")).take(4).collect();
        assert_eq!(got, expected);
    }
    for child in [&mut listing, &mut alone] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
