//! `postern audit top`: who, or what, there is most of.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::address_of;
use crate::cli::listing::{Heads, Listed, Output};
use crate::cli::terminal::say;
use crate::mask::member;
use crate::record::query::{self, Query, resource_of, stage_of, text_of};
use crate::words::Stage;

/// What is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum By {
    /// The caller's name.
    User,
    /// Policies, and what each answered.
    Policy,
    /// The resource, with its subresource.
    Resource,
    /// The verb.
    Verb,
    /// The namespace.
    Namespace,
    /// What was decided.
    Verdict,
    /// The status of the answer.
    Status,
    /// The address it came from, without its port.
    Source,
    /// The cluster.
    Cluster,
}

/// How often something was done, and how often it was refused.
#[derive(Clone, Copy, Default)]
struct Tally {
    operations: u64,
    refused: u64,
}

/// Counts operations that are asked for: each once, by its last event.
pub(super) fn top(log: &Path, query: &Query, by: By, most: usize, output: Output) -> anyhow::Result<()> {
    let mut tallies: HashMap<String, Tally> = HashMap::new();
    let read = |line: &[u8]| {
        let stage = stage_of(line).filter(|stage| stage.is_last())?;
        // Of failed logins that were no events of their own one event tells how many there were.
        let count = member(line, b"failedLogins").ok().flatten().and_then(|count| serde_json::from_slice(count).ok()).unwrap_or(1u64);
        Some((names(line, by), count, if stage == Stage::Refused { count } else { 0 }))
    };
    query::read_all(log, query, read, |(names, count, refused)| {
        for name in names {
            let tally = tallies.entry(name).or_default();
            tally.operations += count;
            tally.refused += refused;
        }
        ControlFlow::Continue(())
    })?;
    let mut tallies: Vec<_> = tallies.into_iter().collect();
    tallies.sort_by(|(a, tally), (b, other)| other.operations.cmp(&tally.operations).then_with(|| a.cmp(b)));
    let others = tallies.len().saturating_sub(most);
    tallies.truncate(most);
    let name = by.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let items: Vec<_> = tallies
        .into_iter()
        .map(|(what, Tally { operations, refused })| Listed {
            whole: json!({name.as_str(): what, "operations": operations, "refused": refused}),
            cells: vec![operations.to_string(), refused.to_string(), what.clone()],
            wide: Vec::new(),
            name: what,
        })
        .collect();
    output.list(&Heads(&["OPERATIONS", "REFUSED", &name.to_uppercase()], &[]), &items)?;
    if others > 0 && output.is_for_people() {
        say!("and {others} more; --limit shows them");
    }
    Ok(())
}

/// What an event is counted under.
fn names(line: &[u8], by: By) -> Vec<String> {
    let text = |path: &[&str]| text_of(line, path).map(Cow::into_owned);
    let name = match by {
        By::User => text(&["caller", "username"]),
        By::Resource => resource_of(line),
        By::Verb => text(&["verb"]),
        By::Namespace => text(&["target", "namespace"]),
        By::Verdict => text(&["verdict"]),
        By::Cluster => text(&["cluster"]),
        By::Status => member(line, b"status").ok().flatten().map(|status| String::from_utf8_lossy(status).into_owned()),
        By::Source => text(&["source"]).map(|source| address_of(&source)),
        By::Policy => {
            let answers = member(line, b"policies").ok().flatten().and_then(|answers| serde_json::from_slice::<Vec<Value>>(answers).ok());
            let said = |answer: &Value| {
                let text = |name: &str| answer[name].as_str().unwrap_or("-");
                // One that is observed decides nothing.
                let observed = if answer["observed"] == true { " (observed)" } else { "" };
                format!("{}: {}{observed}", text("policy"), text("verdict"))
            };
            return answers.iter().flatten().map(said).collect();
        }
    };
    vec![name.unwrap_or_else(|| "-".to_owned())]
}
