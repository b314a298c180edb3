//! Case files: operations, and what a policy is to say of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::given::{RehearsedOperation, Wanted};
use super::{PolicyOutput, Said, Stage};
use crate::policy::contract::Output;
use crate::policy::grants::Capability;
use crate::policy::{AskedQuestions, Basis, Policy, PolicyFile, Surroundings};

/// A file of cases.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CaseFile {
    /// The settings of cases that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<Value>,
    /// What the policy is granted; all that it asks for when this is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<Capability>>,
    /// The cases.
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The policy's settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<Value>,
    /// The operation.
    pub operation: Wanted,
    /// Its body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// Objects beside it, for policies that need them.
    #[serde(skip_serializing_if = "Around::is_empty")]
    pub around: Around,
    /// What was counted before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub counted: Vec<Counted>,
    /// What the policy is to say; none where only what comes back matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    /// Objects that come back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ObjectCase>,
    /// What the container writes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chunks: Vec<ChunkCase>,
}

/// Objects beside an operation.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Around {
    /// The Namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Value>,
    /// The object as it is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored: Option<Value>,
    /// The pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Value>,
}

impl Around {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A counter that stands at something.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Counted {
    /// Its key, or the name under which the caller spends.
    pub key: String,
    /// Seconds of its window.
    pub window: u32,
    /// What it stands at.
    pub amount: u64,
    /// The caller who spent it; the one who asks when this is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
}

/// What is expected: a verdict, and as much of the rest as matters.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Expect {
    /// The verdict alone.
    Verdict(String),
    /// More of it.
    More(More),
}

/// A verdict and more.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct More {
    /// The verdict.
    pub verdict: String,
    /// A part of what the caller is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is hidden, all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masks: Option<Vec<String>>,
    /// Groups whose members may approve, all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approvers: Option<Vec<String>>,
    /// Facts for the audit event, these among others.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An object that comes back.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ObjectCase {
    /// As the API server sends it.
    pub object: Value,
    /// allow, mask, block (it is hidden), terminate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    /// As the caller is shown it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shows: Option<Value>,
}

/// A piece of what a container writes.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ChunkCase {
    /// stdout, stderr or log; stdout when it is not said.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub channel: String,
    /// The piece, as text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The data in base64, for what is no text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub base64: String,
    /// forward, replace, terminate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    /// As the caller is shown it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shows: Option<String>,
}

/// What became of a case.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    /// Its name.
    pub name: String,
    /// What differs from what was expected; none when nothing does.
    pub differences: Vec<String>,
    /// What was said of the operation.
    pub said: Said,
    /// The verdicts of all hooks.
    pub verdicts: BTreeSet<String>,
    /// The policy's rules that match, by their place.
    pub rules: BTreeSet<usize>,
    /// What on-request asked, where it was asked and its contract has questions.
    pub asked: Option<AskedQuestions>,
    /// SHA-256 of the policy's module and the case's settings: with others it may ask other questions.
    pub digest: String,
    /// What the policy wrote, call by call.
    pub written: Vec<PolicyOutput>,
    /// Microseconds it took.
    pub took: std::time::Duration,
}

/// What may be expected of an operation, of an object, and of a piece of a stream.
const OF_OPERATIONS: [&str; 6] = ["allow", "mask", "block", "require-approval", "failed", "not-asked"];
const OF_OBJECTS: [&str; 5] = ["allow", "mask", "block", "terminate", "failed"];
const OF_CHUNKS: [&str; 4] = ["forward", "replace", "terminate", "failed"];

impl CaseFile {
    /// Reads the text of a file, and sees that each case can be tried, before anything is built.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let file: Self = serde_saphyr::from_str(text)?;
        for (at, case) in file.cases.iter().enumerate() {
            case.check().with_context(|| format!("cases[{at}] ({})", case.name))?;
        }
        Ok(file)
    }

    /// The JSON Schema of such files.
    pub fn schema() -> String {
        serde_json::to_string_pretty(&schemars::schema_for!(Self)).unwrap_or_default() + "\n"
    }
}

impl Expect {
    fn check(&self, known: &[&str]) -> anyhow::Result<()> {
        let (Self::Verdict(verdict) | Self::More(More { verdict, .. })) = self;
        anyhow::ensure!(known.contains(&verdict.as_str()), "expect: {verdict:?} is none; there are {}", known.join(", "));
        Ok(())
    }
}

impl Case {
    /// Whether it can be tried.
    fn check(&self) -> anyhow::Result<()> {
        self.operation.given(self.body.as_ref(), Surroundings::default()).context("operation")?;
        self.expect.iter().try_for_each(|expect| expect.check(&OF_OPERATIONS))?;
        for (at, object) in self.objects.iter().enumerate() {
            object.expect.iter().try_for_each(|expect| expect.check(&OF_OBJECTS)).with_context(|| format!("objects[{at}]"))?;
        }
        for (at, chunk) in self.chunks.iter().enumerate() {
            chunk
                .piece()
                .and(chunk.expect.iter().try_for_each(|expect| expect.check(&OF_CHUNKS)))
                .with_context(|| format!("chunks[{at}]"))?;
        }
        Ok(())
    }

