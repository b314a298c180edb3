//! A masked value that comes back: it is put right from the stored object, the same field of it, or the write is refused.
//!
//! What was shown is computed again: the stored object under the masks that apply to the caller. Where a write has, in the same place, what was
//! shown there, and what is stored there is something else, the caller means to leave it as it is.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::managed;
use super::placeholder::{self, Alone};

/// kubectl's own copy of what was applied, as JSON in a text.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Where it is. Elsewhere it is a text like any other: put right it would come back, as it is stored, where nothing hides it.
const ITS_PLACE: [&str; 3] = ["metadata", "annotations", LAST_APPLIED];

/// An object as it is stored, and as it was shown.
pub struct Stored<'a> {
    /// As it is.
    pub object: &'a Value,
    /// As the caller sees it.
    pub shown: &'a Value,
    /// Whether a write has the whole of it, so that what has no name in a list is known by its place.
    pub whole: bool,
}

/// A placeholder that cannot be put right: its place, as a JSONPath.
#[derive(Debug, PartialEq, Eq)]
pub enum Unrestorable {
    /// Nothing is hidden there, or nothing that it could stand for.
    Unknown(String),
    /// It is the token of another value than the one that is stored by now.
    Changed(String),
}

impl Unrestorable {
    /// The comparison at another place: what was last applied is an object of its own.
    fn within(self, at: &str) -> Self {
        let place = |inner: String| format!("{at}{}", inner.trim_start_matches('$'));
        match self {
            Self::Unknown(inner) => Self::Unknown(place(inner)),
            Self::Changed(inner) => Self::Changed(place(inner)),
        }
    }
}

impl Stored<'_> {
    /// Puts a whole object or a part of it right; how many values were.
    pub fn restore(&self, body: &mut Value) -> Result<u64, Unrestorable> {
        let mut count = u64::from(managed::leave(body));
        let shown = string_data(self.shown);
        if let (Some(Value::Object(part)), Some(shown)) = (body.get_mut("stringData"), shown) {
            // Upstream keeps `stringData` as `data`.
            let stored = string_data(self.object).unwrap_or_default();
            for (key, value) in part.iter_mut() {
                count += self.leaf(value, shown.get(key), stored.get(key), &format!("$.stringData.{key}"))?;
            }
        }
        count += self.last_applied(body, &ITS_PLACE, "$")?;
        Ok(count + self.walk(body, Some(self.shown), Some(self.object), "$")?)
    }

    /// Puts the values of a JSON patch right (RFC 6902). A place that the patch's own order could move is not guessed.
    pub fn restore_patch(&self, patch: &mut Value) -> Result<u64, Unrestorable> {
        let mut count = 0;
        for (index, operation) in patch.as_array_mut().into_iter().flatten().enumerate() {
            let pointer = operation["path"].as_str().unwrap_or_default().to_owned();
            let at = format!("$[{index}].value");
            let Some(value) = operation.get_mut("value") else { continue };
            let moves = pointer.split('/').any(|part| part == "-" || part.parse::<u64>().is_ok());
            if !moves {
                count += within(&pointer).map_or(Ok(0), |steps| self.last_applied(value, steps, &at))?;
                count += self.walk(value, self.shown.pointer(&pointer), self.object.pointer(&pointer), &at)?;
            } else if let Some(place) = place_of_placeholder(value, &at) {
                return Err(Unrestorable::Unknown(place));
            }
        }
        Ok(count)
    }

    fn walk(&self, body: &mut Value, shown: Option<&Value>, stored: Option<&Value>, at: &str) -> Result<u64, Unrestorable> {
        let mut count = 0;
        match body {
            Value::Object(members) => {
                for (key, value) in members.iter_mut() {
                    if at == "$" && key == "stringData" {
                        continue;
                    }
                    let at = format!("{at}.{key}");
                    // A name in managed fields, in a patch that sets them: which element it is of is not known.
                    if placeholder::appears_in(key.as_bytes()) {
                        return Err(Unrestorable::Unknown(at));
                    }
                    let (shown, stored) = (shown.and_then(|v| v.get(key)), stored.and_then(|v| v.get(key)));
                    count += self.walk(value, shown, stored, &at)?;
                }
            }
            Value::Array(elements) => {
                let length = elements.len();
                for (index, element) in elements.iter_mut().enumerate() {
                    let place = self.element_of(element, index, length, shown);
                    let (shown, stored) = (place.and_then(|n| shown?.get(n)), place.and_then(|n| stored?.get(n)));
                    count += self.walk(element, shown, stored, &format!("{at}[{index}]"))?;
                }
            }
            leaf => count = self.leaf(leaf, shown, stored, at)?,
        }
        Ok(count)
    }

    fn leaf(&self, leaf: &mut Value, shown: Option<&Value>, stored: Option<&Value>, at: &str) -> Result<u64, Unrestorable> {
        let alone = leaf.as_str().and_then(placeholder::stands_alone);
        if let (Some(shown), Some(stored)) = (shown, stored)
            && stored != shown
        {
            // Who writes the placeholder without more means whatever is there.
            if leaf == shown || alone == Some(Alone::Fixed) {
                *leaf = stored.clone();
                return Ok(1);
            }
            if alone == Some(Alone::Token) {
                return Err(Unrestorable::Changed(at.to_owned()));
            }
        }
        match leaf.as_str().is_some_and(|text| placeholder::appears_in(text.as_bytes())) {
            true => Err(Unrestorable::Unknown(at.to_owned())),
            false => Ok(0),
        }
    }

    /// Which element of a stored list an element is: the one of its name, or the one of its place where the lists are equally long.
    fn element_of(&self, element: &Value, index: usize, length: usize, list: Option<&Value>) -> Option<usize> {
        let list = list?.as_array()?;
        match element.get("name") {
            Some(name) => {
                let mut named = list.iter().enumerate().filter(|(_, other)| other.get("name") == Some(name)).map(|(n, _)| n);
                let first = named.next()?;
                named.next().is_none().then_some(first)
            }
            None => (self.whole && list.len() == length && list.get(index)?.get("name").is_none()).then_some(index),
        }
    }

    /// Puts what was last applied right, which is so many steps from a value. The text is an object of its own, of which the fields are those of the object itself.
    fn last_applied(&self, value: &mut Value, steps: &[&str], at: &str) -> Result<u64, Unrestorable> {
        if let [step, rest @ ..] = steps {
            return value.get_mut(step).map_or(Ok(0), |inner| self.last_applied(inner, rest, &format!("{at}.{step}")));
        }
        let Some(text) = value.as_str().filter(|text| placeholder::appears_in(text.as_bytes())) else { return Ok(0) };
        let mut object: Value = serde_json::from_str(text).map_err(|_| Unrestorable::Unknown(at.to_owned()))?;
        let count = self.restore(&mut object).map_err(|inner| inner.within(at))?;
        *value = format!("{object}\n").into();
        Ok(count)
    }
}

