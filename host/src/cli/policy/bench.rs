//! `postern policy bench`: what calls of a module cost.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use super::super::table::{self, row};
use super::{list::duration, load, tell_written, test};
use crate::cli::asked::in_words;
use crate::cli::terminal::say;
use crate::policy::contract::Output;
use crate::policy::rules::Rule;
use crate::policy::{AskedQuestions, Basis, Call, Hook, Object, Policy, Surroundings};
use crate::rehearse::Stage;
use crate::rehearse::given::{RehearsedOperation, Wanted};

/// Measures what calls of a module cost.
///
/// It is asked about an operation that its own rules match, with a body and objects beside it that are much like others; --cases has it asked about one of yours.
#[derive(Args)]
#[command(after_help = "Examples:
  postern policy bench my-policy.wasm
  postern policy bench my-policy.wasm --cases cases.yaml --case 'nor many at once'")]
pub struct Bench {
    /// The module, `NAME.wasm`, with `NAME.yaml` beside it where it needs settings.
    file: PathBuf,
    /// A file of cases: it is asked about the operation of the first that it is asked about at all.
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
    /// The name of another of them.
    #[arg(long, value_name = "NAME", requires = "cases")]
    case: Option<String>,
    /// Seconds for each hook.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Milliseconds between two calls: what is done off a request's path is then done by the next. Without it one call follows another.
    #[arg(long, default_value_t = 0.0)]
    pause: f64,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// How long, and how fast.
#[derive(Clone, Copy)]
struct Pace {
    time: Duration,
    pause: Duration,
}

/// What the calls of one hook took.
struct Measured {
    hook: Hook,
    took: Vec<Duration>,
    all: Duration,
    memory: usize,
}

impl Bench {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let stage = Stage::open()?;
        let done = self.measured(&stage);
        if !self.json {
            tell_written(&stage);
        }
        done
    }

    fn measured(&self, stage: &Stage) -> anyhow::Result<()> {
        if !(0.01..=600.0).contains(&self.seconds) {
            bail!("--seconds: between 0.01 and 600");
        }
        let began = Instant::now();
        let policy = load(stage, &self.file)?;
        let loaded = began.elapsed();
        let pace =
            Pace { time: Duration::from_secs_f64(self.seconds), pause: Duration::from_secs_f64(self.pause.clamp(0.0, 1000.0) / 1e3) };
        let given = match &self.cases {
            Some(file) => self.chosen(&policy, file)?,
            None => sampled(&policy)?,
        };
        let (mut measured, mut asks) = (Vec::new(), None);
        if policy.has(Hook::OnRequest) {
            let call = || Call {
                subject: &given.subject,
                body: given.body.clone().map(|body| body as _),
                object: None,
                surroundings: &given.around,
                plans: &stage.plans,
            };
            measured.push(measure(Hook::OnRequest, pace, || {
                let call = call();
                let answer = policy.call_on_request(&stage.loader.runtime, &call);
                if let (None, Basis::Asked(asked)) = (&asks, answer.basis) {
                    asks = Some(asked);
                }
                answer.verdict.map(|_| answer.memory)
            })?);
        }
        if policy.has(Hook::OnObject) {
            let object = secret();
            let size = object.to_string().len() as u64;
            let object = Arc::new(Object::of(object, size));
            measured.push(measure(Hook::OnObject, pace, || {
                let answer = policy.call_on_object(&stage.loader.runtime, &given.subject, &stage.plans, &object);
                answer.verdict.map(|_| answer.memory)
            })?);
        }
        if policy.has(Hook::OnChunk) {
            measured.push(chunks(stage, &policy, &given, pace)?);
        }
        if self.json {
            let hooks = measured.iter().map(|m| {
                let [p50, p99] = [50, 99].map(|n| m.quantile(n).as_nanos() as u64);
                json!({"hook": m.hook.name(), "callsPerSecond": m.per_second(), "p50Nanoseconds": p50, "p99Nanoseconds": p99, "memoryBytes": m.memory})
            });
            let told = json!({"file": self.file, "loadMilliseconds": loaded.as_millis() as u64, "hooks": hooks.collect::<Vec<_>>(),
                "questions": asks.as_ref().map(|asks| &asks.questions), "spoiltBy": asks.as_ref().and_then(|asks| asks.spoilt_by)});
            say!("{}", serde_json::to_string_pretty(&told)?);
            return Ok(());
        }
        let asked = given.operation.resource_path().unwrap_or_else(|| given.operation.path.clone());
        say!("asked about: {} {asked}{}", given.operation.verb, if given.body.is_some() { ", with a body" } else { "" });
        say!("loaded in {:.0} ms; compiled code is kept, so a second time takes less", loaded.as_secs_f64() * 1e3);
        let mut rows = vec![row(["HOOK", "CALLS/S", "P50", "P99", "MEMORY"])];
        rows.extend(measured.iter().map(|m| {
            let [p50, p99] = [50, 99].map(|n| duration(m.quantile(n).as_nanos() as u64));
            row([m.hook.name(), &format!("{:.0}", m.per_second()), &p50, &p99, &format!("{} KiB", m.memory >> 10)])
        }));
        table::print(&rows);
        if policy.has(Hook::OnRequest) {
            say!("{}", remembered(asks.as_ref()));
        }
        Ok(())
    }

