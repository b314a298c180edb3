//! The request's body, parsed when a policy first reads it, once, whatever the number of policies.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::Value;

use crate::protobuf;
use crate::status::Refusal;

/// A request body as it came.
#[derive(Debug)]
pub struct RequestBody {
    bytes: Bytes,
    media_type: String,
    parsed: OnceLock<Result<Arc<Value>, Refusal>>,
    wanted: AtomicBool,
}

impl RequestBody {
    /// Takes a body and its Content-Type.
    pub fn new(bytes: Bytes, content_type: &str) -> Self {
        let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        Self { bytes, media_type, parsed: OnceLock::new(), wanted: AtomicBool::new(false) }
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The object in it; a refusal when it is in an encoding that is not decoded, or is no object.
    pub fn value(&self) -> Result<&Arc<Value>, &Refusal> {
        self.wanted.store(true, Ordering::Relaxed);
        self.parsed.get_or_init(|| self.parse().map(Arc::new)).as_ref()
    }

    /// Why the body could not be read, if somebody tried since this was asked last.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.parsed.get().filter(|_| self.wanted.swap(false, Ordering::Relaxed)).and_then(|parsed| parsed.as_ref().err())
    }

    fn parse(&self) -> Result<Value, Refusal> {
        let not_valid = |why: String| Refusal::bad_request(format!("the request body cannot be read, and a policy must read it: {why}"));
        match self.media_type.as_str() {
            // What has no Content-Type kube-apiserver reads as JSON.
            ""
            | "application/json"
            | "application/json-patch+json"
            | "application/merge-patch+json"
            | "application/strategic-merge-patch+json" => serde_json::from_slice(&self.bytes).map_err(|e| not_valid(e.to_string())),
            "application/yaml" | "application/apply-patch+yaml" => match serde_json::from_slice(&self.bytes) {
                Ok(value) => Ok(value),
                Err(_) => {
                    let text = std::str::from_utf8(&self.bytes).map_err(|e| not_valid(e.to_string()))?;
                    serde_saphyr::from_str(text).map_err(|e| not_valid(e.to_string().lines().next().unwrap_or_default().to_owned()))
                }
            },
            "application/vnd.kubernetes.protobuf" => protobuf::decode(&self.bytes).map_err(|why| {
                Refusal::unsupported_media_type(format!(
                    "a policy must read this request's body, and its protobuf cannot be decoded: {why}; send application/json"
                ))
            }),
            other => Err(Refusal::unsupported_media_type(format!(
                "a policy must read this request's body, and {other} is not decoded by the gateway; send application/json"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(content_type: &str, body: &str) -> Result<Value, u16> {
        let body = RequestBody::new(Bytes::copy_from_slice(body.as_bytes()), content_type);
        body.value().map(|v| (**v).clone()).map_err(|r| r.code.as_u16())
    }

    #[test]
    fn who_did_not_read_a_body_is_not_told_that_it_cannot_be_read() {
        let body = RequestBody::new(Bytes::from_static(b"k8s\0"), "application/cbor");
        assert!(body.refusal().is_none());
        for _ in 0..2 {
            assert!(body.value().is_err());
            assert!(body.refusal().is_some());
            assert!(body.refusal().is_none());
        }
    }

    #[test]
    fn bodies_are_read_or_refused_and_never_guessed() {
        let object = serde_json::json!({"a": 1});
        assert_eq!(code("application/json; charset=utf-8", r#"{"a":1}"#), Ok(object.clone()));
        assert_eq!(code("application/apply-patch+yaml", "a: 1\n"), Ok(object));
        assert_eq!(code("application/vnd.kubernetes.protobuf", "k8s\0"), Err(415));
        assert_eq!(code("application/cbor", "k8s\0"), Err(415));
        assert_eq!(code("application/json", "{"), Err(400));
        assert_eq!(code("application/json", &"[".repeat(100_000)), Err(400));
    }
}
