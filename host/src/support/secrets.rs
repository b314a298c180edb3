//! Secrets that can be known, and what looks like one: struck out of all that goes into a bundle.

use std::path::Path;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use data_encoding::HEXLOWER;
use regex::Regex;
use serde_json::Value;

use crate::config::Config;

/// What stands in the place of a secret.
pub(super) const STRUCK: &str = "[struck out]";
/// The shortest secret that is looked for by itself: shorter ones are words.
const SHORTEST: usize = 6;
/// The longest file that secrets are read of.
const LONGEST_FILE: u64 = 1 << 20;

/// What tokens, keys and passwords look like.
static LOOKS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        // PEM with a private key, as far as it goes.
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(-----END [A-Z ]*PRIVATE KEY-----)?",
        // JSON Web Tokens, signed or not.
        r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*)?",
        r"(?i)\b(bearer|basic|negotiate|digest)\s+[A-Za-z0-9+/=._~-]{6,}",
        // User names and passwords in addresses.
        r"(?i)\b[a-z][a-z0-9+.-]*://[^/\s@'\x22]*@",
        r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
        r"\b(ghp|gho|ghs|ghr|github_pat|glpat|xox[abprs]|sk|hvs)[_-][A-Za-z0-9_-]{16,}",
        r"(?i)\b(password|passwd|secret|token|api[_-]?key|client[_-]?secret|access[_-]?key)\s*[=:]\s*[^\s,;'\x22]{6,}",
    ]
    .into_iter()
    .filter_map(|look| Regex::new(look).ok())
    .collect()
});
/// A long word in which capitals, small letters and digits are mixed.
static MIXED: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[A-Za-z0-9+/_-]{28,}={0,2}").ok());

/// Secrets of one gateway.
pub(super) struct Secrets {
    known: Option<AhoCorasick>,
    /// Words of the settings of policies: what policies say may quote them.
    settings: Option<AhoCorasick>,
    /// Words of the configuration: what is said of one that is not taken may quote its lines.
    quoted: Option<AhoCorasick>,
}

impl Secrets {
    /// Reads all files that hold secrets of this gateway, as far as they can be read. `text` is the configuration as it is written.
    pub(super) fn gather(text: &str, config: Option<&Config>) -> Self {
        let (mut known, mut settings, mut quoted) = (Found::default(), Found::default(), Found::default());
        // What is no setting may be a value that was taken out for a moment.
        text.lines().filter_map(|line| line.split_once(['#', ':'])).for_each(|(_, rest)| quoted.words(rest));
        for (name, value) in std::env::vars() {
            if ["SECRET", "TOKEN", "PASSWORD", "KEY", "HEADERS", "CREDENTIAL"].iter().any(|part| name.to_uppercase().contains(part)) {
                known.value(&value);
            }
        }
        if let Some(config) = config {
            known.of(config);
            let directories = config.members().into_iter().filter_map(|member| member.policies.directory);
            for directory in directories.chain(config.policies.directory.clone()) {
                for file in entries(&directory).filter(|file| file.extension().is_some_and(|end| end == "yaml" || end == "yml")) {
                    let text = read(&file).unwrap_or_default();
                    let text = String::from_utf8_lossy(&text);
                    settings.words(&text);
                    if let Ok(value) = serde_saphyr::from_str::<Value>(&text) {
                        settings.values(&value);
                    }
                }
            }
        }
        Self { known: known.finder(), settings: settings.finder(), quoted: quoted.finder() }
    }

    /// A text without what is known to be secret or looks like it.
    pub(super) fn strike_out(&self, text: &str) -> String {
        LOOKS.iter().fold(strike(self.known.as_ref(), text), |text, look| look.replace_all(&text, STRUCK).into_owned())
    }

    /// What a policy says of why it fails, without what its settings say.
    pub(super) fn of_policy(&self, text: &str) -> String {
        strike(self.settings.as_ref(), text)
    }

    /// What is said of a configuration that is not taken, without what it says itself.
    pub(super) fn of_configuration(&self, text: &str) -> String {
        strike(self.quoted.as_ref(), text)
    }

    /// A log: lines about policies without what their settings say, and no line with a word that nobody would write by hand.
    pub(super) fn of_log(&self, log: &str) -> String {
        let mut shown = String::with_capacity(log.len());
        for line in log.split_inclusive('\n') {
            let line = if line.contains("polic") { self.of_policy(line) } else { line.to_owned() };
            let mixed = MIXED.as_ref().map(|mixed| {
                mixed.replace_all(&line, |found: &regex::Captures<'_>| {
                    let word = &found[0];
                    let has = |of: fn(&char) -> bool| word.chars().any(|c| of(&c));
                    match has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase) && has(char::is_ascii_digit) {
                        true => STRUCK.to_owned(),
                        false => word.to_owned(),
                    }
                })
            });
            shown.push_str(mixed.as_deref().unwrap_or(STRUCK));
        }
        shown
    }
}

