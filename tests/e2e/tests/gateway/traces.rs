//! Traces and the gateway's own log, in a real OpenTelemetry collector.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use e2e::{Setup, cluster, code, scratch, setup_behind, setup_with};
use serde_json::{Value, json};
use testbed::{Between, Collector, GatewayOptions, wait_until};

/// What is sent goes out five times a second.
const SOON: [(&str, &str); 2] = [("OTEL_BSP_SCHEDULE_DELAY", "200"), ("OTEL_BLRP_SCHEDULE_DELAY", "200")];
const PARENT: &str = "0af7651916cd43dd8448eb211c80319c";

fn options(telemetry: &str) -> GatewayOptions {
    GatewayOptions {
        policies: vec![
            ("10-mask-secrets", "mask-secrets", String::new()),
            ("20-no-bulk", "no-bulk-export", String::new()),
            ("30-approve", "approve-deletes", "settings: {approvers: [nobody], resources: [configmaps]}\n".into()),
        ],
        config: format!("approvals: {{hold: 1}}\noperations: {{address: '127.0.0.1:0'}}\ntelemetry: {{{telemetry}}}\n"),
        environment: SOON.to_vec(),
        ..GatewayOptions::default()
    }
}

/// An attribute of a span, a log record or a resource.
fn attribute<'a>(of: &'a Value, name: &str) -> Option<&'a Value> {
    of.as_array()?.iter().find(|one| one["key"] == name)?["value"].as_object()?.values().next()
}

fn has(span: &Value, name: &str, value: &str) -> bool {
    attribute(&span["attributes"], name).is_some_and(|found| found == value)
}

/// Waits for the span of a request, and gives the whole trace it is in.
fn trace_of(collector: &Collector, name: &str, is_it: impl Fn(&Value) -> bool) -> (Value, Vec<Value>) {
    let mut found = None;
    wait_until(&format!("the collector has the trace of {name}"), Duration::from_secs(20), || {
        let spans = collector.spans()?;
        let Some(root) = spans.iter().find(|span| span["name"] == name && span["kind"] == 2 && is_it(span)).cloned() else {
            return Ok(false);
        };
        let whole: Vec<_> = spans.into_iter().filter(|span| span["traceId"] == root["traceId"]).collect();
        found = Some((root, whole));
        Ok(true)
    })
    .unwrap();
    found.unwrap()
}

fn named<'a>(trace: &'a [Value], name: &str) -> &'a Value {
    trace.iter().find(|span| span["name"] == name).unwrap_or_else(|| panic!("no span {name} in {}", json!(trace)))
}

fn header<'a>(seen: &'a [testbed::Seen], target: &str, name: &str) -> Option<&'a str> {
    seen.iter().find(|seen| seen.target.starts_with(target)).unwrap_or_else(|| panic!("{target} did not arrive")).header(name)
}

