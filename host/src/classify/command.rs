//! What opens a stream into a container: exec and attach.

use serde::Serialize;

use super::{RequestInfo, Shape, target};

/// What any request may say beside (`k8s.io/apiserver/pkg/endpoints/handlers`).
const OF_ANY: [&str; 3] = ["pretty", "timeout", "timeoutSeconds"];
/// The parameters of a subresource of pods (`k8s.io/api/core/v1`: PodExecOptions, PodAttachOptions, PodPortForwardOptions, PodLogOptions; Kubernetes 1.37).
fn known(subresource: &str) -> Option<&'static [&'static str]> {
    Some(match subresource {
        "exec" => &["command", "container", "stderr", "stdin", "stdout", "tty"],
        "attach" => &["container", "stderr", "stdin", "stdout", "tty"],
        "portforward" => &["ports"],
        "log" => &[
            "container",
            "follow",
            "insecureSkipTLSVerifyBackend",
            "limitBytes",
            "previous",
            "sinceSeconds",
            "sinceTime",
            "stream",
            "tailLines",
            "timestamps",
        ],
        _ => return None,
    })
}

/// The first parameter of a stream or a log that is not known. One that a newer API server understands may decide what is run (KEP-6035's `env`).
pub(super) fn unknown_parameter<'a>(info: &RequestInfo, shape: Shape, query: &'a [(String, String)]) -> Option<&'a str> {
    let known = known(&info.subresource).filter(|_| matches!(shape, Shape::Stream | Shape::Log))?;
    query.iter().map(|(key, _)| key.as_str()).find(|key| !known.contains(key) && !OF_ANY.contains(key))
}

/// The command of an exec, or the container of an attach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Command {
    /// The container; none leaves the choice to the API server.
    pub container: Option<String>,
    /// The words of the command, in order; empty for attach.
    pub argv: Vec<String>,
    /// Whether the caller sends input.
    pub stdin: bool,
    /// Whether it asks for a terminal.
    pub tty: bool,
}

impl Command {
    /// Reads the query of `pods/exec` and `pods/attach`; none for a port-forward.
    pub fn parse(subresource: &str, query: &[(String, String)]) -> Option<Self> {
        if !matches!(subresource, "exec" | "attach") {
            return None;
        }
        let first = |key: &str| target::first(query, key);
        // As `runtime.Convert_Slice_string_To_bool`: anything but "0" and "false" is true.
        let flag = |key| first(key).is_some_and(|v| v != "0" && !v.eq_ignore_ascii_case("false"));
        Some(Self {
            container: first("container").filter(|c| !c.is_empty()).map(Into::into),
            argv: match subresource {
                "exec" => query.iter().filter(|(k, _)| k == "command").map(|(_, v)| v.clone()).collect(),
                _ => Vec::new(),
            },
            stdin: flag("stdin"),
            tty: flag("tty"),
        })
    }
}
