//! The index of sessions in SQLite.

use std::path::Path;

use rusqlite::{OptionalExtension, Row, params};

use super::{SessionIndex, SessionRow, Touched};
use crate::store::{Database, Durability, Rows, Worker};

/// The index in the embedded database.
pub struct SqliteIndex(Worker);

impl SqliteIndex {
    /// Keeps it in a gateway's database.
    pub fn new(database: &Database) -> anyhow::Result<Self> {
        Ok(Self(database.worker("index", Durability::Process)?))
    }

    /// Reads it beside the gateway that keeps it.
    pub fn beside(file: &Path) -> anyhow::Result<Self> {
        Ok(Self(Database::reader(file)?))
    }
}

impl SessionIndex for SqliteIndex {
    fn touch(&self, touched: Vec<Touched>) -> Rows<'_, ()> {
        self.0.call(move |connection| {
            let transaction = connection.transaction()?;
            {
                let mut statement = transaction.prepare_cached(
                    "INSERT INTO sessions (id, username, issuer, first, last, calls, streams, refused, cluster) VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7, ?8)
                     ON CONFLICT (id) DO UPDATE SET last = ?4, calls = calls + ?5, streams = streams + ?6, refused = refused + ?7",
                )?;
                for Touched { who, last, calls, streams, refused } in touched {
                    statement.execute(params![who.credential, who.username, who.issuer, last, calls, streams, refused, who.cluster.as_ref()])?;
                }
            }
            Ok(transaction.commit()?)
        })
    }

    fn get(&self, id: &str) -> Rows<'_, Option<SessionRow>> {
        let id = id.to_owned();
        self.0.call(move |connection| {
            let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
            Ok(statement.query_row([id], row).optional()?)
        })
    }

    fn list(&self, since: u64, until: u64) -> Rows<'_, Vec<SessionRow>> {
        self.0.call(move |connection| {
            let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE last >= ?1 AND first <= ?2 ORDER BY last DESC"))?;
            let rows = statement.query_map([since, until], row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

/// What is read of a session.
const SELECT: &str = "SELECT id, username, issuer, first, last, calls, streams, refused, cluster FROM sessions";

fn row(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    Ok(SessionRow {
        id: row.get(0)?,
        username: row.get(1)?,
        issuer: row.get(2)?,
        first: row.get(3)?,
        last: row.get(4)?,
        calls: row.get(5)?,
        streams: row.get(6)?,
        refused: row.get(7)?,
        cluster: row.get(8)?,
    })
}
