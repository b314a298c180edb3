//! Operations out of recordings and the audit log.

use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use http::Method;
use serde_json::Value;

use super::given::{RehearsedOperation, Wanted, WantedCaller};
use crate::body::RequestBody;
use crate::classify::{Command, Operation, Shape, Target};
use crate::decide;
use crate::identify::Caller;
use crate::policy::Surroundings;

/// The operation of an audit event, or of a stream's header. What an event leaves out (claims, tokens in the query) is not there.
pub fn given(event: &Value, body: Option<&[u8]>) -> anyhow::Result<RehearsedOperation> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let optional = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let verb = event["verb"].as_str().context("it has no verb: it was refused before it was known what it is")?.to_owned();
    let target = event.get("target").filter(|target| target.is_object()).map(|target| Target {
        api_group: text(&target["apiGroup"]),
        api_version: text(&target["apiVersion"]),
        resource: text(&target["resource"]),
        subresource: optional(&target["subresource"]),
        namespace: optional(&target["namespace"]),
        name: optional(&target["name"]),
    });
    let command = event.get("command").filter(|command| command.is_object()).map(|command| Command {
        container: optional(&command["container"]),
        argv: command["argv"].as_array().into_iter().flatten().map(text).collect(),
        stdin: command["stdin"] == true,
        tty: command["tty"] == true,
    });
    let shape = match target.as_ref().and_then(|target| target.subresource.as_deref()) {
        Some("exec" | "attach" | "portforward") => Shape::Stream,
        Some("log") => Shape::Log,
        Some("proxy") => Shape::Proxy,
        _ if verb == "watch" => Shape::Watch,
        _ => Shape::Answer,
    };
    let mut query: Vec<(String, String)> =
        event["query"].as_array().into_iter().flatten().map(|pair| (text(&pair[0]), text(&pair[1]))).collect();
    query.extend(command.iter().flat_map(|command| &command.argv).map(|word| ("command".to_owned(), word.clone())));
    let caller = Caller {
        username: text(&event["caller"]["username"]),
        groups: event["caller"]["groups"].as_array().into_iter().flatten().map(text).collect(),
        issuer: text(&event["caller"]["issuer"]),
        claims: Vec::new(),
        expires: u64::MAX,
        credential: text(&event["session"]),
        cluster: Arc::default(),
    };
    let path = text(&event["path"]);
    let operation = Operation {
        cluster: event["cluster"].as_str().unwrap_or("default").into(),
        verb,
        target,
        path_and_query: path.clone(),
        path,
        query,
        dry_run: event["dryRun"] == true,
        command,
        shape,
        method: event["method"].as_str().and_then(|method| method.parse().ok()).unwrap_or(Method::GET),
    };
    let id = text(&event["id"]);
    // An id begins with the Unix milliseconds at which the operation arrived.
    let received_at = id.split('-').next().and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or_default();
    let subject = Arc::new(decide::subject(&operation, &caller, &id, received_at));
    let body =
        body.filter(|body| !body.is_empty()).map(|body| Arc::new(RequestBody::new(Bytes::copy_from_slice(body), "application/json")));
    Ok(RehearsedOperation { operation, subject, body, around: Surroundings::default() })
}

/// The same as a case says it.
pub fn wanted(given: &RehearsedOperation) -> Wanted {
    let RehearsedOperation { operation, subject, .. } = given;
    let target = operation.target.as_ref();
    let resource = target.map_or(String::new(), |target| {
        let group = if target.api_group.is_empty() { String::new() } else { format!(".{}", target.api_group) };
        let subresource = target.subresource.as_ref().map(|subresource| format!("/{subresource}")).unwrap_or_default();
        format!("{}{group}{subresource}", target.resource)
    });
    let version = target.map(|target| target.api_version.clone()).filter(|version| version != "v1").unwrap_or_default();
    let kept = |key: &str| !matches!(key, "command" | "watch" | "tty" | "dryRun");
    Wanted {
        verb: operation.verb.clone(),
        resource,
        api_version: version,
        namespace: target.and_then(|target| target.namespace.clone()),
        name: target.and_then(|target| target.name.clone()),
        path: target.is_none().then(|| operation.path.clone()),
        query: operation.query.iter().filter(|(key, _)| kept(key)).cloned().collect(),
        command: operation.command.as_ref().map(|command| command.argv.clone()).unwrap_or_default(),
        tty: operation.command.as_ref().is_some_and(|command| command.tty),
        dry_run: operation.dry_run,
        approved: false,
        cluster: Some(subject.cluster().to_owned()),
        received_at: None,
        caller: WantedCaller {
            username: subject.username().to_owned(),
            groups: subject.groups().to_vec(),
            issuer: subject.issuer().to_owned(),
            claims: serde_json::Map::new(),
        },
    }
}
