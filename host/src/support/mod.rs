//! A support bundle: what somebody needs who is asked why a gateway does what it does, and no secret.
//!
//! A part is put in because it is known to hold none. Secrets that can be known are looked for in it all the same, and struck out.

mod audit;
mod configuration;
mod machine;
mod policies;
mod secrets;
mod served;

use std::path::Path;

use anyhow::{Context, bail, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::clock::{now, timestamp};
use crate::config::Config;
use crate::store::tables;
use crate::telemetry::recent;
use crate::written::visible;
use secrets::Secrets;

/// How much of the gateway's own log is taken: its end.
const LOG: u64 = 2 << 20;

/// What each file is.
const ABOUT: [(&str, &str); 10] = [
    ("version.json", "what runs"),
    ("machine.json", "on what, and which variables are set that change what is done"),
    ("configuration.yaml", "the configuration without its comments"),
    ("policies.json", "what is in force, and what is not, and why; no settings"),
    ("audit.json", "how many events there were of which kind; no caller, no path, no name of an object"),
    ("database.json", "version and lengths of tables"),
    ("health.txt", "what the listener for operations says, where it is on"),
    ("readiness.txt", "the same"),
    ("metrics.txt", "the same"),
    ("gateway.log", "the end of the gateway's own log"),
];

/// A bundle, put together.
pub struct Bundle {
    parts: Vec<Part>,
    /// Files with secrets that could not be read: what is in them was not looked for.
    unread: Vec<String>,
    is_taken: bool,
}

/// One file of it.
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub text: String,
    /// How many times something was struck out of it.
    pub struck: usize,
}

impl Bundle {
    /// Gathers what there is about the gateway of a configuration, whether it runs or not. What cannot be had is said in its place.
    ///
    /// `data` is where the gateway's data is, for a configuration that is not taken.
    pub fn gather(file: &Path, data: Option<&Path>) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read the configuration {}", file.display()))?;
        let config = Config::of_file(file, &text);
        let secrets = Secrets::gather(config.as_ref().ok(), data);
        let mut unread = secrets.unread().to_vec();
        if config.is_err() {
            unread.push(
                "all that the configuration names, which is not taken: settings of policies, kubeconfigs, headers of a collector".into(),
            );
        }
        let mut bundle = Self { parts: Vec::new(), unread, is_taken: config.is_ok() };
        bundle.add("version.json", Ok(machine::version()), &secrets);
        bundle.add("machine.json", machine::about(config.as_ref().ok()).map(pretty), &secrets);
        let kept = match &config {
            Ok(config) => {
                bundle.add("configuration.yaml", configuration::shown(&text), &secrets);
                bundle.add("policies.json", policies::about(config, &secrets).map(pretty), &secrets);
                for (name, path) in [("health.txt", "/healthz?verbose"), ("readiness.txt", "/readyz?verbose"), ("metrics.txt", "/metrics")]
                {
                    bundle.add(name, served::get(config, path), &secrets);
                }
                Some((config.data_directory.as_path(), config.audit_file()))
            }
            Err(error) => {
                bundle.add("configuration.yaml", Ok(configuration::refused(error)), &secrets);
                data.map(|data| (data, data.join("audit.jsonl")))
            }
        };
        if let Some((data, audit)) = kept {
            bundle.add("audit.json", audit::about(&audit).map(pretty), &secrets);
            bundle.add("database.json", tables(&data.join("postern.db")).map(pretty), &secrets);
            bundle.put("gateway.log", log(data), |log| secrets.of_log(log));
        }
        let about = bundle.about();
        bundle.parts.insert(0, Part { name: "README.txt", text: visible(&about), struck: 0 });
        Ok(bundle)
    }

    fn add(&mut self, name: &'static str, text: anyhow::Result<String>, secrets: &Secrets) {
        self.put(name, text, |text| secrets.strike_out(text));
    }

    fn put(&mut self, name: &'static str, text: anyhow::Result<String>, strike_out: impl Fn(&str) -> String) {
        let text = strike_out(&visible(&text.unwrap_or_else(|error| format!("not there: {error:#}\n"))));
        let struck = text.matches(secrets::STRUCK).count();
        self.parts.push(Part { name, text, struck });
    }

    /// Whether the configuration is one that `serve` would take. Of another one there is less.
    pub fn is_taken(&self) -> bool {
        self.is_taken
    }

    /// Its files.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    fn about(&self) -> String {
        let struck: usize = self.parts.iter().map(|part| part.struck).sum();
        let unread = match self.unread.as_slice() {
            [] => String::new(),
            unread => format!("\nThese could not be read, so that what is in them was not looked for:\n  {}", unread.join("\n  ")),
        };
        let what = |name: &str| ABOUT.iter().find(|(known, _)| *known == name).map_or("", |(_, what)| what);
        let files: String = self.parts.iter().map(|part| format!("{:<20} {}\n", part.name, what(part.name))).collect();
        format!(
            "A support bundle of Postern {}, made {}.

{files}
Not in it: keys, kubeconfigs, tokens, settings of policies, events of the audit log, recordings, tickets.
What looked like a secret, or is one of the gateway's own now, was struck out: {struck} times. Secrets that were replaced since are not known: look for those in gateway.log.{unread}
It does hold names: of hosts, issuers, groups and users in the configuration, of policies, and what gateway.log says of callers and addresses. Look at it before you give it away.
",
            env!("CARGO_PKG_VERSION"),
            timestamp(),
        )
    }

    /// Writes it as a gzipped tar archive that only this user may read, where there is none yet.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let at = || format!("cannot make {}", file.display());
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Whole or not at all; made with the mode 0600.
        let mut made = NamedTempFile::new_in(parent).with_context(at)?;
        let mut archive = tar::Builder::new(GzEncoder::new(&mut made, Compression::default()));
        for Part { name, text, .. } in &self.parts {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(now());
            archive.append_data(&mut header, Path::new("postern-support").join(name), text.as_bytes())?;
        }
        archive.into_inner()?.finish().with_context(at)?;
        match made.persist_noclobber(file) {
            Ok(_) => Ok(()),
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
                bail!("{} is there already; name another", file.display())
            }
            Err(error) => Err(error.error).with_context(at),
        }
    }
}

fn pretty(value: Value) -> String {
    let mut text = serde_json::to_string_pretty(&value).unwrap_or_default();
    text.push('\n');
    text
}

/// Whether a path is a file, and nothing that would be waited for.
fn regular(file: &Path) -> std::io::Result<()> {
    if std::fs::metadata(file)?.is_file() { Ok(()) } else { Err(std::io::Error::other("it is no file")) }
}

/// The end of the gateway's own log.
fn log(data: &Path) -> anyhow::Result<String> {
    let mut log = String::new();
    for file in recent::files(data) {
        match regular(&file).and_then(|()| std::fs::read(&file)) {
            Ok(bytes) => log.push_str(&String::from_utf8_lossy(&bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| file.display().to_string()),
        }
    }
    ensure!(!log.is_empty(), "no log is kept in {} yet", data.display());
    let begin = log.ceil_char_boundary(log.len().saturating_sub(LOG as usize));
    let begin = log[begin..].find('\n').filter(|_| begin > 0).map_or(0, |line| begin + line + 1);
    Ok(log.split_off(begin))
}

#[cfg(test)]
mod tests;
