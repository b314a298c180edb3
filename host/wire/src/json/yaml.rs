//! YAML, as `sigs.k8s.io/yaml` makes JSON of it, or not at all.
//!
//! kube-apiserver reads YAML 1.1 in the dialect of `gopkg.in/yaml.v2`, and every other reader another one. Scalars are resolved here by its rules; what is
//! rare and read in many ways (anchors, tags, merge keys, several documents, keys that are no text) is refused. What is read is sent on as JSON, and so no
//! other reading of it follows.

use std::iter::Peekable;

use granit_parser::{Event, Parser, ScalarStyle, Span, StrInput};
use serde_json::{Map, Value};

use super::{Location, float, number, twice};

/// The deepest nesting read, which is that of JSON.
const DEEPEST: usize = 127;

/// Why a text is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unread(String);

/// Reads a document.
pub fn read(text: &[u8]) -> Result<Value, Unread> {
    let text = std::str::from_utf8(text).map_err(|_| Unread("it is not UTF-8".into()))?;
    if text.contains('\u{feff}') {
        return Err(Unread("it holds a byte order mark; leave it out".into()));
    }
    if has_other_line_ends(text.as_bytes()) {
        return Err(Unread(
            "it holds a character that YAML 1.1 takes for the end of a line, and YAML 1.2 does not; write it as an escape".into(),
        ));
    }
    let mut reader = Reader { events: Parser::new_from_str(text).peekable() };
    let value = reader.document()?;
    Ok(value)
}

/// Whether a text holds U+0085, U+2028 or U+2029: to JSON they are characters like others.
pub fn has_other_line_ends(text: &[u8]) -> bool {
    let find = |needle: &[u8]| memchr::memmem::find(text, needle).is_some();
    find("\u{85}".as_bytes()) || find("\u{2028}".as_bytes()) || find("\u{2029}".as_bytes())
}

struct Reader<'a> {
    events: Peekable<Parser<'a, StrInput<'a>>>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Unread> {
        match self.events.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(Unread(error.to_string().lines().next().unwrap_or_default().to_owned())),
            None => Err(Unread("it ends in the middle".into())),
        }
    }

    fn document(&mut self) -> Result<Value, Unread> {
        let mut value = None;
        loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentEnd, _) => {}
                (Event::DocumentStart(..), at) if value.is_some() => return Err(refused(&at, "a second document begins; send one")),
                (Event::DocumentStart(_, Some(_)), at) => return Err(refused(&at, "it has directives, which are not read")),
                (Event::DocumentStart(..), _) => {
                    let event = self.next()?;
                    value = Some(self.node(event, &Location::Root, 0)?);
                }
                (Event::StreamEnd, _) => return Ok(value.unwrap_or(Value::Null)),
                (_, at) => return Err(refused(&at, "it is no document")),
            }
        }
    }

    fn node(&mut self, (event, at): (Event<'a>, Span), place: &Location<'_>, depth: usize) -> Result<Value, Unread> {
        if depth > DEEPEST {
            return Err(refused(&at, "it is nested too deep"));
        }
        match event {
            Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, _, Some(_)) | Event::MappingStart(_, _, Some(_)) => {
                Err(refused(&at, "tags are not read; write the value itself"))
            }
            Event::Scalar(_, _, 1.., _) | Event::SequenceStart(_, 1.., _) | Event::MappingStart(_, 1.., _) | Event::Alias(_) => {
                Err(refused(&at, "anchors and aliases are not read; write what they stand for"))
            }
            Event::Scalar(text, ScalarStyle::Plain, ..) => plain(&text).ok_or_else(|| refused(&at, "a number that JSON has no word for")),
            Event::Scalar(text, ..) => Ok(Value::String(text.into_owned())),
            Event::SequenceStart(..) => {
                let mut list = Vec::new();
                loop {
                    let event = self.next()?;
                    if matches!(event.0, Event::SequenceEnd) {
                        return Ok(Value::Array(list));
                    }
                    list.push(self.node(event, &Location::Element(place, list.len()), depth + 1)?);
                }
            }
            Event::MappingStart(..) => self.mapping(place, depth),
            _ => Err(refused(&at, "it is no value")),
        }
    }

    fn mapping(&mut self, place: &Location<'_>, depth: usize) -> Result<Value, Unread> {
        let mut object = Map::new();
        loop {
            let (event, at) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Value::Object(object));
            }
            if matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<") {
                return Err(refused(&at, "merge keys are not read; write what they stand for"));
            }
            // One that is written as a float upstream writes in another way.
            let is_fraction = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if is_written_as_float(text));
            let key = match self.node((event, at), place, depth + 1)? {
                Value::String(key) => key,
                // A number or a truth is called by what it is written as, where there is one way to write it.
                Value::Bool(key) => key.to_string(),
                Value::Number(key) if key.is_i64() && !is_fraction => key.to_string(),
                _ => return Err(refused(&at, "a key that is no text; quote it")),
            };
            let place = Location::Member(place, &key);
            if object.contains_key(&key) {
                return Err(refused(&at, &twice(&place)));
            }
            let event = self.next()?;
            let value = self.node(event, &place, depth + 1)?;
            object.insert(key, value);
        }
    }
}

