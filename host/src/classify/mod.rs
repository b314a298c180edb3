//! Classify: a method, path and query become an [`Operation`], or 400.

mod command;
mod query;
mod request_info;
mod selector;
mod target;
mod would_be;

use std::sync::Arc;

use http::{Method, Uri};
use postern_policy::{Addressed, rules};
use serde::Serialize;

pub use command::Command;
pub use query::shown_query;
pub use request_info::{RequestInfo, Unresolvable};
pub use target::{Abnormal, RequestTarget};

use crate::body::RequestBody;
use crate::status::Refusal;

/// One request, classified.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The name of the cluster it is for; empty where that is not known yet.
    pub cluster: Arc<str>,
    /// What a policy is told of the verb: RequestInfo's, except that exec, attach and port-forward are `create` however they
    /// arrive, and a request for no resource has its lower-case method.
    pub verb: String,
    /// The resource addressed; none for `/healthz`, `/version`, discovery and paths nobody knows.
    pub target: Option<Target>,
    /// The normalised path.
    pub path: String,
    /// The decoded query.
    pub query: Vec<(String, String)>,
    /// Whether kube-apiserver is told to change nothing.
    pub dry_run: bool,
    /// What opens a stream into a container.
    pub command: Option<Command>,
    /// How the exchange goes on after the head of the answer.
    pub shape: Shape,
    /// The method.
    pub method: Method,
    /// Path and query as they go to the API server.
    pub path_and_query: String,
}

impl Addressed for Operation {
    fn cluster(&self) -> &str {
        &self.cluster
    }

    fn verb(&self) -> &str {
        &self.verb
    }

    fn target(&self) -> Option<rules::Target<'_>> {
        self.target.as_ref().map(|target| rules::Target {
            api_group: &target.api_group,
            resource: &target.resource,
            subresource: target.subresource.as_deref(),
            namespace: target.namespace.as_deref(),
        })
    }
}

/// The Kubernetes resource an operation addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The API group; empty for the core group.
    pub api_group: String,
    /// The API version.
    pub api_version: String,
    /// The resource.
    pub resource: String,
    /// The subresource.
    pub subresource: Option<String>,
    /// The namespace.
    pub namespace: Option<String>,
    /// The name.
    pub name: Option<String>,
}

impl Target {
    /// The resource with its group, as kubectl writes it: `deployments.apps`.
    pub fn full_resource(&self) -> String {
        match self.api_group.as_str() {
            "" => self.resource.clone(),
            group => format!("{}.{group}", self.resource),
        }
    }

    /// The path of its collection.
    pub fn collection(&self) -> String {
        let namespace = self.namespace.as_deref().filter(|_| self.resource != "namespaces");
        path_of(&self.api_group, &self.api_version, namespace, &self.resource)
    }
}

/// The path of a collection: in a namespace, or all of it.
pub fn path_of(group: &str, version: &str, namespace: Option<&str>, resource: &str) -> String {
    let prefix = if group.is_empty() { "/api".into() } else { format!("/apis/{}", escape(group)) };
    let within = namespace.map(|namespace| format!("/namespaces/{}", escape(namespace))).unwrap_or_default();
    format!("{prefix}/{}{within}/{}", escape(version), escape(resource))
}

/// A text as it stands in a path or a query.
pub fn escape(text: &str) -> percent_encoding::PercentEncode<'_> {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
}

/// How the exchange goes on after the head of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One answer: an object, a list, a Status.
    Answer,
    /// A watch: one event after another.
    Watch,
    /// Text that may go on: a container's log.
    Log,
    /// A connection into a container, upgraded: exec, attach, port-forward.
    Stream,
    /// A connection to something behind the API server: pods, services or nodes by proxy.
    Proxy,
}

impl Operation {
    /// The first value of a query parameter.
    pub fn first(&self, key: &str) -> Option<&str> {
        target::first(&self.query, key)
    }

    /// Whether text comes back as it is written: a log, or what a command writes. A port carries what it likes.
    pub fn writes_text(&self) -> bool {
        self.shape == Shape::Log || self.shape == Shape::Stream && self.command.is_some()
    }

