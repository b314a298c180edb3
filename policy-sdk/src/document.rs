//! Kubernetes objects: behind the host's handle in WebAssembly, plain JSON in native tests.

use serde_json::Value;

use crate::guest::Held;
use crate::request::first_of;

/// A Kubernetes object. Paths are RFC 9535 JSONPath, as far as the contract has it.
pub enum Document<'a> {
    /// Held by the host, which lends it for a call.
    Held(&'a Held),
    /// Held by the host for the policy: what stands beside an operation.
    Around(Held),
    /// In a native test.
    Native(Value),
}

impl Document<'_> {
    /// The host's handle, or the object of a native test.
    fn held(&self) -> Result<&Held, &Value> {
        match self {
            Self::Held(document) => Ok(document),
            Self::Around(document) => Ok(document),
            Self::Native(value) => Err(value),
        }
    }

    /// The host's handle: in WebAssembly there is always one.
    pub(crate) fn of_host(&self) -> &Held {
        self.held().expect("in WebAssembly the host holds every object")
    }

    /// The first match of a path.
    pub fn get(&self, path: &str) -> Option<Value> {
        match self.held() {
            Ok(document) => document.get(path).and_then(|text| serde_json::from_str(&text).ok()),
            Err(value) => native(path, value).into_iter().next().map(|(_, value)| value),
        }
    }

    /// The first match of a path, if it is text.
    pub fn text(&self, path: &str) -> Option<String> {
        match self.get(path)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Every match of a path: its normalized path and its value.
    pub fn select(&self, path: &str) -> Vec<(String, Value)> {
        match self.held() {
            Ok(document) => {
                let read = |(at, text): (String, String)| Some((at, serde_json::from_str(&text).ok()?));
                document.select(path).into_iter().filter_map(read).collect()
            }
            Err(value) => native(path, value),
        }
    }

    /// Every text a path matches.
    pub fn texts(&self, path: &str) -> Vec<String> {
        let text = |(_, value)| match value {
            Value::String(text) => Some(text),
            _ => None,
        };
        self.select(path).into_iter().filter_map(text).collect()
    }

    /// Which of these values any match of a path is, the first of them.
    pub fn is<V: Clone + Into<Value>>(&self, path: &str, any_of: &[V]) -> Option<usize> {
        match self.held() {
            Ok(document) => {
                let texts: Vec<String> = any_of.iter().map(|value| value.clone().into().to_string()).collect();
                first_of(&texts, |texts| document.is(path, texts))
            }
            Err(value) => {
                let found = native(path, value);
                any_of.iter().map(|one| one.clone().into()).position(|one| found.iter().any(|(_, value)| same(value, &one)))
            }
        }
    }

    /// How many matches a path has.
    pub fn matches(&self, path: &str) -> usize {
        match self.held() {
            Ok(document) => document.matches(path) as usize,
            Err(value) => native(path, value).len(),
        }
    }

    /// Bytes of it, as it came.
    pub fn size(&self) -> u64 {
        match self.held() {
            Ok(document) => document.size(),
            Err(value) => value.to_string().len() as u64,
        }
    }

    /// All of it.
    pub fn json(&self) -> Value {
        match self.held() {
            Ok(document) => serde_json::from_str(&document.json()).unwrap_or_default(),
            Err(value) => value.clone(),
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn native(path: &str, value: &Value) -> Vec<(String, Value)> {
    let path = serde_json_path::JsonPath::parse(path).unwrap_or_else(|error| panic!("{path} is no path: {error}"));
    path.query_located(value).into_iter().map(|found| (found.location().to_string(), found.node().clone())).collect()
}

/// Whether two values are the same: numbers as numbers, however they are written.
pub(crate) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            // A whole number that is written with a fraction is that number, as far as a fraction tells it.
            let whole = |number: &serde_json::Number| {
                let float = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() < i64::MAX as f64);
                float.map_or_else(|| number.as_i64(), |float| Some(float as i64))
            };
            one == other || whole(one).is_some_and(|one| whole(other) == Some(one))
        }
        (Value::Array(one), Value::Array(other)) => one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other)),
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len() && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| same(one, other)))
        }
        _ => one == other,
    }
}

#[cfg(target_arch = "wasm32")]
fn native(_: &str, _: &Value) -> Vec<(String, Value)> {
    unreachable!("in WebAssembly the host holds every object")
}
