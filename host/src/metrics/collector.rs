//! What a scrape tells.

use std::fmt::{self, Error};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::histogram::Total;
use super::{CLASSES, Count, Metrics};
use crate::words::{Ending, Step, Verb, Verdict};

/// What is not counted as it happens, but looked at when somebody asks.
pub trait Source: Send + Sync + 'static {
    /// What there is to tell, each name once.
    fn samples(&self) -> Vec<Sample>;
}

/// Something with a name, and its values by their labels.
#[derive(Debug)]
pub struct Sample {
    /// The name, without a suffix.
    pub name: &'static str,
    /// What it is.
    pub help: &'static str,
    /// How it changes.
    pub kind: Kind,
    /// Each value with its labels.
    pub values: Vec<(Vec<(&'static str, String)>, f64)>,
}

/// How a value changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
}

impl Sample {
    /// One value without labels.
    pub fn of(name: &'static str, help: &'static str, kind: Kind, value: f64) -> Self {
        Self { name, help, kind, values: vec![(Vec::new(), value)] }
    }
}

pub(super) struct Collector {
    /// What was counted, by the name of the cluster.
    pub(super) counted: Vec<(String, Arc<Metrics>)>,
    pub(super) sources: Vec<Box<dyn Source>>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("clusters", &self.counted.len()).finish_non_exhaustive()
    }
}

impl collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        self.requests(&mut encoder)?;
        self.steps(&mut encoder)?;
        self.endings(&mut encoder)?;
        for (count, name, help) in Count::ALL {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            let sum = |metrics: &Metrics| metrics.sum(|shard| shard.counts[count as usize].load(Ordering::Relaxed));
            if !count.is_by_cluster() {
                let all: u64 = self.counted.iter().map(|(_, metrics)| sum(metrics)).sum();
                metric.encode_counter::<NoLabelSet, _, f64>(&all, None)?;
                continue;
            }
            for (cluster, metrics) in &self.counted {
                let labels = [("cluster", cluster.as_str())];
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&sum(metrics), None)?;
            }
        }
        for sample in self.sources.iter().flat_map(|source| source.samples()) {
            let kind = if sample.kind == Kind::Counter { MetricType::Counter } else { MetricType::Gauge };
            let mut metric = encoder.encode_descriptor(sample.name, sample.help, None, kind)?;
            for (labels, value) in &sample.values {
                match labels.is_empty() {
                    true => one(&mut metric, sample.kind, *value)?,
                    false => one(&mut metric.encode_family(labels)?, sample.kind, *value)?,
                }
            }
        }
        Ok(())
    }
}

fn one(metric: &mut MetricEncoder<'_>, kind: Kind, value: f64) -> Result<(), Error> {
    match kind {
        Kind::Counter => metric.encode_counter::<NoLabelSet, _, f64>(&value, None),
        Kind::Gauge => metric.encode_gauge(&value),
    }
}

impl Collector {
    fn requests(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let help = "Operations that ended, by verb, verdict and class of the status";
        let mut metric = encoder.encode_descriptor("postern_requests", help, None, MetricType::Counter)?;
        for (cluster, metrics) in &self.counted {
            for (verb, verdict) in Verb::ALL.iter().flat_map(|verb| Verdict::ALL.iter().map(move |verdict| (verb, verdict))) {
                for (class, code) in CLASSES.iter().enumerate() {
                    let count = |shard: &super::Shard| shard.requests[*verb as usize][*verdict as usize][class].load(Ordering::Relaxed);
                    let value = metrics.sum(count);
                    if value == 0 {
                        continue;
                    }
                    let labels = [("verb", verb.name()), ("verdict", verdict.name()), ("code", *code), ("cluster", cluster.as_str())];
                    metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&value, None)?;
                }
            }
        }
        Ok(())
    }

    fn endings(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let help = "Answers and streams that ended, by how";
        let mut metric = encoder.encode_descriptor("postern_answers_ended", help, None, MetricType::Counter)?;
        for ((cluster, metrics), ending) in self.counted.iter().flat_map(|counted| Ending::ALL.iter().map(move |ending| (counted, ending)))
        {
            let value = metrics.sum(|shard| shard.endings[*ending as usize].load(Ordering::Relaxed));
            if value > 0 {
                let labels = [("ended", ending.name()), ("cluster", cluster.as_str())];
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&value, None)?;
            }
        }
        Ok(())
    }

    fn steps(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let help = "How long operations took, by stage; `all` is to the end of the answer";
        let mut metric = encoder.encode_descriptor("postern_request_duration", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for ((cluster, metrics), step) in self.counted.iter().flat_map(|counted| Step::ALL.iter().map(move |step| (counted, step))) {
            let mut total = Total::default();
            metrics.shards().iter().for_each(|shard| shard.steps[*step as usize].add_to(&mut total));
            let labels = [("stage", step.name()), ("cluster", cluster.as_str())];
            metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(total.seconds(), total.count(), &total.classes(), None)?;
        }
        Ok(())
    }
}
