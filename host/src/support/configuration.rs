//! The configuration, without its comments: in those anything may stand.

use anyhow::Context;
use serde_json::Value;

use super::secrets::Secrets;

/// A configuration that is taken, as it is read.
pub(super) fn shown(text: &str) -> anyhow::Result<String> {
    let value: Value = serde_saphyr::from_str(text).context("the configuration")?;
    Ok(serde_saphyr::to_string(&value)?)
}

/// Why one is not, without the words of the file itself.
pub(super) fn refused(error: &anyhow::Error, secrets: &Secrets) -> String {
    let why = secrets.of_configuration(&format!("{error:#}"));
    format!(
        "# It is not taken, and so not shown; `postern config check` says in clear:\n{}\n",
        why.lines().map(|line| format!("# {line}\n")).collect::<String>()
    )
}
