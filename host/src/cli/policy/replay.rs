//! `postern policy replay` and `diff`: what another version of a policy would change.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::Value;

use super::super::filter;
use super::super::table::{self, printable, row};
use super::capture::Where;
use super::check::{hooks, needs, rule_text, some};
use super::list::sees;
use super::recorded::{Lack, answered, operations, recent};
use super::{load, name_of, read, tell_written, test};
use crate::cli::terminal::say;
use crate::policy::Policy;
use crate::policy::module;
use crate::rehearse::{Said, Stage, recorded};

/// Runs a policy over recorded traffic.
#[derive(Args)]
pub struct Replay {
    /// The module, `NAME.wasm`, with `NAME.yaml` beside it where it needs settings.
    file: PathBuf,
    /// Sessions, or a time: all sessions since then, for example `2h`.
    #[arg(long, required = true, value_name = "SESSION|TIME")]
    from: Vec<String>,
    /// The version to lay beside it; what was answered then when absent.
    #[arg(long, value_name = "OLD")]
    beside: Option<PathBuf>,
    /// The name the policy had in the recordings; that of the file when absent.
    #[arg(long)]
    name: Option<String>,
    /// Fails where anything would be answered otherwise, for CI.
    #[arg(long)]
    fail_on_change: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

/// Operations for which the answer changes in the same way.
#[derive(Default)]
struct Group {
    count: u64,
    example: String,
    reason: String,
}

impl Replay {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let stage = Stage::open()?;
        let policy = load(&stage, &self.file)?;
        let beside = self.beside.as_ref().map(|file| load(&stage, file)).transpose()?;
        let name = self.name.clone().unwrap_or_else(|| name_of(&self.file));
        let place = self.place.open()?;
        let mut sessions = Vec::new();
        for from in &self.from {
            let is_session = from.len() == 16 && from.bytes().all(|byte| byte.is_ascii_hexdigit());
            sessions.extend(match filter::time(from) {
                _ if is_session => vec![from.clone()],
                Ok(time) => place.since(time)?,
                // What is no time may be the beginning of a session's id.
                Err(error) => match from.len() >= 4 && from.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    true => vec![place.session(from)?],
                    false => return Err(error),
                },
            });
        }
        sessions.sort();
        sessions.dedup();
        let (mut all, mut same, mut unread, mut alone, mut unknown) = (0u64, 0u64, 0u64, 0u64, 0u64);
        let mut groups: BTreeMap<[String; 4], Group> = BTreeMap::new();
        // What is in the gateway's memory alone is none of a recording.
        let mut recent: HashMap<String, Vec<u8>> = sessions.iter().flat_map(|session| recent(&place, session)).collect();
        for mut kept in operations(&place, &sessions)? {
            if kept.request.is_none() {
                kept.request = kept.event["id"].as_str().and_then(|id| recent.remove(id));
            }
            let Ok(given) = recorded::given(&kept.event, kept.request.as_deref()) else { continue };
            all += 1;
            match Lack::of(&policy, &given).or_else(|| Lack::of(beside.as_ref()?, &given)) {
                Some(Lack::Body) => {
                    unread += 1;
                    continue;
                }
                Some(Lack::Objects) => {
                    alone += 1;
                    continue;
                }
                None => {}
            }
            let now = stage.decide(std::slice::from_ref(&policy), &given).said();
            let then = match &beside {
                Some(beside) => stage.decide(std::slice::from_ref(beside), &given).said(),
                None => match answered(&kept.event, &name) {
                    Some(said) => said,
                    None => Said { verdict: "not-asked".into(), ..Said::default() },
                },
            };
            if beside.is_none() && kept.event["policies"].is_null() && now.verdict == "not-asked" {
                unknown += 1;
            }
            if weight(&then) == weight(&now) {
                same += 1;
                continue;
            }
            let target = given.operation.resource_path().unwrap_or_else(|| given.operation.path.clone());
            let key = [
                format!("{} -> {}", weight(&then), weight(&now)),
                given.operation.verb.clone(),
                target,
                given.subject.username().to_owned(),
            ];
            let group = groups.entry(key).or_default();
            group.count += 1;
            if group.example.is_empty() {
                group.example = kept.event["id"].as_str().unwrap_or_default().to_owned();
                group.reason = now.reason.or(then.reason).unwrap_or_default();
            }
        }
        let changed = all - same - unread - alone;
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.count));
        if self.json {
            let list = groups.iter().map(|([change, verb, resource, caller], group)| {
                serde_json::json!({"count": group.count, "change": change, "verb": verb, "resource": resource, "caller": caller, "example": group.example, "reason": group.reason})
            });
            let told = serde_json::json!({"operations": all, "same": same, "changed": changed, "withoutBody": unread, "withoutObjects": alone, "groups": list.collect::<Vec<_>>()});
            say!("{}", serde_json::to_string_pretty(&told)?);
            return self.judged(changed);
        }
        say!("{all} operations of {} sessions: {same} answered the same, {changed} otherwise", sessions.len());
        if unread > 0 {
            say!("{unread} could not be asked about: the policy reads bodies, and theirs were not kept (sessions.bodies)");
        }
        if alone > 0 {
            say!("{alone} could not be asked about: the policy needs objects beside an operation, and no recording has them");
        }
        if unknown > 0 && unknown == all {
            say!("no rule of the policy matches any of them");
        }
        tell_written(&stage);
        if groups.is_empty() {
            return self.judged(changed);
        }
        say!("");
        let mut rows = vec![row(["COUNT", "CHANGE", "VERB", "RESOURCE", "CALLER", "EXAMPLE", "WHY"])];
        for ([change, verb, resource, caller], group) in &groups {
            rows.push(row([&group.count.to_string(), change, verb, resource, caller, &group.example, &printable(&group.reason)]));
        }
        table::print(&rows);
        self.judged(changed)
    }

    /// Whether what was found is a failure.
    fn judged(&self, changed: u64) -> anyhow::Result<()> {
        anyhow::ensure!(!self.fail_on_change || changed == 0, "{changed} operations would be answered otherwise (--fail-on-change)");
        Ok(())
    }
}

