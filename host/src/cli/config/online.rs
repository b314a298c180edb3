//! `postern config check --online`: those that a configuration names are asked whether they answer.

use std::sync::Arc;

use anyhow::{Context, bail};
use http::StatusCode;
use serde_json::Value;
use tokio::task::LocalSet;

use crate::cli::table::{self, printable, row};
use crate::cli::terminal::say;
use crate::config::Config;
use crate::forward::{Access, As, LARGEST_ANSWER, Question, Upstream};
use crate::identify::Identifier;
use crate::store::Objects;

/// A session that is none: whether the object store answers is all that is asked.
const NOBODY: &str = "0000000000000000";

/// Asks all, and tells of each; an error where one does not answer.
pub(super) fn check(config: &Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let told = LocalSet::new().block_on(&runtime, ask(config))?;
    let mut rows = vec![row(["WHAT", "WHERE", "ANSWERS"])];
    rows.extend(told.iter().map(|(what, place, answer)| match answer {
        Ok(answer) => row([what, place, answer]),
        Err(_) => row([what, place, "NO"]),
    }));
    table::print(&rows);
    for (what, place, answer) in &told {
        if let Err(why) = answer {
            say!("{} {}: {}", printable(what), printable(place), printable(why));
        }
    }
    match told.iter().filter(|(.., answer)| answer.is_err()).count() {
        0 => Ok(()),
        1 => bail!("one of them does not answer as it should"),
        count => bail!("{count} of them do not answer as they should"),
    }
}

/// What was asked, where it is, and what it said.
type Told = (String, String, Result<String, String>);

async fn ask(config: &Config) -> anyhow::Result<Vec<Told>> {
    let mut told = Vec::new();
    let mut cluster_ca = Vec::new();
    for member in config.members() {
        let access = Access::load(&member.cluster)?;
        if member.is_alone {
            cluster_ca = access.ca.clone();
        }
        let upstream = Upstream::new(access, &member.cluster.service_account_issuers, &config.limits, Arc::default())?;
        told.push((format!("cluster {}", member.cluster.name), upstream.address().to_owned(), version(&upstream).await));
    }
    let identifier = Identifier::new(&config.authentication, &cluster_ca)?;
    for (issuer, keys) in identifier.ask_issuers().await {
        let answer = match keys {
            Ok(0) => Err("it publishes no key that tokens could be verified with".to_owned()),
            Ok(count) => Ok(format!("{count} keys")),
            Err(error) => Err(format!("{error:#}")),
        };
        told.push(("issuer".to_owned(), issuer, answer));
    }
    if let Some(store) = &config.sessions.object_store {
        let listed = Objects::open(store).context("sessions.objectStore")?.list(NOBODY).await;
        told.push(("object store".to_owned(), store.url.clone(), listed.map(|_| "yes".to_owned()).map_err(|error| format!("{error:#}"))));
    }
    Ok(told)
}

/// The version of an API server that takes the gateway's credential.
async fn version(upstream: &Arc<Upstream>) -> Result<String, String> {
    let asked = upstream.read(&As::Gateway, Question::Get("/version"), LARGEST_ANSWER).await;
    match asked {
        Ok((StatusCode::UNAUTHORIZED, _)) => Err("it does not take the gateway's credential (401)".to_owned()),
        Ok((status, body)) if status.is_success() => {
            let version: Value = serde_json::from_slice(&body).unwrap_or_default();
            Ok(version["gitVersion"].as_str().unwrap_or("yes").to_owned())
        }
        // Who may not ask for its version is known to it all the same.
        Ok((status, _)) => Ok(format!("yes ({status})")),
        Err(refusal) => Err(refusal.message),
    }
}
