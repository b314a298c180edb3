//! What stands at one place of a JSON text, without the rest of it being built.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::Unreadable;
use super::walk::{Name, separator, skip_space, skip_value};

/// Sees that a text is JSON to its end, by the rules of the parser that a [`serde_json::Value`] is made with: nothing is built.
pub fn check(text: &[u8]) -> Result<(), Unreadable> {
    serde_json::from_slice::<Passed>(text).map(drop).map_err(|_| Unreadable::Malformed)
}

/// The value at a path of members in a text that was [checked](check), as it is written; none where there is none. Of a member that is there twice the last counts, as it does to the parser.
/// An error where that cannot be told without parsing it.
pub fn at<'a>(text: &'a [u8], names: &[impl AsRef<str>]) -> Result<Option<&'a [u8]>, Unreadable> {
    let mut value = &text[skip_space(text, 0)..];
    for name in names {
        match last(value, name.as_ref().as_bytes())? {
            Some(found) => value = found,
            None => return Ok(None),
        }
    }
    Ok(Some(value))
}

/// The last member of that name in the object that a text begins with.
fn last<'a>(text: &'a [u8], name: &[u8]) -> Result<Option<&'a [u8]>, Unreadable> {
    if text.first() != Some(&b'{') {
        return Ok(None);
    }
    let (mut found, mut pos) = (None, skip_space(text, 1));
    while text.get(pos) != Some(&b'}') {
        let member = Name::at(text, pos)?;
        let end = skip_value(text, member.value)?;
        if member.read(text)?.as_ref() == name {
            found = Some(&text[member.value..end]);
        }
        (_, pos) = separator(text, end, b'}')?;
    }
    Ok(found)
}

/// A value that was read and let go.
struct Passed;

impl<'de> Deserialize<'de> for Passed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Passed {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self, A::Error> {
        while elements.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        while members.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// JSON and nearly JSON: few names, so that members are there twice, deep and shallow, with blanks and escapes.
    fn any_text() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("1".to_owned()),
            Just("-0.5e2".to_owned()),
            Just("1e999".to_owned()),
            Just("01".to_owned()),
            Just("null".to_owned()),
            Just("tru".to_owned()),
            Just("\"a\"".to_owned()),
            Just("\"\\u0061\\ud800\"".to_owned()),
            Just("\"\\ud83d\\ude00 }\\\"\"".to_owned()),
            Just("\"\n\"".to_owned()),
            Just("[]".to_owned()),
            Just(" { } ".to_owned()),
        ];
        leaf.prop_recursive(5, 60, 5, |inner| {
            let name = prop_oneof![Just("\"a\""), Just("\"b\""), Just("\"\\u0061\""), Just(" \"a\" "), Just("a"), Just("\"\\x\"")];
            prop_oneof![
                8 => prop::collection::vec((name, inner.clone()), 0..5)
                    .prop_map(|members| format!("{{{}}}", members.iter().map(|(name, value)| format!("{name}:{value}")).collect::<Vec<_>>().join(","))),
                2 => prop::collection::vec(inner.clone(), 0..4).prop_map(|list| format!("[{}]", list.join(" ,"))),
                1 => inner.prop_map(|text| format!("{text},")),
            ]
        })
    }

    fn compare(text: &[u8], names: &[&str]) -> Result<(), TestCaseError> {
        let parsed = serde_json::from_slice::<Value>(text);
        prop_assert_eq!(check(text).is_ok(), parsed.is_ok());
        let Ok(parsed) = parsed else { return Ok(()) };
        let mut there = Some(&parsed);
        for name in names {
            there = there.and_then(|value| value.as_object()).and_then(|object| object.get(*name));
        }
        if let Ok(found) = at(text, names) {
            let found = found.map(|raw| serde_json::from_slice::<Value>(raw).unwrap());
            prop_assert_eq!(found.as_ref(), there);
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn what_is_at_a_place_is_what_the_parser_finds_there(text in any_text(), names in prop::collection::vec(prop_oneof![Just("a"), Just("b")], 0..4)) {
            compare(text.as_bytes(), &names)?;
        }

        #[test]
        fn bytes_are_json_when_they_are_to_the_parser(text in prop::collection::vec(prop_oneof![Just(b'{'), Just(b'}'), Just(b'"'), Just(b':'), Just(b'a'), Just(b'1'), Just(b','), Just(b'\\'), any::<u8>()], 0..24)) {
            compare(&text, &["a"])?;
        }
    }

    #[test]
    fn depth_is_bounded_as_the_parser_bounds_it() {
        for depth in [100, 126, 127, 128, 129, 200, 100_000] {
            let text = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
            assert_eq!(check(text.as_bytes()).is_ok(), serde_json::from_str::<Value>(&text).is_ok(), "{depth}");
        }
        assert_eq!(at(br#" {"a":{"b":1,"b":{"c":"x"}},"d":2}"#, &["a", "b", "c"]), Ok(Some(&br#""x""#[..])));
        assert_eq!(at(br#"{"a":{"b":1},"a":{}}"#, &["a", "b"]), Ok(None), "the last counts");
        assert_eq!(at(b"[1]", &["a"]), Ok(None));
    }
}
