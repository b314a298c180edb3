//! `postern policy history`: what was in force when, as the audit log tells it.

use std::collections::HashMap;
use std::ops::ControlFlow;

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};

use crate::cli::filter;
use crate::cli::listing::{Heads, Listed, Output};
use crate::cli::place::Place;
use crate::cli::table::short;
use crate::cli::terminal::say;
use crate::policy::change::{Change, InForce, Version, changes};
use crate::record::query::{self, Query};
use crate::words::Stage;

/// Lists what has changed of the policies in force, the oldest first, as the audit log has it.
#[derive(Args)]
#[command(after_help = "Examples:
  postern policy history                          every change, with digests before and after
  postern policy history mask-secrets --since 7d
  postern policy history --at 2026-11-28T12:00:00Z    what was in force then")]
pub struct History {
    /// The policy; all when absent.
    name: Option<String>,
    /// Changes at or after this time: `2h` ago, `yesterday`, a date, or RFC 3339.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Changes at or before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Lists what was in force at this time, instead of what has changed.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["since", "until"])]
    at: Option<String>,
    /// One of several clusters, with policies of its own.
    #[arg(long)]
    cluster: Option<String>,
    #[command(flatten)]
    output: Output,
    /// The log, where no configuration says.
    #[arg(long)]
    file: Option<std::path::PathBuf>,
    #[command(flatten)]
    place: Place,
}

/// A change, and when it was told.
struct Line {
    time: String,
    cluster: String,
    change: Change,
}

impl History {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let log = self.place.audit_file(self.file.clone())?;
        let time = |flag: &str, text: &Option<String>, read: fn(&str) -> anyhow::Result<u64>| {
            text.as_deref().map(read).transpose().with_context(|| flag.to_owned())
        };
        let (since, until) = (time("--since", &self.since, filter::time)?, time("--until", &self.until, filter::time_to)?);
        let at = time("--at", &self.at, filter::time_to)?;
        // What was in force before is told by events before: all are read, and those are few.
        let question =
            Query { until: until.or(at), cluster: self.cluster.clone(), text: Some(Stage::Policies.name().to_owned()), ..Query::default() };
        let mut in_force: HashMap<String, (String, Vec<InForce>)> = HashMap::new();
        let mut lines = Vec::new();
        query::ask(&log, &question, |line| {
            if query::stage_of(line) == Some(Stage::Policies)
                && let Ok(event) = serde_json::from_slice::<Value>(line)
                && let Ok(now) = serde_json::from_value::<Vec<InForce>>(event["inForce"].clone())
            {
                let [time, cluster] = ["time", "cluster"].map(|name| event[name].as_str().unwrap_or_default().to_owned());
                let is_asked = since.is_none_or(|since| query::second_of(line).is_some_and(|second| second >= since));
                let changed = match in_force.get(&cluster) {
                    Some((_, before)) => changes(before, &now),
                    None => serde_json::from_value(event["changed"].clone()).unwrap_or_else(|_| changes(&[], &now)),
                };
                let of = |change: Change| Line { time: time.clone(), cluster: cluster.clone(), change };
                lines.extend(changed.into_iter().filter(|_| is_asked).map(of));
                in_force.insert(cluster, (time, now));
            }
            ControlFlow::Continue(())
        })
        .with_context(|| format!("cannot read {}", log.display()))?;
        let is_named = |name: &str| self.name.as_ref().is_none_or(|wanted| wanted == name);
        if at.is_some() {
            return self.state(in_force, is_named);
        }
        lines.retain(|line| is_named(&line.change.name));
        self.told(lines)
    }

    /// What has changed.
    fn told(&self, lines: Vec<Line>) -> anyhow::Result<()> {
        if lines.is_empty() && self.output.is_for_people() {
            say!("no changes");
            return Ok(());
        }
        let has_clusters = lines.iter().any(|line| !line.cluster.is_empty());
        let digest = |version: &Option<Version>| version.as_ref().map_or("-".to_owned(), |it| short(&it.digest));
        let items: Vec<_> = lines
            .into_iter()
            .map(|Line { time, cluster, change }| Listed {
                whole: json!({"time": &time, "cluster": &cluster, "name": &change.name, "what": change.what(), "before": &change.before,
                    "after": &change.after}),
                cells: [
                    moment(&time),
                    change.name.clone(),
                    change.what().to_owned(),
                    digest(&change.before),
                    digest(&change.after),
                    mode(change.after.as_ref()),
                ]
                .into_iter()
                .chain(has_clusters.then(|| dashed(cluster)))
                .collect(),
                wide: Vec::new(),
                name: change.name,
            })
            .collect();
        let heads = ["TIME (UTC)", "POLICY", "WHAT", "BEFORE", "AFTER", "MODE"].into_iter().chain(has_clusters.then_some("CLUSTER"));
        self.output.list(&Heads(&heads.collect::<Vec<_>>(), &[]), &items)
    }

    /// What was in force.
    fn state(&self, in_force: HashMap<String, (String, Vec<InForce>)>, is_named: impl Fn(&str) -> bool) -> anyhow::Result<()> {
        let mut all: Vec<_> = in_force.into_iter().collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        let mut items = Vec::new();
        for (cluster, (time, policies)) in all {
            items.extend(policies.into_iter().filter(|policy| is_named(&policy.name)).map(|InForce { name, version }| Listed {
                whole: json!({"time": &time, "cluster": &cluster, "name": &name, "version": &version}),
                cells: vec![name.clone(), short(&version.digest), mode(Some(&version)), moment(&time), dashed(cluster.clone())],
                wide: vec![short(&version.module), short(&version.settings)],
                name,
            }));
        }
        if items.is_empty() && self.output.is_for_people() {
            say!("nothing was in force, or the log does not go back so far");
            return Ok(());
        }
        self.output.list(&Heads(&["POLICY", "DIGEST", "MODE", "TOLD (UTC)", "CLUSTER"], &["MODULE", "SETTINGS"]), &items)
    }
}

/// Of a gateway with one cluster none is told.
fn dashed(cluster: String) -> String {
    if cluster.is_empty() { "-".to_owned() } else { cluster }
}

fn mode(version: Option<&Version>) -> String {
    version.map_or_else(|| "-".to_owned(), |version| format!("{:?}", version.mode).to_lowercase())
}

/// A time to the second, as other commands show it.
fn moment(time: &str) -> String {
    time.get(..19).map_or_else(|| time.to_owned(), |time| time.replace('T', " "))
}