fn strike(finder: Option<&AhoCorasick>, text: &str) -> String {
    let Some(finder) = finder else { return text.to_owned() };
    let mut shown = String::with_capacity(text.len());
    finder.replace_all_with(text, &mut shown, |_, _, shown| {
        shown.push_str(STRUCK);
        true
    });
    shown
}

/// Secrets that were found, in every way they may be written.
#[derive(Default)]
struct Found(Vec<String>);

impl Found {
    /// The files with secrets that a configuration names.
    fn of(&mut self, config: &Config) {
        let data = [config.data_directory.clone(), config.sessions_directory()];
        let clusters = std::fs::read_dir(config.data_directory.join("clusters")).into_iter().flatten().flatten().map(|entry| entry.path());
        for directory in data.into_iter().chain(clusters) {
            for file in entries(&directory).filter(|file| file.extension().is_some_and(|end| end == "key")) {
                self.file(&file);
            }
        }
        let telemetry = config.telemetry.as_ref().and_then(|telemetry| telemetry.headers_file.as_ref());
        for file in config.listen.key_file.iter().chain(telemetry) {
            self.file(file);
        }
        for member in config.members() {
            if let Some(kubeconfig) = &member.cluster.kubeconfig {
                let text = read(kubeconfig).unwrap_or_default();
                if let Ok(value) = serde_saphyr::from_str::<Value>(&String::from_utf8_lossy(&text)) {
                    self.kubeconfig(&value["users"], kubeconfig.parent().unwrap_or(Path::new(".")));
                }
            }
        }
        self.file(Path::new("/var/run/secrets/kubernetes.io/serviceaccount/token"));
    }

    /// All that is in users of a kubeconfig, and in files that they name.
    fn kubeconfig(&mut self, users: &Value, base: &Path) {
        match users {
            Value::String(text) => {
                self.value(text);
                if let Ok(bytes) = STANDARD.decode(text) {
                    self.bytes(&bytes);
                }
                let file = base.join(text);
                if file.is_file() {
                    self.file(&file);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.kubeconfig(item, base)),
            Value::Object(fields) => fields.iter().filter(|(name, _)| *name != "name").for_each(|(_, field)| self.kubeconfig(field, base)),
            _ => {}
        }
    }

    fn file(&mut self, file: &Path) {
        if let Some(bytes) = read(file) {
            self.bytes(&bytes);
        }
    }

    /// A file's bytes, and the words of its lines.
    fn bytes(&mut self, bytes: &[u8]) {
        self.encoded(bytes);
        if let Ok(text) = std::str::from_utf8(bytes) {
            self.value(text.trim());
            text.lines().filter(|line| !line.starts_with("-----")).for_each(|line| {
                self.value(line.trim());
                self.words(line);
            });
        }
    }

    fn encoded(&mut self, bytes: &[u8]) {
        self.0.extend([STANDARD.encode(bytes), STANDARD_NO_PAD.encode(bytes), URL_SAFE_NO_PAD.encode(bytes), HEXLOWER.encode(bytes)]);
    }

    /// Every text in a value.
    fn values(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.value(text),
            Value::Array(items) => items.iter().for_each(|item| self.values(item)),
            Value::Object(fields) => fields.values().for_each(|field| self.values(field)),
            _ => {}
        }
    }

    fn words(&mut self, text: &str) {
        text.split(|c: char| c.is_whitespace() || ",;:{}[]()<>\"'`#=&?/".contains(c)).for_each(|word| self.value(word));
    }

    fn value(&mut self, text: &str) {
        if text.len() >= SHORTEST {
            self.0.push(text.to_owned());
            self.encoded(text.as_bytes());
            let escaped = Value::from(text).to_string();
            self.0.push(escaped.trim_matches('"').to_owned());
        }
    }

    fn finder(mut self) -> Option<AhoCorasick> {
        self.0.retain(|text| text.len() >= SHORTEST);
        AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&self.0).ok().filter(|_| !self.0.is_empty())
    }
}

fn read(file: &Path) -> Option<Vec<u8>> {
    let about = std::fs::metadata(file).ok()?;
    if about.is_file() && about.len() <= LONGEST_FILE { std::fs::read(file).ok() } else { None }
}

fn entries(directory: &Path) -> impl Iterator<Item = std::path::PathBuf> + use<> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}
