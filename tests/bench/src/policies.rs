//! What policies cost: by how many are loaded, and by what they are written in.

use std::cell::Cell;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};
use testbed::GatewayOptions;

use crate::Effort;
use crate::closed::compare;
use crate::report::{Line, Report};
use crate::subject::Bed;

/// So many loaded, of which three are asked: a GET costs what those three cost, however many there are beside them.
pub(crate) async fn loaded(bed: &Bed, effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    let (mut gateways, mut subjects) = (Vec::new(), Vec::new());
    for (name, loaded) in [("postern-3-of-3", 3), ("postern-3-of-10", 10), ("postern-3-of-100", 100)] {
        let policies = (0..loaded).map(|n| {
            // One that guards names is asked about every get of its resource.
            let resource = if n < 3 { "pods" } else { "secrets" };
            let file: &'static str = format!("{n:03}").leak();
            (file, "no-bulk-export", format!("settings: {{resources: [{resource}], names: [none-{n}]}}\n"))
        });
        let (gateway, subject) = bed.gateway(name, GatewayOptions { policies: policies.collect(), ..GatewayOptions::default() })?;
        gateways.push(gateway);
        subjects.push(subject);
    }
    let ask = |_| (Method::GET, "/api/v1/namespaces/default/pods/web".to_owned(), Bytes::new());
    compare(&subjects, effort, report, "loaded", 8, Rc::new(ask)).await
}

/// One, three and ten policies asked about a GET of one of many pods, the first of which masks it: as they are remembered, and as they are asked each time.
pub(crate) async fn remembered(bed: &Bed, effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    bed.namespace("bench-names").await?;
    let mut admin = bed.admin.connect().await?;
    let environment: Vec<Value> = (0..10).map(|n| json!({"name": format!("KEY_{n}"), "value": "x".repeat(40)})).collect();
    for n in 0..effort.names {
        let container = json!({"name": "c", "image": "registry.example/app:1", "env": environment});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{n}")}, "spec": {"containers": [container]}});
        admin.call(Method::POST, "/api/v1/namespaces/bench-names/pods", Bytes::from(pod.to_string())).await?;
    }
    let (mut gateways, mut subjects) = (Vec::new(), Vec::new());
    for (name, asked, remember) in [
        ("none", 0, "on"),
        ("1-remembered", 1, "on"),
        ("1-asked", 1, "off"),
        ("3-remembered", 3, "on"),
        ("3-asked", 3, "off"),
        ("10-remembered", 10, "on"),
        ("10-asked", 10, "off"),
    ] {
        let policies = (0..asked).map(|n| {
            let file: &'static str = format!("{n:03}").leak();
            match n {
                0 => (file, "mask-env", format!("remember: {remember}\n")),
                n => (file, "no-bulk-export", format!("settings: {{resources: [pods], names: ['none-{n}-*']}}\nremember: {remember}\n")),
            }
        });
        let (gateway, subject) = bed.gateway(name, GatewayOptions { policies: policies.collect(), ..GatewayOptions::default() })?;
        gateways.push(gateway);
        subjects.push(subject);
    }
    let (number, names) = (Cell::new(0), effort.names);
    let ask = move |_| {
        number.set(number.get() + 1);
        (Method::GET, format!("/api/v1/namespaces/bench-names/pods/p{}", number.get() % names), Bytes::new())
    };
    compare(&subjects, effort, report, "remembered", 8, Rc::new(ask)).await?;
    for (gateway, subject) in gateways.iter().zip(&subjects) {
        let config = gateway.directory.join("postern.yaml").display().to_string();
        let list = testbed::Gateway::postern(&["policy", "list", "--json", "--config", &config])?;
        let list: Value = serde_json::from_slice(&list.stdout)?;
        let sum =
            |what: &str| list["policies"].as_array().into_iter().flatten().filter_map(|line| line["counts"][what].as_f64()).sum::<f64>();
        eprintln!("  {}: {:.2} % of the calls were answered from memory", subject.name, 100.0 * sum("remembered") / sum("calls").max(1.0));
    }
    Ok(())
}

