//! The request's body, read once, for all who want to know what is in it: policies, masks, approvals, recordings.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use crate::mask::path::Path;
use crate::status::Refusal;
use crate::wire::json::{self, yaml};
use crate::wire::protobuf::{self, Unknown};

/// A request body as it came.
#[derive(Debug)]
pub struct RequestBody {
    bytes: Bytes,
    media_type: String,
    /// How it is packed, where it is.
    coding: Option<String>,
    /// Whether there is one that is not here: it passes unread, or is only asked about.
    is_elsewhere: bool,
    parsed: OnceLock<Result<Parsed, Refusal>>,
    /// Why the whole of it cannot be read, where a part can.
    partly: OnceLock<Refusal>,
    /// Whether a policy was told so.
    refused: AtomicBool,
}

/// What was read of a body.
#[derive(Debug)]
struct Parsed {
    value: Arc<Value>,
    /// What is in it beside that, in protobuf newer than the gateway.
    unknown: Vec<Unknown>,
}

impl RequestBody {
    /// Takes a body and its Content-Type.
    pub fn new(bytes: Bytes, content_type: &str) -> Self {
        let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        Self {
            bytes,
            media_type,
            coding: None,
            is_elsewhere: false,
            parsed: OnceLock::new(),
            partly: OnceLock::new(),
            refused: AtomicBool::new(false),
        }
    }

    /// The body of an operation that is only asked about: there will be one, and it is not known.
    pub fn not_there() -> Self {
        let unknown = Refusal::bad_request("there is no body yet");
        Self { parsed: OnceLock::from(Err(unknown)), is_elsewhere: true, ..Self::new(Bytes::new(), "") }
    }

    /// The body of a request for a proxied server that goes on as it comes: there is one, and nobody reads it.
    pub fn passing() -> Self {
        let unread = Refusal::forbidden("what is proxied passes unread, unless a policy is granted bodies; this one is not, and reads it");
        Self { parsed: OnceLock::from(Err(unread)), is_elsewhere: true, ..Self::new(Bytes::new(), "") }
    }

    /// A body with a Content-Encoding: it is not read.
    pub fn packed(self, coding: &str) -> Self {
        let shown = coding.chars().filter(|c| !c.is_control()).take(40).collect();
        Self { coding: Some(shown), ..self }
    }

