//! JSON and YAML as kube-apiserver reads them, or not at all.
//!
//! Of a key that is there twice, kube-apiserver's typed decoder (`sigs.k8s.io/json`) makes the union of both and its untyped one takes the last: what
//! is decided here would be about another object. So a key that is there twice is an error, in whatever depth, and so is all else that two readers may
//! read differently. [`yaml`] does the same for YAML.

pub mod yaml;

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads JSON.
pub fn read(text: &[u8]) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Strict(&Location::Root).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// JSON that was read by [`read`]'s rules, for where `serde` asks for a type.
#[derive(Debug)]
pub struct Unambiguous(pub Value);

impl<'de> serde::Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Strict(&Location::Root).deserialize(deserializer).map(Self)
    }
}

/// Where the reader is: told when something is wrong there, and not written down before.
pub(crate) enum Location<'a> {
    Root,
    Member(&'a Location<'a>, &'a str),
    Element(&'a Location<'a>, usize),
}

impl fmt::Display for Location<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("$"),
            Self::Member(outer, key) => write!(f, "{outer}.{}", key.chars().filter(|c| !c.is_control()).take(60).collect::<String>()),
            Self::Element(outer, index) => write!(f, "{outer}[{index}]"),
        }
    }
}

/// What is said of a key that is there twice.
pub(crate) fn twice(place: &Location<'_>) -> String {
    format!("{place} is there twice, and readers differ in what that means; write it once")
}

struct Strict<'a>(&'a Location<'a>);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(number(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        float(value).ok_or_else(|| E::custom(format!("{} is no number", self.0)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = elements.next_element_seed(Strict(&Location::Element(self.0, list.len())))? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            let place = Location::Member(self.0, &key);
            if object.contains_key(&key) {
                return Err(A::Error::custom(twice(&place)));
            }
            let value = members.next_value_seed(Strict(&place))?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

/// A number as Go keeps it: what does not fit a signed 64-bit integer is a float.
pub(crate) fn number(value: u64) -> Value {
    match i64::try_from(value) {
        Ok(value) => value.into(),
        Err(_) => (value as f64).into(),
    }
}

/// A float as kube-apiserver keeps it: what is whole is an integer where one is expected (`-0`, `1.0`, `1e3`), be it in a patch, in YAML or in a custom resource, and
/// who looks for the integer finds it. None of what JSON has no word for.
pub(crate) fn float(value: f64) -> Option<Value> {
    if value.fract() == 0.0 && value.abs() < i64::MAX as f64 {
        return Some((value as i64).into());
    }
    Number::from_f64(value).map(Value::Number)
}

/// Writes a value so that readers of JSON and of YAML, 1.1 and 1.2, read the same: what YAML takes for a line's end or does not let stand is escaped.
pub fn write_for_yaml(value: &Value) -> String {
    let plain = value.to_string();
    if plain.chars().all(stands_in_yaml) {
        return plain;
    }
    let mut text = String::with_capacity(plain.len() + 32);
    for c in plain.chars() {
        // Outside of strings JSON has none of these characters.
        if stands_in_yaml(c) {
            text.push(c);
        } else {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        }
    }
    text
}

/// How long a key on the wire may be to all readers of YAML, in characters with its quotes: 1,024 of them may stand before the colon (YAML 1.2, section 7.4.2),
/// and some readers count the colon.
const LONGEST_YAML_KEY: usize = 1023;

/// Why a value cannot be written for YAML: a key that is too long once it is written as JSON, by its place.
pub fn key_too_long_for_yaml(value: &Value) -> Option<String> {
    fn look(value: &Value, place: &Location<'_>) -> Option<String> {
        match value {
            Value::Array(items) => items.iter().enumerate().find_map(|(index, item)| look(item, &Location::Element(place, index))),
            Value::Object(fields) => fields.iter().find_map(|(key, field)| {
                // No character is written in more than six.
                let fits = key.len() * 6 + 2 <= LONGEST_YAML_KEY
                    || write_for_yaml(&Value::String(key.clone())).chars().count() <= LONGEST_YAML_KEY;
                if fits { look(field, &Location::Member(place, key)) } else { Some(place.to_string()) }
            }),
            _ => None,
        }
    }
    let place = look(value, &Location::Root)?;
    Some(format!("a key in {place} is longer than the {LONGEST_YAML_KEY} characters that YAML takes; send application/json"))
}