/// A list of Secrets that is masked, and the same of which a policy is asked about each by its label: as it is remembered, and as it is asked each time.
pub(crate) async fn objects(bed: &Bed, effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    bed.secrets("bench-objects", effort.secrets).await?;
    let teams: Vec<String> = (0..10).map(|n| format!("\"team-{n}\"")).collect();
    let asks = |remember: &str| {
        let settings =
            json!({"quiet": true, "object": [{"is": ["verb", ["get", "list"]]}, {"document-is": ["$.metadata.labels.team", teams]}]});
        ("asks", "asks", format!("settings: {settings}\nrules: [{{resources: [secrets]}}]\nremember: {remember}\n"))
    };
    let (mut gateways, mut subjects) = (Vec::new(), Vec::new());
    for (name, asked) in [("masked", None), ("by-label", Some("on")), ("by-label-asked", Some("off"))] {
        let policies = std::iter::once(("mask-secrets", "mask-secrets", String::new())).chain(asked.map(asks)).collect();
        let (gateway, subject) = bed.gateway(name, GatewayOptions { policies, ..GatewayOptions::default() })?;
        gateways.push(gateway);
        subjects.push(subject);
    }
    let ask = |_| (Method::GET, "/api/v1/namespaces/bench-objects/secrets".to_owned(), Bytes::new());
    compare(&subjects, effort, report, "objects", 2, Rc::new(ask)).await
}

/// on-request of a policy in each language, one call after another and a pause apart: a request is a call, and memory that of one instance. The first time
/// the policy is compiled, the second time its compiled code is there.
pub(crate) fn languages(effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    let languages = [
        ("rust", "rust, paused", "no-bulk-export"),
        ("c", "c, paused", "rate-limit"),
        ("zig", "zig, paused", "namespace-fence"),
        ("go", "go, paused", "naming"),
        ("javascript", "javascript, paused", "require-reason"),
        ("python", "python, paused", "time-window"),
    ];
    for (language, paused, policy) in languages {
        let place = testbed::cache().join("run").join(format!("bench-{}-{language}", std::process::id()));
        std::fs::create_dir_all(&place)?;
        let module = place.join(format!("{policy}.wasm"));
        std::fs::copy(testbed::policy(policy), &module)?;
        let settings = match policy {
            "namespace-fence" => "settings: {namespaces: [default]}\n",
            "naming" => "settings: {names: [{resources: [namespaces], pattern: '^shop-'}]}\n",
            _ => "",
        };
        if !settings.is_empty() {
            std::fs::write(module.with_extension("yaml"), settings)?;
        }
        for (subject, pause) in [(language, "0"), (paused, PAUSE)] {
            calls(&module, subject, pause, effort, report)?;
        }
        let _ = std::fs::remove_dir_all(place);
    }
    Ok(())
}

/// Milliseconds between two calls of one policy: a gateway that has 500 requests a second for it.
const PAUSE: &str = "2";

fn calls(module: &Path, subject: &'static str, pause: &str, effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    let seconds = effort.round.as_secs_f64().to_string();
    let mut bench = Command::new(testbed::postern());
    bench.args(["policy", "bench", "--json", "--seconds", &seconds, "--pause", pause]).arg(module);
    let output = bench.env("XDG_CACHE_HOME", module.with_extension("cache")).output()?;
    if !output.status.success() {
        bail!("policy bench of {}: {}", module.display(), String::from_utf8_lossy(&output.stderr));
    }
    let told: Value = serde_json::from_slice(&output.stdout)?;
    let hook = &told["hooks"][0];
    let milliseconds = |name: &str| Duration::from_nanos(hook[name].as_u64().unwrap_or_default()).as_secs_f64() * 1e3;
    report.add(Line {
        case: "languages",
        subject,
        requests_per_second: hook["callsPerSecond"].as_f64().unwrap_or_default(),
        p50_ms: milliseconds("p50Nanoseconds"),
        p99_ms: milliseconds("p99Nanoseconds"),
        cpu_us_per_request: None,
        rss_mb: hook["memoryBytes"].as_f64().map(|bytes| bytes / f64::from(1 << 20)),
        rss_growth_mb: None,
        load_ms: told["loadMilliseconds"].as_f64(),
    });
    Ok(())
}
