//! What Kubernetes puts on the wire, read as kube-apiserver reads it or not at all.
//!
//! Streams into containers (exec, attach, port-forward): [`codec`] turns the bytes of either protocol into pieces of channels, [`frames`] reads WebSocket frames,
//! [`spdy`] SPDY/3.1, and [`waiting`] is a caller who waits in an upgraded connection ([`websocket`] is what that needs of its protocol). Objects: [`json`] reads
//! JSON and YAML, [`protobuf`] what is in protobuf.

pub mod codec;
pub mod frames;
pub mod json;
pub mod protobuf;
pub mod spdy;
pub mod waiting;
pub mod websocket;

/// What a piece of a stream is. Source: `k8s.io/apimachinery/pkg/util/remotecommand/constants.go` and `k8s.io/api/core/v1` (`StreamType*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Into the container.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The `metav1.Status` that ends a command.
    Error,
    /// Sizes of the caller's terminal.
    Resize,
    /// Anything else: a forwarded port's data, or what nobody knows.
    Other,
}

impl Channel {
    /// The channel of a number in the WebSocket protocols.
    pub fn of_number(number: u8) -> Self {
        match number {
            0 => Self::Stdin,
            1 => Self::Stdout,
            2 => Self::Stderr,
            3 => Self::Error,
            4 => Self::Resize,
            _ => Self::Other,
        }
    }

    /// The channel of a `streamType` header in SPDY.
    pub fn of_stream_type(name: &str) -> Self {
        match name {
            "stdin" => Self::Stdin,
            "stdout" => Self::Stdout,
            "stderr" => Self::Stderr,
            "error" => Self::Error,
            "resize" => Self::Resize,
            _ => Self::Other,
        }
    }

    /// Its number in the WebSocket protocols.
    pub fn number(self) -> u8 {
        match self {
            Self::Stdin => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::Error => 3,
            Self::Resize => 4,
            Self::Other => 5,
        }
    }
}

/// The peer does not speak the protocol that was agreed on. What cannot be read is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream is not what was agreed on: {0}")]
pub struct Violation(pub &'static str);
