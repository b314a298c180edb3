//! The index of sessions: who, when, and how much. What was done is in the recordings.

mod sqlite;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::identify::Caller;
use crate::store::Rows;

pub use sqlite::SqliteIndex;

/// Where the index is kept. It can be lost without harm, and must not hold up recordings.
pub trait SessionIndex: Send + Sync {
    /// Adds what happened, all of it or nothing.
    fn touch(&self, touched: Vec<Touched>) -> Rows<'_, ()>;

    /// A session by its id.
    fn get(&self, id: &str) -> Rows<'_, Option<SessionRow>>;

    /// The sessions that something happened in between two times, in Unix seconds, the latest first.
    fn list(&self, since: u64, until: u64) -> Rows<'_, Vec<SessionRow>>;
}

/// What happened in a session since the index was written.
#[derive(Clone)]
pub struct Touched {
    /// Whose it is.
    pub who: Arc<Caller>,
    /// Unix seconds of the last thing.
    pub last: u64,
    /// API calls.
    pub calls: u64,
    /// Streams.
    pub streams: u64,
    /// Calls that were refused.
    pub refused: u64,
}

impl Touched {
    /// A session in which nothing happened yet.
    pub fn new(who: Arc<Caller>) -> Self {
        Self { who, last: 0, calls: 0, streams: 0, refused: 0 }
    }
}

/// A session, as the index knows it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionRow {
    /// Its id: that of the credential.
    pub id: String,
    /// The caller.
    pub username: String,
    /// The verified issuer.
    pub issuer: String,
    #[serde(default)]
    /// The cluster, where the gateway has several: what one credential does in each of them is a session of its own. Empty otherwise.
    pub cluster: String,
    /// Unix seconds of the first thing done.
    pub first: u64,
    /// Unix seconds of the last thing done.
    pub last: u64,
    /// API calls.
    pub calls: u64,
    /// Streams.
    pub streams: u64,
    /// Calls that were refused.
    pub refused: u64,
}

#[cfg(test)]
mod tests;