    /// Classifies a request. Nothing is forwarded but what this returns.
    pub fn classify(method: &Method, uri: &Uri) -> Result<Self, Refusal> {
        if method == Method::CONNECT {
            return Err(Refusal::bad_request("CONNECT is not served here"));
        }
        let target = RequestTarget::parse(uri.path(), uri.query())
            .map_err(|why| Refusal::bad_request(format!("the request cannot be classified: {why}")))?;
        let info = RequestInfo::resolve(method.as_str(), &target)
            .map_err(|_| Refusal::bad_request("the request cannot be classified: no resource follows the verb in the path"))?;
        let shape = shape(&info);
        if let Some(unknown) = command::unknown_parameter(&info, shape, &target.query) {
            let shown: String = unknown.chars().filter(|c| !c.is_control()).take(60).collect();
            return Err(Refusal::bad_request(format!(
                "{}/{} has no parameter {shown:?} that the gateway knows; what policies do not see is not sent on",
                info.resource, info.subresource
            )));
        }
        let command = matches!(shape, Shape::Stream).then(|| Command::parse(&info.subresource, &target.query)).flatten();
        let verb = match (info.is_resource_request, shape) {
            (true, Shape::Stream) => "create".into(),
            (true, _) => info.verb.clone(),
            (false, _) => method.as_str().to_ascii_lowercase(),
        };
        // kube-apiserver takes a delete's options from its body when there is one: see `Operation::take_delete_options`.
        let dry_run = knows_dry_run(method, &info, shape) && target.query.iter().any(|(k, v)| k == "dryRun" && v == "All");
        let path_and_query = uri.path_and_query().map_or_else(|| target.path.clone(), |p| p.as_str().to_owned());
        Ok(Self {
            cluster: Arc::default(),
            verb,
            target: info.is_resource_request.then(|| Target::from_info(info)),
            path: target.path,
            query: target.query,
            dry_run,
            command,
            shape,
            method: method.clone(),
            path_and_query,
        })
    }

    /// The operation, of a request to a cluster.
    pub fn of(self, cluster: &Arc<str>) -> Self {
        Self { cluster: Arc::clone(cluster), ..self }
    }

    /// A delete with a body takes its options from there and not from the query; a dry run is only believed where the API
    /// server would believe it.
    pub fn take_delete_options(&mut self, body: &RequestBody) -> Result<(), Refusal> {
        if self.method == Method::DELETE && self.shape == Shape::Answer && self.target.is_some() && !body.is_empty() {
            let options = body.read_if_known()?;
            let dry_run = options.and_then(|options| Some(options.get("dryRun")?.as_array()?.iter().any(|v| v == "All")));
            self.dry_run = dry_run.unwrap_or(false);
        }
        Ok(())
    }

    /// `resource` or `resource/subresource`; none without a target.
    pub fn resource_path(&self) -> Option<String> {
        self.target.as_ref().map(|t| match &t.subresource {
            Some(sub) => format!("{}/{sub}", t.resource),
            None => t.resource.clone(),
        })
    }

    /// Whether it could change the cluster, or reach into a container.
    pub fn is_mutating(&self) -> bool {
        matches!(self.shape, Shape::Stream | Shape::Proxy) || !matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }

    /// Whether a log is followed, as Go reads a bool and more rather than less.
    pub fn is_followed(&self) -> bool {
        self.query.iter().any(|(key, value)| key == "follow" && !matches!(value.as_str(), "0" | "f" | "F" | "false" | "FALSE" | "False"))
    }

    /// Whether it is `nodes/*/proxy`, which reaches every container of a node, in either spelling upstream knows.
    pub fn is_node_proxy(&self) -> bool {
        self.target.as_ref().is_some_and(|t| t.api_group.is_empty() && t.resource == "nodes") && matches!(self.shape, Shape::Proxy)
    }
}

impl Target {
    fn from_info(info: RequestInfo) -> Self {
        let filled = |text: String| (!text.is_empty()).then_some(text);
        Self {
            api_group: info.api_group,
            api_version: info.api_version,
            resource: info.resource,
            subresource: filled(info.subresource),
            namespace: filled(info.namespace),
            name: filled(info.name),
        }
    }
}

/// Whether kube-apiserver changes nothing when it is asked for a dry run. Streams and proxies pass the option by, and a token is issued
/// all the same (`pkg/registry/core/serviceaccount/storage/token.go` does not look at it).
fn knows_dry_run(method: &Method, info: &RequestInfo, shape: Shape) -> bool {
    let is_write = !matches!(*method, Method::GET | Method::HEAD);
    let is_token = info.resource == "serviceaccounts" && info.subresource == "token";
    is_write && shape == Shape::Answer && info.is_resource_request && !is_token
}

fn shape(info: &RequestInfo) -> Shape {
    if !info.is_resource_request {
        return Shape::Answer;
    }
    match (info.resource.as_str(), info.subresource.as_str(), info.verb.as_str()) {
        (_, _, "proxy") | (_, "proxy", _) => Shape::Proxy,
        ("pods", "exec" | "attach" | "portforward", _) => Shape::Stream,
        ("pods", "log", _) => Shape::Log,
        (_, _, "watch") => Shape::Watch,
        _ => Shape::Answer,
    }
}

#[cfg(test)]
mod tests;
