//! Which events are meant.

use std::path::Path;

use anyhow::Context;
use clap::Args;

use super::super::filter;
use crate::forward::Presented;
use crate::identify;
use crate::record::query::Query;

/// Which events.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Which events")]
pub(super) struct Which {
    /// Written at or after this time: `1h` ago, `yesterday`, a date, or RFC 3339.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Written at or before this time; of a day, until its end.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The caller's name, or a part of it.
    #[arg(long)]
    user: Option<String>,
    /// The cluster, of a gateway with several.
    #[arg(long)]
    cluster: Option<String>,
    /// The verb, for example `get` or `delete`.
    #[arg(long)]
    verb: Option<String>,
    /// The resource, for example `secrets`, `secret` or `pods/exec`.
    #[arg(long)]
    resource: Option<String>,
    /// The namespace.
    #[arg(long, short)]
    namespace: Option<String>,
    /// The object's name.
    #[arg(long)]
    name: Option<String>,
    /// What was decided: allow, mask, block, require-approval, failed or unauthenticated.
    #[arg(long)]
    verdict: Option<String>,
    /// What was not done: refused by the gateway, a policy or an approver, or by the API server (401, 403).
    #[arg(long)]
    refused: bool,
    /// A policy that was asked, or refused it.
    #[arg(long)]
    policy: Option<String>,
    /// The status of the answer, `403`, or a class of them, `4xx`.
    #[arg(long)]
    status: Option<String>,
    /// The address it came from.
    #[arg(long, value_name = "ADDRESS")]
    source: Option<String>,
    /// The session, or the beginning of its id.
    #[arg(long)]
    session: Option<String>,
    /// What was done with a credential: a kubeconfig with it, or the id (`jti`) of its token.
    #[arg(long, value_name = "KUBECONFIG|JTI")]
    token: Option<String>,
    /// A text anywhere in the event.
    #[arg(long)]
    text: Option<String>,
}

impl Which {
    /// Whether an object is named by it.
    pub(super) fn names_object(&self) -> bool {
        self.name.is_some() || self.resource.is_some()
    }

    pub(super) fn query(self) -> anyhow::Result<Query> {
        let Self {
            since,
            until,
            user,
            cluster,
            verb,
            resource,
            namespace,
            name,
            verdict,
            refused,
            policy,
            status,
            source,
            session,
            token,
            text,
        } = self;
        let time = |flag: &str, text: Option<String>, read: fn(&str) -> anyhow::Result<u64>| {
            text.map(|text| read(&text).with_context(|| flag.to_owned())).transpose()
        };
        let (since, until) = (time("--since", since, filter::time)?, time("--until", until, filter::time_to)?);
        if let (Some(since), Some(until)) = (since, until)
            && since > until
        {
            anyhow::bail!("--since is later than --until: nothing is between them");
        }
        Ok(Query {
            since,
            until,
            user,
            cluster,
            verb: verb.as_deref().map(filter::verb).transpose()?,
            resource: resource.as_deref().map(filter::resource).transpose()?,
            namespace,
            name,
            verdict: verdict.as_deref().map(filter::verdict).transpose()?,
            refused,
            policy,
            status: status.as_deref().map(filter::status).transpose()?,
            source: source.as_deref().map(filter::address).transpose()?,
            session: session.as_deref().map(filter::session).transpose()?,
            credential: token.as_deref().map(credential).transpose()?,
            text,
        })
    }
}

/// What makes a credential what it is: what the session's id is a hash over, beside the issuer and the user.
fn credential(text: &str) -> anyhow::Result<Vec<u8>> {
    let file = Path::new(text);
    if !file.is_file() {
        let is_called_as_file =
            ["kubeconfig", "yaml", "yml", "conf", "config", "json"].iter().any(|end| text.ends_with(&format!(".{end}")));
        anyhow::ensure!(!text.contains('/') && !is_called_as_file, "--token: there is no file {text}");
        return Ok(text.as_bytes().to_vec());
    }
    Ok(match Presented::by(file).context("--token")? {
        Presented::Token(token) => identify::own_of_token(&token),
        Presented::Certificate(certificate) => certificate,
    })
}
