//! An operation put together from what a case says of it.

use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Uri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::body::RequestBody;
use crate::classify::{Operation, escape, path_of};
use crate::decide;
use crate::identify::Caller;
use crate::policy::{PolicyOperation, Surroundings};

/// When cases take place that do not say: 2026-01-01T00:00:00Z, in Unix milliseconds.
const SOME_TIME: u64 = 1_767_225_600_000;

/// An operation, and what is around it.
pub struct RehearsedOperation {
    /// As the gateway classifies it.
    pub operation: Operation,
    /// As policies are told it.
    pub subject: Arc<PolicyOperation>,
    /// Its body.
    pub body: Option<Arc<RequestBody>>,
    /// What policies may need to know beside it.
    pub around: Surroundings,
}

/// What a case says of an operation.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Wanted {
    /// get, list, watch, create, update, patch, delete, deletecollection; a lower-case HTTP method where there is no resource.
    pub verb: String,
    /// `pods`, `pods/exec`, `deployments.apps`. None for paths that lead to no resource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// The API version; `v1` when it is not said.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// The namespace; none for what has none and for lists over all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The object's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The path, where there is no resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The query.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<(String, String)>,
    /// The words of a command, for `pods/exec`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Whether the command has a terminal.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tty: bool,
    /// Whether it is a dry run.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Whether it waited for an approval, which was given.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub approved: bool,
    /// The cluster's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// When it arrived: RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_at: Option<String>,
    /// Who asks.
    pub caller: WantedCaller,
}

/// Who asks.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WantedCaller {
    /// The name.
    pub username: String,
    /// The groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// The issuer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub issuer: String,
    /// Verified claims.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub claims: serde_json::Map<String, Value>,
}

impl Default for WantedCaller {
    fn default() -> Self {
        Self { username: "ann".into(), groups: Vec::new(), issuer: "https://issuer.example".into(), claims: serde_json::Map::new() }
    }
}

impl Wanted {
    /// Puts the operation together as the gateway would find it: out of a method and a path.
    pub fn given(&self, body: Option<&Value>, around: Surroundings) -> anyhow::Result<RehearsedOperation> {
        let body = match body {
            Some(Value::Null) | None => Bytes::new(),
            Some(value) => Bytes::from(value.to_string()),
        };
        let uri: Uri = self.uri()?.parse().context("the operation makes no path")?;
        let operation = Operation::classify(&self.method()?, &uri).map_err(|refusal| anyhow::anyhow!(refusal.message))?;
        let operation = operation.of(&self.cluster.as_deref().unwrap_or("test").into());
        if operation.verb != self.verb {
            bail!("verb: {} does not go with this resource and name; it would be a {}", self.verb, operation.verb);
        }
        let mut subject = decide::subject(&operation, &self.caller(), "check", self.time()?);
        if self.approved {
            subject.approve();
        }
        let body = (!body.is_empty()).then(|| Arc::new(RequestBody::new(body, "application/json")));
        Ok(RehearsedOperation { operation, subject: Arc::new(subject), body, around })
    }

    fn method(&self) -> anyhow::Result<Method> {
        Ok(match self.verb.as_str() {
            "get" | "list" | "watch" => Method::GET,
            "create" | "post" => Method::POST,
            "update" | "put" => Method::PUT,
            "patch" => Method::PATCH,
            "delete" | "deletecollection" => Method::DELETE,
            "head" => Method::HEAD,
            "options" => Method::OPTIONS,
            "" => bail!("verb: is missing"),
            other => bail!("verb: {other} is none; get, list, watch, create, update, patch, delete and deletecollection are"),
        })
    }

    fn uri(&self) -> anyhow::Result<String> {
        let mut path = match (&self.path, self.resource.as_str()) {
            (Some(path), "") => path.clone(),
            (None, "") => bail!("resource or path: one is needed"),
            (Some(_), _) => bail!("path: goes without resource"),
            (None, resource) => {
                let (resource, subresource) = resource.split_once('/').map_or((resource, None), |(r, s)| (r, Some(s)));
                let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
                let version = if self.api_version.is_empty() { "v1" } else { &self.api_version };
                let namespace = self.namespace.as_deref().filter(|_| resource != "namespaces");
                let name = self.name.as_deref().or(self.namespace.as_deref().filter(|_| resource == "namespaces"));
                if subresource.is_some() && name.is_none() {
                    bail!("name: a subresource is one of an object; say of which");
                }
                let named = self.verb != "create" || subresource.is_some();
                [
                    Some(path_of(group, version, namespace, resource)),
                    name.filter(|_| named).map(|n| escape(n).to_string()),
                    subresource.map(str::to_owned),
                ]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join("/")
            }
        };
        let mut query: Vec<(&str, &str)> = self.query.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        query.extend(self.command.iter().map(|word| ("command", word.as_str())));
        let flags = [(self.tty, ("tty", "true")), (self.dry_run, ("dryRun", "All")), (self.verb == "watch", ("watch", "1"))];
        query.extend(flags.into_iter().filter(|(is, flag)| *is && !self.query.iter().any(|(key, _)| key == flag.0)).map(|(_, flag)| flag));
        for (index, (key, value)) in query.into_iter().enumerate() {
            path += if index == 0 { "?" } else { "&" };
            path += &format!("{}={}", escape(key), escape(value));
        }
        Ok(path)
    }

    fn time(&self) -> anyhow::Result<u64> {
        let Some(text) = &self.received_at else { return Ok(SOME_TIME) };
        let time = OffsetDateTime::parse(text, &Rfc3339)
            .with_context(|| format!("receivedAt: {text:?} is no time; write 2026-01-31T12:00:00Z"))?;
        Ok(u64::try_from(time.unix_timestamp_nanos() / 1_000_000)?)
    }

    fn caller(&self) -> Caller {
        let WantedCaller { username, groups, issuer, claims } = self.caller.clone();
        let claims = claims.into_iter().map(|(name, value)| (name, value.to_string())).collect();
        Caller { username, groups, issuer, claims, expires: u64::MAX, credential: "check".into(), cluster: Arc::default() }
    }
}
