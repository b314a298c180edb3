//! What a policy was made of, by digest.

use postern_ground::digest::of_blob;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The files of one policy, as a lock file has them.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Locked {
    /// Its name: that of its files.
    pub name: String,
    /// SHA-256 of its module.
    pub module: String,
    /// SHA-256 of the file beside it; of nothing where there is none.
    pub file: String,
}

impl Locked {
    /// A policy as it lies there.
    pub fn new(name: &str, module: &[u8], file: &str) -> Self {
        Self { name: name.to_owned(), module: of_blob(module), file: of_blob(file.as_bytes()) }
    }
}
