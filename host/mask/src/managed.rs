//! `metadata.managedFields` name the fields somebody set. The elements of a list that is a set, or a map, are named by their values: `v:"VALUE"`, `k:{"KEY":"VALUE"}`
//! (`sigs.k8s.io/structured-merge-diff/v6/fieldpath`, serialize-pe.go). Where those are hidden, they are hidden there too.

use serde_json::{Map, Value};

use super::json::Unreadable;
use super::placeholder::{self, MARKER};

/// What names of elements begin with.
const BY_VALUE: [&str; 2] = ["k:", "v:"];

/// Whether any element is named by its value, in managed fields as they are written.
pub(super) fn names_values(written: &[u8]) -> bool {
    // They are few where there are any, and most objects have none.
    [&b"\"k:"[..], b"\"v:"].iter().any(|name| memchr::memmem::find(written, name).is_some())
}

/// What hides values in a text; none where it has none.
type Hide<'a> = &'a mut dyn FnMut(&str) -> Option<String>;

/// The managed fields without the values; none where they show none.
pub(super) fn hide(written: &[u8], hide: Hide<'_>) -> Result<Option<Vec<u8>>, Unreadable> {
    // Nested deeper than anybody reads, they are not shown.
    let Ok(mut fields) = serde_json::from_slice(written) else { return Ok(Some(b"[]".to_vec())) };
    if !hide_names(&mut fields, hide) {
        return Ok(None);
    }
    serde_json::to_vec(&fields).map(Some).map_err(|_| Unreadable::Malformed)
}

/// Whether any name was changed.
fn hide_names(fields: &mut Value, hide: Hide<'_>) -> bool {
    match fields {
        Value::Object(members) => {
            let mut is_changed = false;
            let renamed = |(name, mut inner): (String, Value)| {
                is_changed |= hide_names(&mut inner, hide);
                let hidden = hidden_name(&name, hide);
                is_changed |= hidden.is_some();
                (hidden.unwrap_or(name), inner)
            };
            *members = std::mem::take(members).into_iter().map(renamed).collect::<Map<_, _>>();
            is_changed
        }
        Value::Array(elements) => elements.iter_mut().fold(false, |is_changed, element| hide_names(element, hide) | is_changed),
        _ => false,
    }
}

/// A name of an element without the values in it; none where there are none.
fn hidden_name(name: &str, hide: Hide<'_>) -> Option<String> {
    let prefix = BY_VALUE.into_iter().find(|prefix| name.starts_with(prefix))?;
    let mut by = serde_json::from_str(&name[prefix.len()..]).ok()?;
    hide_leaves(&mut by, hide).then(|| format!("{prefix}{by}"))
}

fn hide_leaves(value: &mut Value, hide: Hide<'_>) -> bool {
    let text = match value {
        Value::Object(members) => return members.values_mut().fold(false, |hid, value| hide_leaves(value, hide) | hid),
        Value::Array(elements) => return elements.iter_mut().fold(false, |hid, value| hide_leaves(value, hide) | hid),
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return false,
    };
    let hidden = hide(&text);
    let is_hidden = hidden.is_some();
    if let Some(hidden) = hidden {
        *value = if value.is_number() { MARKER.into() } else { hidden.into() };
    }
    is_hidden
}

/// Takes managed fields out of a write in which names were hidden: then those that are stored stay (`k8s.io/apimachinery/pkg/util/managedfields/internal`,
/// decodeLiveOrNew), which is what whoever sends back what was read means. Whether it did.
pub(super) fn leave(body: &mut Value) -> bool {
    let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) else { return false };
    let carries = metadata.get("managedFields").is_some_and(|fields| placeholder::appears_in(fields.to_string().as_bytes()));
    carries && metadata.remove("managedFields").is_some()
}

#[cfg(test)]
mod tests {
    use super::super::sweep::Values;
    use super::*;
    use serde_json::json;

    #[test]
    fn elements_named_by_hidden_values_are_named_by_placeholders() {
        let mut values = Values::default();
        ["correct horse", "8443", "ab"].into_iter().for_each(|value| values.add(value, false));
        let fields = json!([{"manager": "x", "fieldsV1": {"f:spec": {
            "f:finalizers": {".": {}, "v:\"correct horse\"": {}, "v:\"other\"": {}, "v:\"ab\"": {}, "v:\"abc\"": {}},
            "f:ports": {"k:{\"port\":8443,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {}},
            "f:correct horse": {}}}}]);
        let written = fields.to_string();
        assert!(names_values(written.as_bytes()) && !names_values(br#"[{"fieldsV1":{"f:data":{".":{},"f:k":{}}}}]"#));
        let mut of_values = |text: &str| Some(values.hide(text).into_owned()).filter(|hidden| hidden != text);
        let hidden = String::from_utf8(hide(written.as_bytes(), &mut of_values).unwrap().unwrap()).unwrap();
        let hidden: Value = serde_json::from_str(&hidden).unwrap();
        let spec = &hidden[0]["fieldsV1"]["f:spec"];
        let names = |of: &str| spec[of].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names("f:finalizers"), [".", "v:\"abc\"", "v:\"other\"", "v:\"postern-masked\""]);
        assert_eq!(names("f:ports"), ["k:{\"port\":\"postern-masked\",\"protocol\":\"TCP\"}", "k:{\"port\":80,\"protocol\":\"TCP\"}"]);
        assert!(hide(br#"[{"fieldsV1":{"f:x":{"v:\"plain\"":{}}}}]"#, &mut of_values).unwrap().is_none());
        let deep = format!("[{}{}]", "{\"f:a\":".repeat(200), "}".repeat(200));
        assert_eq!(hide(deep.as_bytes(), &mut of_values).unwrap().unwrap(), b"[]");
        let mut write = json!({"metadata": {"name": "a", "managedFields": hidden}, "spec": {}});
        assert!(leave(&mut write) && !leave(&mut write));
        assert_eq!(write, json!({"metadata": {"name": "a"}, "spec": {}}));
    }
}