    /// Tries it with a module.
    pub fn try_with(&self, stage: &Stage, module: &[u8], file: &CaseFile, index: usize) -> anyhow::Result<(Tried, Arc<Policy>)> {
        let settings = self.settings.clone().or_else(|| file.settings.clone());
        let all = || Capability::ALL.to_vec();
        let beside = PolicyFile { settings, grants: Some(file.grants.clone().unwrap_or_else(all)), ..PolicyFile::default() };
        // Each case counts for itself.
        let policy = Arc::new(stage.loader.load(&format!("case-{index}"), module, beside)?);
        let tried = self.try_policy(stage, &policy)?;
        Ok((tried, policy))
    }

    /// Its operation, with what is around it.
    pub fn given(&self) -> anyhow::Result<RehearsedOperation> {
        let around = Surroundings {
            namespace: self.around.namespace.clone().map(Arc::new),
            stored: self.around.stored.clone().map(Arc::new),
            pod: self.around.pod.clone().map(Arc::new),
            only_asks: false,
        };
        self.operation.given(self.body.as_ref(), around).context("operation")
    }

    /// The same by another caller.
    fn by(&self, username: &str) -> Self {
        let mut other = self.clone();
        other.operation.caller.username = username.to_owned();
        other
    }

    /// Tries it with a policy that was loaded.
    pub fn try_policy(&self, stage: &Stage, policy: &Arc<Policy>) -> anyhow::Result<Tried> {
        let began = std::time::Instant::now();
        let given = self.given()?;
        for Counted { key, window, amount, username } in &self.counted {
            let of = match username {
                Some(username) => Some(self.by(username).given()?.subject),
                None => None,
            };
            stage.count(policy, of.as_ref().unwrap_or(&given.subject), key, *amount, *window);
        }
        let mut rehearsal = stage.decide(std::slice::from_ref(policy), &given);
        let said = rehearsal.said();
        let mut tried = Tried { name: self.name.clone(), digest: policy.digest.clone(), ..Tried::default() };
        if let Some(Basis::Asked(asked)) = rehearsal.ruling.terms().answers.first().map(|answer| &answer.basis) {
            tried.asked = Some(asked.clone());
        }
        let mut verdicts = BTreeSet::from([said.verdict.clone()]);
        compare("", self.expect.as_ref(), &said, &mut tried.differences);
        // What does not pass has no answer.
        let passes =
            !matches!(said.verdict.as_str(), "block" | "failed") && (said.verdict != "require-approval" || self.operation.approved);
        if !passes && (!self.objects.is_empty() || !self.chunks.is_empty()) {
            tried.differences.push(format!("nothing comes back: the operation is answered with {}", said.verdict));
        }
        for (at, wanted) in self.objects.iter().enumerate().filter(|_| passes) {
            let (said, shown) = rehearsal.object(&wanted.object);
            let place = format!("objects[{at}]: ");
            compare(&place, wanted.expect.as_ref(), &said, &mut tried.differences);
            if let Some(wanted) = &wanted.shows {
                differ(&format!("{place}shows $"), wanted, shown.as_ref().unwrap_or(&Value::Null), &mut tried.differences);
            }
            verdicts.insert(said.verdict);
        }
        if passes && !self.chunks.is_empty() {
            let pieces = self.chunks.iter().map(ChunkCase::piece).collect::<anyhow::Result<Vec<_>>>()?;
            let shown = rehearsal.chunks(&pieces);
            for (at, wanted) in self.chunks.iter().enumerate() {
                let place = format!("chunks[{at}]: ");
                let Some((said, shown)) = shown.get(at) else {
                    tried.differences.push(format!("{place}the stream had ended before"));
                    continue;
                };
                compare(&place, wanted.expect.as_ref(), said, &mut tried.differences);
                if let Some(wanted) = &wanted.shows {
                    let shown = String::from_utf8_lossy(shown).into_owned();
                    differ(&format!("{place}shows"), &Value::String(wanted.clone()), &Value::String(shown), &mut tried.differences);
                }
                verdicts.insert(said.verdict.clone());
            }
        }
        let rules = policy.manifest.rules.iter().enumerate();
        tried.rules = rules.filter(|(_, rule)| rule.matches(&given.operation)).map(|(at, _)| at).collect();
        (tried.said, tried.verdicts, tried.took) = (said, verdicts, began.elapsed());
        tried.written = stage.written();
        Ok(tried)
    }
}

