//! The configuration is followed while the gateway runs: clusters come and go with it, the rest takes effect at the next start, and each change of it, and of the keys that
//! it names, is in the audit log.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::Gateway;
use crate::config::Config;
use crate::digest::of_blob;
use crate::record::Event;
use crate::words::Stage;
use crate::written;

/// How often the configuration is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is tried to set up a cluster that could not be.
const AGAIN: Duration = Duration::from_secs(10);

/// A configuration as it was read.
#[derive(Clone)]
pub struct Source {
    /// Its file.
    pub file: PathBuf,
    /// What was in it.
    pub text: Vec<u8>,
}

impl Source {
    /// Reads a file.
    pub fn read(file: PathBuf) -> anyhow::Result<Self> {
        let text = std::fs::read(&file).with_context(|| format!("cannot read the configuration {}", file.display()))?;
        Ok(Self { file, text })
    }

    /// The configuration.
    pub fn config(&self) -> anyhow::Result<Config> {
        Config::of_file(&self.file, std::str::from_utf8(&self.text).context("the configuration is not UTF-8")?)
    }

    /// The names at its top, with what stands under them.
    fn parts(&self) -> BTreeMap<String, Value> {
        std::str::from_utf8(&self.text).ok().and_then(|text| written::yaml(text).ok()).unwrap_or_default()
    }

    /// What is told of it in the audit log: nothing that stands in it.
    pub(super) fn told(&self) -> Value {
        json!({"file": self.file, "digest": of_blob(&self.text)})
    }
}

/// Has the configuration looked at again.
#[derive(Clone)]
pub struct Again(Sender<()>);

impl Again {
    /// Now, and it is said what came of it.
    pub fn look(&self) {
        let _ = self.0.send(());
    }
}

/// Follows a configuration for as long as somebody holds its gateway; each time it has changed its clusters are gone over to, and `changed` hears of it.
pub(super) fn follow(owner: &Arc<Gateway>, source: Source, changed: impl Fn(&Config) + Send + 'static) -> anyhow::Result<Again> {
    let weak = Arc::downgrade(owner);
    let (again, asked) = channel();
    let keys = keys(&owner.config);
    std::thread::Builder::new().name("configuration".into()).spawn(move || {
        let mut following = Following {
            begun: source.clone(),
            taken: Some(source.text.clone()),
            last: None,
            credentials: Vec::new(),
            tried: Instant::now(),
            keys_seen: keys.clone(),
            keys,
        };
        let mut is_asked = false;
        while let Some(gateway) = weak.upgrade() {
            // Nothing that is in a file ends the following of it.
            let looked = std::panic::catch_unwind(AssertUnwindSafe(|| following.look(&gateway, is_asked, &changed)));
            if looked.is_err() {
                tracing::error!("what the configuration says could not be carried out; the clusters stay as they are");
            }
            drop(gateway);
            is_asked = match asked.recv_timeout(LOOK) {
                Ok(()) => true,
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => {
                    std::thread::sleep(LOOK);
                    false
                }
            };
        }
    })?;
    Ok(Again(again))
}

/// What is known of a configuration that is followed.
struct Following {
    /// What the gateway was started with.
    begun: Source,
    /// The text that is in force, or could not be; none where there is no file.
    taken: Option<Vec<u8>>,
    /// What was read last. Only what was read twice is taken: the first time it may have been half written.
    last: Option<Vec<u8>>,
    /// What the clusters' kubeconfigs were.
    credentials: Vec<String>,
    /// When something was tried last that did not succeed.
    tried: Instant,
    /// What keys and certificates were, by digest, when it was told of them, and when they were looked at last.
    keys: BTreeMap<String, String>,
    keys_seen: BTreeMap<String, String>,
}

impl Following {
    fn look(&mut self, gateway: &Gateway, is_asked: bool, changed: &impl Fn(&Config)) {
        let text = std::fs::read(&self.begun.file).ok();
        // Who asks says that it is whole.
        let is_settled = std::mem::replace(&mut self.last, text.clone()) == text || is_asked;
        if text != self.taken && is_settled {
            let before = std::mem::replace(&mut self.taken, text);
            self.tried = Instant::now();
            self.take_over(gateway, before, changed);
            self.look_at_keys(gateway);
            return;
        }
        if is_asked {
            tracing::info!("the configuration was read again: it is as it was");
        }
        self.look_at_keys(gateway);
        if gateway.config.clusters.is_none() {
            return;
        }
        let (credentials, is_lacking) = gateway.clusters.credentials();
        let is_renewed = std::mem::replace(&mut self.credentials, credentials.clone()) != credentials;
        if is_lacking && (is_renewed || is_asked || self.tried.elapsed() >= AGAIN) {
            self.tried = Instant::now();
            gateway.clusters.try_again(self.config(gateway).is_ok_and(|config| gateway.config.members_of(&config).1));
        }
    }

