//! What it costs to be watched: metrics, and traces in a collector, of a request that one policy is asked about and masks.

use std::rc::Rc;

use bytes::Bytes;
use hyper::Method;
use testbed::{Collector, GatewayOptions};

use crate::Effort;
use crate::closed::compare;
use crate::report::Report;
use crate::subject::Bed;

/// The same gateway with nothing of it, with metrics, and with traces of one request in a hundred and of all beside them.
pub(crate) async fn run(bed: &Bed, effort: Effort, report: &mut Report) -> anyhow::Result<()> {
    let collector = Collector::start(&bed.directory().join("collector"))?;
    let traces = |rate: u32| {
        format!("operations: {{address: '127.0.0.1:0'}}\ntelemetry: {{{}, samplingRatePerMillion: {rate}}}\n", collector.plain())
    };
    let settings = "settings: {fields: [{resource: pods, paths: ['$.spec.containers[*].env[*].value']}]}\n";
    let (mut gateways, mut subjects) = (Vec::new(), Vec::new());
    for (name, config) in [
        ("postern-unwatched", String::new()),
        ("postern-metrics", "operations: {address: '127.0.0.1:0'}\n".to_owned()),
        ("postern-traces-1%", traces(10_000)),
        ("postern-traces-all", traces(1_000_000)),
    ] {
        let policies = vec![("20-mask-secrets", "mask-secrets", settings.to_owned())];
        let (gateway, subject) = bed.gateway(name, GatewayOptions { policies, config, ..GatewayOptions::default() })?;
        gateways.push(gateway);
        subjects.push(subject);
    }
    let ask = |_| (Method::GET, "/api/v1/namespaces/default/pods/web".to_owned(), Bytes::new());
    compare(&subjects, effort, report, "observed", 8, Rc::new(ask)).await
}