    /// The refusal of one that is packed; none where there is nothing in it.
    pub fn is_packed(&self) -> Option<Refusal> {
        let coding = self.coding.as_ref().filter(|_| !self.bytes.is_empty())?;
        Some(Refusal::unsupported_media_type(format!("a request body with Content-Encoding {coding} is not read; send it plain")))
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its size, for a policy; a refusal where nobody has it.
    pub fn size(&self) -> Result<u64, &Refusal> {
        match self.parsed.get() {
            Some(Err(refusal)) if self.is_elsewhere => {
                self.refused.store(true, Ordering::Relaxed);
                Err(refusal)
            }
            _ => Ok(self.bytes.len() as u64),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Its media type, in lower case and without parameters.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// The object in it, for a policy; a refusal when it is in an encoding that is not decoded, or is no object, or has more in it than is known.
    pub fn value(&self) -> Result<&Arc<Value>, &Refusal> {
        self.told(self.read())
    }

    /// The body for a policy that reads along one path only: what is not known elsewhere is nothing to it.
    pub fn value_along(&self, path: &Path) -> Result<&Arc<Value>, &Refusal> {
        self.told(self.parsed().and_then(|parsed| {
            let reached = parsed.unknown.iter().find(|unknown| path.may_reach(unknown.at(), |name| unknown.may_be(name)));
            reached.map_or(Ok(&parsed.value), |unknown| Err(self.is_partly_known(unknown)))
        }))
    }

    /// Remembers that a policy was refused.
    fn told<'a>(&self, read: Result<&'a Arc<Value>, &'a Refusal>) -> Result<&'a Arc<Value>, &'a Refusal> {
        if read.is_err() {
            self.refused.store(true, Ordering::Relaxed);
        }
        read
    }

    /// The body for the gateway itself: no policy is held to have asked.
    pub fn read(&self) -> Result<&Arc<Value>, &Refusal> {
        let parsed = self.parsed()?;
        parsed.unknown.first().map_or(Ok(&parsed.value), |unknown| Err(self.is_partly_known(unknown)))
    }

    /// What can be read of it: some of it may be missing.
    pub fn read_partly(&self) -> Option<&Arc<Value>> {
        self.parsed().ok().map(|parsed| &parsed.value)
    }

    /// The object in it, where somebody has read it already, and all of it.
    pub fn was_read(&self) -> Option<&Arc<Value>> {
        let parsed = self.parsed.get()?.as_ref().ok()?;
        parsed.unknown.is_empty().then_some(&parsed.value)
    }

    fn parsed(&self) -> Result<&Parsed, &Refusal> {
        self.parsed.get_or_init(|| self.parse()).as_ref()
    }

    fn is_partly_known(&self, unknown: &Unknown) -> &Refusal {
        self.partly.get_or_init(|| not_decoded(unknown))
    }

    /// The body for what goes without it where it is in an encoding that is not decoded; what is garbled, or may be read in two ways, is refused.
    pub fn read_if_known(&self) -> Result<Option<&Arc<Value>>, Refusal> {
        match self.read() {
            Ok(value) => Ok(Some(value)),
            Err(refusal) if refusal.code == StatusCode::UNSUPPORTED_MEDIA_TYPE => Ok(None),
            Err(refusal) => Err(refusal.clone()),
        }
    }

    /// Why the body could not be read, if a policy tried since this was asked last.
    pub fn refusal(&self) -> Option<&Refusal> {
        if !self.refused.swap(false, Ordering::Relaxed) {
            return None;
        }
        self.parsed.get().and_then(|parsed| parsed.as_ref().err()).or(self.partly.get())
    }

    /// What is sent on: the bytes that came. Of YAML that was read here it is what was read, in JSON, so that nobody reads it in another way.
    pub fn to_send(&self) -> Bytes {
        match self.parsed.get() {
            Some(Ok(parsed)) if self.is_yaml() => json::write_for_yaml(&parsed.value).into(),
            _ => self.bytes.clone(),
        }
    }

    /// Whether kube-apiserver reads it as YAML.
    pub fn is_yaml(&self) -> bool {
        matches!(self.media_type.as_str(), "application/yaml" | "application/apply-patch+yaml")
    }

    fn parse(&self) -> Result<Parsed, Refusal> {
        if let Some(refusal) = self.is_packed() {
            return Err(refusal);
        }
        if self.media_type == "application/vnd.kubernetes.protobuf" {
            let decoded = protobuf::decode(&self.bytes).map_err(|why| not_decoded(&why))?;
            return Ok(Parsed { value: Arc::new(decoded.value), unknown: decoded.unknown });
        }
        self.parse_text().map(|value| Parsed { value: Arc::new(value), unknown: Vec::new() })
    }

    /// Why what is applied would be stored as another number than was read. Of types that are no part of Kubernetes numbers are kept as they are.
    fn is_cut(&self, object: &Value) -> Option<String> {
        let text = |name: &str| object[name].as_str().unwrap_or_default();
        let is_applied = self.media_type == "application/apply-patch+yaml";
        // `/v1` is `v1` for kube-apiserver.
        let version = text("apiVersion").strip_prefix('/').unwrap_or(text("apiVersion"));
        (is_applied && protobuf::is_built_in(version, text("kind"))).then(|| protobuf::too_long(object)).flatten()
    }

    fn parse_text(&self) -> Result<Value, Refusal> {
        let not_valid = |why: String| Refusal::bad_request(format!("the request body cannot be read, and here it must be read: {why}"));
        let fits_yaml = |value: Value| match json::key_too_long_for_yaml(&value) {
            None => Ok(value),
            Some(why) => Err(not_valid(why)),
        };
        let json = || json::read(&self.bytes);
        match self.media_type.as_str() {
            "application/json-patch+json" => {
                let patch = json().map_err(|e| not_valid(e.to_string()))?;
                plain_pointers(&patch).map_err(not_valid)?;
                Ok(patch)
            }
            // What has no Content-Type kube-apiserver reads as JSON.
            "" | "application/json" | "application/merge-patch+json" => json().map_err(|e| not_valid(e.to_string())),
            "application/strategic-merge-patch+json" => {
                let patch = json().map_err(|e| not_valid(e.to_string()))?;
                match super::strategic::unclear(&patch).or_else(|| protobuf::too_long(&patch)) {
                    Some(why) => Err(not_valid(why)),
                    None => Ok(patch),
                }
            }
            // Most of it is JSON, and its faults are told as those of JSON.
            _ if self.is_yaml() => match self.bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
                Some(b'{' | b'[') if !yaml::has_other_line_ends(&self.bytes) => json().or_else(|error| {
                    yaml::read(&self.bytes).map_err(|why| not_valid(if error.is_data() { error.to_string() } else { why.to_string() }))
                }),
                _ => yaml::read(&self.bytes).map_err(|e| not_valid(e.to_string())),
            }
            .and_then(fits_yaml)
            .and_then(|object| match self.is_cut(&object) {
                Some(why) => Err(not_valid(why)),
                None => Ok(object),
            }),
            other => Err(Refusal::unsupported_media_type(format!(
                "here this request's body must be read, and {other} is not decoded by the gateway; send application/json"
            ))),
        }
    }
}

/// What policies read of it.
impl postern_policy::Body for RequestBody {
    fn value(&self) -> Result<&Arc<Value>, String> {
        self.value().map_err(|refusal| refusal.message.clone())
    }