    /// The operation of a case: of the one that is named, or the first that the policy is asked about.
    fn chosen(&self, policy: &Policy, file: &Path) -> anyhow::Result<RehearsedOperation> {
        let cases = test::cases_in(file)?.cases;
        for case in &cases {
            if self.case.as_ref().is_some_and(|name| *name != case.name) {
                continue;
            }
            let given = case.given()?;
            if self.case.is_some() || policy.matches(&given.operation) {
                return Ok(given);
            }
        }
        let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        match &self.case {
            Some(name) => bail!("{}: there is no case {name:?}; there are {}", file.display(), names.join(", ")),
            None => bail!("{}: the policy is asked about none of the cases", file.display()),
        }
    }
}

/// What on-request asked, and whether a gateway remembers what it said.
fn remembered(asks: Option<&AskedQuestions>) -> String {
    let Some(AskedQuestions { questions, spoilt_by }) = asks else {
        return "it is a module of contract 0.1, which does not ask: what it says is not remembered".into();
    };
    let asked = in_words(questions);
    match spoilt_by {
        Some(what) => format!("on-request asked {asked}; then {what}, for which what it says is not remembered"),
        None => format!("on-request asked {asked}; what it says is remembered by a gateway, which then does not call it"),
    }
}

impl Measured {
    fn per_second(&self) -> f64 {
        self.took.len() as f64 / self.all.as_secs_f64()
    }

    fn quantile(&self, per_hundred: usize) -> Duration {
        self.took[(self.took.len() * per_hundred / 100).min(self.took.len() - 1)]
    }
}

/// Calls for so long; a call that fails ends it.
fn measure(hook: Hook, pace: Pace, mut call: impl FnMut() -> Result<usize, String>) -> anyhow::Result<Measured> {
    let fails = |why: String| anyhow::anyhow!("{} fails: {why}", hook.name());
    let mut memory = call().map_err(fails)?;
    let (mut took, began) = (Vec::new(), Instant::now());
    while began.elapsed() < pace.time {
        let start = Instant::now();
        let had = call().map_err(fails)?;
        took.push(start.elapsed());
        memory = memory.max(had);
        if !pace.pause.is_zero() {
            std::thread::sleep(pace.pause);
        }
    }
    let all = began.elapsed();
    took.sort();
    if took.is_empty() {
        bail!("{}: not one call ended in time", hook.name());
    }
    Ok(Measured { hook, took, all, memory })
}

