//! One policy: its module and the file beside it become something that can be asked.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use anyhow::{Context, bail};
use serde::Deserialize;

use crate::LONGEST_DEADLINE;
use crate::contract::in_a_line;
use crate::contract::version::{Prepared, Version};
use crate::grants::{Capability, granted};
use crate::ready::Ready;
use crate::remember::{Remember, Remembered};
use crate::rules::Rule;
use crate::{Cache, CallLimits, Mode, OnFailure, Policy, Runtime, Stats, instance, module, wasi};
use postern_ground::digest::{self, of_blob};
use postern_ground::quantity::ByteSize;
use postern_ground::written;

/// Largest settings file read.
pub const LARGEST_SETTINGS: u64 = 1 << 20;

/// Values of settings that are shorter are words like others.
const SHORTEST_VALUE: usize = 4;

/// What policies are loaded with.
pub struct Loader {
    /// What they run in.
    pub runtime: Arc<Runtime>,
    /// Where their machine code is kept.
    pub cache: Cache,
    /// Milliseconds a call may take, and the memory it may use, unless a policy's file says less.
    pub limits: CallLimits,
    /// Whether verdicts are remembered, unless a policy's file says otherwise.
    pub remember: Remember,
}

/// `NAME.yaml` beside `NAME.wasm`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PolicyFile {
    /// The policy's own settings.
    pub settings: Option<serde_json::Value>,
    /// Whether its answers are carried out.
    pub mode: Mode,
    /// What becomes of an operation when it fails.
    pub on_failure: OnFailure,
    /// Whether callers are warned of what it hides: unless it says no.
    pub warnings: Option<bool>,
    /// Narrower rules.
    pub rules: Vec<Rule>,
    /// What one call may use.
    pub limits: Limits,
    /// What it may see and do.
    pub grants: Option<Vec<Capability>>,
    /// Whether its verdicts are remembered.
    pub remember: Option<Remember>,
    /// Where its module is, when it does not lie beside: `oci://registry/repository@sha256:...`.
    pub source: Option<String>,
}

/// Limits in a policy's file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    deadline_milliseconds: Option<u64>,
    memory: Option<ByteSize>,
}

impl PolicyFile {
    /// Reads the text of a file.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        written::yaml(text).map_err(|error| match written::secret_yaml::<serde_json::Value>(text) {
            Ok(file) => anyhow::anyhow!(without_values(&format!("{error:#}"), file.get("settings"))),
            // What cannot be read at all has no values that could be left out: only where it breaks off is told.
            Err(place) => place,
        })
    }

    /// The text of the file beside a module; empty where there is none.
    pub fn text_beside(module: &Path) -> anyhow::Result<String> {
        let file = module.with_extension("yaml");
        match file.symlink_metadata() {
            Ok(_) => String::from_utf8(read_inside(&file, LARGEST_SETTINGS)?).context("the settings file is not UTF-8"),
            Err(_) => Ok(String::new()),
        }
    }

    /// Reads the file beside a module; the default where there is none.
    pub fn beside(module: &Path) -> anyhow::Result<Self> {
        Self::parse(&Self::text_beside(module)?).with_context(|| module.with_extension("yaml").display().to_string())
    }
}

