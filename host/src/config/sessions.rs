//! Sessions: where recordings are kept, and what is in them.

use std::path::PathBuf;

use anyhow::{Context, bail};
use schemars::JsonSchema;
use serde::Deserialize;

use super::ByteSize;

/// What is recorded of streams and calls, so that it can be replayed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Sessions {
    /// Where recordings are kept; `sessions` in the data directory when absent.
    pub directory: Option<PathBuf>,
    /// An object store that finished recordings go to; the directory is then where they wait for it.
    pub object_store: Option<ObjectStore>,
    /// What becomes of an exec, attach or port-forward that cannot be recorded.
    pub on_failure: RecordingFailure,
    /// What is kept of the bodies of calls: the first rule that matches decides, and without one nothing is.
    pub bodies: Vec<BodyRule>,
    /// Bytes of memory for the latest bodies that rules keep as `recent`.
    pub recent_bodies: ByteSize,
    /// Bytes that are kept of one body.
    pub largest_body: ByteSize,
    /// Bytes of input and output that are recorded of one stream. What follows is left out, and the recording says so.
    pub largest_recording: ByteSize,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            directory: None,
            object_store: None,
            on_failure: RecordingFailure::Refuse,
            bodies: Vec::new(),
            recent_bodies: ByteSize(16 << 20),
            largest_body: ByteSize(256 << 10),
            largest_recording: ByteSize(1 << 30),
        }
    }
}

/// Of which calls bodies are kept. An empty list means any.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BodyRule {
    /// Verbs, for example `create`.
    #[serde(default)]
    pub verbs: Vec<String>,
    /// Resources, for example `deployments` or `pods/eviction`.
    #[serde(default)]
    pub resources: Vec<String>,
    /// Namespaces.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// What is kept.
    pub keep: KeepBodies,
}

/// What is kept of a call.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum KeepBodies {
    /// Its audit event.
    Metadata,
    /// The body of its request too, after masking.
    Request,
    /// The body of its answer too, after masking.
    RequestAndResponse,
    /// Of its request the body, after masking, in the gateway's memory alone: the latest, for `postern policy explain` and `replay`.
    Recent,
}

/// What becomes of a stream that cannot be recorded.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum RecordingFailure {
    /// It is refused, or ended if it has begun.
    Refuse,
    /// It goes on, and the recording says what is missing once it can be written again.
    Allow,
}

/// A bucket of S3, or of a server that speaks its protocol. Credentials come from where AWS's own tools take them: `AWS_ACCESS_KEY_ID` and
/// `AWS_SECRET_ACCESS_KEY` (and `AWS_SESSION_TOKEN`), a web identity token, or the metadata of the container or machine.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectStore {
    /// `s3://BUCKET`, or `s3://BUCKET/PREFIX`.
    pub url: String,
    /// The server's address, for example `https://minio.example:9000`. `AWS_ENDPOINT_URL`, or AWS's own for the region, when absent.
    pub endpoint: Option<String>,
    /// The region. `AWS_REGION`, or `us-east-1`, when absent.
    pub region: Option<String>,
    /// PEM file with the CAs the server's certificate is checked against; the system's when absent.
    pub ca_file: Option<PathBuf>,
    /// Allows an endpoint without TLS: whoever is on the way can then read and change recordings.
    #[serde(default)]
    pub allow_http: bool,
    /// Bytes of finished recordings that may wait on the disk for the object store. Past that, streams cannot be recorded (`onFailure`).
    #[serde(default = "largest_spool")]
    pub largest_spool: ByteSize,
}

fn largest_spool() -> ByteSize {
    ByteSize(10 << 30)
}

impl ObjectStore {
    /// The bucket and the prefix of the URL.
    pub fn place(&self) -> anyhow::Result<(&str, &str)> {
        let rest = self.url.strip_prefix("s3://").with_context(|| format!("{:?} does not begin with s3://", self.url))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let named =
            (3..=63).contains(&bucket.len()) && bucket.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b));
        if !named {
            bail!("{bucket:?} is no name of a bucket");
        }
        Ok((bucket, prefix.trim_matches('/')))
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.place().context("sessions.objectStore.url")?;
        match self.endpoint.as_deref() {
            Some(endpoint) if endpoint.starts_with("http://") && !self.allow_http => {
                bail!("sessions.objectStore.endpoint: has no TLS; use https, or set allowHttp where nobody else is on the way")
            }
            Some(endpoint) if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") => {
                bail!("sessions.objectStore.endpoint: {endpoint:?} does not begin with https://")
            }
            // What is in an address is in errors and logs too.
            Some(endpoint) if endpoint.contains('@') => {
                bail!("sessions.objectStore.endpoint: holds a credential; give it in the environment")
            }
            _ => Ok(()),
        }
    }
}
