//! The configuration: one strict YAML file.
//!
//! An unknown key is an error that names its line and column. The JSON Schema of the file is made from these types
//! (`postern config schema`) and published as `docs/config.schema.json`.

mod audit;
mod authentication;
mod cluster;
mod sessions;
mod telemetry;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::policy::Remember;

pub use audit::{Audit, Rotation, Witness};
pub use authentication::{
    Authentication, ClaimMappings, ClaimValidationRule, ExtraMapping, Issuer, JwtAuthenticator, PrefixedClaimOrExpression,
    UserValidationRule,
};
pub use cluster::{
    AccessAs, AccessRule, Cluster, ClusterPolicies, Gateway, Impersonate, Member, OneOfSeveral, ServiceAccountRef, Subjects,
};
pub(crate) use cluster::{canonical_host, is_own, within};
pub use postern_ground::quantity::{ByteSize, Seconds};
pub use postern_policy::LONGEST_DEADLINE;
pub use sessions::{BodyRule, KeepBodies, ObjectStore, RecordingFailure, Sessions};
pub use telemetry::Telemetry;

/// The whole configuration file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Where and how the gateway listens.
    #[serde(default)]
    pub listen: Listen,
    /// A listener for those who run the gateway; none when absent.
    pub operations: Option<Operations>,
    /// Traces and the gateway's own log, sent to an OpenTelemetry collector; nothing is when absent.
    pub telemetry: Option<Telemetry>,
    /// The cluster behind the gateway, where there is one.
    pub cluster: Option<Cluster>,
    /// The clusters behind the gateway, where there are several. They are added, changed and taken out while the gateway runs.
    pub clusters: Option<Vec<OneOfSeveral>>,
    /// Who is let in: OIDC issuers and client certificates.
    #[serde(default)]
    pub authentication: Authentication,
    /// As whom each caller reaches the cluster. The first rule that matches wins; without a match the answer is 403. Of several clusters each has its own.
    #[serde(default)]
    pub access: Vec<AccessRule>,
    /// Who may use `nodes/*/proxy`, which reaches every container of a node. Nobody unless named here. Of several clusters each has its own.
    #[serde(default)]
    pub nodes_proxy: Subjects,
    /// Who sees what is not their own by the gateway's own API: the sessions of all, which policies are in force, how the gateway is. Nobody unless named here.
    #[serde(default)]
    pub auditors: Subjects,
    /// Who is not warned of what policies hide: `--warnings-as-errors`, or a script that reads standard error.
    #[serde(default)]
    pub without_warnings: Subjects,
    /// The policies.
    #[serde(default)]
    pub policies: Policies,
    /// How operations that need an approval are held.
    #[serde(default)]
    pub approvals: Approvals,
    /// The audit log.
    #[serde(default)]
    pub audit: Audit,
    /// What is recorded of streams and calls.
    #[serde(default)]
    pub sessions: Sessions,
    /// Limits a peer meets.
    #[serde(default)]
    pub limits: Limits,
    /// Where the gateway keeps its database, its audit log, its keys and the compiled policies.
    pub data_directory: PathBuf,
}

/// Where and how the gateway listens.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Listen {
    /// Address and port, for example `0.0.0.0:8443`. Port 0 picks a free one.
    pub address: String,
    /// PEM file with the serving certificate and its chain. Without it the gateway makes a certificate of its own.
    pub certificate_file: Option<PathBuf>,
    /// PEM file with the key of the serving certificate.
    pub key_file: Option<PathBuf>,
    /// Further DNS names and IP addresses for the certificate the gateway makes.
    pub names: Vec<String>,
    /// Threads that serve connections; 0 means one for each core.
    pub threads: usize,
    /// Seconds that open requests get to end after SIGTERM.
    pub drain: Seconds,
}

impl Default for Listen {
    fn default() -> Self {
        Self { address: "127.0.0.1:8443".into(), certificate_file: None, key_file: None, names: Vec::new(), threads: 0, drain: Seconds(30) }
    }
}

/// A listener for those who run the gateway, over plain HTTP: `/metrics`, `/livez`, `/readyz` and `/healthz`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Operations {
    /// Address and port. Whoever reaches it reads what it tells without a credential: it tells no secret, and nothing of a caller but how many there were.
    pub address: String,
}

impl Default for Operations {
    fn default() -> Self {
        Self { address: "127.0.0.1:9443".into() }
    }
}