impl Loader {
    /// Loads a module with its file.
    pub fn load(&self, name: &str, module: &[u8], file: PolicyFile) -> anyhow::Result<Policy> {
        let limits = CallLimits {
            deadline: file.limits.deadline_milliseconds.unwrap_or(self.limits.deadline).max(1),
            memory: file.limits.memory.unwrap_or(self.limits.memory),
        };
        if limits.deadline > LONGEST_DEADLINE {
            bail!("limits.deadlineMilliseconds is over {LONGEST_DEADLINE}: a call holds up the thread it is made on");
        }
        if limits.memory.0 > self.limits.memory.0 {
            bail!("limits.memory is over the gateway's own policies.memory of {} bytes", self.limits.memory.0);
        }
        let text = file.settings.as_ref().map_or_else(|| "{}".to_owned(), ToString::to_string);
        let digest = digest::hex(&digest::of_parts(&[env!("CARGO_PKG_VERSION").as_bytes(), module, text.as_bytes()]));
        let component = self.cache.component(&self.runtime, &digest, module.len(), || {
            let configured = module::inspect_and_configure(&self.runtime, module, &text, limits.memory.0)
                .map_err(|why| anyhow::anyhow!(without_values(&format!("{why:#}"), file.settings.as_ref())))?;
            if let Some(calls) = wasi::list_of_calls(&configured.wasi_calls) {
                tracing::info!(policy = name, calls, "while it was configured the policy called what is not granted, and got nothing");
            }
            Ok(configured.component)
        })?;
        let prepared = Prepared::new(&self.runtime.engine, &component)?;
        let manifest = instance::describe(&self.runtime, &prepared, limits)?;
        let granted = granted(&manifest, file.grants.as_deref())?;
        let ready = Ready::new(&self.runtime, prepared.linked().clone(), limits)?;
        // What a module of 0.1 read of an operation cannot be known; and who tries a policy wants to see it run.
        let is_known_by_its_questions = prepared.version() != Version::V0_1 && self.runtime.author.get().is_none();
        let remember = if is_known_by_its_questions { file.remember.unwrap_or(self.remember) } else { Remember::Off };
        Ok(Policy {
            name: name.to_owned(),
            manifest,
            digest,
            module_digest: of_blob(module),
            locked: None,
            signer: None,
            mode: file.mode,
            on_failure: file.on_failure,
            warns: file.warnings.unwrap_or(true),
            granted,
            narrowed: file.rules,
            limits,
            component: prepared,
            ready: Arc::new(ready),
            stats: Stats::default(),
            complaints: Default::default(),
            remembered: Remembered::new(remember, Arc::clone(&self.runtime.budget)),
            settings: file.settings.clone(),
        })
    }
}

/// What is said of a policy's file or by the policy of its settings, in a line that is not long and without the values in them: it goes into logs, and settings may
/// be secret. It is looked through once, however many values there are. Where they cannot be looked for nothing of it is said.
fn without_values(why: &str, values: Option<&serde_json::Value>) -> String {
    in_a_line(redacted(why, values))
}

/// A text without the values of a policy's settings, however they are spelt, as long as it is.
pub(crate) fn redacted(why: &str, values: Option<&serde_json::Value>) -> String {
    let mut texts = Vec::new();
    let mut pending: Vec<_> = values.into_iter().collect();
    while let Some(value) = pending.pop() {
        match value {
            serde_json::Value::String(text) => texts.push(text.clone()),
            serde_json::Value::Number(number) => texts.push(number.to_string()),
            serde_json::Value::Array(items) => pending.extend(items),
            serde_json::Value::Object(fields) => pending.extend(fields.values()),
            serde_json::Value::Null | serde_json::Value::Bool(_) => {}
        }
    }
    let spelt: BTreeSet<String> =
        texts.iter().flat_map(|text| spellings(text)).filter(|text| (SHORTEST_VALUE..=why.len()).contains(&text.len())).collect();
    match AhoCorasick::builder().kind(Some(AhoCorasickKind::NoncontiguousNFA)).match_kind(MatchKind::LeftmostLongest).build(&spelt) {
        Ok(finder) => finder.replace_all(why, &vec!["[a value]"; spelt.len()]),
        Err(error) => format!("it is not valid, and what is in it cannot be left out of the reason: {error}"),
    }
}

/// How a value may be written in what is said of it: as it is, in quotes as Rust writes it and as JSON, with and without what is not ASCII, and each line of it.
fn spellings(text: &str) -> impl Iterator<Item = String> {
    let lines = text.lines().map(str::trim).chain([text]);
    lines.flat_map(|text| {
        let json = serde_json::Value::from(text).to_string();
        let ascii = json.chars().flat_map(|c| match c.is_ascii() {
            true => vec![c],
            false => c.encode_utf16(&mut [0; 2]).iter().flat_map(|unit| format!("\\u{unit:04x}").chars().collect::<Vec<_>>()).collect(),
        });
        let quoted = [format!("{text:?}"), ascii.collect(), json, text.escape_default().to_string()];
        let inner = quoted.map(|quoted| quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(&quoted).to_owned());
        inner.into_iter().chain([text.to_owned()])
    })
}