/// An answer as far as a change of it matters: a policy that is not asked lets pass like one that allows.
fn weight(said: &Said) -> &str {
    match said.verdict.as_str() {
        "not-asked" => "allow",
        verdict => verdict,
    }
}

/// Says how two versions of a policy differ.
#[derive(Args)]
pub struct Diff {
    /// The old module.
    old: PathBuf,
    /// The new one.
    new: PathBuf,
    /// A case file that both are asked about.
    #[arg(long)]
    cases: Option<PathBuf>,
}

impl Diff {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let stage = Stage::open()?;
        let [old, new] = [load(&stage, &self.old)?, load(&stage, &self.new)?];
        let mut lines = Vec::new();
        contract([&read(&self.old)?, &read(&self.new)?], &mut lines)?;
        manifests(&old, &new, &mut lines);
        if let Some(file) = self.cases.clone().or_else(|| test::cases_of(&self.new)) {
            let [before, after] = [test::try_file(&stage, &read(&self.old)?, &file)?, test::try_file(&stage, &read(&self.new)?, &file)?];
            for (before, after) in before.tried.iter().zip(&after.tried) {
                if before.said != after.said {
                    let text =
                        |said: &Said| format!("{}{}", said.verdict, said.reason.as_ref().map(|r| format!(" ({r})")).unwrap_or_default());
                    lines.push(format!("case {:?}: {} -> {}", after.name, text(&before.said), text(&after.said)));
                } else if before.differences != after.differences {
                    lines.push(format!("case {:?}: what comes back differs", after.name));
                }
            }
        }
        if lines.is_empty() {
            say!("they do not differ");
        }
        lines.iter().for_each(|line| say!("{line}"));
        Ok(())
    }
}

fn contract([old, new]: [&[u8]; 2], lines: &mut Vec<String>) -> anyhow::Result<()> {
    let [old, new] = [module::inspect(old)?, module::inspect(new)?];
    for (what, old, new) in [("imports", &old.imports, &new.imports), ("exports", &old.exports, &new.exports)] {
        sets(what, old, new, lines);
    }
    Ok(())
}

fn sets(what: &str, old: &[String], new: &[String], lines: &mut Vec<String>) {
    let [a, b]: [BTreeSet<&String>; 2] = [old.iter().collect(), new.iter().collect()];
    lines.extend(a.difference(&b).map(|gone| format!("{what}: - {gone}")));
    lines.extend(b.difference(&a).map(|added| format!("{what}: + {added}")));
}

fn manifests(old: &Arc<Policy>, new: &Arc<Policy>, lines: &mut Vec<String>) {
    let (a, b) = (&old.manifest, &new.manifest);
    let capabilities = |policy: &Policy| sees(&policy.manifest.capabilities);
    let plain = [
        ("name", a.name.clone(), b.name.clone()),
        ("version", a.version.clone(), b.version.clone()),
        ("summary", a.summary.clone(), b.summary.clone()),
        ("hooks", some(&hooks(a)), some(&hooks(b))),
        ("sees", capabilities(old), capabilities(new)),
        ("needs", some(&needs(a)), some(&needs(b))),
    ];
    lines.extend(plain.into_iter().filter(|(_, a, b)| a != b).map(|(what, a, b)| format!("{what}: {a} -> {b}")));
    let rules = |policy: &Policy| policy.manifest.rules.iter().map(rule_text).collect::<Vec<_>>();
    sets("rules", &rules(old), &rules(new), lines);
    let properties = |policy: &Policy| -> serde_json::Map<String, Value> {
        let schema: Value = serde_json::from_str(&policy.manifest.settings_schema).unwrap_or_default();
        schema["properties"].as_object().cloned().unwrap_or_default()
    };
    let (a, b) = (properties(old), properties(new));
    sets("settings", &a.keys().cloned().collect::<Vec<_>>(), &b.keys().cloned().collect::<Vec<_>>(), lines);
    for (name, property) in a.iter().filter(|(name, property)| b.get(*name).is_some_and(|other| other != *property)) {
        lines.push(format!("settings: {name}: {property} -> {}", b[name]));
    }
}
