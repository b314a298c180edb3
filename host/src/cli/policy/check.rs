//! `postern policy check` and `inspect`: what a module is, and all that is wrong with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use super::{list, name_of, read};
use crate::cli::listing::Output;
use crate::cli::table::printable;
use crate::cli::terminal::say;
use crate::config::Policies;
use crate::policy::contract::{Hook, Manifest, Surrounding};
use crate::policy::grants::Capability;
use crate::policy::report::PolicyReport;
use crate::policy::rules::Rule;
use crate::policy::{Policy, PolicyFile, module};
use crate::rehearse::Stage;
use crate::rehearse::given::{Wanted, WantedCaller};
use crate::share::sha256;

/// Verbs that operations have; paths that lead to no resource have lower-case methods.
const VERBS: [&str; 14] =
    ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "post", "put", "head", "options", "connect", "*"];

/// Says all that is wrong with a module.
#[derive(Args)]
pub struct Check {
    /// A module, `NAME.wasm`, or a directory of policies.
    path: PathBuf,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.path.is_dir() { directory(self.path) } else { file(&self.path) }
    }
}

/// Loads a directory as the gateway would.
fn directory(directory: PathBuf) -> anyhow::Result<()> {
    let scratch = std::env::temp_dir().join(format!("postern-check-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let policies = Policies { directory: Some(directory), ..Policies::default() };
    let opened = Stage::with(&policies).and_then(|stage| stage.directory(&policies, &scratch, true));
    let _ = std::fs::remove_dir_all(scratch);
    list::print(&PolicyReport::of(&opened?.current()).policies, Output::wide())
}

fn file(file: &Path) -> anyhow::Result<()> {
    let bytes = read(file)?;
    let mut findings = Vec::new();
    say!("{}: {} bytes, {}", file.display(), bytes.len(), sha256(&bytes));
    match module::inspect(&bytes) {
        Ok(inspected) => {
            say!("  a {}", if inspected.was_component { "component" } else { "core module, of which the gateway makes a component" });
            say!("  imports {}", some(&inspected.imports));
            say!("  exports {}", some(&inspected.exports));
            findings.extend(inspected.problems());
        }
        Err(error) => findings.push(format!("{error:#}")),
    }
    let beside = PolicyFile::beside(file).unwrap_or_else(|error| {
        findings.push(format!("the file beside it is not valid: {error:#}"));
        PolicyFile::default()
    });
    if findings.is_empty() {
        // Without a file beside it nothing says what it is granted: what it must be is told, and is no fault of the module.
        let alone = !file.with_extension("yaml").exists();
        let beside = if alone { PolicyFile { grants: Some(Capability::ALL.to_vec()), ..beside } } else { beside };
        let stage = Stage::open()?;
        match stage.loader.load(&name_of(file), &bytes, beside) {
            Ok(policy) => {
                describe(&policy);
                let asks = &policy.manifest.capabilities;
                if alone && asks.iter().any(|capability| !Capability::DEFAULT.contains(capability)) {
                    let names: Vec<&str> = asks.iter().map(|capability| capability.name()).collect();
                    say!("  grants  the file beside it must say grants: [{}]", names.join(", "));
                }
                findings.extend(of_manifest(&policy.manifest));
                findings.extend(of_calls(&stage, &Arc::new(policy)));
            }
            Err(error) => findings.push(format!("{error:#}")),
        }
        #[cfg(feature = "authoring")]
        of_cases(&stage, file, &bytes, &mut findings);
    }
    if findings.is_empty() {
        say!("nothing is wrong with it");
        return Ok(());
    }
    say!("");
    for finding in &findings {
        say!("  - {finding}");
    }
    match findings.len() {
        1 => bail!("1 finding"),
        count => bail!("{count} findings"),
    }
}

/// Tries the cases beside a module.
#[cfg(feature = "authoring")]
fn of_cases(stage: &Stage, file: &Path, bytes: &[u8], findings: &mut Vec<String>) {
    if let Some(cases) = super::test::cases_of(file) {
        match super::test::try_file(stage, bytes, &cases) {
            Ok(run) => {
                say!("  cases   {} of {} in {} as expected", run.passed(), run.tried.len(), cases.display());
                let failed = run.tried.iter().filter(|tried| !tried.differences.is_empty());
                findings.extend(failed.map(|tried| format!("case {:?}: {}", tried.name, tried.differences.join("; "))));
            }
            Err(error) => findings.push(format!("{}: {error:#}", cases.display())),
        }
    }
}

pub(super) fn some(names: &[String]) -> String {
    if names.is_empty() { "nothing".into() } else { printable(&names.join(", ")) }
}

fn describe(policy: &Policy) {
    let manifest = &policy.manifest;
    say!("  {} {}: {}", printable(&manifest.name), printable(&manifest.version), printable(&manifest.summary));
    say!("  hooks   {}", some(&hooks(manifest)));
    say!("  sees    {}", sees(manifest, &policy.granted));
    say!("  needs   {}", some(&needs(manifest)));
    match manifest.rules.as_slice() {
        [] => say!("  rules   everything"),
        rules => rules.iter().for_each(|rule| say!("  rule    {}", printable(&rule_text(rule)))),
    }
}

fn sees(manifest: &Manifest, granted: &[Capability]) -> String {
    let asked = list::sees(&manifest.capabilities);
    let missing: Vec<Capability> = manifest.capabilities.iter().filter(|asked| !granted.contains(asked)).copied().collect();
    match missing.as_slice() {
        [] => asked,
        missing => format!("{asked}; not granted: {}", list::sees(missing)),
    }
}

pub(super) fn hooks(manifest: &Manifest) -> Vec<String> {
    manifest.hooks.iter().copied().map(Hook::name).map(str::to_owned).collect()
}

pub(super) fn needs(manifest: &Manifest) -> Vec<String> {
    manifest.needs.iter().copied().map(Surrounding::name).map(str::to_owned).collect()
}

pub(super) fn rule_text(rule: &Rule) -> String {
    let part = |name: &str, list: &[String]| {
        let shown: Vec<&str> = list.iter().map(|item| if item.is_empty() { "\"\"" } else { item.as_str() }).collect();
        (!list.is_empty()).then(|| format!("{name} {}", shown.join(", ")))
    };
    let parts = [
        part("verbs", &rule.verbs),
        part("apiGroups", &rule.api_groups),
        part("resources", &rule.resources),
        part("namespaces", &rule.namespaces),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "everything".into() } else { parts.join("; ") }
}

/// What a manifest says that cannot be meant.
fn of_manifest(manifest: &Manifest) -> Vec<String> {
    let mut findings = Vec::new();
    let mut find = |wrong: bool, what: String| {
        if wrong {
            findings.push(what);
        }
    };
    find(manifest.name.trim().is_empty(), "its manifest has no name".into());
    let numbers: Vec<&str> = manifest.version.split(['-', '+']).next().unwrap_or_default().split('.').collect();
    let is_semver =
        numbers.len() == 3 && numbers.iter().all(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
    find(!is_semver, format!("its version {:?} is none that semver.org knows, for example 1.2.3", manifest.version));
    find(manifest.summary.trim().is_empty() || manifest.summary.lines().count() > 1, "its summary is not one line".into());
    find(manifest.hooks.is_empty(), "it has no hooks: it will never be asked".into());
    for rule in &manifest.rules {
        for verb in rule.verbs.iter().filter(|verb| !VERBS.contains(&verb.as_str())) {
            find(true, format!("a rule names the verb {verb}, which no operation has; exec, attach and port-forward are create"));
        }
        for resource in rule.resources.iter().filter(|resource| resource.contains('.') || resource.matches('/').count() > 1) {
            find(
                true,
                format!("a rule names the resource {resource}; resources are written pods, pods/exec, pods/* and groups beside them"),
            );
        }
        let capital = rule.resources.iter().find(|resource| resource.chars().any(|c| c.is_ascii_uppercase()));
        find(
            capital.is_some(),
            format!("a rule names the resource {}; resources are lower-case plurals", capital.cloned().unwrap_or_default()),
        );
    }
    let schema: Result<Value, _> = serde_json::from_str(&manifest.settings_schema);
    find(
        !manifest.settings_schema.is_empty() && !schema.is_ok_and(|s| s.is_object() || s.is_boolean()),
        "its settings schema is no JSON Schema".into(),
    );
    findings
}

/// Asks it about an operation of each of its rules, twice: it must answer, and the same.
fn of_calls(stage: &Stage, policy: &Arc<Policy>) -> Vec<String> {
    let mut findings = Vec::new();
    let mut count = 0;
    for wanted in samples(policy) {
        let body = matches!(wanted.verb.as_str(), "create" | "update" | "patch").then(|| {
            json!({"apiVersion": "v1", "kind": "Sample", "metadata": {"name": "sample", "namespace": wanted.namespace}, "spec": {}, "data": {}})
        });
        let Ok(given) = wanted.given(body.as_ref(), Default::default()) else { continue };
        count += 1;
        let said = [stage.decide(std::slice::from_ref(policy), &given).said(), stage.decide(std::slice::from_ref(policy), &given).said()];
        let what = format!("{} {}", wanted.verb, wanted.resource);
        if said[0].verdict == "failed" {
            findings.push(format!("asked about {what} it fails: {}", said[0].reason.clone().unwrap_or_default()));
        } else if said[0] != said[1] && !policy.granted.contains(&Capability::Counters) {
            findings.push(format!("asked twice about {what} it says {} and then {}", said[0].verdict, said[1].verdict));
        }
    }
    say!("  asked   about {count} operations that its rules name, twice each");
    findings
}

/// Operations that a policy's rules name: each verb with each resource, a few of them.
fn samples(policy: &Policy) -> Vec<Wanted> {
    let or = |list: &[String], usual: &[&str]| match list {
        [] => usual.iter().map(|text| (*text).to_owned()).collect(),
        list if list.iter().any(|text| text == "*") => usual.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(),
        list => list.to_vec(),
    };
    let rules = if policy.manifest.rules.is_empty() { vec![Rule::default()] } else { policy.manifest.rules.clone() };
    let mut samples = Vec::new();
    for rule in rules {
        for verb in or(&rule.verbs, &["get", "list", "create", "update", "patch", "delete"]) {
            for resource in or(&rule.resources, &["pods", "secrets", "pods/exec"]) {
                let (plain, subresource) = resource.split_once('/').unwrap_or((&resource, ""));
                let plain = if plain == "*" { "pods" } else { plain };
                let subresource = if subresource == "*" { "log" } else { subresource };
                let group =
                    rule.api_groups.iter().find(|group| *group != "*").map(|group| format!(".{group}")).filter(|group| group.len() > 1);
                let resource =
                    format!("{plain}{}{}{subresource}", group.unwrap_or_default(), if subresource.is_empty() { "" } else { "/" });
                let named = !matches!(verb.as_str(), "list" | "watch" | "deletecollection");
                samples.push(Wanted {
                    verb: verb.clone(),
                    command: if subresource == "exec" { vec!["true".into()] } else { Vec::new() },
                    resource,
                    namespace: Some(rule.namespaces.first().filter(|n| *n != "*").cloned().unwrap_or_else(|| "default".into())),
                    name: named.then(|| "sample".into()),
                    caller: WantedCaller { username: "sample".into(), ..WantedCaller::default() },
                    ..Wanted::default()
                });
            }
        }
    }
    samples.truncate(64);
    samples
}

pub(super) fn inspect(file: &Path, as_json: bool) -> anyhow::Result<()> {
    let bytes = read(file)?;
    let inspected = module::inspect(&bytes)?;
    let stage = Stage::open()?;
    let policy = super::load(&stage, file)?;
    let manifest = &policy.manifest;
    let schema: Value = serde_json::from_str(&manifest.settings_schema).unwrap_or_default();
    if as_json {
        let capabilities: Vec<&str> = manifest.capabilities.iter().map(|capability| capability.name()).collect();
        let rules = manifest.rules.iter().map(
            |rule| json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources, "namespaces": rule.namespaces}),
        );
        let inspected = json!({
            "file": file, "size": bytes.len(), "digest": policy.module_digest, "component": inspected.was_component,
            "imports": inspected.imports, "exports": inspected.exports,
            "name": manifest.name, "version": manifest.version, "summary": manifest.summary, "hooks": hooks(manifest),
            "capabilities": capabilities, "needs": needs(manifest),
            "rules": rules.collect::<Vec<_>>(), "settingsSchema": schema,
        });
        say!("{}", serde_json::to_string_pretty(&inspected)?);
        return Ok(());
    }
    say!("{}: {} bytes, {}", file.display(), bytes.len(), policy.module_digest);
    describe(&policy);
    say!("  imports {}", some(&inspected.imports));
    say!("  exports {}", some(&inspected.exports));
    let Some(properties) = schema["properties"].as_object() else {
        say!("  it has no settings");
        return Ok(());
    };
    say!("  settings");
    for (name, property) in properties {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let default = property.get("default").map(|value| format!(" (default {value})")).unwrap_or_default();
        let kind = if property["type"].is_array() { property["type"].to_string() } else { text(&property["type"]) };
        say!("    {}", printable(&format!("{name}: {kind}{default}  {}", text(&property["description"]))));
    }
    Ok(())
}