/// on-chunk is called again and again in one instance.
fn chunks(stage: &Stage, policy: &Arc<Policy>, given: &RehearsedOperation, pace: Pace) -> anyhow::Result<Measured> {
    let exec = Wanted {
        command: vec!["cat".into(), "log".into()],
        resource: "pods/exec".into(),
        verb: "create".into(),
        namespace: Some("default".into()),
        name: Some("web".into()),
        ..Wanted::default()
    };
    let exec = exec.given(None, Surroundings::default()).unwrap_or(RehearsedOperation {
        operation: given.operation.clone(),
        subject: given.subject.clone(),
        body: None,
        around: Surroundings::default(),
    });
    let call = Call { subject: &exec.subject, body: None, object: None, surroundings: &exec.around, plans: &stage.plans };
    let runtime = &stage.loader.runtime;
    let place = runtime.stay(&exec.subject).map_err(|_| anyhow::anyhow!("on-chunk: there is no room for an instance"))?;
    let (answer, Some(mut live)) = policy.call_and_stay(runtime, &call, place) else { bail!("on-chunk: it cannot be instantiated") };
    let piece = "2026-01-01T00:00:00Z INFO request served in 12 ms\n".repeat(20);
    measure(Hook::OnChunk, pace, || live.on_chunk(Output::Stdout, piece.as_bytes()).map(|_| answer.memory))
}

/// What it is asked about where nobody says: what one of its rules names, the first that makes an operation; `get secrets` where none does.
fn sampled(policy: &Policy) -> anyhow::Result<RehearsedOperation> {
    let mut named = policy.manifest.rules.iter().filter_map(|rule| of_rule(rule).ok());
    if let Some(given) = named.find(|given| policy.matches(&given.operation)) {
        return Ok(given);
    }
    let get = Wanted {
        verb: "get".into(),
        resource: "secrets".into(),
        namespace: Some("default".into()),
        name: Some("db".into()),
        ..Wanted::default()
    };
    get.given(None, beside())
}

/// An operation that a rule names.
fn of_rule(rule: &Rule) -> anyhow::Result<RehearsedOperation> {
    let first =
        |texts: &[String], otherwise: &str| texts.iter().find(|text| !text.contains('*')).map_or(otherwise, String::as_str).to_owned();
    let mut resource = first(&rule.resources, "secrets");
    let is_stream = ["/exec", "/attach", "/portforward"].iter().any(|of| resource.ends_with(of));
    let verb = if is_stream { "create".to_owned() } else { first(&rule.verbs, "get") };
    let group = first(&rule.api_groups, "");
    if !group.is_empty() {
        let (name, subresource) = resource.split_once('/').map_or((resource.as_str(), None), |(name, of)| (name, Some(of)));
        resource = format!("{name}.{group}{}", subresource.map(|of| format!("/{of}")).unwrap_or_default());
    }
    let is_of_many = matches!(verb.as_str(), "list" | "watch" | "deletecollection");
    let is_made = verb == "create" && !resource.contains('/');
    let is_written = matches!(verb.as_str(), "create" | "update" | "patch") && !is_stream;
    let wanted = Wanted {
        command: if is_stream && !resource.ends_with("/portforward") { vec!["ls".into()] } else { Vec::new() },
        namespace: Some(first(&rule.namespaces, "default")),
        name: (!is_of_many && !is_made).then(|| "web".to_owned()),
        verb,
        resource,
        ..Wanted::default()
    };
    wanted.given(is_written.then(sample_object).as_ref(), beside())
}

/// Objects beside it, for policies that need them.
fn beside() -> Surroundings {
    let around = || Some(Arc::new(sample_object()));
    Surroundings { namespace: around(), stored: around(), pod: around(), only_asks: false }
}

/// An object much like others.
fn sample_object() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web", "team": "shop"}, "annotations": {"example.com/note": "a note"}},
        "spec": {"containers": [{"name": "main", "image": "registry.example/web:1.2.3", "env": [{"name": "MODE", "value": "production"}]}]},
    })
}

fn secret() -> Value {
    let data: serde_json::Map<_, _> = (0..8).map(|n| (format!("key-{n}"), Value::from("aHVudGVyMi1pcy1zZWNyZXQ=".repeat(4)))).collect();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": "default", "labels": {"app": "web"}}, "type": "Opaque", "data": data})
}