/// The printable characters of YAML (1.1, section 5.1) without its line breaks beyond ASCII, and those outside the first plane.
fn stands_in_yaml(c: char) -> bool {
    matches!(c, '\n' | '\t' | ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_that_is_there_twice_is_named() {
        for (text, place) in [
            (r#"{"spec":1,"spec":2}"#, "$.spec is there twice"),
            (r#"{"a":[{"b":{"c":1,"\u0063":2}}]}"#, "$.a[0].b.c is there twice"),
            (r#"[{"a":1},{"a":1,"a":1}]"#, "$[1].a is there twice"),
        ] {
            let why = read(text.as_bytes()).unwrap_err().to_string();
            assert!(why.contains(place), "{text}: {why}");
            assert!(serde_json::from_str::<Unambiguous>(text).is_err());
        }
        let text = r#"{"a":{"a":{"a":1}},"A":2,"l":[1,1]}"#;
        assert_eq!(read(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    /// With its feature `raw_value`, whoever asks for it, serde_json takes this for the number: nobody may ask for it.
    #[test]
    fn no_key_stands_for_what_is_in_its_text() {
        let text = r#"{"a":{"$serde_json::private::RawValue":"1"},"b":{"$serde_json::private::Number":"1"}}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(value.to_string(), text);
        assert_eq!(read(text.as_bytes()).unwrap(), value);
    }

    #[test]
    fn what_readers_differ_in_is_not_read() {
        for bad in [
            "",
            " ",
            "{",
            "{}{}",
            "{} x",
            "[1,]",
            "{\"a\":1,}",
            "01",
            "+1",
            "1e999",
            "NaN",
            "'a'",
            "\"\\ud800\"",
            "\"a\nb\"",
            "\u{feff}{}",
            "{1:2}",
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(read(b"\"\xff\"").is_err());
        assert!(read("[".repeat(10_000).as_bytes()).is_err());
        assert_eq!(
            read(b"[9223372036854775807, 9223372036854775808, -0, 1.0, null]").unwrap(),
            json!([i64::MAX, 9223372036854775808.0, 0, 1, null])
        );
    }

    #[test]
    fn what_is_written_for_yaml_holds_nothing_that_yaml_reads_otherwise() {
        let value = json!({"a\u{85}": "b\u{2028}c\u{7f}\u{feff}\u{fffe}😀\u{1}é"});
        let text = write_for_yaml(&value);
        assert_eq!(text, "{\"a\\u0085\":\"b\\u2028c\\u007f\\ufeff\\ufffe😀\\u0001é\"}");
        assert_eq!(read(text.as_bytes()).unwrap(), value);
    }

    /// Numbers as Go keeps them.
    fn as_go(value: Value) -> Value {
        match value {
            Value::Number(number) if number.is_u64() => number.as_u64().map_or(Value::Null, super::number),
            Value::Number(number) if number.is_f64() => number.as_f64().and_then(float).unwrap_or_default(),
            Value::Array(items) => items.into_iter().map(as_go).collect(),
            Value::Object(members) => members.into_iter().map(|(key, member)| (key, as_go(member))).collect(),
            other => other,
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_read_is_what_serde_json_reads_or_nothing(text in r#"[{}\[\]:,"ab0-9\\. eE+-]{0,40}"#) {
            if let Ok(value) = read(text.as_bytes()) {
                proptest::prop_assert_eq!(value, as_go(serde_json::from_str(&text).unwrap()));
            }
        }
    }
}
