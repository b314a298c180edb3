//! Secrets that can be known, and what looks like one: struck out of all that goes into a bundle.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, BuildError, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use data_encoding::HEXLOWER;
use regex::{Captures, Regex};
use serde_json::Value;

use crate::config::Config;
use crate::share::registry::docker_configuration;
use crate::written::secret_yaml;

/// What stands in the place of a secret.
pub(super) const STRUCK: &str = "[struck out]";
/// The shortest secret that is looked for by itself: shorter ones are words.
const SHORTEST: usize = 6;
/// The longest file that secrets are read of, and the most words of one.
const LONGEST_FILE: u64 = 1 << 20;
const MOST_WORDS: usize = 20_000;
/// The gateway's own token in a pod.
const IN_CLUSTER: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// Variables whose names say so hold secrets.
const OF_SECRETS: [&str; 9] = ["SECRET", "TOKEN", "PASS", "KEY", "HEADERS", "CREDENTIAL", "AUTH", "DSN", "CONNECTION"];

/// What tokens, keys and passwords look like.
static LOOKS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\z)",
        // JSON Web Tokens, signed or not.
        r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*)?",
        r"(?i)\b(bearer|basic|negotiate|digest)\s+[A-Za-z0-9+/=._~-]{6,}",
        // User names and passwords in addresses.
        r"(?i)\b[a-z][a-z0-9+.-]*://[^\s'\x22]*@",
        r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
        r"\b(ghp|gho|ghs|ghr|github_pat|glpat|xox[abprs]|sk|hvs)[_-][A-Za-z0-9_-]{16,}",
        // A name that says it, and the value behind it, in any quotes.
        r#"(?i)[a-z0-9_.-]*(password|passwd|pwd|passphrase|secret|token|credential|(api|access|account|private|secret)[_-]?key)s?\\?["']?\s*[=:]\s*(\\?"[^"]{6,}"|'[^']{6,}'|[^\s,;}"']{6,})"#,
    ]
    .into_iter()
    // What begins a line of what somebody said is behind the escape of the line's end, in a log of one line an event.
    .filter_map(|look| Regex::new(&look.replacen(r"\b", r"(?:\b|\\(?:u00[0-9a-f]{2}|[nrt0]|u\{[0-9a-f]+\}|x[0-9a-f]{2}))", 1)).ok())
    .collect()
});
/// A long word in which capitals, small letters and digits are mixed.
static LONG: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[A-Za-z0-9+/_-]{28,}={0,2}").ok());

/// Secrets of one gateway.
pub(super) struct Secrets {
    known: Result<Option<AhoCorasick>, BuildError>,
    /// Words of the settings of policies: what policies say may quote them.
    settings: Result<Option<AhoCorasick>, BuildError>,
    unread: Vec<String>,
}

impl Secrets {
    /// Reads all that holds secrets of this gateway, as far as it can be read.
    pub(super) fn gather(config: Option<&Config>, data: Option<&Path>) -> Self {
        let (mut known, mut settings) = (Found::default(), Found::default());
        for (name, value) in std::env::vars_os() {
            known.variable(&name.to_string_lossy(), &value.to_string_lossy());
        }
        if let Some(data) = data {
            known.data(data);
        }
        if let Some(config) = config {
            known.of(config);
            let directories = config.members().into_iter().filter_map(|member| member.policies.directory);
            for directory in directories.chain(config.policies.directory.clone()) {
                for file in entries(&directory).filter(|file| file.extension().is_some_and(|end| end == "yaml" || end == "yml")) {
                    settings.settings(&file);
                }
            }
        }
        let unread = known.unread.iter().chain(&settings.unread).cloned().collect();
        Self { known: known.finder(), settings: settings.finder(), unread }
    }

    /// Files with secrets that could not be read.
    pub(super) fn unread(&self) -> &[String] {
        &self.unread
    }

    /// A text without what is known to be secret or looks like it.
    pub(super) fn strike_out(&self, text: &str) -> String {
        LOOKS.iter().fold(strike(&self.known, text), |text, look| look.replace_all(&text, STRUCK).into_owned())
    }

    /// What a policy says, without what its settings say.
    pub(super) fn of_policy(&self, text: &str) -> String {
        strike(&self.settings, &self.strike_out(text))
    }

    /// A log: what is about policies without what their settings say, and nothing with a word that nobody would write by hand.
    pub(super) fn of_log(&self, log: &str) -> String {
        let mut shown = String::with_capacity(log.len());
        for line in log.split_inclusive('\n') {
            let line = if line.contains("polic") { self.of_policy(line) } else { self.strike_out(line) };
            let Some(long) = LONG.as_ref() else { continue };
            shown
                .push_str(&long.replace_all(&line, |found: &Captures<'_>| if is_mixed(&found[0]) { STRUCK } else { &found[0] }.to_owned()));
        }
        shown
    }
}

fn is_mixed(word: &str) -> bool {
    let has = |of: fn(&char) -> bool| word.chars().any(|c| of(&c));
    has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase) && has(char::is_ascii_digit)
}

/// A text without what is found in it. Where it cannot be looked for there is no text.
fn strike(finder: &Result<Option<AhoCorasick>, BuildError>, text: &str) -> String {
    let finder = match finder {
        Ok(Some(finder)) => finder,
        Ok(None) => return text.to_owned(),
        Err(error) => return format!("left out: secrets cannot be looked for in it: {error}\n"),
    };
    let mut shown = String::with_capacity(text.len());
    finder.replace_all_with(text, &mut shown, |_, _, shown| {
        shown.push_str(STRUCK);
        true
    });
    shown
}

/// Secrets that were found, in every way they may be written.
#[derive(Default)]
pub(super) struct Found {
    spelt: BTreeSet<String>,
    unread: Vec<String>,
}

impl Found {
    /// What a configuration names, and what its gateway keeps and was given.
    pub(super) fn of(&mut self, config: &Config) {
        self.data(&config.data_directory);
        let telemetry = config.telemetry.as_ref().and_then(|telemetry| telemetry.headers_file.as_ref());
        for file in config.listen.key_file.iter().chain(telemetry).chain(&config.audit.witness.headers_file) {
            self.file(file);
        }
        for kubeconfig in config.members().into_iter().filter_map(|member| member.cluster.kubeconfig) {
            let Some(bytes) = self.read(&kubeconfig) else { continue };
            let text = String::from_utf8_lossy(&bytes);
            match secret_yaml::<Value>(&text) {
                Ok(value) => self.kubeconfig(&value["users"], kubeconfig.parent().unwrap_or(Path::new("."))),
                Err(_) => self.words(&text),
            }
            // A token of digits is used as it is written, and a number that is read may be written in another way.
            text.split(|c: char| !c.is_alphanumeric())
                .filter(|word| word.bytes().all(|byte| byte.is_ascii_digit()))
                .for_each(|word| self.value(word));
        }
        if Path::new(IN_CLUSTER).exists() {
            self.file(Path::new(IN_CLUSTER));
        }
        if let Some(file) = docker_configuration().filter(|file| file.exists()) {
            self.docker(&file);
        }
    }