/// The steps to what was last applied from what a JSON pointer names, where that is around it.
fn within(pointer: &str) -> Option<&'static [&'static str]> {
    match pointer {
        "" => Some(&ITS_PLACE),
        "/metadata" => Some(&ITS_PLACE[1..]),
        "/metadata/annotations" => Some(&ITS_PLACE[2..]),
        _ => None,
    }
}

/// A Secret's `data` as `stringData` would have it.
fn string_data(object: &Value) -> Option<Map<String, Value>> {
    let data = object.get("data").filter(|_| object["kind"] == "Secret")?.as_object()?;
    let text = |value: &Value| String::from_utf8(STANDARD.decode(value.as_str()?).ok()?).ok();
    Some(data.iter().filter_map(|(key, value)| Some((key.clone(), text(value)?.into()))).collect())
}

/// Where in a value a placeholder is.
fn place_of_placeholder(value: &Value, at: &str) -> Option<String> {
    match value {
        Value::Object(members) => members.iter().find_map(|(key, value)| place_of_placeholder(value, &format!("{at}.{key}"))),
        Value::Array(elements) => elements.iter().enumerate().find_map(|(n, value)| place_of_placeholder(value, &format!("{at}[{n}]"))),
        Value::String(text) => placeholder::appears_in(text.as_bytes()).then(|| at.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret() -> (Value, Value) {
        let applied = |password: &str| json!({"kind": "Secret", "stringData": {"password": password}}).to_string() + "\n";
        let of = |password: &str, applied: String| {
            json!({"kind": "Secret", "metadata": {"name": "db", "annotations": {LAST_APPLIED: applied}}, "data": {"password": STANDARD.encode(password)},
                "list": [{"name": "a", "value": password}, {"name": "b", "value": "plain"}], "number": if password == "hunter2" { 5 } else { 0 }})
        };
        (of("hunter2", applied("hunter2")), of("postern-masked", applied("postern-masked")))
    }

    fn unknown(restored: Result<u64, Unrestorable>) -> String {
        match restored {
            Err(Unrestorable::Unknown(place)) => place,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_token_stands_for_its_own_value_and_the_fixed_placeholder_for_any() {
        let of = |token: &str| json!({"data": {"password": STANDARD.encode(token)}, "plain": "a"});
        let (object, shown) = (of("hunter3"), of("postern-masked-t-00000000000000aa"));
        let stored = Stored { object: &object, shown: &shown, whole: true };
        for mut body in [shown.clone(), of("postern-masked")] {
            assert_eq!(stored.restore(&mut body), Ok(1));
            assert_eq!(body, object);
        }
        let mut stale = of("postern-masked-t-00000000000000bb");
        assert_eq!(stored.restore(&mut stale), Err(Unrestorable::Changed("$.data.password".into())));
        assert_eq!(unknown(stored.restore(&mut json!({"plain": "postern-masked"}))), "$.plain");
        assert_eq!(unknown(stored.restore(&mut json!({"plain": "postern-masked-t-00000000000000bb"}))), "$.plain");
    }

    #[test]
    fn what_was_shown_is_put_right_and_the_rest_stays() {
        let (object, shown) = secret();
        let stored = Stored { object: &object, shown: &shown, whole: true };
        let mut body = shown.clone();
        body["metadata"]["labels"] = json!({"new": "label"});
        body["list"] = json!([{"name": "b", "value": "changed"}, {"name": "a", "value": "postern-masked"}]);
        assert!(stored.restore(&mut body).unwrap() >= 4);
        assert_eq!((&body["data"], &body["number"]), (&object["data"], &object["number"]));
        assert_eq!(body["list"], json!([{"name": "b", "value": "changed"}, {"name": "a", "value": "hunter2"}]));
        assert_eq!(body["metadata"]["annotations"], object["metadata"]["annotations"]);
        let mut part = json!({"stringData": {"password": "postern-masked"}});
        assert_eq!(stored.restore(&mut part), Ok(1));
        assert_eq!(part["stringData"]["password"], "hunter2");
    }

    /// Read back, a template's annotation is a text like any other, and pods are made of it.
    #[test]
    fn what_was_last_applied_is_put_right_in_its_own_place_only() {
        let (object, shown) = secret();
        let stored = Stored { object: &object, shown: &shown, whole: true };
        let applied = json!({"kind": "Secret", "stringData": {"password": "postern-masked"}}).to_string();
        for mut body in [
            json!({"spec": {"template": {"metadata": {"annotations": {LAST_APPLIED: applied}}}}}),
            json!({"data": {LAST_APPLIED: applied}}),
            json!({"metadata": {"labels": {LAST_APPLIED: applied}}}),
            json!({"metadata.annotations": {LAST_APPLIED: applied}}),
            json!({"metadata": {"annotations.kubectl": {LAST_APPLIED: applied}}}),
        ] {
            assert!(unknown(stored.restore(&mut body)).ends_with(LAST_APPLIED), "{body}");
            assert!(!body.to_string().contains("hunter2"), "{body}");
        }
        let patch = |path: &str, value: Value| json!([{"op": "add", "path": path, "value": value}]);
        for (mut elsewhere, place) in [
            (patch("/spec/template/metadata/annotations", json!({LAST_APPLIED: applied})), LAST_APPLIED),
            (patch("/data", json!({"": applied})), "$[0].value."),
            (patch("/metadata/labels", json!({"metadata.annotations": {LAST_APPLIED: applied}})), LAST_APPLIED),
        ] {
            assert!(unknown(stored.restore_patch(&mut elsewhere)).ends_with(place), "{elsewhere}");
        }
        for mut its_own in [
            patch("/metadata/annotations", json!({LAST_APPLIED: applied})),
            patch("/metadata", json!({"annotations": {LAST_APPLIED: applied}})),
            patch("", json!({"metadata": {"annotations": {LAST_APPLIED: applied}}})),
        ] {
            assert_eq!(stored.restore_patch(&mut its_own), Ok(1), "{its_own}");
        }
    }

    #[test]
    fn a_placeholder_anywhere_else_is_named() {
        let (object, shown) = secret();
        let stored = Stored { object: &object, shown: &shown, whole: true };
        for (mut body, place) in [
            (json!({"data": {"other": STANDARD.encode("postern-masked")}}), "$.data.other"),
            (json!({"metadata": {"labels": {"a": "postern-masked"}}}), "$.metadata.labels.a"),
            (json!({"list": [{"name": "c", "value": "postern-masked"}]}), "$.list[0].value"),
            (json!({"data": {"password": STANDARD.encode("xpostern-masked")}}), "$.data.password"),
        ] {
            assert_eq!(unknown(stored.restore(&mut body)), place);
        }
    }

    #[test]
    fn a_json_patch_is_put_right_where_its_place_is_sure() {
        let (object, shown) = secret();
        let stored = Stored { object: &object, shown: &shown, whole: true };
        let mut patch = json!([{"op": "replace", "path": "/data", "value": shown["data"].clone()}, {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]);
        assert_eq!(stored.restore_patch(&mut patch), Ok(1));
        assert_eq!(patch[0]["value"], object["data"]);
        let mut patch = json!([{"op": "remove", "path": "/list/0"}, {"op": "replace", "path": "/list/0/value", "value": "postern-masked"}]);
        assert_eq!(unknown(stored.restore_patch(&mut patch)), "$[1].value");
    }
}
