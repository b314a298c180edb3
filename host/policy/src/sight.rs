//! What a policy sees of an object: what its manifest asks for and its file grants, and nothing else.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::grants::Capability;
use postern_mask::path::Path;
use postern_mask::{MARKER, Mask};

/// How much of an object shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Sight {
    /// What kind of thing it is, and its metadata without annotations.
    Metadata,
    /// All, unless an object of the API server's says of itself that it is a Secret.
    Bodies,
    /// All but the values of a Secret.
    Secret,
    /// All but a token that was issued.
    Token,
    /// All.
    Whole,
}

impl Sight {
    /// What a policy with these capabilities sees of the objects of an operation on a resource; an empty one where there is none.
    pub(super) fn new(granted: &[Capability], resource: &str, subresource: Option<&str>) -> Self {
        match (granted.contains(&Capability::Bodies), granted.contains(&Capability::SecretValues), resource, subresource) {
            (false, ..) => Self::Metadata,
            (_, true, ..) => Self::Whole,
            // Of whatever group: an aggregated API that serves Secrets of its own is not read either.
            (_, _, "secrets", _) => Self::Secret,
            (_, _, "serviceaccounts", Some("token")) | (_, _, "tokenreviews", _) => Self::Token,
            _ => Self::Bodies,
        }
    }
}

/// Whether what a resource holds is a credential by its kind: the values of Secrets, and tokens that are issued or reviewed.
pub fn holds_credentials(resource: &str, subresource: Option<&str>) -> bool {
    matches!(Sight::new(&[Capability::Bodies], resource, subresource), Sight::Secret | Sight::Token)
}

/// Whether a path stays within what [`Sight::Metadata`] shows.
pub(super) fn is_metadata(path: &Path) -> bool {
    match path.names().as_slice() {
        [Some("apiVersion" | "kind"), ..] => true,
        [Some("metadata"), rest @ ..] => !matches!(rest.first(), Some(Some("annotations" | "managedFields") | None)),
        _ => false,
    }
}

impl Sight {
    /// The first condition of masks that is on what does not show.
    pub(super) fn unseen_condition(self, masks: &[Mask]) -> Option<&str> {
        let unseen = |path: &&str| Path::parse(path).is_ok_and(|path| !self.shows(&path));
        masks.iter().flat_map(|mask| &mask.when).map(|condition| condition.path.as_str()).find(unseen)
    }

    /// Whether what stands at a path of members shows as it is, whatever kind of object says so of itself: what it is called and labelled with does, to everybody.
    pub(super) fn shows_as_it_is(self, names: &[&str]) -> bool {
        match names {
            ["metadata", name, ..] => self == Self::Whole || !matches!(*name, "annotations" | "managedFields"),
            ["apiVersion" | "kind"] => true,
            _ => self == Self::Whole,
        }
    }

    /// Whether all that a path may lead to shows. A mask's condition is told on the object as it is: one on what does not show would tell it.
    fn shows(self, path: &Path) -> bool {
        match self {
            Self::Whole | Self::Bodies => true,
            // What type a Secret is, and for what reason there is an Event, says what kind of thing it is, and nothing that is in it.
            Self::Metadata => is_metadata(path) || matches!(path.names().as_slice(), [Some("type" | "reason")]),
            Self::Secret => is_metadata(path) || matches!(path.names().as_slice(), [Some("type" | "immutable"), ..]),
            Self::Token => {
                let names = path.names();
                !matches!(names.as_slice(), [None, ..] | [Some("status" | "spec"), None | Some("token"), ..] | [Some("status" | "spec")])
            }
        }
    }
}

/// What of an object is seen.
pub(super) fn of(whole: &Arc<Value>, sight: Sight) -> Arc<Value> {
    match sight {
        Sight::Metadata => Arc::new(metadata(whole)),
        Sight::Bodies if whole["kind"] != "Secret" => Arc::clone(whole),
        Sight::Whole => Arc::clone(whole),
        Sight::Bodies | Sight::Secret => Arc::new(without_values(whole)),
        Sight::Token => {
            let mut copy = (**whole).clone();
            for place in ["/status/token", "/spec/token"] {
                if let Some(token) = copy.pointer_mut(place) {
                    *token = MARKER.into();
                }
            }
            Arc::new(copy)
        }
    }
}

fn metadata(whole: &Value) -> Value {
    let mut seen = Map::new();
    for name in ["apiVersion", "kind", "metadata"] {
        if let Some(value) = whole.get(name) {
            seen.insert(name.into(), value.clone());
        }
    }
    if let Some(metadata) = seen.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("annotations");
        metadata.remove("managedFields");
    }
    Value::Object(seen)
}

/// A Secret, or a patch of one: names, labels and types stay, and every other text reads as a placeholder.
fn without_values(whole: &Value) -> Value {
    let mut copy = whole.clone();
    match &mut copy {
        Value::Object(secret) => {
            for (name, value) in secret.iter_mut() {
                match name.as_str() {
                    "apiVersion" | "kind" | "type" | "immutable" => {}
                    // An annotation may hold the whole object again, and often does.
                    "metadata" => value.get_mut("annotations").into_iter().for_each(|annotations| hide(annotations, false)),
                    "data" => hide(value, true),
                    _ => hide(value, false),
                }
            }
        }
        // RFC 6902.
        Value::Array(operations) => {
            for operation in operations {
                let path = operation["path"].as_str().unwrap_or_default().to_owned();
                let is_plain = path.starts_with("/metadata/labels") || path == "/type" || path == "/immutable";
                match operation {
                    Value::Object(members) => members
                        .iter_mut()
                        .filter(|(name, _)| !(matches!(name.as_str(), "op" | "path" | "from") || is_plain && *name == "value"))
                        .for_each(|(_, value)| hide(value, path.starts_with("/data"))),
                    other => hide(other, false),
                }
            }
        }
        other => hide(other, false),
    }
    copy
}

