//! The policy directory: what is in it becomes a [`PolicySet`], and changes are swapped in whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use notify::Watcher;
use serde::Serialize;

use super::loader::{Loader, PolicyFile};
use super::origin::{Module, Origin};
use super::report::PolicyReport;
use super::{Cache, CallLimits, Policy, Runtime};
use crate::classify::Operation;
use crate::clock::timestamp;
use crate::config::Policies;
use crate::share::lock::{FILE, Lock, Locked};

/// A change is taken up when the directory has been quiet for this long.
const QUIET: Duration = Duration::from_millis(200);
/// And at the latest after this long.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is told what policies have done.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// The policies in force at one moment.
#[derive(Default)]
pub struct PolicySet {
    /// Those that serve, in file-name order.
    pub policies: Vec<Arc<Policy>>,
    /// Files that did not load.
    pub broken: Vec<Broken>,
    /// Required policies that are missing or broken: while there is one, nothing passes.
    pub missing: Vec<String>,
    /// Those that served since the gateway started, and are in the directory no more.
    pub gone: Vec<Gone>,
}

/// A policy that did not load, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Broken {
    /// Its name.
    pub name: String,
    /// Why.
    pub error: String,
    /// Whether the version before it goes on serving.
    pub serving_last_good: bool,
}

/// A policy that vanished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gone {
    /// Its name.
    pub name: String,
    /// The SHA-256 of its module and settings.
    pub digest: String,
}

impl PolicySet {
    /// Whether a policy may read the body of an operation.
    pub fn read_bodies_of(&self, operation: &Operation) -> bool {
        self.policies.iter().any(|policy| policy.reads_bodies() && policy.matches(operation))
    }
}

/// The watched directory.
pub struct Directory {
    loader: Loader,
    origin: Origin,
    config: Policies,
    current: ArcSwap<PolicySet>,
    /// Where what is in force is told.
    report: Option<PathBuf>,
    /// Whether only what its lock file pins is taken.
    heeds_lock: bool,
    reloads: AtomicU64,
    /// What is compiled at this moment, and since when.
    compiling: Mutex<Option<(Locked, String)>>,
    /// What lay in the directory before it was loaded.
    begun: Fingerprint,
}

/// Files, with their lengths and times.
type Fingerprint = Vec<(PathBuf, u64, Option<std::time::SystemTime>)>;

/// A policy is compiled for as long as this lives.
struct Compiling<'a>(&'a Directory);