/// The policies.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Policies {
    /// The watched directory of `NAME.wasm` and `NAME.yaml`.
    pub directory: Option<PathBuf>,
    /// Policies without which nothing passes.
    pub required: Vec<String>,
    /// What an operation that no policy matches gets.
    pub unmatched: Unmatched,
    /// Milliseconds one call of a policy may take, unless its own file says otherwise.
    pub deadline_milliseconds: u64,
    /// Memory one instance of a policy may use, unless its own file says otherwise.
    pub memory: ByteSize,
    /// Whether verdicts are remembered, unless a policy's own file says otherwise.
    pub remember: Remember,
    /// Keys whose signatures are trusted. Where there is one, every policy must be signed by one of them.
    pub trusted: Vec<TrustedKey>,
    /// How OCI registries are reached, for policies whose file names a `source` in one. Credentials are those of the docker configuration
    /// (`$DOCKER_CONFIG`, `~/.docker/config.json`).
    pub registries: Registries,
}

/// A key whose signatures are trusted.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustedKey {
    /// Whose it is: shown as a policy's signer.
    pub name: String,
    /// PEM file with the public key, as `cosign generate-key-pair` writes it.
    pub key_file: PathBuf,
    /// What it may sign: repositories as `ghcr.io/acme/guard` or `ghcr.io/acme/*`. Without them it may sign everything, files in the directory too.
    #[serde(default)]
    pub repositories: Vec<String>,
}

/// How OCI registries are reached.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Registries {
    /// PEM file with further CAs.
    pub ca_file: Option<PathBuf>,
    /// Registries, as `host:port`, that are spoken to without TLS. Modules are pinned by digest all the same.
    pub plain_http: Vec<String>,
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            directory: None,
            required: Vec::new(),
            unmatched: Unmatched::Allow,
            deadline_milliseconds: 100,
            memory: ByteSize(64 << 20),
            remember: Remember::On,
            trusted: Vec::new(),
            registries: Registries::default(),
        }
    }
}

/// What an operation that no policy matches gets.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Unmatched {
    /// It is forwarded.
    Allow,
    /// It is refused with 403.
    Block,
}

/// How operations that need an approval are held.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Approvals {
    /// Seconds a request is held open before it is answered 429 and the client asks again; at most 55.
    pub hold: Seconds,
    /// Whether kubectl, which prints nothing while it is held, is told of a new ticket at once: it prints that and ends, and the same command again is held. Other
    /// clients are held from the beginning.
    pub tell_first: bool,
    /// Tickets that may be pending for one caller at a time.
    pub pending_per_caller: u32,
    /// Names that are one person's, a list each: `[[corp:ann, ann]]`. Who asked under one of them approves under none. Equal names of two issuers, or of a
    /// token and a certificate, are one person's without it.
    pub same_person: Vec<Vec<String>>,
}

impl Default for Approvals {
    fn default() -> Self {
        Self { hold: Seconds(25), tell_first: true, pending_per_caller: 100, same_person: Vec::new() }
    }
}

/// Limits a peer meets.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Largest request body. kube-apiserver itself takes 3 MiB.
    pub request_body: ByteSize,
    /// Largest head of a request: its line and all headers.
    pub request_head: ByteSize,
    /// Seconds a client has to send the head of a request.
    pub request_head_time: Seconds,
    /// Seconds a client has to send the body of a request.
    pub request_body_time: Seconds,
    /// Connections open at a time; fewer where the process may not open so many files.
    pub connections: usize,
    /// The most connections from one address; 0 means a quarter of `connections`. A proxy before the gateway is one address.
    pub connections_per_address: usize,
    /// Seconds a connection may carry no request before it is ended. One on which nobody was identified yet has `requestHeadTime`.
    pub idle_connection_time: Seconds,
    /// Largest object in a response that a mask must read.
    pub object: ByteSize,
    /// Seconds the API server has to accept a connection.
    pub connect_time: Seconds,
    /// Seconds the API server has to begin its answer.
    pub response_time: Seconds,
    /// Requests one caller may have under way at a time: those that wait for an approval count too.
    pub requests_per_caller: usize,
    /// Watches and followed logs one caller may have open at a time.
    pub watches_per_caller: usize,
    /// Streams (exec, attach, port-forward, upgraded connections through a proxy) one caller may have open at a time.
    pub streams_per_caller: usize,
    /// Seconds a stream may carry nothing before it is ended.
    pub stream_idle_time: Seconds,
    /// Seconds a stream may last.
    pub stream_time: Seconds,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_body: ByteSize(3 << 20),
            request_head: ByteSize(64 << 10),
            request_head_time: Seconds(10),
            request_body_time: Seconds(30),
            connections: 20_000,
            connections_per_address: 0,
            idle_connection_time: Seconds(180),
            object: ByteSize(16 << 20),
            connect_time: Seconds(5),
            response_time: Seconds(75),
            requests_per_caller: 1000,
            watches_per_caller: 2000,
            streams_per_caller: 100,
            stream_idle_time: Seconds(4 * 3600),
            stream_time: Seconds(24 * 3600),
        }
    }
}