#[test]
fn a_request_is_a_trace_of_its_stages_and_goes_on_at_the_api_server() {
    let collector = Collector::start(&scratch("collector")).unwrap();
    let between = Between::start(cluster(), &scratch("between")).unwrap();
    let s = setup_behind(&between, options(&format!("{}, samplingRatePerMillion: 0", collector.over_tls())));
    let secret = format!("/api/v1/namespaces/{}/secrets/db", s.namespace);
    let parent = |flags: &str| format!("traceparent: 00-{PARENT}-b7ad6b7169203331-{flags}\r\n");
    let path = |mark: &str| format!("{secret}?resourceVersion=0&timeout={mark}s");
    assert_eq!(code(&s.get(&path("11"), &parent("01"))), 200);
    assert_eq!(code(&s.get(&path("12"), &parent("00"))), 200);
    assert_eq!(code(&s.get(&path("13"), "")), 200);
    // Who is not known says nothing that holds.
    let unknown =
        format!("GET {} HTTP/1.1\r\nHost: x\r\n{}Authorization: Bearer nonsense\r\nConnection: close\r\n\r\n", path("14"), parent("01"));
    assert_eq!(code(&s.raw(&unknown)), 401);

    let (root, trace) = trace_of(&collector, "get", |_| true);
    assert_eq!((&root["traceId"], &root["parentSpanId"]), (&json!(PARENT), &json!("b7ad6b7169203331")));
    assert_eq!(attribute(&root["resource"], "service.name").unwrap(), "postern");
    for (name, value) in [
        ("k8s.cluster.name", "testbed"),
        ("k8s.namespace.name", s.namespace.as_str()),
        ("postern.resource", "secrets"),
        ("postern.verdict", "mask"),
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
    ] {
        assert!(has(&root, name, value), "{name}: {root}");
    }
    for stage in ["identify", "classify", "decide", "forward", "respond"] {
        assert_eq!(named(&trace, stage)["parentSpanId"], root["spanId"], "{stage}");
    }
    let policy = named(&trace, "policy");
    assert_eq!(policy["parentSpanId"], named(&trace, "decide")["spanId"]);
    assert!(has(policy, "postern.policy", "10-mask-secrets") && has(policy, "postern.verdict", "mask"), "{policy}");
    // The audit event is found by the trace.
    let id = attribute(&root["attributes"], "postern.audit_id").unwrap();
    wait_until("it is in the log", Duration::from_secs(5), || Ok(s.events().iter().any(|event| &event["id"] == id))).unwrap();

    let seen = between.seen().unwrap();
    let forward = named(&trace, "forward");
    let told = header(&seen, &path("11"), "traceparent").unwrap();
    assert_eq!(told, format!("00-{PARENT}-{}-01", forward["spanId"].as_str().unwrap()));
    assert_eq!(
        header(&seen, &path("12"), "traceparent"),
        Some(format!("00-{PARENT}-b7ad6b7169203331-00").as_str()),
        "as the caller sent it"
    );
    assert_eq!(header(&seen, &path("13"), "traceparent"), None);
    let spans = collector.spans().unwrap();
    assert_eq!(spans.iter().filter(|span| span["kind"] == 2).count(), 1, "no trace is made of any other: {}", json!(spans));
    for never in ["hunter2", "aHVudGVy", s.token.as_str()] {
        assert!(!collector.text().contains(never), "{never}");
    }
}

#[test]
fn what_is_refused_waits_or_is_upgraded_is_a_trace_too() {
    let collector = Collector::start(&scratch("collector")).unwrap();
    let s = setup_with(options(&format!("{}, samplingRatePerMillion: 1000000, logs: false", collector.plain())));
    assert_eq!(code(&s.get("/api/v1/secrets", "")), 403);
    s.kubectl(&["create", "configmap", "held"]).success();
    s.kubectl(&["exec", "web", "--", "echo", "hello"]).success();
    let held = format!(
        "DELETE /api/v1/namespaces/{}/configmaps/held HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        s.namespace, s.token
    );
    assert_eq!(code(&s.raw(&held)), 429);

    let (refused, trace) = trace_of(&collector, "list", |root| has(root, "http.response.status_code", "403"));
    assert!(has(&refused, "postern.verdict", "block"), "{refused}");
    assert!(trace.iter().all(|span| span["name"] != "forward"), "{}", json!(trace));
    let (held, trace) = trace_of(&collector, "delete", |_| true);
    assert!(has(&held, "postern.verdict", "require-approval") && has(&held, "http.response.status_code", "429"), "{held}");
    named(&trace, "approve");
    let (exec, trace) = trace_of(&collector, "create", |root| has(root, "postern.subresource", "exec"));
    assert!(has(&exec, "http.response.status_code", "101"), "{exec}");
    assert!(has(named(&trace, "forward"), "http.response.status_code", "101"));
    named(&trace, "respond");
    named(&trace, "record");
    // What ended just before the gateway does is sent all the same.
    assert_eq!(code(&s.get("/version", "")), 200);
    let mut s = s;
    s.gateway.process.terminate(Duration::from_secs(20)).unwrap();
    let spans = collector.spans().unwrap();
    assert!(
        spans.iter().any(|span| span["kind"] == 2 && span["name"] == "get" && attribute(&span["attributes"], "postern.resource").is_none())
    );
}