impl Drop for Compiling<'_> {
    fn drop(&mut self) {
        *self.0.compiling.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// What the directory itself is called where it cannot be read.
const WHOLE: &str = "(the directory)";

impl Directory {
    /// Loads the directory. A broken policy is an error here: a gateway does not start half guarded.
    ///
    /// `data_directory` is where modules are kept that come from registries.
    pub fn open(
        runtime: Arc<Runtime>,
        cache: Cache,
        config: &Policies,
        data_directory: &Path,
        report: Option<PathBuf>,
    ) -> anyhow::Result<Arc<Self>> {
        Self::make(runtime, cache, config, data_directory, report, true, true)
    }

    /// Loads what loads of the directory: what does not is told of, and is not in force.
    pub fn open_what_loads(runtime: Arc<Runtime>, cache: Cache, config: &Policies, data_directory: &Path) -> anyhow::Result<Arc<Self>> {
        Self::make(runtime, cache, config, data_directory, None, true, false)
    }

    /// Loads the directory whatever its lock file pins: to pin what is there now.
    pub fn open_to_lock(runtime: Arc<Runtime>, cache: Cache, config: &Policies, data_directory: &Path) -> anyhow::Result<Arc<Self>> {
        Self::make(runtime, cache, config, data_directory, None, false, true)
    }

    fn make(
        runtime: Arc<Runtime>,
        cache: Cache,
        config: &Policies,
        data_directory: &Path,
        report: Option<PathBuf>,
        heeds_lock: bool,
        is_strict: bool,
    ) -> anyhow::Result<Arc<Self>> {
        let limits = CallLimits { deadline: config.deadline_milliseconds, memory: config.memory };
        let loader = Loader { runtime, cache, limits, remember: config.remember };
        let origin = Origin::new(config, data_directory)?;
        let this = Arc::new(Self {
            loader,
            origin,
            config: config.clone(),
            current: ArcSwap::default(),
            report,
            heeds_lock,
            reloads: AtomicU64::new(0),
            compiling: Mutex::default(),
            begun: fingerprint(config),
        });
        let set = this.load();
        if is_strict && !set.broken.is_empty() {
            this.tell(&refused(&set));
        }
        match set.broken.first().filter(|_| is_strict) {
            Some(broken) if broken.name == WHOLE => bail!("{}", broken.error),
            Some(broken) => bail!("the policy {} does not load: {}", broken.name, broken.error),
            None => {}
        }
        this.swap_in(set);
        Ok(this)
    }

    /// The policies in force.
    pub fn current(&self) -> Arc<PolicySet> {
        self.current.load_full()
    }

    /// What is in force, and what is being compiled.
    pub fn report(&self) -> PolicyReport {
        let report = PolicyReport::of(&self.current());
        match &*self.compiling.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((locked, since)) => report.with_compiling(locked, since),
            None => report,
        }
    }

    /// Tells that a policy is compiled from now on.
    fn compiling(&self, locked: &Locked) -> Compiling<'_> {
        *self.compiling.lock().unwrap_or_else(PoisonError::into_inner) = Some((locked.clone(), timestamp()));
        self.tell(&self.report());
        Compiling(self)
    }

    /// How often the directory was read anew.
    pub fn reloads(&self) -> u64 {
        self.reloads.load(Ordering::Relaxed)
    }

    /// What policies run in.
    pub fn runtime(&self) -> &Arc<Runtime> {
        &self.loader.runtime
    }

    /// Loads the directory anew and swaps it in.
    fn reload(&self) {
        self.reloads.fetch_add(1, Ordering::Relaxed);
        let before = self.current();
        let set = self.load();
        for broken in &set.broken {
            tracing::error!(policy = %broken.name, error = %broken.error, serving_last_good = broken.serving_last_good, "the policy does not load");
        }
        for Gone { name, digest } in set.gone.iter().filter(|gone| !before.gone.contains(gone)) {
            tracing::warn!(policy = %name, %digest, "the policy is in the directory no more, and no longer in force");
        }
        tracing::info!(policies = set.policies.len(), "the policy directory was read");
        self.swap_in(set);
        self.warn_of_missing();
    }

    /// Says loudly that nothing passes, and why.
    pub fn warn_of_missing(&self) {
        let missing = &self.current().missing;
        if !missing.is_empty() {
            tracing::error!(?missing, "required policies are not in force: nothing passes until they are");
        }
    }

    fn swap_in(&self, set: PolicySet) {
        let report = PolicyReport::of(&set);
        self.loader.cache.prune(&set.policies.iter().map(|p| p.digest.as_str()).collect::<Vec<_>>());
        self.current.store(Arc::new(set));
        self.tell(&report);
    }

    /// Tells anew what policies have done, if they were asked meanwhile.
    fn tell_calls(&self, told: &mut u64) {
        let set = self.current();
        let calls = set.policies.iter().map(|policy| policy.stats.counts().calls).sum();
        if calls != std::mem::replace(told, calls) {
            self.tell(&self.report());
        }
    }

    fn tell(&self, report: &PolicyReport) {
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

    /// Watches the directory for as long as the returned guard lives, and tells of what is in force whenever that was read anew.
    pub fn watch(self: &Arc<Self>, told: impl Fn(&PolicySet) + Send + 'static) -> anyhow::Result<Option<impl Send + Sync + 'static>> {
        let Some(directory) = self.config.directory.clone() else { return Ok(None) };
        let (sender, receiver) = std::sync::mpsc::channel();
        let again = sender.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the directory is an event too, and would make us read it again.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                let _ = sender.send(());
            }
        })?;
        watcher.watch(&directory, notify::RecursiveMode::NonRecursive).with_context(|| format!("cannot watch {}", directory.display()))?;
        let this = Arc::clone(self);
        std::thread::Builder::new().name("policies".into()).spawn(move || {
            // What was changed while it was loaded is found at once.
            let mut seen = this.begun.clone();
            let _ = again.send(());
            drop(again);
            let mut calls = 0;
            loop {
                match receiver.recv_timeout(TOLD_EVERY) {
                    Ok(()) => {
                        // Who writes again and again is not waited for without end.
                        let patience = Instant::now() + PATIENCE;
                        while Instant::now() < patience && receiver.recv_timeout(QUIET).is_ok() {}
                    }
                    Err(RecvTimeoutError::Timeout) => {
                        this.tell_calls(&mut calls);
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                // Only what differs is loaded.
                let now = fingerprint(&this.config);
                if now != seen {
                    seen = now;
                    this.reload();
                    told(&this.current());
                }
            }
        })?;
        Ok(Some(watcher))
    }

    fn load(&self) -> PolicySet {
        let before = self.current();
        let mut set = PolicySet::default();
        let (files, lock) = match self.files().and_then(|files| Ok((files, self.lock()?))) {
            Ok(found) => found,
            Err(error) => {
                // A directory that cannot be read tells nothing about what was removed.
                let broken = Broken { name: WHOLE.into(), error: format!("{error:#}"), serving_last_good: !before.policies.is_empty() };
                return PolicySet {
                    policies: before.policies.clone(),
                    broken: vec![broken],
                    missing: self.config.required.clone(),
                    gone: before.gone.clone(),
                };
            }
        };
        let names: Vec<String> = files.keys().cloned().collect();
        for (name, file) in files {
            match self.load_policy(&name, &file, lock.as_ref(), &before) {
                Ok(policy) => set.policies.push(policy),
                Err(error) => {
                    let last_good = before.policies.iter().find(|p| p.name == name);
                    set.broken.push(Broken { name, error: format!("{error:#}"), serving_last_good: last_good.is_some() });
                    set.policies.extend(last_good.cloned());
                }
            }
        }
        let gone = lock.iter().flat_map(|lock| &lock.policies).filter(|locked| !names.contains(&locked.name));
        for Locked { name, .. } in gone {
            let last_good = before.policies.iter().find(|p| p.name == *name);
            let error = format!("{FILE} names it, and it is not there");
            set.broken.push(Broken { name: name.clone(), error, serving_last_good: last_good.is_some() });
            set.policies.extend(last_good.cloned());
        }
        set.policies.sort_by(|a, b| a.name.cmp(&b.name));
        let serves = |name: &&String| set.policies.iter().any(|p| p.name == **name);
        set.missing = self.config.required.iter().filter(|name| !serves(name)).cloned().collect();
        let no_more = before.policies.iter().map(|policy| Gone { name: policy.name.clone(), digest: policy.digest.clone() });
        set.gone = before.gone.iter().cloned().chain(no_more).filter(|gone| !serves(&&gone.name)).collect();
        set
    }

    /// What did not change is not loaded anew.
    fn load_policy(&self, name: &str, file: &Path, lock: Option<&Lock>, before: &PolicySet) -> anyhow::Result<Arc<Policy>> {
        let text = PolicyFile::text_beside(file)?;
        let settings = PolicyFile::parse(&text).with_context(|| file.with_extension("yaml").display().to_string())?;
        let Module { bytes, signer } = self.origin.module(file, settings.source.as_deref())?;
        let locked = Locked::new(name, &bytes, &text);
        lock.map_or(Ok(()), |lock| lock.check(&locked))?;
        let is_same = |p: &&Arc<Policy>| p.locked.as_ref() == Some(&locked) && p.signer == signer;
        if let Some(same) = before.policies.iter().find(is_same) {
            return Ok(Arc::clone(same));
        }
        let _compiling = self.compiling(&locked);
        let mut policy = self.loader.load(name, &bytes, settings)?;
        (policy.signer, policy.locked) = (signer, Some(locked));
        Ok(Arc::new(policy))
    }

    fn lock(&self) -> anyhow::Result<Option<Lock>> {
        self.config.directory.as_deref().filter(|_| self.heeds_lock).map_or(Ok(None), Lock::read)
    }

    /// What is in the directory now, to be pinned.
    pub fn locked(&self) -> Vec<Locked> {
        self.current().policies.iter().filter_map(|policy| policy.locked.clone()).collect()
    }

    fn files(&self) -> anyhow::Result<BTreeMap<String, PathBuf>> {
        let Some(directory) = &self.config.directory else { return Ok(BTreeMap::new()) };
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
            let path = entry?.path();
            let kind = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_owned();
            let Some(name) = path.file_stem().and_then(|s| s.to_str()).filter(|name| !name.starts_with('.')) else { continue };
            let module = path.with_extension("wasm");
            // A file without a module beside it names where its module is, or has lost it, which is told: somebody means it to guard.
            if kind == "wasm" || kind == "yaml" && !module.exists() {
                files.insert(name.to_owned(), module);
            }
        }
        Ok(files)
    }
}

/// What is left of a start that was refused: why, for whoever looks, and that nothing serves.
fn refused(set: &PolicySet) -> PolicyReport {
    let error = "the gateway did not start: another policy does not load";
    let loaded = set.policies.iter().map(|policy| Broken { name: policy.name.clone(), error: error.into(), serving_last_good: false });
    let broken = set.broken.iter().cloned().chain(loaded).collect();
    PolicyReport::of(&PolicySet { broken, missing: set.missing.clone(), ..PolicySet::default() })
}

/// What lies in a directory of policies now.
fn fingerprint(config: &Policies) -> Fingerprint {
    let mut files: Vec<_> = config
        .directory
        .iter()
        .flat_map(|directory| std::fs::read_dir(directory).into_iter().flatten().flatten())
        .filter_map(|entry| entry.metadata().ok().map(|m| (entry.path(), m.len(), m.modified().ok())))
        .collect();
    files.sort();
    files
}
