//! Kubernetes protobuf, decoded to the JSON that Kubernetes itself makes of it.
//!
//! A body is `k8s\0`, then a `runtime.Unknown` that names its type and holds the object
//! (`k8s.io/apimachinery/pkg/runtime/serializer/protobuf`). What the fields of a type are is in `schema`, a table made from upstream's own types by
//! `cargo xtask schema`. A type the table does not have cannot be decoded, and of a field it
//! does not have it is said where it lies: nothing is left out silently.

mod decode;
mod narrow;
mod scalar;
mod schema;
mod unknown;
mod wire;

use serde_json::Value;

pub use narrow::{is_built_in, too_long};
use unknown::Trace;
pub use unknown::Unknown;
use wire::{Field, Wire};

/// What a body begins with.
pub const PREFIX: &[u8] = b"k8s\0";
/// The deepest nesting that is followed.
const DEEPEST: usize = 100;

/// Why a body cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Undecodable(String);

impl Undecodable {
    fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// A body, decoded.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded {
    /// What of it is known.
    pub value: Value,
    /// What is in it beside that.
    pub unknown: Vec<Unknown>,
}

/// Decodes a body.
pub fn decode(body: &[u8]) -> Result<Decoded, Undecodable> {
    let mut trace = Trace::new(schema::nothing());
    let value = decode_at(body, 0, &mut trace)?;
    Ok(Decoded { value, unknown: trace.into_found() })
}

