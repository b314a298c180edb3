//! What is asked of the API server instead of what the client asked, when the answer must be read.

use http::{HeaderMap, HeaderValue, header};

use crate::mask::RowObject;

/// What kube-apiserver writes beside JSON, and what stands for any of them.
const WRITTEN: [&str; 5] = ["application/vnd.kubernetes.protobuf", "application/yaml", "application/cbor", "application/*", "*/*"];

/// How the answer was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Negotiated {
    /// Whether a Table is among what the client takes.
    pub table: bool,
    /// In which version PartialObjectMetadata is, where the client would rather have that: it is cut here from the whole object.
    pub partial: Option<&'static str>,
    /// What the client wants to find in a Table's rows.
    pub rows: RowObject,
}

/// Rewrites `Accept` so that the answer is JSON, with `as=`, `g=`, `v=` and `drop=` (KEP-5958) kept, and `Accept-Encoding` so that it is not
/// compressed.
pub fn rewrite(headers: &mut HeaderMap) -> Negotiated {
    let (mut asked, mut has_first) = (Negotiated::default(), false);
    let mut kept: Vec<String> = Vec::new();
    for value in headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')) {
        let mut parameters = value.split(';').map(str::trim);
        let media_type = parameters.next().unwrap_or_default();
        let is_json = media_type.eq_ignore_ascii_case("application/json");
        let mut parameters: Vec<&str> =
            parameters.filter(|p| ["as=", "g=", "v=", "drop="].iter().any(|known| p.to_ascii_lowercase().starts_with(known))).collect();
        let is = |parameters: &[&str], what: &str| parameters.iter().any(|p| p.eq_ignore_ascii_case(what));
        if is(&parameters, "as=PartialObjectMetadata") || is(&parameters, "as=PartialObjectMetadataList") {
            // Whatever it would be written in: of what the client takes the first is what it would rather have.
            if !std::mem::replace(&mut has_first, true) {
                asked.partial = Some(if is(&parameters, "v=v1beta1") { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" });
                parameters.retain(|p| p.to_ascii_lowercase().starts_with("drop="));
                kept.push([&["application/json"], parameters.as_slice()].concat().join(";"));
            }
            continue;
        }
        has_first |= is_json || WRITTEN.iter().any(|known| media_type.eq_ignore_ascii_case(known));
        if !is_json || asked.partial.is_some() {
            continue;
        }
        asked.table |= is(&parameters, "as=Table");
        kept.push([&["application/json"], parameters.as_slice()].concat().join(";"));
    }
    if asked.partial.is_none() && !kept.iter().any(|k| k == "application/json") {
        kept.push("application/json".into());
    }
    headers.remove(header::ACCEPT);
    if let Ok(value) = HeaderValue::from_str(&kept.join(",")) {
        headers.insert(header::ACCEPT, value);
    }
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    asked
}

/// Asks for the whole object with each row of a Table, and remembers what the client asked for.
pub fn include_objects(path_and_query: &str, asked: &mut Negotiated) -> String {
    if !asked.table {
        return path_and_query.to_owned();
    }
    let (path, mut others, first) = without(path_and_query, "includeObject");
    if let Some(first) = first {
        asked.rows = match first.as_str() {
            "None" => RowObject::None,
            "Object" => RowObject::Object,
            _ => RowObject::Metadata,
        };
    }
    others.push("includeObject=Object");
    format!("{path}?{}", others.join("&"))
}

/// Takes `limitBytes` from the query of a log (`PodLogOptions`): it is kept to after masking, for what ends in the middle of a value shows the beginning
/// of it. What the API server refuses is left for it to refuse.
pub fn without_limit(path_and_query: &str) -> (String, Option<u64>) {
    let (path, others, first) = without(path_and_query, "limitBytes");
    // Read as Go reads it (`string_to_int64`).
    match first.and_then(|limit| limit.parse::<i64>().ok()).filter(|limit| *limit > 0) {
        Some(limit) => (format!("{path}?{}", others.join("&")), Some(limit.unsigned_abs())),
        None => (path_and_query.to_owned(), None),
    }
}

/// A path, the other parameters of its query as they are written, and the first value of this one: of several the first counts
/// (`Convert_Slice_string_To_Pointer_int64` and its like in apimachinery).
fn without<'a>(path_and_query: &'a str, key: &str) -> (&'a str, Vec<&'a str>, Option<String>) {
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let decoded = |text: &str| percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let (of_key, others): (Vec<&str>, Vec<&str>) =
        query.split('&').filter(|part| !part.is_empty()).partition(|part| decoded(part.split('=').next().unwrap_or_default()) == key);
    (path, others, of_key.first().map(|part| decoded(part.split_once('=').map_or("", |(_, value)| value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &str) -> (String, Negotiated) {
        let mut headers = HeaderMap::from_iter([(header::ACCEPT, value.parse().unwrap())]);
        let asked = rewrite(&mut headers);
        (headers[header::ACCEPT].to_str().unwrap().into(), asked)
    }

    #[test]
    fn only_json_is_asked_for() {
        let (value, asked) =
            accept("application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json");
        assert_eq!(
            value,
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
        );
        assert!(asked.table && asked.partial.is_none());
        for protobuf in [
            "application/vnd.kubernetes.protobuf",
            "Application/Vnd.Kubernetes.Protobuf ; q=1",
            "application/cbor,*/*",
            "application/yaml",
            "text/html",
        ] {
            assert_eq!(accept(protobuf).0, "application/json", "{protobuf}");
        }
        for (asked, version) in [
            ("application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", Some("meta.k8s.io/v1")),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1beta1, application/json;as=PartialObjectMetadataList, application/json",
                Some("meta.k8s.io/v1beta1"),
            ),
            ("application/json, application/json;as=PartialObjectMetadata", None),
            ("*/*, application/json;as=PartialObjectMetadata", None),
        ] {
            assert_eq!((accept(asked).0.as_str(), accept(asked).1.partial), ("application/json", version), "{asked}");
        }
        assert_eq!(
            accept("application/json;drop=metadata.managedFields").0,
            "application/json;drop=metadata.managedFields,application/json"
        );
        assert_eq!(accept("application/json;stream=watch").0, "application/json");
    }

    #[test]
    fn rows_come_with_their_object_whatever_the_client_asked() {
        let mut asked = Negotiated { table: true, ..Negotiated::default() };
        assert_eq!(include_objects("/a?includeObject=None&x=1&include%4fbject=Object", &mut asked), "/a?x=1&includeObject=Object");
        assert_eq!(asked.rows, RowObject::None);
        assert_eq!(include_objects("/a", &mut Negotiated { table: true, ..Negotiated::default() }), "/a?includeObject=Object");
    }

    #[test]
    fn the_limit_of_a_log_is_taken_from_its_query() {
        for (query, expected, limit) in [
            ("follow=true&limitBytes=15&tailLines=1", "follow=true&tailLines=1", Some(15)),
            ("limit%42ytes=15&limitBytes=20", "", Some(15)),
            ("limitBytes=%2B15", "", Some(15)),
            ("limitBytes=0", "limitBytes=0", None),
            ("limitBytes=-5", "limitBytes=-5", None),
            ("limitBytes=", "limitBytes=", None),
            ("limitBytes=+15", "limitBytes=+15", None),
            ("limitBytes=99999999999999999999", "limitBytes=99999999999999999999", None),
            ("limitbytes=15", "limitbytes=15", None),
        ] {
            assert_eq!(without_limit(&format!("/log?{query}")), (format!("/log?{expected}"), limit), "{query}");
        }
        assert_eq!(without_limit("/log"), ("/log".into(), None));
    }

    proptest::proptest! {
        #[test]
        fn the_whole_object_comes_with_a_row_whatever_the_query(query in "[a-zA-Z=&%0-9;]{0,40}") {
            let mut asked = Negotiated { table: true, ..Negotiated::default() };
            let path = include_objects(&format!("/a?{query}"), &mut asked);
            let decoded = |part: &str| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
            let said: Vec<String> = path.split_once('?').unwrap().1.split('&').filter(|p| decoded(p.split('=').next().unwrap()) == "includeObject").map(decoded).collect();
            proptest::prop_assert_eq!(said, ["includeObject=Object"]);
        }
    }
}