#[test]
fn the_log_is_sent_too_and_a_collector_that_is_away_holds_up_nothing() {
    let mut collector = Collector::start(&scratch("collector")).unwrap();
    let s = setup_with(options(&format!("{}, samplingRatePerMillion: 1000000", collector.over_tls())));
    let warned = |collector: &Collector| {
        let logs = collector.logs().unwrap();
        logs.into_iter().find(|log| log["body"]["stringValue"].as_str().is_some_and(|body| body.contains("the policy does not load")))
    };
    std::fs::write(s.gateway.directory.join("policies.d/90-broken.wasm"), b"nonsense").unwrap();
    let mut found = None;
    wait_until("the collector has the warning", Duration::from_secs(20), || {
        found = warned(&collector);
        Ok(found.is_some())
    })
    .unwrap();
    let record = found.unwrap();
    assert_eq!(record["severityText"], "ERROR", "{record}");
    assert!(record["attributes"].to_string().contains("90-broken"), "{record}");

    collector.stop();
    let log = || std::fs::read_to_string(s.gateway.directory.join("postern.log")).unwrap();
    wait_until("it is said once that nothing is taken", Duration::from_secs(20), || {
        assert_eq!(code(&s.get(&format!("/api/v1/namespaces/{}/pods", s.namespace), "")), 200);
        Ok(log().contains("the collector does not take telemetry"))
    })
    .unwrap();
    let metrics = |s: &Setup| e2e::operations(&s.gateway, "GET /metrics");
    wait_until("spans that failed are counted", Duration::from_secs(20), || {
        s.get("/version", "");
        Ok(metrics(&s).lines().any(|line| line.starts_with("postern_telemetry_spans_total{fate=\"failed\"}") && !line.ends_with(" 0.0")))
    })
    .unwrap();
    collector.resume().unwrap();
    wait_until("it is said that they are taken again", Duration::from_secs(20), || {
        s.get("/version", "");
        Ok(log().contains("the collector takes telemetry again"))
    })
    .unwrap();
    assert_eq!(log().matches("the collector does not take telemetry").count(), 1, "{}", log());
}

/// Here the receiver is a socket of the test's: a real collector shows no headers.
#[test]
fn credentials_of_the_collector_are_read_of_a_file_each_time() {
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = scratch("headers").join("headers");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "Authorization: Bearer f1rst-s3cret\n").unwrap();
    let telemetry = format!(
        "endpoint: 'http://{}', headersFile: '{}', samplingRatePerMillion: 1000000, logs: false",
        receiver.local_addr().unwrap(),
        file.display()
    );
    let s = setup_with(options(&telemetry));
    let post = |s: &Setup| {
        s.get("/version", "");
        let (mut stream, _) = receiver.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (mut head, mut buffer) = (String::new(), [0; 4096]);
        while !head.contains("\r\n\r\n") {
            let read = stream.read(&mut buffer).unwrap();
            head.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        head
    };
    let head = post(&s);
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n") && head.contains("application/x-protobuf"), "{head}");
    assert!(head.contains("authorization: Bearer f1rst-s3cret\r\n"), "{head}");
    e2e::put(&file, b"Authorization: Bearer s3cond-s3cret\n");
    wait_until("the other one is sent", Duration::from_secs(20), || Ok(post(&s).contains("authorization: Bearer s3cond-s3cret\r\n")))
        .unwrap();
    assert!(!std::fs::read_to_string(s.gateway.directory.join("postern.log")).unwrap().contains("s3cret"));
}