/// Reads a file that lies in the directory itself: a symbolic link may lead within it and nowhere else (a ConfigMap volume has
/// such links). What grew or shrank while it was read is not taken.
pub fn read_inside(file: &Path, largest: u64) -> anyhow::Result<Vec<u8>> {
    let at = || format!("cannot read {}", file.display());
    // A name alone lies in the directory one is in.
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = parent.canonicalize().with_context(at)?;
    let real = file.canonicalize().with_context(at)?;
    if !real.starts_with(&directory) {
        bail!("{} is a link out of the policy directory", file.display());
    }
    let before = std::fs::metadata(&real).with_context(at)?;
    if !before.is_file() {
        bail!("{} is not a file", file.display());
    }
    if before.len() > largest {
        bail!("{} is over {largest} bytes long", file.display());
    }
    let bytes = std::fs::read(&real).with_context(at)?;
    let after = std::fs::metadata(&real).with_context(at)?;
    if after.len() != bytes.len() as u64 || after.modified().ok() != before.modified().ok() {
        bail!("{} is still being written", file.display());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_policy_says_of_its_settings_is_told_without_them() {
        let settings = json!({"dsn": "hunter2-dsn", "all": ["hunter2-dsn-and-more", {"deep": "s3cr3t"}], "short": "abc", "number": 5});
        let told = |why: &str| without_values(why, Some(&settings));
        assert_eq!(told("invalid type: string \"hunter2-dsn\", expected u32"), "invalid type: string \"[a value]\", expected u32");
        assert_eq!(told("hunter2-dsn-and-more\nand s3cr3t, abc"), "[a value] and [a value], abc");
        assert_eq!(told(&"x".repeat(10_000)).len(), 500);
        assert_eq!(without_values("a value: s3cr3t", Some(&json!(["value", "s3cr3t"]))), "a [a value]: [a value]");
        assert_eq!(without_values("it panicked", None), "it panicked");
        // serde writes what it did not expect as Rust does, Python as it does, and a policy may tell a line of it.
        let odd = json!({"key": "C:\\db\\s\"3\ncr\tet\u{7f}", "pem": "-----BEGIN KEY-----\nhunter\n-----END KEY-----\n"});
        for value in [odd["key"].as_str().unwrap(), odd["pem"].as_str().unwrap()] {
            let error = serde_json::from_value::<u32>(value.into()).unwrap_err().to_string();
            assert_eq!(without_values(&error, Some(&odd)), "invalid type: string \"[a value]\", expected u32");
            let error = serde_json::from_value::<u32>(json!([value])).unwrap_err().to_string();
            assert!(!without_values(&error, Some(&odd)).contains("hunter"));
            assert_eq!(without_values(&format!("no {}", json!(value)), Some(&odd)), "no \"[a value]\"");
        }
        assert_eq!(without_values("line 2 is hunter", Some(&odd)), "line 2 is [a value]");
        let name = json!({"name": "m\u{fc}ller"});
        assert_eq!(without_values("no 'm\\u00fcller', no m\u{fc}ller", Some(&name)), "no '[a value]', no [a value]");
        // Of what cannot be read twice, only where it breaks off is told.
        let error = format!("{:#}", PolicyFile::parse("settings: {hunter2: 1, hunter2: 2}\n").unwrap_err());
        assert!(error.contains("line 1") && !error.contains("hunter2"), "{error}");
        let error = format!("{:#}", PolicyFile::parse("settings: {a: hunter2}\nmode: hunter2\n").unwrap_err());
        assert!(error.contains("line 2") && error.contains("enforce") && !error.contains("hunter2"), "{error}");
        let error = format!("{:#}", PolicyFile::parse("settings: {a: b}\nmodes: enforce\n").unwrap_err());
        assert!(error.contains("modes"), "a name that is none is no secret: {error}");
        let error = format!("{:#}", PolicyFile::parse("settings: {a: b}\ngrants: [everything]\n").unwrap_err());
        assert!(error.contains("everything"), "nor is what is written outside of the settings: {error}");
    }
}
