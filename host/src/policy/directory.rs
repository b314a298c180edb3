//! The policy directory: what is in it becomes a [`PolicySet`], and changes are swapped in whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use notify::Watcher;
use serde::Deserialize;

use super::compiled::digest_of;
use super::report::Report;
use super::rules::Rule;
use super::{Broken, Cache, CallLimits, Mode, OnFailure, Policy, Runtime, instance, module};
use crate::config::{ByteSize, LONGEST_DEADLINE, Policies};

/// Largest module and settings file read.
const LARGEST_MODULE: u64 = 64 << 20;
const LARGEST_SETTINGS: u64 = 1 << 20;
/// A change is taken up when the directory has been quiet for this long.
const QUIET: Duration = Duration::from_millis(200);

/// The policies in force at one moment.
#[derive(Default)]
pub struct PolicySet {
    /// Those that serve, in file-name order.
    pub policies: Vec<Arc<Policy>>,
    /// Files that did not load.
    pub broken: Vec<Broken>,
    /// Required policies that are missing or broken: while there is one, nothing passes.
    pub missing: Vec<String>,
}

/// The watched directory.
pub struct Directory {
    runtime: Arc<Runtime>,
    cache: Cache,
    config: Policies,
    current: ArcSwap<PolicySet>,
    /// Where what is in force is told.
    report: Option<PathBuf>,
}

/// `NAME.yaml` beside `NAME.wasm`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Settings {
    settings: Option<serde_json::Value>,
    mode: Mode,
    on_failure: OnFailure,
    rules: Vec<Rule>,
    limits: Limits,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Limits {
    deadline_milliseconds: Option<u64>,
    memory: Option<ByteSize>,
}

impl Directory {
    /// Loads the directory. A broken policy is an error here: a gateway does not start half guarded.
    pub fn open(runtime: Arc<Runtime>, cache: Cache, config: &Policies, report: Option<PathBuf>) -> anyhow::Result<Arc<Self>> {
        let this = Arc::new(Self { runtime, cache, config: config.clone(), current: ArcSwap::default(), report });
        let set = this.load();
        if let Some(broken) = set.broken.first() {
            bail!("the policy {} does not load: {}", broken.name, broken.error);
        }
        this.swap_in(set);
        Ok(this)
    }

    /// The policies in force.
    pub fn current(&self) -> Arc<PolicySet> {
        self.current.load_full()
    }

    /// What policies run in.
    pub fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// Loads the directory anew and swaps it in.
    pub fn reload(&self) {
        let set = self.load();
        for broken in &set.broken {
            tracing::error!(policy = %broken.name, error = %broken.error, serving_last_good = broken.serving_last_good, "the policy does not load");
        }
        tracing::info!(policies = set.policies.len(), "the policy directory was read");
        self.swap_in(set);
    }

    fn swap_in(&self, set: PolicySet) {
        let report = Report::of(&set);
        self.cache.prune(&set.policies.iter().map(|p| p.digest.as_str()).collect::<Vec<_>>());
        self.current.store(Arc::new(set));
        if let Some(Err(error)) = self.report.as_ref().map(|file| report.write(file)) {
            tracing::warn!(error = format!("{error:#}"), "what is in force could not be written for `postern policy list`");
        }
    }

    /// Takes back what was told: the gateway ends.
    pub fn retire(&self) {
        if let Some(file) = &self.report {
            let _ = std::fs::remove_file(file);
        }
    }

