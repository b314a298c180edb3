//! The listener for those who run the gateway: metrics, and whether it lives, is ready and is well.

use std::collections::HashSet;
use std::time::Duration;

use e2e::{Issuer, Setup, cluster, code, send, setup_with};
use serde_json::json;
use testbed::{GatewayOptions, wait_until};

const ON: &str = "operations: {address: '127.0.0.1:0'}\n";

/// The answer to a request to the listener.
fn asked(s: &Setup, request: &str) -> String {
    e2e::operations(&s.gateway, request)
}

fn metrics(s: &Setup) -> String {
    let answer = asked(s, "GET /metrics");
    assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// The value of a line that begins so.
fn value(metrics: &str, line: &str) -> f64 {
    let found = metrics.lines().find_map(|known| known.strip_prefix(line)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("{line} is not in\n{metrics}")).parse().unwrap()
}

/// What stands before the values: a caller who makes one more of these makes the gateway and its scraper grow.
fn series(metrics: &str) -> HashSet<String> {
    metrics.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

#[test]
fn metrics_tell_what_happened() {
    let policies = vec![("10-mask-secrets", "mask-secrets", String::new()), ("20-no-bulk", "no-bulk-export", String::new())];
    let s = setup_with(GatewayOptions { policies, config: ON.into(), ..GatewayOptions::default() });
    s.kubectl(&["get", "secret", "db", "-o", "json"]).success();
    assert_eq!(code(&s.get(&format!("/api/v1/namespaces/{}/pods", s.namespace), "")), 200);
    assert_eq!(code(&s.raw("GET /api HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer nonsense\r\n\r\n")), 401);
    assert_eq!(code(&s.get("/api/v1/secrets", "")), 403);
    let seen = "postern_requests_total{verb=\"get\",verdict=\"mask\",code=\"2xx\",cluster=\"testbed\"} ";
    wait_until("it is counted", Duration::from_secs(10), || Ok(metrics(&s).contains(seen))).unwrap();
    let text = metrics(&s);
    for line in [
        "postern_requests_total{verb=\"list\",verdict=\"allow\",code=\"2xx\",cluster=\"testbed\"}",
        "postern_requests_total{verb=\"list\",verdict=\"block\",code=\"4xx\",cluster=\"testbed\"}",
        "postern_requests_total{verb=\"other\",verdict=\"unauthenticated\",code=\"4xx\",cluster=\"testbed\"}",
        "postern_failed_logins_total",
        "postern_masked_values_total{cluster=\"testbed\"}",
        "postern_policy_calls_total{policy=\"10-mask-secrets\",hook=\"on-request\",verdict=\"mask\"}",
        "postern_policy_calls_total{policy=\"20-no-bulk\",hook=\"on-request\",verdict=\"block\"}",
        "postern_policy_call_seconds_total{policy=\"10-mask-secrets\",hook=\"on-request\"}",
        "postern_upstream_connections_opened_total{cluster=\"testbed\"}",
        "postern_upstream_token_requests_total{cluster=\"testbed\"}",
        "postern_audit_events_total",
        "postern_audit_writable",
        "process_resident_memory_bytes",
    ] {
        assert!(value(&text, line) > 0.0, "{line}");
    }
    assert_eq!(value(&text, "postern_policies{state=\"in-force\"}"), 2.0);
    for stage in ["identify", "classify", "decide", "forward", "respond", "all"] {
        assert!(value(&text, &format!("postern_request_duration_seconds_count{{stage=\"{stage}\",cluster=\"testbed\"}}")) > 0.0);
    }
    assert!(
        !text.contains("hunter2") && !text.contains("aHVudGVy") && !text.contains(&s.namespace),
        "no secret, and no name of a caller's"
    );
    assert!(text.ends_with("# EOF\n"));

    // What the rules and the board that are published ask for is there.
    let known: HashSet<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/monitoring");
    for file in ["alerts.yaml", "grafana.json"] {
        let wanted = std::fs::read_to_string(folder.join(file)).unwrap();
        let names = wanted
            .split(|c: char| !(c.is_ascii_lowercase() || c == '_'))
            .filter(|word| word.starts_with("postern_") || word.starts_with("process_"));
        let names: Vec<_> = names.collect();
        assert!(names.len() > 5, "{file}: {names:?}");
        for name in names {
            let base = ["_total", "_bucket", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
            assert!(known.contains(base), "{file}: {name} is no metric of the gateway's");
        }
    }
}

#[test]
fn no_caller_makes_a_label_grow() {
    let issuer = Issuer::start();
    let mappings = "    claimMappings:\n      username: {claim: sub, prefix: 'corp:'}\n";
    let s = setup_with(GatewayOptions { issuers: issuer.entry(mappings), config: ON.into(), ..GatewayOptions::default() });
    let ask = |from: usize, to: usize| {
        let batch = |numbers: std::ops::Range<usize>| {
            let token = |caller| issuer.token("first", 600, &json!({"sub": format!("caller-{caller}")}));
            let tokens: Vec<_> = numbers.clone().step_by(10).map(|n| token(n / 10)).collect();
            let (first, last) = (numbers.start, numbers.end - 1);
            let request = |n: usize| {
                let (method, path) = match n % 5 {
                    0 => ("GET", format!("/api/v1/namespaces/n{n}/pods/p{n}?q{n}={n}")),
                    1 => ("GET", format!("/made/up/{n}")),
                    2 => ("DELETE", format!("/apis/g{n}.example/v1/r{n}/x{n}")),
                    3 => ("GET", format!("/apis/g{n}.example/v{n}/r{n}?watch=1")),
                    _ => ("HEAD", format!("/api/v1/nodes/n{n}/s{n}")),
                };
                let end = if n == last { "Connection: close\r\n" } else { "" };
                let token = &tokens[(n - first) / 10];
                format!("{method} {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: a{n}\r\nAuthorization: Bearer {token}\r\n{end}\r\n")
            };
            send(&s.gateway, &numbers.map(request).collect::<String>(), Duration::from_secs(60))
        };
        (from..to).step_by(50).for_each(|n| assert!(batch(n..n + 50).contains("HTTP/1.1")));
    };
    ask(0, 500);
    let total = |text: &str| {
        text.lines()
            .filter(|line| line.starts_with("postern_requests_total{"))
            .map(|line| value(text, line.rsplit_once(' ').unwrap().0))
            .sum::<f64>()
    };
    wait_until("all are counted", Duration::from_secs(20), || Ok(total(&metrics(&s)) >= 500.0)).unwrap();
    let before = series(&metrics(&s));
    std::thread::scope(|scope| {
        let ask = &ask;
        (0..4).for_each(|part| drop(scope.spawn(move || ask(1000 + part * 25_000, 1000 + (part + 1) * 25_000))));
    });
    wait_until("all are counted", Duration::from_secs(20), || Ok(total(&metrics(&s)) >= 100_500.0)).unwrap();
    let after = series(&metrics(&s));
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.is_empty(), "a hundred thousand requests of ten thousand callers made {new:?}");
}

#[test]
fn what_is_not_well_is_named() {
    // The API server is not there at this address.
    let kubeconfig = std::fs::read_to_string(cluster().gateway_kubeconfig().unwrap()).unwrap();
    let server = kubeconfig.split("https://").nth(1).unwrap().split(['"', '\n', '\'', ',']).next().unwrap().to_owned();
    let file = e2e::scratch("elsewhere").with_extension("kubeconfig");
    std::fs::write(&file, kubeconfig.replace(&server, "127.0.0.1:1")).unwrap();
    let policies = vec![("10-no-bulk", "no-bulk-export", String::new())];
    let options = GatewayOptions {
        policies,
        config: ON.into(),
        guard: ", required: [10-no-bulk]".into(),
        kubeconfig: Some(file),
        ..GatewayOptions::default()
    };
    let s = setup_with(options);
    let text = |path: &str| asked(&s, &format!("GET {path}"));
    wait_until("it is ready", Duration::from_secs(20), || Ok(code(&text("/readyz")) == 200)).unwrap();
    let well = text("/readyz?verbose");
    for line in ["[+]ping ok", "[+]draining ok", "[+]audit-log ok", "[+]policies ok", "[+]identities ok", "readyz check passed"] {
        assert!(well.contains(line), "{line}: {well}");
    }
    assert!(!well.contains("api-server"), "one replica does no better than another while it is away: {well}");
    let unwell = text("/healthz");
    assert!(
        code(&unwell) == 503
            && unwell.contains("[-]api-server failed: the API server cannot be reached")
            && unwell.contains("healthz check failed"),
        "{unwell}"
    );
    assert_eq!(
        (code(&text("/healthz/audit-log")), code(&text("/healthz/api-server")), code(&text("/healthz?exclude=api-server"))),
        (200, 503, 200)
    );

    std::fs::remove_file(s.gateway.directory.join("policies.d/10-no-bulk.wasm")).unwrap();
    wait_until("it is not ready", Duration::from_secs(20), || Ok(code(&text("/readyz")) == 503)).unwrap();
    let why = text("/readyz");
    assert!(why.contains("[-]policies failed: required and not in force: 10-no-bulk"), "{why}");
    assert_eq!(code(&text("/livez")), 200, "a new process would meet the same");

    // Whoever takes all places that one address has takes none of another's.
    let log = s.gateway.log();
    let address = log.lines().find_map(|line| line.strip_prefix("metrics and health are at http://")).unwrap().parse().unwrap();
    let held: Vec<_> = (0..64).map(|_| e2e::bound("127.0.0.3".parse().unwrap(), address).unwrap()).collect();
    assert_eq!(code(&text("/livez")), 200);
    drop(held);

    // Nothing else is there, and nothing leads on to the cluster.
    for (request, answer) in
        [("GET /", 404), ("GET /api/v1/namespaces", 404), ("GET /readyz/none", 404), ("POST /metrics", 405), ("GET /livez/ping", 200)]
    {
        assert_eq!(code(&asked(&s, request)), answer, "{request}");
    }
}