/// Hides every leaf; keys stay.
fn hide(value: &mut Value, base64: bool) {
    match value {
        Value::Object(members) => members.values_mut().for_each(|value| hide(value, base64)),
        Value::Array(elements) => elements.iter_mut().for_each(|value| hide(value, base64)),
        Value::String(text) if base64 => *text = STANDARD.encode(MARKER),
        Value::String(text) => *text = MARKER.into(),
        Value::Number(_) => *value = json!(0),
        Value::Bool(_) => *value = json!(false),
        Value::Null => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(sight: Sight, object: Value) -> Value {
        (*of(&Arc::new(object), sight)).clone()
    }

    #[test]
    fn without_the_grant_no_value_of_a_secret_is_seen() {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": "db", "labels": {"a": "b"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{\"data\":{\"password\":\"aHVudGVyMg==\"}}"}},
            "data": {"password": "aHVudGVyMg=="}, "stringData": {"other": "hunter2"}, "unknown": ["hunter2", 7, true]});
        let text = seen(Sight::Secret, secret.clone()).to_string();
        assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMg"), "{text}");
        assert!(text.contains("password") && text.contains("Opaque") && text.contains(r#""a":"b""#), "{text}");
        assert_eq!(seen(Sight::Whole, secret.clone()), secret);
        assert_eq!(seen(Sight::Bodies, secret.clone()), seen(Sight::Secret, secret));
        let patch = json!([{"op": "replace", "path": "/data/password", "value": "aHVudGVyMg=="}, {"op": "add", "path": "", "value": {"stringData": {"x": "hunter2"}}},
            {"op": "add", "path": "/metadata/labels/a", "value": "b"}, {"op": "add", "path": "/metadata/annotations/a", "value": "hunter2"}]);
        let text = seen(Sight::Secret, patch).to_string();
        assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMg") && text.contains(r#""value":"b""#), "{text}");
        assert_eq!(seen(Sight::Secret, json!("hunter2")), json!(MARKER));
        let odd = json!(["hunter2", ["hunter2"], {"op": "add", "path": "/type", "values": "hunter2"}]);
        assert!(!seen(Sight::Secret, odd).to_string().contains("hunter2"), "what is no patch shows nothing either");
        assert_eq!(seen(Sight::Token, json!({"status": {"token": "t", "expirationTimestamp": "x"}}))["status"]["token"], json!(MARKER));
    }

    #[test]
    fn metadata_is_what_it_says() {
        let pod = json!({"kind": "Pod", "metadata": {"name": "a", "labels": {"b": "c"}, "annotations": {"d": "e"}, "managedFields": [1]}, "spec": {"x": 1}});
        assert_eq!(seen(Sight::Metadata, pod), json!({"kind": "Pod", "metadata": {"name": "a", "labels": {"b": "c"}}}));
        let within = |path: &str| is_metadata(&Path::parse(path).unwrap());
        assert!(within("$.kind") && within("$.metadata.labels.x") && within("$.metadata") && within("$.metadata['name']"));
        for path in ["$.spec", "$.*", "$..name", "$.metadata..x", "$.metadata.annotations.x", "$.metadata.*", "$[0].value"] {
            assert!(!within(path), "{path}");
        }
    }

    #[test]
    fn conditions_are_on_what_is_seen() {
        let shows = |sight: Sight, path: &str| sight.shows(&Path::parse(path).unwrap());
        for path in ["$.type", "$.kind", "$.metadata.labels.x", "$.immutable"] {
            assert!(shows(Sight::Secret, path), "{path}");
        }
        for path in ["$.data.password", "$.data.*", "$..password", "$.*", "$.stringData.a", "$.metadata.annotations.a", "$.metadata..x"] {
            assert!(!shows(Sight::Secret, path) && shows(Sight::Whole, path), "{path}");
        }
        assert!(!shows(Sight::Token, "$.status.token") && !shows(Sight::Token, "$..token") && shows(Sight::Token, "$.spec.audiences[0]"));
        assert!(shows(Sight::Metadata, "$.type") && shows(Sight::Metadata, "$.reason") && !shows(Sight::Metadata, "$.reason.x"));
        assert!(!shows(Sight::Metadata, "$.data.a") && !shows(Sight::Metadata, "$.type.x"));
        assert!(!shows(Sight::Metadata, "$.spec.x") && shows(Sight::Bodies, "$.spec.x"));
    }

    #[test]
    fn what_is_seen_follows_the_resource() {
        let (bodies, values) = ([Capability::Bodies], [Capability::SecretValues]);
        let both = [Capability::Bodies, Capability::SecretValues];
        assert_eq!(Sight::new(&values, "pods", None), Sight::Metadata);
        assert_eq!(Sight::new(&bodies, "pods", None), Sight::Bodies);
        assert_eq!(Sight::new(&bodies, "secrets", None), Sight::Secret);
        assert_eq!(Sight::new(&both, "secrets", None), Sight::Whole);
        assert_eq!(Sight::new(&bodies, "serviceaccounts", Some("token")), Sight::Token);
        assert_eq!(Sight::new(&bodies, "", None), Sight::Bodies);
    }
}