    /// Takes over what can be while the gateway runs, and tells of all.
    fn take_over(&self, gateway: &Gateway, before: Option<Vec<u8>>, changed: &impl Fn(&Config)) {
        let digest = |text: &Option<Vec<u8>>| text.as_deref().map(of_blob);
        let mut event = Event::default();
        event.set("configuration", json!({"file": self.begun.file, "before": digest(&before), "digest": digest(&self.taken)}));
        match self.config(gateway) {
            Ok(config) => {
                let waiting = self.at_next_start();
                if waiting.is_empty() {
                    tracing::info!("the configuration was changed, and is in force");
                } else {
                    tracing::warn!(
                        sections = waiting.join(", "),
                        "the configuration was changed; what is in these sections takes effect at the next start"
                    );
                    event.set("atNextStart", &waiting);
                }
                // It is told before it is in force.
                gateway.audit.record(&event, Stage::Configuration);
                if gateway.config.clusters.is_some() {
                    let (members, shared_differ) = gateway.config.members_of(&config);
                    gateway.clusters.take_over(members, shared_differ);
                    changed(&config);
                }
            }
            Err(error) => {
                // A value that is wrong may be a secret in the wrong place: of it the place is told, and `postern config check` tells the rest.
                let why = match written::place_of(&error) {
                    Some((line, column)) => format!("line {line}, column {column}; `postern config check` says why"),
                    None => format!("{error:#}"),
                };
                tracing::error!(why, "the configuration was changed and cannot be taken over; what is in force stays as it is");
                event.set("notTaken", &why);
                gateway.audit.record(&event, Stage::Configuration);
            }
        }
    }

    fn config(&self, gateway: &Gateway) -> anyhow::Result<Config> {
        let text = self.taken.clone().context("it is not there")?;
        let config = Source { file: self.begun.file.clone(), text }.config()?;
        ensure!(
            config.clusters.is_some() == gateway.config.clusters.is_some(),
            "it has one cluster in place of several, or several in place of one, which takes effect at the next start"
        );
        Ok(config)
    }

    /// The sections that differ from those the gateway was started with, and are not taken over while it runs.
    fn at_next_start(&self) -> Vec<String> {
        let (begun, now) = (self.begun.parts(), Source { text: self.taken.clone().unwrap_or_default(), ..self.begun.clone() }.parts());
        differing(&begun, &now).filter(|name| *name != "clusters").cloned().collect()
    }

    /// Keys and certificates that are others than they were.
    fn look_at_keys(&mut self, gateway: &Gateway) {
        // Of several clusters those that there are now, with what else the gateway was started with.
        let clusters = self.config(gateway).ok().and_then(|config| config.clusters);
        let now = match clusters.filter(|_| gateway.config.clusters.is_some()) {
            Some(clusters) => keys(&Config { clusters: Some(clusters), ..Config::clone(&gateway.config) }),
            None => keys(&gateway.config),
        };
        // A file that is being written is another at each look.
        let is_settled = std::mem::replace(&mut self.keys_seen, now.clone()) == now;
        if now == self.keys || !is_settled {
            return;
        }
        let before = std::mem::replace(&mut self.keys, now);
        let changed: Vec<Value> = differing(&before, &self.keys)
            .map(|name| json!({"name": name, "before": before.get(name), "after": self.keys.get(name)}))
            .collect();
        let mut event = Event::default();
        event.set("keysChanged", &changed);
        gateway.audit.record(&event, Stage::Configuration);
        tracing::info!(keys = ?changed.iter().filter_map(|change| change["name"].as_str()).collect::<Vec<_>>(), "the files of keys and certificates have changed");
    }
}

/// The names under which two maps have not the same, in order.
fn differing<'a, T: PartialEq>(one: &'a BTreeMap<String, T>, other: &'a BTreeMap<String, T>) -> impl Iterator<Item = &'a String> {
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    names.into_iter().filter(|name| one.get(*name) != other.get(*name))
}

/// The public keys and certificates that a configuration names, and the gateway's own, by digest. What cannot be read is left out.
pub(super) fn keys(config: &Config) -> BTreeMap<String, String> {
    let data = &config.data_directory;
    let mut files: Vec<(String, PathBuf)> = ["session.pub", "ca.crt"].map(|name| (name.to_owned(), data.join(name))).into();
    let mut named = |name: &str, file: &Option<PathBuf>| files.extend(file.iter().map(|file| (name.to_owned(), file.clone())));
    named("listen.certificateFile", &config.listen.certificate_file);
    named("authentication.clientCaFile", &config.authentication.client_ca_file);
    named("policies.registries.caFile", &config.policies.registries.ca_file);
    named("sessions.objectStore.caFile", &config.sessions.object_store.as_ref().and_then(|store| store.ca_file.clone()));
    named("telemetry.caFile", &config.telemetry.as_ref().and_then(|telemetry| telemetry.ca_file.clone()));
    named("audit.witness.caFile", &config.audit.witness.ca_file);
    files.extend(trusted("policies", &config.policies.trusted));
    for member in config.members().iter().filter(|member| member.has_own_policies) {
        files.extend(trusted(&format!("clusters.{}.policies", member.cluster.name), &member.policies.trusted));
    }
    let digest = |file: &Path| std::fs::read(file).ok().map(|text| of_blob(&text));
    files.into_iter().filter_map(|(name, file)| Some((name, digest(&file)?))).collect()
}

fn trusted(of: &str, keys: &[crate::config::TrustedKey]) -> Vec<(String, PathBuf)> {
    keys.iter().map(|key| (format!("{of}.trusted.{}", key.name), key.key_file.clone())).collect()
}
