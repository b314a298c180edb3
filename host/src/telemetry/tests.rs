use std::sync::Mutex;
use std::time::Instant;

use http::{HeaderMap, StatusCode};
use opentelemetry::trace::{SpanId, SpanKind};
use opentelemetry::{KeyValue, Value};

use super::*;
use postern_policy::HookOutcome;

/// Keeps what is exported.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

/// A tracer, and what it makes; of so many out of a hundred requests.
fn tracer(percent: u32) -> (Tracer, SdkTracerProvider, Kept) {
    let kept = Kept::default();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(f64::from(percent) / 100.0)));
    let provider = SdkTracerProvider::builder().with_sampler(sampler).with_simple_exporter(kept.clone()).build();
    (Tracer::new(provider.tracer("test"), Arc::default()), provider, kept)
}

fn headers(traceparent: &str) -> HeaderMap {
    HeaderMap::from_iter([("traceparent".parse().unwrap(), traceparent.parse().unwrap())])
}

fn attribute<'a>(span: &'a SpanData, name: &str) -> Option<&'a Value> {
    span.attributes.iter().find(|KeyValue { key, .. }| key.as_str() == name).map(|KeyValue { value, .. }| value)
}

#[test]
fn a_trace_has_its_stages_its_policies_and_the_way_to_the_api_server() {
    let (tracer, _provider, kept) = tracer(100);
    let (began, mut sent) = (Instant::now(), headers("nonsense"));
    let mut trace = tracer.begin(&sent, began).unwrap();
    trace.named("get");
    trace.set("k8s.namespace.name", &"é".repeat(1000));
    trace.step("identify", began);
    trace.step("decide", Instant::now());
    trace.asked("guard", HookOutcome::Block, began, Duration::from_millis(3));
    trace.asked("broken", HookOutcome::Failed, began, Duration::from_millis(1));
    let sending = trace.place().sends(&mut sent);
    sending.ended(Some(StatusCode::NOT_FOUND));
    trace.status(StatusCode::BAD_GATEWAY);
    drop(trace);

    let spans = kept.0.lock().unwrap().clone();
    let of = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let root = of("get")[0];
    assert_eq!((root.span_kind.clone(), root.parent_span_id), (SpanKind::Server, SpanId::INVALID));
    assert_eq!(attribute(root, "k8s.namespace.name").unwrap().as_str().chars().count(), 256);
    assert_eq!(attribute(root, "http.response.status_code"), Some(&Value::I64(502)));
    assert!(matches!(root.status, opentelemetry::trace::Status::Error { .. }));
    for name in ["identify", "decide", "forward"] {
        assert_eq!(of(name)[0].parent_span_id, root.span_context.span_id(), "{name}");
    }
    let policies = of("policy");
    for (policy, name, milliseconds) in [(policies[0], "guard", 3), (policies[1], "broken", 1)] {
        assert_eq!(policy.parent_span_id, of("decide")[0].span_context.span_id());
        assert_eq!(attribute(policy, "postern.policy"), Some(&Value::String(name.into())));
        assert_eq!(policy.end_time.duration_since(policy.start_time).unwrap(), Duration::from_millis(milliseconds));
    }
    assert!(matches!(policies[1].status, opentelemetry::trace::Status::Error { .. }));
    let forward = of("forward")[0];
    assert_eq!(forward.span_kind, SpanKind::Client);
    assert_eq!(
        sent["traceparent"].to_str().unwrap(),
        format!("00-{}-{}-01", root.span_context.trace_id(), forward.span_context.span_id()),
        "the API server is told which span its own are part of"
    );
    assert!(!sent.contains_key("tracestate"));
    assert!(root.start_time <= of("identify")[0].start_time && forward.end_time <= root.end_time);
    assert_eq!(spans.len(), 6);
}

/// However often a thread is put aside between two readings of a clock: the root begins first and ends last, and a stage that began with the request begins with it exactly.
#[test]
fn no_span_reaches_beyond_the_one_that_it_is_part_of() {
    for _ in 0..2_000 {
        let (tracer, _provider, kept) = tracer(100);
        let began = Instant::now();
        let mut trace = tracer.begin(&HeaderMap::new(), began).unwrap();
        trace.step("identify", began);
        trace.step("decide", Instant::now());
        trace.place().sends(&mut HeaderMap::new()).ended(Some(StatusCode::OK));
        drop(trace);
        let spans = kept.0.lock().unwrap().clone();
        let (root, parts) = spans.split_last().unwrap();
        assert_eq!((root.name.as_ref(), parts.len(), parts[0].start_time), ("request", 3, root.start_time));
        assert!(parts.iter().all(|part| part.start_time <= part.end_time && part.end_time <= root.end_time));
        assert!(parts.windows(2).all(|two| two[0].end_time <= two[1].start_time), "one after the other");
    }
}

#[test]
fn a_caller_says_whether_a_trace_is_made() {
    let parent = |flags: &str| headers(&format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}"));
    let (never, _one, kept) = tracer(0);
    assert!(never.begin(&HeaderMap::new(), Instant::now()).is_none());
    assert!(never.begin(&parent("00"), Instant::now()).is_none());
    let mut two = parent("01");
    two.append("traceparent", parent("01").remove("traceparent").unwrap());
    assert!(never.begin(&two, Instant::now()).is_none(), "of two none holds");
    let mut asked = parent("01");
    asked.insert("tracestate", "vendor=it".parse().unwrap());
    let trace = never.begin(&asked, Instant::now()).unwrap();
    let mut sent = asked.clone();
    drop(trace.place().sends(&mut sent));
    drop(trace);
    let spans = kept.0.lock().unwrap().clone();
    let root = spans.iter().find(|span| span.name == "request").unwrap();
    assert_eq!(root.span_context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(root.parent_span_id.to_string(), "b7ad6b7169203331");
    assert!(sent["traceparent"].to_str().unwrap().starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    assert_ne!(sent["traceparent"], asked["traceparent"]);
    assert_eq!(sent["tracestate"], "vendor=it");

    let (always, _other, _) = tracer(100);
    assert!(always.begin(&HeaderMap::new(), Instant::now()).is_some());
    assert!(always.begin(&parent("00"), Instant::now()).is_none());
    assert!(Tracer::default().begin(&asked, Instant::now()).is_none());
    // A state that is too long is in no span, and goes no further.
    asked.insert("tracestate", format!("vendor={}", "x".repeat(250)).parse().unwrap());
    asked.append("tracestate", format!("other={}", "x".repeat(256)).parse().unwrap());
    let trace = always.begin(&asked, Instant::now()).unwrap();
    let mut sent = asked.clone();
    drop(trace.place().sends(&mut sent));
    assert!(!sent.contains_key("tracestate") && sent["traceparent"].to_str().unwrap().contains("0af7651916cd43dd8448eb211c80319c"));
}
