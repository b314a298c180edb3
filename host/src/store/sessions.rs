//! The index of sessions: who, when, and how much. What was done is in the recordings.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rusqlite::{Connection, OpenFlags, params};
use serde::Serialize;

use crate::identify::Caller;

/// What happened in a session since the index was written.
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
    /// Nothing yet.
    pub fn new(who: Arc<Caller>) -> Self {
        Self { who, last: 0, calls: 0, streams: 0, refused: 0 }
    }
}

/// A session, as the index knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionRow {
    /// Its id: that of the credential.
    pub id: String,
    /// The caller.
    pub username: String,
    /// The verified issuer.
    pub issuer: String,
    /// Unix seconds of the first thing done.
    pub first: u64,
    /// And of the last.
    pub last: u64,
    /// API calls.
    pub calls: u64,
    /// Streams.
    pub streams: u64,
    /// Calls that were refused.
    pub refused: u64,
}

/// The index, in the gateway's database.
pub struct SessionIndex(Connection);

impl SessionIndex {
    /// Opens it for the gateway.
    pub fn open(file: &Path) -> anyhow::Result<Self> {
        let connection = Connection::open(file).with_context(|| format!("cannot open the database {}", file.display()))?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // It can be lost without harm, and must not hold up recordings.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS sessions (
                id TEXT PRIMARY KEY, username TEXT NOT NULL, issuer TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
                calls INTEGER NOT NULL, streams INTEGER NOT NULL, refused INTEGER NOT NULL);
             CREATE INDEX IF NOT EXISTS sessions_last ON sessions (last);",
        )?;
        Ok(Self(connection))
    }

    /// Opens it for reading only.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .with_context(|| format!("cannot read the database {}", file.display()))?;
        connection.busy_timeout(Duration::from_secs(5))?;
        Ok(Self(connection))
    }

    /// Adds what happened.
    pub fn touch<'a>(&mut self, touched: impl Iterator<Item = &'a Touched>) -> anyhow::Result<()> {
        let transaction = self.0.transaction()?;
        {
            let mut statement = transaction.prepare_cached(
                "INSERT INTO sessions (id, username, issuer, first, last, calls, streams, refused) VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7)
                 ON CONFLICT (id) DO UPDATE SET last = ?4, calls = calls + ?5, streams = streams + ?6, refused = refused + ?7",
            )?;
            for Touched { who, last, calls, streams, refused } in touched {
                statement.execute(params![who.credential, who.username, who.issuer, last, calls, streams, refused])?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// The sessions that something happened in, the latest first.
    pub fn list(&self, since: u64, until: u64) -> anyhow::Result<Vec<SessionRow>> {
        let mut statement = self.0.prepare(
            "SELECT id, username, issuer, first, last, calls, streams, refused FROM sessions WHERE last >= ?1 AND first <= ?2 ORDER BY last DESC",
        )?;
        let rows = statement.query_map([since, until], |row| {
            Ok(SessionRow {
                id: row.get(0)?,
                username: row.get(1)?,
                issuer: row.get(2)?,
                first: row.get(3)?,
                last: row.get(4)?,
                calls: row.get(5)?,
                streams: row.get(6)?,
                refused: row.get(7)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