    fn value_along(&self, path: &Path) -> Result<&Arc<Value>, String> {
        self.value_along(path).map_err(|refusal| refusal.message.clone())
    }

    fn size(&self) -> Result<u64, String> {
        self.size().map_err(|refusal| refusal.message.clone())
    }
}

fn not_decoded(why: &dyn std::fmt::Display) -> Refusal {
    Refusal::unsupported_media_type(format!(
        "here this request's body must be read, and its protobuf cannot be decoded: {why}; send application/json"
    ))
}

/// Whether the places of a JSON patch are named as RFC 6901 has it. kube-apiserver's library (`gopkg.in/evanphx/json-patch.v4`) takes others too: it passes over
/// what stands before the first slash, and reads `+0`, `-1` and `00` as elements of a list.
fn plain_pointers(patch: &Value) -> Result<(), String> {
    let is_odd = |part: &str| {
        let digits = part.strip_prefix(['+', '-']).unwrap_or(part);
        !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit())
            && (digits.len() < part.len() || digits.len() > 1 && digits.starts_with('0'))
    };
    for (index, operation) in patch.as_array().into_iter().flatten().enumerate() {
        for key in ["path", "from"] {
            let Some(pointer) = operation.get(key).and_then(Value::as_str) else { continue };
            if !pointer.is_empty() && !pointer.starts_with('/') || pointer.split('/').any(is_odd) {
                let shown: String = pointer.chars().filter(|c| !c.is_control()).take(60).collect();
                return Err(format!(
                    "$[{index}].{key} {shown:?} is no JSON pointer that all readers take for the same place; write it as /a/0/b"
                ));
            }
        }
    }
    Ok(())
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
        for media_type in ["application/json", "", "application/merge-patch+json", "application/apply-patch+yaml"] {
            assert_eq!(code(media_type, r#"{"a":1,"a":2}"#), Err(400), "{media_type}");
        }
        assert_eq!(code("application/yaml", "a: 1\na: 2\n"), Err(400));
        for place in ["x/data/password", "/spec/containers/+0/image", "/list/-1", "/list/00", "€/a"] {
            let patch = serde_json::json!([{"op": "copy", "from": place, "path": "/a"}]).to_string();
            assert_eq!(code("application/json-patch+json", &patch), Err(400), "{place}");
        }
        for place in ["", "/", "/data/a-1", "/list/0", "/list/-", "/a~1b/10"] {
            assert!(
                code("application/json-patch+json", &serde_json::json!([{"op": "test", "path": place}]).to_string()).is_ok(),
                "{place}"
            );
        }
    }

    /// What is read as YAML goes on as JSON, where a key is as long as its escapes: readers of YAML take no longer one than 1,023 characters.
    #[test]
    fn a_key_that_yaml_cannot_carry_is_refused_with_its_place() {
        for media_type in ["application/yaml", "application/apply-patch+yaml"] {
            for (key, shown, fits) in [
                ("k".repeat(1021), "kkk", true),
                ("k".repeat(1022), "kkk", false),
                ("\\e".repeat(171), "\u{1b}", false),
                ("\\e".repeat(170), "\u{1b}", true),
            ] {
                let text = format!("{{\"a\": [1, {{\"{key}\": 0x1}}]}}");
                let body = RequestBody::new(text.into_bytes().into(), media_type);
                match body.read() {
                    Ok(value) => {
                        assert!(fits);
                        assert_eq!(&yaml::read(&body.to_send()).unwrap(), &**value);
                    }
                    Err(refusal) => {
                        let message = &refusal.message;
                        assert!(!fits && message.contains("$.a[1]") && message.contains("application/json"), "{message}");
                        assert!(!message.contains(shown), "{message}");
                    }
                }
            }
        }
        assert!(code("application/json", &format!("{{\"{}\":1}}", "k".repeat(2000))).is_ok());
    }

    /// The v1 ConfigMap `{metadata: {name: a}, data: {k: v}}` with a field 100, in itself or in its metadata.
    fn newer(within_metadata: bool) -> RequestBody {
        let (odd, own) = (&b"\xa2\x06\x01x"[..], &b"\x0a\x01a"[..]);
        let metadata = if within_metadata { [own, odd].concat() } else { own.to_vec() };
        let outside = if within_metadata { &[][..] } else { odd };
        let raw = [&[0x0a, metadata.len() as u8], &metadata[..], b"\x12\x06\x0a\x01k\x12\x01v", outside].concat();
        let meta = b"\x0a\x02v1\x12\x09ConfigMap";
        let body = [&b"k8s\0\x0a"[..], &[meta.len() as u8], meta, &[0x12, raw.len() as u8], &raw].concat();
        RequestBody::new(body.into(), "application/vnd.kubernetes.protobuf")
    }

    /// What lies where a newer Kubernetes put it is told to who reads there, and to nobody else.
    #[test]
    fn a_field_that_is_not_known_refuses_only_who_may_be_reading_it() {
        let reads = |body: &RequestBody, path: &str| body.value_along(&Path::parse(path).unwrap()).is_ok();
        let own = newer(false);
        // What the gateway itself could not read is not held against a policy.
        assert!(own.read().is_err());
        for path in ["$.data.k", "$.metadata.name", "$.metadata", "$.data.*", "$.metadata.labels.x", "$.kind"] {
            assert!(reads(&own, path), "{path}");
            assert!(own.refusal().is_none());
        }
        for path in ["$.newer", "$.*", "$..k", "$.newer.deep", "$.*.name"] {
            assert!(!reads(&own, path), "{path}");
            assert_eq!(own.refusal().unwrap().code, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
        let of_metadata = newer(true);
        for path in ["$.data.k", "$.metadata.name", "$.kind", "$.newer", "$.data", "$.*.name"] {
            assert!(reads(&of_metadata, path), "{path}");
        }
        for path in ["$.metadata", "$.metadata.newer", "$.metadata.*", "$.*", "$..name", "$['metadata']..x"] {
            assert!(!reads(&of_metadata, path), "{path}");
        }
        for body in [own, of_metadata] {
            assert!(body.value().is_err() && body.read().is_err() && body.read_if_known().unwrap().is_none());
            assert_eq!(body.read_partly().unwrap()["data"]["k"], "v");
            assert_eq!(body.to_send(), body.bytes());
        }
    }

    #[test]
    fn of_a_body_that_is_elsewhere_nothing_is_told() {
        for body in [RequestBody::passing(), RequestBody::not_there()] {
            assert!(body.size().is_err() && body.refusal().is_some() && body.refusal().is_none());
            assert!(body.value_along(&Path::parse("$.kind").unwrap()).is_err());
        }
        assert_eq!(RequestBody::new(Bytes::from_static(b"{}"), "").size().ok(), Some(2));
    }

    #[test]
    fn of_yaml_that_was_read_what_was_read_is_sent() {
        let text = "a: 0o7\nb: \"x\\x2dy\"\n";
        let body = RequestBody::new(Bytes::from_static(text.as_bytes()), "application/apply-patch+yaml");
        assert_eq!(body.to_send(), text);
        body.read().unwrap();
        assert_eq!(body.to_send(), r#"{"a":7,"b":"x-y"}"#);
        let json = RequestBody::new(Bytes::from_static(br#"{ "a": 1 }"#), "application/json");
        json.read().unwrap();
        assert_eq!(json.to_send(), r#"{ "a": 1 }"#);
    }
}