impl ChunkCase {
    /// A piece of a stream: text where it is text, base64 where it is not.
    pub fn of(channel: &str, data: &[u8]) -> Self {
        let (text, base64) = match std::str::from_utf8(data) {
            Ok(text) => (text.to_owned(), String::new()),
            Err(_) => (String::new(), STANDARD.encode(data)),
        };
        Self { channel: channel.into(), text, base64, ..Self::default() }
    }

    fn piece(&self) -> anyhow::Result<(Output, Vec<u8>)> {
        let output = match self.channel.as_str() {
            "" | "stdout" => Output::Stdout,
            "stderr" => Output::Stderr,
            "log" => Output::Log,
            other => anyhow::bail!("channel: {other} is none; stdout, stderr and log are"),
        };
        let data = match self.base64.as_str() {
            "" => self.text.clone().into_bytes(),
            base64 => STANDARD.decode(base64).context("base64")?,
        };
        Ok((output, data))
    }
}

fn compare(place: &str, expect: Option<&Expect>, said: &Said, differences: &mut Vec<String>) {
    let more = match expect {
        None => return,
        Some(Expect::Verdict(verdict)) => &More { verdict: verdict.clone(), ..More::default() },
        Some(Expect::More(more)) => more,
    };
    let reason = said.reason.as_deref().unwrap_or_default();
    if more.verdict != said.verdict {
        let why = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
        differences.push(format!("{place}verdict: expected {}, got {}{why}", more.verdict, said.verdict));
        return;
    }
    if let Some(part) = &more.reason
        && !reason.contains(part.as_str())
    {
        differences.push(format!("{place}reason: expected {part:?} in it, got {reason:?}"));
    }
    for (name, wanted, got) in [("masks", &more.masks, &said.masks), ("approvers", &more.approvers, &said.approvers)] {
        if let Some(wanted) = wanted
            && wanted != got
        {
            differences.push(format!("{place}{name}: expected {wanted:?}, got {got:?}"));
        }
    }
    for (key, wanted) in &more.annotations {
        match said.annotations.get(key) {
            Some(got) if got == wanted => {}
            got => differences.push(format!("{place}annotations.{key}: expected {wanted:?}, got {got:?}")),
        }
    }
}

/// Where two values differ, leaf by leaf.
pub fn differ(place: &str, wanted: &Value, got: &Value, differences: &mut Vec<String>) {
    match (wanted, got) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let at = format!("{place}.{key}");
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => differ(&at, a, b, differences),
                    (Some(a), None) => differences.push(format!("{at}: expected {a}, got nothing")),
                    (None, Some(b)) => differences.push(format!("{at}: expected nothing, got {b}")),
                    (None, None) => {}
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().for_each(|(at, (a, b))| differ(&format!("{place}[{at}]"), a, b, differences));
        }
        (a, b) if a == b => {}
        (a, b) => differences.push(format!("{place}: expected {a}, got {b}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_are_told_leaf_by_leaf() {
        let mut differences = Vec::new();
        differ("$", &json!({"a": [1, {"b": "x"}], "c": 1}), &json!({"a": [1, {"b": "y"}], "d": 2}), &mut differences);
        assert_eq!(differences, ["$.a[1].b: expected \"x\", got \"y\"", "$.c: expected 1, got nothing", "$.d: expected nothing, got 2"]);
    }

    #[test]
    fn a_case_file_is_strict() {
        let file = CaseFile::parse("cases:\n- name: a\n  operation: {verb: list, resource: pods}\n  expect: allow\n- name: b\n  operation: {verb: list, resource: pods}\n  expect: {verdict: block, reason: x}\n").unwrap();
        assert_eq!(file.cases[0].expect, Some(Expect::Verdict("allow".into())));
        assert!(CaseFile::parse("cases:\n- nam: a\n").unwrap_err().to_string().contains("nam"));
        let get = "cases:\n- name: a\n  operation: {verb: list, resource: pods}\n";
        for (rest, why) in [
            ("  expect: blocked\n", "cases[0] (a): expect: \"blocked\" is none; there are allow"),
            ("  objects: [{object: {}, expect: not-asked}]\n", "cases[0] (a): objects[0]: expect: \"not-asked\" is none"),
            ("  chunks: [{channel: stdlog, text: a}]\n", "cases[0] (a): chunks[0]: channel: stdlog is none"),
            ("  chunks: [{text: a, expect: allow}]\n", "cases[0] (a): chunks[0]: expect: \"allow\" is none"),
        ] {
            let told = format!("{:#}", CaseFile::parse(&format!("{get}{rest}")).unwrap_err());
            assert!(told.starts_with(why), "{told}");
        }
        let told = format!("{:#}", CaseFile::parse("cases:\n- name: a\n  operation: {verb: fetch, resource: pods}\n").unwrap_err());
        assert!(told.starts_with("cases[0] (a): operation: verb: fetch is none"), "{told}");
    }
}
