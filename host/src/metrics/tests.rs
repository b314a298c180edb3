use super::*;

fn counted() -> Arc<Metrics> {
    let metrics = Metrics::counting();
    let outcome = OperationOutcome { verb: Verb::Get, verdict: Verdict::Mask, code: 200 };
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| (0..50).for_each(|n| metrics.request(outcome, Duration::from_micros(n * 10))));
        }
    });
    metrics.request(OperationOutcome { code: 999, ..OperationOutcome::default() }, Duration::MAX);
    metrics.add(Count::Masked, 7);
    metrics.ended(Ending::TooLong);
    metrics
}

struct Two;

impl Source for Two {
    fn samples(&self) -> Vec<Sample> {
        let of = |policy: &str, value| (vec![("policy", policy.to_owned())], value);
        vec![
            Sample { name: "test_calls", help: "Calls", kind: Kind::Counter, values: vec![of("a\"b\n", 3.0), of("c", 0.5)] },
            Sample::of("test_open", "Open", Kind::Gauge, 4.0),
        ]
    }
}

#[test]
fn what_every_thread_counted_is_added_up() {
    let text = Metrics::text(vec![("here".into(), counted()), ("there".into(), counted())], vec![Box::new(Two)]);
    for line in [
        "postern_requests_total{verb=\"get\",verdict=\"mask\",code=\"2xx\",cluster=\"here\"} 1000",
        "postern_requests_total{verb=\"other\",verdict=\"none\",code=\"5xx\",cluster=\"here\"} 1",
        "postern_request_duration_seconds_bucket{le=\"0.0001\",stage=\"all\",cluster=\"here\"} 220",
        "postern_request_duration_seconds_bucket{le=\"+Inf\",stage=\"all\",cluster=\"here\"} 1001",
        "postern_request_duration_seconds_count{stage=\"all\",cluster=\"here\"} 1001",
        "postern_masked_values_total{cluster=\"here\"} 7",
        "postern_masked_values_total{cluster=\"there\"} 7",
        "postern_answers_ended_total{ended=\"too-long\",cluster=\"here\"} 1",
        "postern_audit_events_total 0",
        "test_calls_total{policy=\"a\\\"b\\n\"} 3.0",
        "test_open 4.0",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let distinct: std::collections::HashSet<_> = names.iter().collect();
    assert_eq!(names.len(), distinct.len(), "each name once");
}

#[test]
fn where_nobody_asks_nothing_is_counted() {
    let metrics = Arc::new(Metrics::default());
    metrics.request(OperationOutcome::default(), Duration::ZERO);
    metrics.step(Step::Decide, Instant::now());
    metrics.add(Count::Events, 1);
    assert!(Metrics::text(vec![("c".into(), metrics)], Vec::new()).contains("postern_audit_events_total 0"));
}
