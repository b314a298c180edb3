//! The configuration, without its comments: in those anything may stand.

use anyhow::Context;
use serde_json::Value;

use crate::written::{place_of, secret_yaml};

/// A configuration that is taken, as it is read.
pub(super) fn shown(text: &str) -> anyhow::Result<String> {
    let value: Value = secret_yaml(text).context("the configuration")?;
    Ok(serde_saphyr::to_string(&value)?)
}

/// Where one is not: why may quote it.
pub(super) fn refused(error: &anyhow::Error) -> String {
    let at = place_of(error).map(|(line, column)| format!(", for what is at line {line}, column {column}")).unwrap_or_default();
    format!("# It is not taken{at}; `postern config check` says why.\n")
}
