//! An object held by the host, which a policy reads through a handle, as far as it was granted to see it.

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::contract::canonical;
use crate::sight::{self, Sight};
use postern_mask::path::{Path, normalized, normalized_length};

/// Most matches and most text one call gives back.
const MOST_MATCHES: usize = 10_000;
const MOST_TEXT: usize = 8 << 20;

/// The body of a request, parsed when a policy first asks what is in it. What is said of one that cannot be read is what the policy fails with.
pub trait Body: fmt::Debug + Send + Sync {
    /// The object in it, for who reads all of it.
    fn value(&self) -> Result<&Arc<Value>, String>;
    /// The body, for who reads along one path only.
    fn value_along(&self, path: &Path) -> Result<&Arc<Value>, String>;
    /// Its bytes as they came.
    fn size(&self) -> Result<u64, String>;
}

/// A Kubernetes object.
#[derive(Debug)]
pub struct Document {
    source: Source,
    sight: Sight,
    /// What of it the policy may see, made when it is first read: once for all handles of the same object.
    seen: Seen,
}

/// What of an object a policy may see.
pub(super) type Seen = Arc<OnceLock<Arc<Value>>>;

#[derive(Debug)]
enum Source {
    /// Parsed, and its size as it came where that is known.
    Ready(Arc<Value>, Option<u64>),
    /// The request's body, parsed when it is first read.
    Body(Arc<dyn Body>),
}

impl Document {
    /// An object that was parsed, and how many bytes it had.
    pub(super) fn ready(object: Arc<Value>, size: Option<u64>, sight: Sight, seen: Seen) -> Self {
        Self { source: Source::Ready(object, size), sight, seen }
    }

    /// The body of a request. What it holds is known by what it is for: a patch may call itself a Secret, and kube-apiserver does not mind.
    pub(super) fn body(body: Arc<dyn Body>, sight: Sight) -> Self {
        let sight = if sight == Sight::Bodies { Sight::Whole } else { sight };
        Self { source: Source::Body(body), sight, seen: Seen::default() }
    }

    /// The object, for who reads all of it, or along one path.
    fn value(&self, along: Option<&Path>) -> Result<&Arc<Value>, wasmtime::Error> {
        let whole = match (&self.source, along) {
            (Source::Ready(value, _), _) => Ok(value),
            (Source::Body(body), None) => body.value(),
            (Source::Body(body), Some(path)) => body.value_along(path),
        };
        let whole = whole.map_err(wasmtime::Error::msg)?;
        Ok(self.seen.get_or_init(|| sight::of(whole, self.sight)))
    }

    pub(super) fn get(&self, path: &str) -> Result<Option<String>, wasmtime::Error> {
        let path = self.compile(path)?;
        Ok(path.first(self.value(Some(&path))?).map(Value::to_string))
    }

    pub(super) fn select(&self, path: &str) -> Result<Vec<(String, String)>, wasmtime::Error> {
        let (mut found, mut size, mut too_much) = (Vec::new(), 0, None);
        // What is over a limit is known before it is written.
        let path = self.compile(path)?;
        let _ = path.visit(self.value(Some(&path))?, &mut |at, value| {
            size += normalized_length(at);
            if found.len() >= MOST_MATCHES {
                // A policy that saw some of them would decide about what it did not see.
                too_much = Some("select matches more than 10,000 values; ask for less");
            } else if size <= MOST_TEXT {
                let text = value.to_string();
                size += text.len();
                found.push((normalized(at), text));
            }
            if size > MOST_TEXT {
                too_much = Some("select gives more than 8 MiB; ask for less");
            }
            if too_much.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        too_much.map_or(Ok(found), |why| Err(wasmtime::Error::msg(why)))
    }

    /// The first of these [`canonical`] texts that any match of a path is.
    pub(super) fn is(&self, path: &str, any_of: &[String]) -> Result<Option<usize>, wasmtime::Error> {
        let path = self.compile(path)?;
        // By their texts: however many there are, each match is looked up once.
        let mut places = HashMap::new();
        for (at, one) in any_of.iter().enumerate() {
            places.entry(one).or_insert(at);
        }
        let (mut first, mut count, mut size) = (None, 0, 0);
        let _ = path.visit(self.value(Some(&path))?, &mut |_, value| {
            let text = canonical(value);
            (count, size) = (count + 1, size + text.len());
            first = places.get(&text).copied().into_iter().chain(first).min();
            let is_decided = first == Some(0) || count > MOST_MATCHES || size > MOST_TEXT;
            if is_decided { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if first != Some(0) && (count > MOST_MATCHES || size > MOST_TEXT) {
            return Err(wasmtime::Error::msg("it compares more than 10,000 matches or 8 MiB; ask for less"));
        }
        Ok(first)
    }

    /// How many matches a path has.
    pub(super) fn matches(&self, path: &str) -> Result<u32, wasmtime::Error> {
        let path = self.compile(path)?;
        let mut count = 0;
        let whole = path.visit(self.value(Some(&path))?, &mut |_, _| {
            count += 1;
            if count > MOST_MATCHES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match (whole, u32::try_from(count)) {
            (ControlFlow::Continue(()), Ok(count)) => Ok(count),
            _ => Err(wasmtime::Error::msg("it counts more than 10,000 matches; ask for less")),
        }
    }

    pub(super) fn json(&self) -> Result<String, wasmtime::Error> {
        Ok(self.value(None)?.to_string())
    }

    pub(super) fn size(&self) -> Result<u64, wasmtime::Error> {
        Ok(match &self.source {
            Source::Ready(_, Some(size)) => *size,
            Source::Ready(value, None) => value.to_string().len() as u64,
            Source::Body(body) => body.size().map_err(wasmtime::Error::msg)?,
        })
    }

    /// A path that is none is the policy's fault, and the operation is not decided by a guess; nor by what the policy was not granted to see.
    fn compile(&self, path: &str) -> Result<Path, wasmtime::Error> {
        let path = Path::parse(path).map_err(|e| wasmtime::Error::msg(e.to_string()))?;
        match self.sight {
            Sight::Metadata if !sight::is_metadata(&path) => Err(wasmtime::Error::msg(
                "it reads more of an object than its metadata, and its manifest does not name the capability bodies",
            )),
            _ => Ok(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A body that is this.
    #[derive(Debug)]
    struct Is(Arc<Value>);

    impl Body for Is {
        fn value(&self) -> Result<&Arc<Value>, String> {
            Ok(&self.0)
        }

        fn value_along(&self, _: &Path) -> Result<&Arc<Value>, String> {
            Ok(&self.0)
        }

        fn size(&self) -> Result<u64, String> {
            Ok(0)
        }
    }

    /// kube-apiserver takes a strategic merge patch of any kind and puts the right one in.
    #[test]
    fn what_a_body_calls_itself_hides_nothing_from_a_policy() {
        let read = |body: Value, sight, path: &str| Document::body(Arc::new(Is(Arc::new(body))), sight).get(path).unwrap();
        let patch = json!({"kind": "Secret", "rules": [{"verbs": ["*"]}]});
        assert_eq!(read(patch, Sight::Bodies, "$.rules[0].verbs[0]").as_deref(), Some(r#""*""#));
        let secret = json!({"kind": "Other", "stringData": {"a": "hunter2"}});
        assert_eq!(read(secret, Sight::Secret, "$.stringData.a").as_deref(), Some(r#""postern-masked""#));
    }
}
