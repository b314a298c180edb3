//! What policies are in force: what `postern policy list` shows.

use std::path::Path;

use serde_json::{Value, json};

use super::secrets::Secrets;
use crate::config::Config;
use crate::policy::report::PolicyReport;

/// The reports of all directories: the one that clusters share, and those of clusters with policies of their own.
pub(super) fn about(config: &Config, secrets: &Secrets) -> anyhow::Result<Value> {
    let own = config.members().into_iter().filter(|member| member.has_own_policies);
    let own = own.map(|member| (Some(member.cluster.name.clone()), config.cluster_directory(&member.cluster.name)));
    let shared = config.policies.directory.iter().map(|_| (None, config.data_directory.clone()));
    Ok(shared.chain(own).map(|(cluster, data)| json!({"cluster": cluster, "report": report(&data, secrets)})).collect())
}

fn report(data: &Path, secrets: &Secrets) -> Value {
    match PolicyReport::read(&PolicyReport::file(data)) {
        Ok(Some(mut report)) => {
            for line in &mut report.policies {
                line.error = line.error.take().map(|error| secrets.of_policy(&error));
                // A policy says of itself what it likes.
                line.summary = secrets.of_policy(&line.summary);
                line.version = secrets.of_policy(&line.version);
            }
            json!(report)
        }
        Ok(None) => json!({"error": "no gateway has written one yet"}),
        Err(error) => json!({"error": format!("{error:#}")}),
    }
}