    /// The credentials for registries in a configuration of docker's: whole, and the password in what is `USER:PASSWORD` in base64.
    pub(super) fn docker(&mut self, file: &Path) {
        let Some(bytes) = self.read(file) else { return };
        let Ok(configuration) = serde_json::from_slice::<Value>(&bytes) else { return self.words(&String::from_utf8_lossy(&bytes)) };
        for credential in configuration["auths"].as_object().into_iter().flat_map(|auths| auths.values()) {
            self.values(credential);
            let pair = credential["auth"].as_str().and_then(|auth| String::from_utf8(STANDARD.decode(auth).ok()?).ok());
            if let Some((_, password)) = pair.as_deref().and_then(|pair| pair.split_once(':')) {
                self.value(password);
            }
        }
        self.values(&configuration["HttpHeaders"]);
    }

    /// The keys in a data directory, and the variables of the gateway that has it: it may have been given others than this process.
    fn data(&mut self, data: &Path) {
        let keys = [data.to_owned()].into_iter().chain(entries(&data.join("clusters"))).flat_map(|directory| entries(&directory));
        for file in keys.filter(|file| file.extension().is_some_and(|end| end == "key")) {
            self.file(&file);
        }
        for (name, value) in variables_of_holder(data) {
            self.variable(&name, &value);
        }
    }

    fn variable(&mut self, name: &str, value: &str) {
        if OF_SECRETS.iter().any(|part| name.to_uppercase().contains(part)) {
            self.value(value);
            self.words(value);
        }
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

    /// The words and texts of a file beside a policy.
    fn settings(&mut self, file: &Path) {
        let Some(bytes) = self.read(file) else { return };
        let text = String::from_utf8_lossy(&bytes);
        self.words(&text);
        if let Ok(value) = secret_yaml::<Value>(&text) {
            self.values(&value);
        }
    }

    fn file(&mut self, file: &Path) {
        if let Some(bytes) = self.read(file) {
            self.bytes(&bytes);
        }
    }

    fn read(&mut self, file: &Path) -> Option<Vec<u8>> {
        let about = std::fs::metadata(file).ok().filter(|about| about.is_file() && about.len() <= LONGEST_FILE);
        let bytes = about.and_then(|_| std::fs::read(file).ok());
        if bytes.is_none() {
            self.unread.push(file.display().to_string());
        }
        bytes
    }

    /// A file's bytes, and the words of its lines.
    fn bytes(&mut self, bytes: &[u8]) {
        self.encoded(bytes);
        if let Ok(text) = std::str::from_utf8(bytes) {
            self.value(text.trim());
            for line in text.lines().filter(|line| !line.starts_with("-----")) {
                self.value(line.trim());
                self.words(line);
            }
        }
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
        let words = text.split(|c: char| c.is_whitespace() || ",;:{}[]()<>\"'`#=&?/@|\\".contains(c));
        words.filter(|word| word.len() >= SHORTEST).take(MOST_WORDS).for_each(|word| self.value(word));
    }

    fn value(&mut self, text: &str) {
        if text.len() >= SHORTEST {
            self.spelt.insert(text.to_owned());
            self.encoded(text.as_bytes());
            self.spelt.insert(Value::from(text).to_string().trim_matches('"').to_owned());
        }
    }

    fn encoded(&mut self, bytes: &[u8]) {
        if bytes.len() >= SHORTEST {
            self.spelt.extend([
                STANDARD.encode(bytes),
                STANDARD_NO_PAD.encode(bytes),
                URL_SAFE_NO_PAD.encode(bytes),
                HEXLOWER.encode(bytes),
            ]);
        }
    }

    pub(super) fn finder(&self) -> Result<Option<AhoCorasick>, BuildError> {
        let spelt: Vec<_> = self.spelt.iter().filter(|text| text.len() >= SHORTEST).collect();
        if spelt.is_empty() {
            return Ok(None);
        }
        AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(spelt).map(Some)
    }
}

/// The environment of the gateway that has a data directory, where it runs and this user may see it.
pub(super) fn variables_of_holder(data: &Path) -> Vec<(String, String)> {
    let holder = std::fs::read_to_string(data.join("lock")).ok().and_then(|id| id.trim().parse::<u32>().ok());
    let environment = holder.and_then(|id| std::fs::read(format!("/proc/{id}/environ")).ok()).unwrap_or_default();
    let variables = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    variables.filter_map(|variable| variable.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))).collect()
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}