    /// Watches the directory for as long as the returned guard lives.
    pub fn watch(self: &Arc<Self>) -> anyhow::Result<Option<impl Send + Sync + 'static>> {
        let Some(directory) = self.config.directory.clone() else { return Ok(None) };
        let (sender, receiver) = std::sync::mpsc::channel();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the directory is an event too, and would make us read it again.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                let _ = sender.send(());
            }
        })?;
        watcher.watch(&directory, notify::RecursiveMode::NonRecursive).with_context(|| format!("cannot watch {}", directory.display()))?;
        let this = Arc::clone(self);
        std::thread::Builder::new().name("policies".into()).spawn(move || {
            let mut seen = this.fingerprint();
            while receiver.recv().is_ok() {
                while receiver.recv_timeout(QUIET).is_ok() {}
                // Only what differs is loaded.
                let now = this.fingerprint();
                if now != seen {
                    seen = now;
                    this.reload();
                }
            }
        })?;
        Ok(Some(watcher))
    }

    fn fingerprint(&self) -> Vec<(PathBuf, u64, Option<std::time::SystemTime>)> {
        let mut files: Vec<_> = self
            .config
            .directory
            .iter()
            .flat_map(|directory| std::fs::read_dir(directory).into_iter().flatten().flatten())
            .filter_map(|entry| entry.metadata().ok().map(|m| (entry.path(), m.len(), m.modified().ok())))
            .collect();
        files.sort();
        files
    }

    fn load(&self) -> PolicySet {
        let before = self.current();
        let mut set = PolicySet::default();
        let files = match self.files() {
            Ok(files) => files,
            Err(error) => {
                // A directory that cannot be read tells nothing about what was removed.
                let broken = Broken { name: "*".into(), error: format!("{error:#}"), serving_last_good: !before.policies.is_empty() };
                return PolicySet { policies: before.policies.clone(), broken: vec![broken], missing: self.config.required.clone() };
            }
        };
        for (name, file) in files {
            match self.load_policy(&name, &file) {
                Ok(policy) => set.policies.push(Arc::new(policy)),
                Err(error) => {
                    let last_good = before.policies.iter().find(|p| p.name == name);
                    set.broken.push(Broken { name, error: format!("{error:#}"), serving_last_good: last_good.is_some() });
                    set.policies.extend(last_good.cloned());
                }
            }
        }
        let serves = |name: &&String| set.policies.iter().any(|p| p.name == **name);
        set.missing = self.config.required.iter().filter(|name| !serves(name)).cloned().collect();
        set
    }

    fn files(&self) -> anyhow::Result<BTreeMap<String, PathBuf>> {
        let Some(directory) = &self.config.directory else { return Ok(BTreeMap::new()) };
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "wasm")
                && let Some(name) = path.file_stem().and_then(|s| s.to_str())
                && !name.starts_with('.')
            {
                files.insert(name.to_owned(), path);
            }
        }
        Ok(files)
    }

    fn load_policy(&self, name: &str, file: &Path) -> anyhow::Result<Policy> {
        let module = read_inside(file, LARGEST_MODULE)?;
        let settings_file = file.with_extension("yaml");
        let settings: Settings = match settings_file.symlink_metadata() {
            Ok(_) => {
                let text = String::from_utf8(read_inside(&settings_file, LARGEST_SETTINGS)?).context("the settings file is not UTF-8")?;
                if text.trim().is_empty() {
                    Settings::default()
                } else {
                    serde_saphyr::from_str(&text).with_context(|| settings_file.display().to_string())?
                }
            }
            Err(_) => Settings::default(),
        };
        let limits = CallLimits {
            deadline: settings.limits.deadline_milliseconds.unwrap_or(self.config.deadline_milliseconds).max(1),
            memory: settings.limits.memory.unwrap_or(self.config.memory),
        };
        if limits.deadline > LONGEST_DEADLINE {
            bail!("limits.deadlineMilliseconds is over {LONGEST_DEADLINE}: a call holds up the thread it is made on");
        }
        if limits.memory.0 > self.config.memory.0 {
            bail!("limits.memory is over the gateway's own policies.memory of {} bytes", self.config.memory.0);
        }
        let text = settings.settings.as_ref().map_or_else(|| "{}".to_owned(), ToString::to_string);
        let digest = digest_of(&[env!("CARGO_PKG_VERSION").as_bytes(), &module, text.as_bytes()]);
        let component =
            self.cache.component(&self.runtime, &digest, || module::configured(&self.runtime, &module, &text, limits.memory.0))?;
        let prepared = instance::prepare(&self.runtime, &component)?;
        let manifest = instance::describe(&self.runtime, &prepared, limits)?;
        Ok(Policy {
            name: name.to_owned(),
            rules: manifest.rules.iter().cloned().map(Rule::from).collect(),
            manifest,
            digest,
            mode: settings.mode,
            on_failure: settings.on_failure,
            narrowed: settings.rules,
            limits,
            component: prepared,
        })
    }
}

/// Reads a file that lies in the directory itself: a symbolic link may lead within it and nowhere else (a ConfigMap volume has
/// such links). What grew or shrank while it was read is not taken.
fn read_inside(file: &Path, largest: u64) -> anyhow::Result<Vec<u8>> {
    let at = || format!("cannot read {}", file.display());
    let directory = file.parent().unwrap_or(Path::new(".")).canonicalize().with_context(at)?;
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
