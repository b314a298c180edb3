//! An object held by the host, which a policy reads through a handle, as far as it was granted to see it.

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::body::RequestBody;
use super::sight::{self, Sight};
use crate::mask::path::Path;

/// Most matches and most text one call gives back.
const MOST_MATCHES: usize = 10_000;
const MOST_TEXT: usize = 8 << 20;

/// A Kubernetes object.
#[derive(Debug)]
pub struct Document {
    source: Source,
    sight: Sight,
    /// What of it the policy may see, made when it is first read.
    seen: OnceLock<Arc<Value>>,
}

#[derive(Debug)]
enum Source {
    /// Parsed, and its size as it came where that is known.
    Ready(Arc<Value>, Option<u64>),
    /// The request's body, parsed when it is first read.
    Body(Arc<RequestBody>),
}

impl Document {
    /// An object that was parsed, and how many bytes it had.
    pub(super) fn ready(object: Arc<Value>, size: Option<u64>, sight: Sight) -> Self {
        Self { source: Source::Ready(object, size), sight, seen: OnceLock::new() }
    }

    /// The body of a request.
    pub(super) fn body(body: Arc<RequestBody>, sight: Sight) -> Self {
        Self { source: Source::Body(body), sight, seen: OnceLock::new() }
    }

    fn value(&self) -> Result<&Arc<Value>, wasmtime::Error> {
        let whole = match &self.source {
            Source::Ready(value, _) => value,
            Source::Body(body) => body.value().map_err(|refusal| wasmtime::Error::msg(refusal.message.clone()))?,
        };
        Ok(self.seen.get_or_init(|| sight::of(whole, self.sight)))
    }

    pub(super) fn get(&self, path: &str) -> Result<Option<String>, wasmtime::Error> {
        Ok(self.compile(path)?.first(self.value()?).map(Value::to_string))
    }

    pub(super) fn select(&self, path: &str) -> Result<Vec<(String, String)>, wasmtime::Error> {
        let mut size = 0;
        let mut found = Vec::new();
        let matches = self.compile(path)?.select(self.value()?, MOST_MATCHES + 1);
        if matches.len() > MOST_MATCHES {
            // A policy that saw some of them would decide about what it did not see.
            return Err(wasmtime::Error::msg("select matches more than 10,000 values; ask for less"));
        }
        for (path, value) in matches {
            let text = value.to_string();
            size += path.len() + text.len();
            if size > MOST_TEXT {
                return Err(wasmtime::Error::msg("select gives more than 8 MiB; ask for less"));
            }
            found.push((path, text));
        }
        Ok(found)
    }

    pub(super) fn json(&self) -> Result<String, wasmtime::Error> {
        Ok(self.value()?.to_string())
    }

    pub(super) fn size(&self) -> Result<u64, wasmtime::Error> {
        Ok(match &self.source {
            Source::Ready(_, Some(size)) => *size,
            Source::Ready(value, None) => value.to_string().len() as u64,
            Source::Body(body) => body.bytes().len() as u64,
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
