//! The trace of one request: a span of it in all, one for each stage, each policy that was asked, and the way to the API server.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName, StatusCode};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, Span};
use postern_policy::HookOutcome;

use super::{Fate, Spans};

/// The longest text of an attribute: names come from callers.
const LONGEST: usize = 256;

/// The longest `tracestate` that is kept: every span has it (W3C Trace Context, section 3.3.1.5).
const LONGEST_STATE: usize = 513;

/// What makes traces; without a collector none.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Making>);

#[derive(Clone, Debug)]
struct Making {
    sdk: SdkTracer,
    spans: Arc<Spans>,
}

impl Making {
    fn span(&self, name: &'static str, kind: SpanKind, began: SystemTime, parent: &Context) -> Span {
        self.sdk.build_with_context(SpanBuilder::from_name(name).with_kind(kind).with_start_time(began), parent)
    }

    fn end(&self, span: &mut Span, at: SystemTime) {
        if span.is_recording() {
            span.end_with_timestamp(at);
            self.spans.add(Fate::Made, 1);
        }
    }
}

/// The clock of one trace. The wall's is read once: however it is set meanwhile, and whenever the request's thread is put aside, no span begins before the one that it is
/// part of, or ends after it.
#[derive(Clone, Copy, Debug)]
struct Clock {
    began: Instant,
    at: SystemTime,
}

impl Clock {
    /// One that begins with the request.
    fn since(began: Instant) -> Self {
        let now = SystemTime::now();
        Self { began, at: now.checked_sub(began.elapsed()).unwrap_or(now) }
    }

    /// When something was; what lies before the request is its beginning.
    fn time_of(self, instant: Instant) -> SystemTime {
        self.at + instant.saturating_duration_since(self.began)
    }

    fn now(self) -> SystemTime {
        self.time_of(Instant::now())
    }
}

impl Tracer {
    pub(super) fn new(sdk: SdkTracer, spans: Arc<Spans>) -> Self {
        Self(Some(Making { sdk, spans }))
    }

    /// Begins the trace of a request that came at a time, of a caller who is known; none where none is made of it. What the headers say of a trace that the request is
    /// part of holds.
    pub fn begin(&self, headers: &HeaderMap, began: Instant) -> Option<Box<Trace>> {
        let making = self.0.as_ref()?;
        let parent = parent(headers);
        let clock = Clock::since(began);
        let root = making.span("request", SpanKind::Server, clock.at, &parent);
        if !root.is_recording() {
            return None;
        }
        let within = within(&root);
        Some(Box::new(Trace { root, place: RequestSpan { making: making.clone(), clock, within: within.clone() }, last: within }))
    }
}

/// A request's trace. The request's span ends when it is dropped.
pub struct Trace {
    root: Span,
    place: RequestSpan,
    /// The stage that ended last.
    last: Context,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({})", self.root.span_context().trace_id())
    }
}

impl Trace {
    /// Where what is done for the request is put.
    pub fn place(&self) -> &RequestSpan {
        &self.place
    }

    /// Says what is asked for: the request's span is named by the verb.
    pub fn named(&mut self, verb: &'static str) {
        self.root.update_name(verb);
    }

    /// Says something of the request.
    pub fn set(&mut self, name: &'static str, value: &str) {
        let end = value.char_indices().nth(LONGEST).map_or(value.len(), |(end, _)| end);
        self.root.set_attribute(KeyValue::new(name, value[..end].to_owned()));
    }

    /// Says with which status it was answered.
    pub fn status(&mut self, code: StatusCode) {
        self.root.set_attribute(KeyValue::new("http.response.status_code", i64::from(code.as_u16())));
        if code.is_server_error() {
            self.root.set_status(Status::error(""));
        }
    }

    /// A stage has ended just now.
    pub fn step(&mut self, name: &'static str, began: Instant) {
        let RequestSpan { making, clock, within: parent } = &self.place;
        let mut span = making.span(name, SpanKind::Internal, clock.time_of(began), parent);
        making.end(&mut span, clock.now());
        self.last = within(&span);
    }

    /// A policy was asked, in the stage that ended last.
    pub fn asked(&mut self, policy: &str, verdict: HookOutcome, began: Instant, took: Duration) {
        let began = self.place.clock.time_of(began);
        let mut span = self.place.making.span("policy", SpanKind::Internal, began, &self.last);
        span.set_attribute(KeyValue::new("postern.policy", policy.to_owned()));
        span.set_attribute(KeyValue::new("postern.verdict", verdict.name()));
        if verdict == HookOutcome::Failed {
            span.set_status(Status::error(""));
        }
        self.place.making.end(&mut span, began + took);
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.place.making.end(&mut self.root, self.place.clock.now());
    }
}

/// The place of a request in its trace.
#[derive(Clone, Debug)]
pub struct RequestSpan {
    making: Making,
    clock: Clock,
    within: Context,
}

impl RequestSpan {
    /// Begins the way to the API server, which is told that it is part of the trace.
    pub fn sends(&self, headers: &mut HeaderMap) -> Sending {
        let span = self.making.span("forward", SpanKind::Client, self.clock.now(), &self.within);
        if span.span_context().is_valid() {
            TraceContextPropagator::new().inject_context(&within(&span), &mut HeaderInjector(headers));
            if span.span_context().trace_state().header().is_empty() {
                headers.remove("tracestate");
            }
        }
        Sending { span, making: self.making.clone(), clock: self.clock, status: None }
    }
}

/// The way to the API server, until the head of its answer.
pub struct Sending {
    span: Span,
    making: Making,
    clock: Clock,
    status: Option<StatusCode>,
}

impl Sending {
    /// It ended with an answer, or without one.
    pub fn ended(mut self, status: Option<StatusCode>) {
        self.status = status;
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        match self.status {
            Some(status) => self.span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16()))),
            None => self.span.set_status(Status::error("")),
        }
        self.making.end(&mut self.span, self.clock.now());
    }
}

/// The span that a caller's is part of. Of several there is none (W3C Trace Context, section 3.2.1); a state that is longer than others must pass on is left out.
fn parent(headers: &HeaderMap) -> Context {
    let [traceparent, tracestate] = ["traceparent", "tracestate"].map(|name| headers.get_all(name));
    if traceparent.iter().count() != 1 {
        return Context::new();
    }
    let propagator = TraceContextPropagator::new();
    if tracestate.iter().map(|value| value.len() + 1).sum::<usize>() <= LONGEST_STATE {
        return propagator.extract_with_context(&Context::new(), &HeaderExtractor(headers));
    }
    let alone: HeaderMap = traceparent.iter().map(|value| (HeaderName::from_static("traceparent"), value.clone())).collect();
    propagator.extract_with_context(&Context::new(), &HeaderExtractor(&alone))
}

/// What is part of a span.
fn within(span: &Span) -> Context {
    Context::new().with_remote_span_context(span.span_context().clone())
}
