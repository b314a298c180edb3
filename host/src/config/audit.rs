//! The audit log: where it is written, when it goes on in another file, and who is told how far it has got.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use http::Uri;
use schemars::JsonSchema;
use serde::Deserialize;

use super::telemetry::{is_near, is_private};
use super::{ByteSize, Seconds};
use crate::record::head::Head;
use crate::record::rotated;

/// The audit log.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Audit {
    /// The file; `audit.jsonl` in the data directory when absent.
    pub file: Option<PathBuf>,
    /// How large it becomes before it is renamed by the number of its first event and another is begun; 0 for never. The chain goes on across files.
    pub rotate_size: ByteSize,
    /// Seconds after which the same is done; 0 for never.
    pub rotate_age: Seconds,
    /// Every so many seconds in which something was written the gateway signs how far the log has got, so that it can be shown when its end is cut off.
    pub head_every: Seconds,
    /// Who is told of it beside the file next to the log: somebody whom those who can write the log cannot reach.
    pub witness: Witness,
}

impl Default for Audit {
    fn default() -> Self {
        Self { file: None, rotate_size: ByteSize(1 << 30), rotate_age: Seconds(0), head_every: Seconds(10), witness: Witness::default() }
    }
}

/// Who keeps signed heads of the audit log: a file on another volume, a server, or both.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Witness {
    /// A file that each signed head is appended to, as a line of JSON. It may be renamed at any time; another is begun then.
    pub file: Option<PathBuf>,
    /// A server that each signed head is sent to, as JSON, by POST. Any answer of 2xx will do.
    pub url: Option<String>,
    /// PEM file with the CAs that the server's certificate is checked against; those of the machine when absent.
    pub ca_file: Option<PathBuf>,
    /// A file of headers that are sent along, `Name: value` in a line each: credentials of the server. It is read anew each time.
    pub headers_file: Option<PathBuf>,
}

impl Witness {
    /// Whether the server is on this machine.
    pub fn is_near(&self) -> bool {
        self.url.as_deref().is_some_and(is_near)
    }
}

impl Audit {
    /// When the log goes on in another file.
    pub fn rotation(&self) -> Rotation {
        Rotation { size: self.rotate_size.0 as u64, age: (self.rotate_age.0 > 0).then(|| self.rotate_age.duration()) }
    }

    /// Says so where a witness is the log itself, or what lies beside it. `log` is its file.
    pub fn check_places(&self, log: &Path) -> anyhow::Result<()> {
        let Some(witness) = &self.witness.file else { return Ok(()) };
        let whole = |file: &Path| {
            let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
            directory.canonicalize().unwrap_or_else(|_| directory.to_owned()).join(file.file_name().unwrap_or_default())
        };
        let is_of_log = whole(witness) == whole(log)
            || whole(witness) == whole(&Head::file(log))
            || rotated::first(&whole(log), &whole(witness)).is_some()
            || witness.canonicalize().is_ok_and(|witness| log.canonicalize().is_ok_and(|log| log == witness));
        ensure!(!is_of_log, "audit.witness.file: {} is the audit log's own; name one on another volume", witness.display());
        Ok(())
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(self.head_every.0 > 0, "audit.headEvery: 0 seconds would sign each event; the default is 10");
        let Some(url) = &self.witness.url else {
            ensure!(
                self.witness.ca_file.is_none() && self.witness.headers_file.is_none(),
                "audit.witness: caFile and headersFile are for url, and there is none"
            );
            return Ok(());
        };
        let uri: Uri = url.parse().context("audit.witness.url: is no URL such as https://witness.example/heads")?;
        ensure!(
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some(),
            "audit.witness.url: begins with neither http:// nor https://"
        );
        ensure!(
            uri.query().is_none() && !uri.authority().is_some_and(|authority| authority.as_str().contains('@')),
            "audit.witness.url: has a query or a user name; credentials go into audit.witness.headersFile"
        );
        ensure!(
            self.witness.headers_file.is_none() || is_private(url),
            "audit.witness.headersFile: its credentials would cross the network in clear; use https:// for audit.witness.url, or a server on this machine"
        );
        Ok(())
    }
}

/// When the audit log goes on in another file. Its chain goes on with it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rotation {
    /// Bytes after which it does; 0 for never.
    pub size: u64,
    /// How long after its first event; none for never.
    pub age: Option<Duration>,
}
