//! An object held by the host, which a policy reads through a handle.

use std::sync::Arc;

use serde_json::Value;

use super::body::RequestBody;
use crate::mask::path::Path;

/// Most matches and most text one call gives back.
const MOST_MATCHES: usize = 10_000;
const MOST_TEXT: usize = 8 << 20;

/// A Kubernetes object.
#[derive(Clone, Debug)]
pub enum Document {
    /// Parsed.
    Ready(Arc<Value>),
    /// The request's body, parsed when it is first read.
    Body(Arc<RequestBody>),
}

impl Document {
    fn value(&self) -> Result<&Arc<Value>, wasmtime::Error> {
        match self {
            Self::Ready(value) => Ok(value),
            Self::Body(body) => body.value().map_err(|refusal| wasmtime::Error::msg(refusal.message.clone())),
        }
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

    /// A path that is none is the policy's fault, and the operation is not decided by a guess.
    fn compile(&self, path: &str) -> Result<Path, wasmtime::Error> {
        Path::parse(path).map_err(|e| wasmtime::Error::msg(e.to_string()))
    }
}