/// The type's name without its package's path.
fn short(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn decode_at(body: &[u8], depth: usize, trace: &mut Trace) -> Result<Value, Undecodable> {
    if depth > DEEPEST {
        return Err(Undecodable::new("it is nested too deep"));
    }
    let rest = body.strip_prefix(PREFIX).ok_or_else(|| Undecodable::new("it does not begin as Kubernetes protobuf does"))?;
    let (mut api_version, mut kind, mut raw, mut encoding): (String, String, &[u8], &[u8]) = (String::new(), String::new(), &[], &[]);
    let mut wire = Wire::new(rest);
    while let Some((number, field)) = wire.next()? {
        match (number, field) {
            (1, Field::Bytes(meta)) => {
                let mut meta = Wire::new(meta);
                while let Some((number, field)) = meta.next()? {
                    match (number, field) {
                        (1, Field::Bytes(text)) => api_version = scalar::string(text)?,
                        (2, Field::Bytes(text)) => kind = scalar::string(text)?,
                        _ => return Err(Undecodable::new(format!("its TypeMeta has a field {number} that nobody knows"))),
                    }
                }
            }
            (2, Field::Bytes(bytes)) => raw = bytes,
            (3, Field::Bytes(bytes)) => encoding = bytes,
            // kube-apiserver does not look at what the envelope says of its content.
            (4, Field::Bytes(_)) => {}
            _ => return Err(Undecodable::new(format!("its envelope has a field {number} that nobody knows"))),
        }
    }
    if !encoding.is_empty() {
        return Err(Undecodable::new("its content is encoded once more"));
    }
    let message = schema::table().kind(&api_version, &kind).ok_or_else(|| {
        let shown = |text: &str| text.chars().filter(|c| !c.is_control()).take(100).collect::<String>();
        Undecodable::new(format!(
            "the gateway does not know the type {} {} (it knows those of Kubernetes 1.28 to 1.38)",
            shown(&api_version),
            shown(&kind)
        ))
    })?;
    let mut value = decode::message(message, raw, depth + 1, trace)?;
    if let Some(object) = value.as_object_mut() {
        object.insert("kind".into(), kind.into());
        object.insert("apiVersion".into(), api_version.into());
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(kind: &str, raw: &[u8]) -> Vec<u8> {
        let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
        let meta = [field(1, b"v1"), field(2, kind.as_bytes())].concat();
        [PREFIX, &field(1, &meta), &field(2, raw)].concat()
    }

    /// Upstream's generated code keeps the low 32 bits of what is longer, and says nothing.
    #[test]
    fn of_a_number_of_32_bits_the_low_ones_count() {
        let event = |varint: &[u8]| {
            // count is field 8, of 32 bits; metadata.generation field 7, of 64.
            let metadata = [&[7 << 3][..], varint].concat();
            let raw = [&[1 << 3 | 2, metadata.len() as u8][..], &metadata, &[8 << 3], varint].concat();
            let value = decode(&unknown("Event", &raw)).unwrap().value;
            (value["count"].clone(), value["metadata"]["generation"].clone())
        };
        // 2^32 + 2, and -2^32 + 100.
        assert_eq!(event(b"\x82\x80\x80\x80\x10"), (2.into(), 4_294_967_298i64.into()));
        assert_eq!(event(b"\xe4\x80\x80\x80\xf0\xff\xff\xff\xff\x01"), (100.into(), (-4_294_967_196i64).into()));
        assert_eq!(event(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), ((-1).into(), (-1).into()));
    }

    /// Each way round: what comes second does not hide what the first one said (`generated.pb.go` of intstr and resource).
    #[test]
    fn what_comes_in_pieces_is_what_all_of_them_say() {
        let spec = |pieces: &[&[u8]]| {
            let budget = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
            let spec: Vec<u8> = pieces.iter().flat_map(|piece| budget(3, piece)).collect();
            let meta = [budget(1, b"policy/v1"), budget(2, b"PodDisruptionBudget")].concat();
            let body = [PREFIX, &budget(1, &meta), &budget(2, &budget(2, &spec))].concat();
            decode(&body).unwrap().value["spec"]["maxUnavailable"].clone()
        };
        let (text, number) = (&b"\x08\x01\x1a\x04100%"[..], &b"\x10\x01"[..]);
        assert_eq!((spec(&[text]), spec(&[number])), ("100%".into(), 1.into()));
        assert_eq!((spec(&[text, number]), spec(&[number, text])), ("100%".into(), "100%".into()));
        assert_eq!(spec(&[&b"\x10\x16"[..], b""]), 22);
    }

    #[test]
    fn a_config_map_is_what_kubernetes_makes_of_it() {
        // metadata {name: "a"}, data {"k": "v"}
        let Decoded { value, unknown } = decode(&unknown("ConfigMap", b"\x0a\x03\x0a\x01a\x12\x06\x0a\x01k\x12\x01v")).unwrap();
        assert!(unknown.is_empty());
        assert_eq!(value, serde_json::json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"k": "v"}}));
    }

    #[test]
    fn what_is_not_known_is_told_and_never_left_out() {
        let why = |kind: &str, raw: &[u8]| decode(&unknown(kind, raw)).unwrap_err().to_string();
        assert!(why("Gizmo", b"").contains("does not know the type v1 Gizmo"));
        assert!(why("ConfigMap", b"\x0a\x7f").contains("ends"));
        assert!(why("ConfigMap", b"\x08\x01").contains("metadata"), "a number where a message is");
        assert!(decode(b"{}").is_err());
    }

    #[test]
    fn of_a_field_that_is_not_known_it_is_known_where_it_lies() {
        let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
        let odd = b"\xa2\x06\x01x";
        let of = |kind: &str, raw: &[u8]| {
            let Decoded { unknown, .. } = decode(&unknown(kind, raw)).unwrap();
            unknown.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of("ConfigMap", odd), ["$ (v1.ConfigMap) has a field 100 that the gateway does not know"]);
        let metadata = field(1, odd);
        assert_eq!(of("ConfigMap", &metadata), ["$.metadata (v1.ObjectMeta) has a field 100 that the gateway does not know"]);
        // spec.volumes[1], whose source is inlined, and spec.containers[0].
        let volumes = [field(1, b""), field(1, &[field(1, b"v"), field(2, odd)].concat())].concat();
        let spec = field(2, &[volumes, field(2, odd)].concat());
        let told = of("Pod", &spec);
        assert!(
            told[0].starts_with("$.spec.volumes[1] (v1.Volume)") && told[1].starts_with("$.spec.containers[0] (v1.Container)"),
            "{told:?}"
        );
        let found = decode(&unknown("Pod", &spec)).unwrap().unknown;
        assert!(!found[0].may_be("name") && !found[0].may_be("nfs") && found[0].may_be("newer"));
        // Very many of them are no object of a newer Kubernetes.
        let many: Vec<u8> = (0..300).flat_map(|_| field(2, odd)).collect();
        let length = |bytes: Vec<u8>| {
            let size = bytes.len();
            [&[0x12, size as u8 & 0x7f | 0x80, (size >> 7) as u8][..], &bytes].concat()
        };
        let meta = [field(1, b"v1"), field(2, b"Pod")].concat();
        let body = [PREFIX, &field(1, &meta), &length(length(many))].concat();
        assert!(decode(&body).unwrap_err().to_string().contains("more than 256"));
        // Nor are a few that lie behind a key as long as a body: what is kept of them, and what is done for each, does not grow with it.
        let sized = |number: u8, bytes: &[u8]| {
            let mut length = Vec::new();
            let mut rest = bytes.len();
            while rest >= 0x80 {
                length.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            [&[number << 3 | 2][..], &length, &[rest as u8], bytes].concat()
        };
        let behind = |key: usize, times: usize| {
            let entry = [sized(1, "k".repeat(key).as_bytes()), sized(2, &odd.repeat(times))].concat();
            // spec.versions[0].schema.openAPIV3Schema.properties (apiextensions/v1, generated.proto: 7, 4, 1, 29).
            let properties = [vec![29 << 3 & 0x7f | 0x82, 1], sized(0, &entry)[1..].to_vec()].concat();
            let spec = sized(2, &sized(7, &sized(4, &sized(1, &properties))));
            let meta = [field(1, b"apiextensions.k8s.io/v1"), field(2, b"CustomResourceDefinition")].concat();
            [PREFIX, &field(1, &meta), &sized(2, &spec)].concat()
        };
        assert_eq!(decode(&behind(10, 1000)).unwrap().unknown.len(), 1);
        assert!(decode(&behind(1 << 20, 300_000)).unwrap_err().to_string().contains("too long"));
    }

    proptest::proptest! {
        #[test]
        fn no_body_panics(noise in proptest::collection::vec(0u8..=255, 0..200), kind in "Pod|Secret|ConfigMap|CustomResourceDefinition|List|Status") {
            let _ = decode(&noise);
            let _ = decode(&unknown(&kind, &noise[..noise.len().min(100)]));
        }
    }
}