fn refused(at: &Span, why: &str) -> Unread {
    Unread(format!("line {} column {}: {why}", at.start.line(), at.start.col() + 1))
}

/// What a plain scalar is, by the rules of `gopkg.in/yaml.v2` (`resolve.go`); none for numbers that JSON does not have.
fn plain(text: &str) -> Option<Value> {
    Some(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF" => return None,
        _ if text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) => return numeric(text),
        _ => text.into(),
    })
}

fn numeric(text: &str) -> Option<Value> {
    let digits = text.replace('_', "");
    let (sign, magnitude) = match digits.as_bytes().first() {
        Some(b'-') => (-1i128, &digits[1..]),
        Some(b'+') => (1, &digits[1..]),
        _ => (1, digits.as_str()),
    };
    if let Some(whole) = whole(magnitude).and_then(|value| i128::try_from(value).ok()).map(|value| sign * value) {
        if let Ok(value) = i64::try_from(whole) {
            return Some(value.into());
        }
        // A sign goes with what is signed only.
        if let Ok(value) = u64::try_from(whole)
            && !digits.starts_with('+')
        {
            return Some(number(value));
        }
    }
    if is_float(magnitude) {
        return digits.parse().ok().and_then(float);
    }
    Some(text.into())
}

/// A number as Go's `strconv.ParseInt` takes it with base 0.
fn whole(digits: &str) -> Option<u128> {
    let lower = digits.to_ascii_lowercase();
    let (radix, rest) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    (!rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric())).then(|| u128::from_str_radix(rest, radix).ok()).flatten()
}

/// Whether a number is a float by how it is written, be it whole or not.
fn is_written_as_float(text: &str) -> bool {
    let digits = text.replace('_', "");
    let magnitude = digits.strip_prefix(['+', '-']).unwrap_or(&digits);
    whole(magnitude).is_none() && is_float(magnitude)
}

/// `(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = text.find(['e', 'E']).map_or((text, None), |at| (&text[..at], Some(&text[at + 1..])));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(whole, fraction)| (whole, Some(fraction)));
    let mantissa = digits(whole) && fraction.is_none_or(digits) && (!whole.is_empty() || fraction.is_some_and(|f| !f.is_empty()));
    mantissa
        && exponent.is_none_or(|e| {
            let e = e.strip_prefix(['+', '-']).unwrap_or(e);
            !e.is_empty() && digits(e)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_are_what_upstream_makes_of_them() {
        for (text, value) in [
            ("0644", json!(420)),
            ("0o7", json!(7)),
            ("0x1F", json!(31)),
            ("0b11", json!(3)),
            ("1_0", json!(10)),
            ("089", json!(89)),
            ("-0", json!(0)),
            ("-0.0", json!(0)),
            ("1.0", json!(1)),
            ("1.50", json!(1.5)),
            ("1e20", json!(1e20)),
            ("12:30", json!("12:30")),
            ("1e3", json!(1000)),
            (".5", json!(0.5)),
            ("+1", json!(1)),
            ("-x", json!("-x")),
            ("1.2.3", json!("1.2.3")),
            ("100m", json!("100m")),
            ("2001-12-14", json!("2001-12-14")),
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("~", json!(null)),
            ("nUll", json!("nUll")),
            ("9223372036854775808", json!(9223372036854775808.0)),
        ] {
            assert_eq!(read(format!("a: {text}\n").as_bytes()).unwrap(), json!({"a": value}), "{text}");
        }
        assert_eq!(
            read(b"a: '0644'\nb: \"x\\x2dy\"\nc: |\n  z\n1: 2\ntrue: x\n").unwrap(),
            json!({"a": "0644", "b": "x-y", "c": "z\n", "1": 2, "true": "x"})
        );
        assert_eq!(read(b"").unwrap(), Value::Null);
    }

    #[test]
    fn what_is_read_in_many_ways_is_refused_with_its_place() {
        for (text, why) in [
            ("a: 1\nb:\n  c: 1\n  c: 2\n", "line 4 column 3: $.b.c is there twice"),
            ("a: &x 1\nb: *x\n", "anchors"),
            ("a: {<<: {b: 1}}\n", "merge keys"),
            ("a: !!binary eA==\n", "tags"),
            ("a: 1\n---\na: 2\n", "a second document"),
            ("%YAML 1.1\n---\na: 1\n", "directives"),
            ("a: .nan\n", "a number that JSON has no word for"),
            ("? [a]\n: b\n", "a key that is no text"),
            ("1.0: b\n", "a key that is no text"),
            ("1e6: b\n", "a key that is no text"),
            ("1: a\n'1': b\n", "is there twice"),
            ("\u{feff}a: 1\n", "byte order mark"),
            ("a: 'x\u{2028}y'\n", "the end of a line"),
            ("a: [\n", "line"),
        ] {
            let told = read(text.as_bytes()).unwrap_err().to_string();
            assert!(told.contains(why), "{text:?}: {told}");
        }
        assert!(read("[".repeat(10_000).as_bytes()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in r#"[a-c0-9:\-\[\]{},&*!|>'"%#?.~_ \n]{0,60}"#) {
            let _ = read(text.as_bytes());
        }
    }
}
