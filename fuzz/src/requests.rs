//! What a caller sends before it is let in: the request line, a token, a body; and the configuration.

use std::sync::OnceLock;

use http::{HeaderMap, Method, Uri};
use postern::body::RequestBody;
use postern::classify::{Operation, RequestTarget};
use postern::config::{Config, JwtAuthenticator};
use postern::identify::{Identifier, Mappings, strip, unverified_parts};
use postern::wire::json::{self, yaml};
use postern::wire::protobuf;
use serde_json::Value;

/// `METHOD TARGET`, then header lines. What is classified has one meaning: its normal form is a fixed point, and nothing in it could be
/// read in another way.
pub fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let Some((method, uri)) = lines.next().and_then(|line| line.split_once(' ')) else { return };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(name), http::HeaderValue::try_from(value)) {
            headers.append(name, value);
        }
    }
    if strip(&mut headers).is_ok() {
        let left = |name: &http::HeaderName| name == "authorization" || name.as_str().starts_with("impersonate-") || name == "connection";
        assert!(!headers.keys().any(left), "{headers:?}");
    }
    let (Ok(method), Ok(uri)) = (method.parse::<Method>(), uri.parse::<Uri>()) else { return };
    let Ok(operation) = Operation::classify(&method, &uri) else { return };
    let path = &operation.path;
    assert!(path.starts_with('/') && !path.contains("//") && !path.contains('\\'), "{path:?}");
    assert!(!path.split('/').any(|segment| matches!(segment, "." | "..")), "{path:?}");
    assert!(!path.contains(|c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r')), "{path:?}");
    let escaped: String = path.split('/').map(|segment| postern::classify::escape(segment).to_string()).collect::<Vec<_>>().join("/");
    assert_eq!(&RequestTarget::parse(&escaped, None).expect("a normal form is normal").path, path);
    let again: Uri = operation.path_and_query.parse().expect("what goes on is a request target");
    let again = Operation::classify(&method, &again).expect("what goes on is classified");
    assert_eq!((&again.verb, &again.target, &again.path, &again.query), (&operation.verb, &operation.target, path, &operation.query));
    if let Some(target) = &operation.target {
        assert!(RequestTarget::parse(&target.collection(), None).is_ok() || target.namespace.as_deref() == Some(""), "{target:?}");
    }
}

/// A configuration file: read or refused, and what it says of issuers compiled or refused.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(config) = Config::parse(text)
        && config.authentication.client_ca_file.is_none()
    {
        let _ = Identifier::new(&config.authentication, b"");
    }
}

const ISSUER: &str = r#"
issuer: {url: "https://issuer.example", audiences: [postern]}
claimMappings:
  username: {expression: "'u:' + claims.sub"}
  groups: {expression: "has(claims.groups) ? claims.groups : []"}
claimValidationRules:
  - {expression: "claims.exp - claims.iat <= 86400", message: too long}
userValidationRules:
  - {expression: "!user.username.startsWith('system:') && user.groups.all(g, g != 'system:masters')", message: reserved}
"#;

/// A token, or a token's claims, which become a user or a reason.
pub fn jwt(data: &[u8]) {
    static MAPPINGS: OnceLock<Mappings> = OnceLock::new();
    let mappings = MAPPINGS.get_or_init(|| {
        let issuer: JwtAuthenticator = serde_saphyr::from_str(ISSUER).expect("the issuer is well written");
        Mappings::compile(&issuer).expect("the issuer compiles")
    });
    let Ok(text) = std::str::from_utf8(data) else { return };
    let claims = match unverified_parts(text) {
        Some([_, claims]) => claims,
        None => serde_json::from_str(text).unwrap_or_default(),
    };
    if let Ok((username, groups)) = mappings.map(&claims) {
        assert!(username.starts_with("u:"), "{username}");
        assert!(!groups.iter().any(|group| group == "system:masters"), "{groups:?}");
    }
}

/// A body in protobuf is JSON or refused, with or without its envelope.
pub fn protobuf(data: &[u8]) {
    const KINDS: [(&str, &str); 8] = [
        ("v1", "Pod"),
        ("v1", "Secret"),
        ("v1", "List"),
        ("apps/v1", "Deployment"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ("meta.k8s.io/v1", "WatchEvent"),
        ("v1", "Status"),
        ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ];
    let value = match data.split_first() {
        Some((kind, raw)) if *kind != b'k' => {
            let (version, kind) = KINDS[usize::from(*kind) % KINDS.len()];
            let field = |number: u8, bytes: &[u8]| [vec![number << 3 | 2], varint(bytes.len()), bytes.to_vec()].concat();
            let meta = [field(1, version.as_bytes()), field(2, kind.as_bytes())].concat();
            protobuf::decode(&[protobuf::PREFIX.to_vec(), field(1, &meta), field(2, raw)].concat())
        }
        _ => protobuf::decode(data),
    };
    if let Ok(decoded) = value {
        let text = decoded.value.to_string();
        let again: Value = serde_json::from_str(&text).expect("what is decoded is JSON");
        assert_eq!(again.to_string(), text);
    }
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A body, of a media type that the first byte says. What is read of JSON is what it says; what is sent on of YAML is what was read, to readers of JSON and of YAML.
pub fn body(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else { return };
    let media_type =
        ["application/json", "application/yaml", "application/apply-patch+yaml", "application/json-patch+json"][usize::from(kind % 4)];
    let body = RequestBody::new(text.to_vec().into(), media_type);
    let Ok(value) = body.read() else { return };
    let sent = body.to_send();
    if body.is_yaml() {
        assert_eq!(&json::read(&sent).expect("what is sent is JSON"), &**value);
        assert_eq!(&yaml::read(&sent).expect("and YAML"), &**value);
    } else {
        assert_eq!(sent, text);
        assert_eq!(as_kubernetes(serde_json::from_slice(text).expect("it is JSON")), **value);
    }
}

/// A value as kube-apiserver has it: a whole number past int64 is a float64 there, and a float that is whole an integer.
fn as_kubernetes(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_u64() && !number.is_i64() => number.as_f64().into(),
        Value::Number(number) if number.is_f64() => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < i64::MAX as f64 => (float as i64).into(),
            _ => number.into(),
        },
        Value::Array(items) => items.into_iter().map(as_kubernetes).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, field)| (key, as_kubernetes(field))).collect(),
        other => other,
    }
}