impl Config {
    /// Reads and checks a configuration file. Relative paths in it are relative to the file.
    pub fn load(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read the configuration {}", file.display()))?;
        Self::of_file(file, &text)
    }

    /// Checks a text that was read of a configuration file.
    pub fn of_file(file: &Path, text: &str) -> anyhow::Result<Self> {
        let mut config = Self::parse(text).with_context(|| format!("the configuration {} is not valid", file.display()))?;
        config.resolve_paths(file.parent().unwrap_or(Path::new(".")));
        config.audit.check_places(&config.audit_file())?;
        Ok(config)
    }

    /// Parses and checks the text of a configuration.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let config: Self = crate::written::yaml(text)?;
        config.check()?;
        Ok(config)
    }

    /// The configuration's JSON Schema, as published.
    pub fn schema() -> String {
        let schema = schemars::schema_for!(Config);
        let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
        text.push('\n');
        text
    }

    fn check(&self) -> anyhow::Result<()> {
        if self.listen.certificate_file.is_some() != self.listen.key_file.is_some() {
            bail!("listen: certificateFile and keyFile go together; set both or neither");
        }
        if self.approvals.hold.0 > 55 {
            bail!("approvals.hold: {} is over 55 seconds; clients and proxies between give up at 60", self.approvals.hold.0);
        }
        if self.policies.deadline_milliseconds == 0 {
            bail!("policies.deadlineMilliseconds: 0 would refuse every call; the default is 100");
        }
        if self.policies.deadline_milliseconds > LONGEST_DEADLINE {
            bail!("policies.deadlineMilliseconds: is over {LONGEST_DEADLINE}; a call holds up the thread it is made on");
        }
        if self.limits.request_body.0 == 0 || self.limits.object.0 == 0 || self.limits.connections == 0 {
            bail!("limits: requestBody, object and connections must be greater than 0");
        }
        if self.limits.requests_per_caller == 0 || self.limits.watches_per_caller == 0 {
            bail!("limits: requestsPerCaller and watchesPerCaller must be greater than 0");
        }
        if self.limits.request_head.0 < 8192 {
            bail!("limits.requestHead: must be at least 8192 bytes, or tokens do not fit");
        }
        self.check_clusters()?;
        if !self.policies.required.is_empty() && self.policies.directory.is_none() {
            bail!("policies.required: names policies, but policies.directory is not set");
        }
        if let Some(store) = &self.sessions.object_store {
            store.check()?;
        }
        if let Some(telemetry) = &self.telemetry {
            telemetry.check()?;
        }
        self.audit.check()?;
        self.authentication.check()
    }

    fn resolve_paths(&mut self, base: &Path) {
        let resolve = |path: &mut PathBuf| *path = base.join(&*path);
        resolve(&mut self.data_directory);
        for path in [
            &mut self.listen.certificate_file,
            &mut self.listen.key_file,
            &mut self.policies.directory,
            &mut self.audit.file,
            &mut self.audit.witness.file,
            &mut self.audit.witness.ca_file,
            &mut self.audit.witness.headers_file,
            &mut self.sessions.directory,
            &mut self.policies.registries.ca_file,
            &mut self.authentication.client_ca_file,
        ]
        .into_iter()
        .chain(self.sessions.object_store.as_mut().map(|store| &mut store.ca_file))
        .chain(self.telemetry.iter_mut().flat_map(|telemetry| [&mut telemetry.ca_file, &mut telemetry.headers_file]))
        .flatten()
        .chain(self.policies.trusted.iter_mut().map(|trusted| &mut trusted.key_file))
        .chain(self.cluster.as_mut().and_then(|cluster| cluster.kubeconfig.as_mut()))
        .chain(self.clusters.iter_mut().flatten().flat_map(OneOfSeveral::paths))
        {
            resolve(path);
        }
    }

    /// Where recordings are kept.
    pub fn sessions_directory(&self) -> PathBuf {
        self.sessions.directory.clone().unwrap_or_else(|| self.data_directory.join("sessions"))
    }

    /// The file of the audit log.
    pub fn audit_file(&self) -> PathBuf {
        self.audit.file.clone().unwrap_or_else(|| self.data_directory.join("audit.jsonl"))
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
