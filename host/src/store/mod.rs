//! What outlives the process: the embedded database with approval tickets, the index of sessions and what policies have counted, and the object
//! store recordings go to.

mod counters;
mod objects;
mod sessions;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use rusqlite::{Connection, OptionalExtension, params};

pub use counters::{CounterRow, CounterStore};
pub use objects::Objects;
pub use sessions::{SessionIndex, SessionRow, Touched};

use crate::approve::{State, Ticket};

/// Seconds a ticket is kept after it ended.
const KEPT: u64 = 30 * 86_400;

/// An SQLite database.
pub struct Store(Mutex<Connection>);

impl Store {
    /// Opens or makes the database.
    pub fn open(file: &Path) -> anyhow::Result<Self> {
        let connection = Connection::open(file).with_context(|| format!("cannot open the database {}", file.display()))?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS tickets (
                id TEXT PRIMARY KEY, intent TEXT NOT NULL, requester TEXT NOT NULL, state TEXT NOT NULL, created INTEGER NOT NULL,
                ends INTEGER NOT NULL, body TEXT NOT NULL);
             CREATE INDEX IF NOT EXISTS tickets_intent ON tickets (intent, state);",
        )?;
        Ok(Self(Mutex::new(connection)))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a ticket, and forgets those that ended long ago: who approved what stays in the audit log.
    pub fn put(&self, ticket: &Ticket) -> anyhow::Result<()> {
        let connection = self.lock();
        connection.execute("DELETE FROM tickets WHERE ends < ?1", [ticket.created.saturating_sub(KEPT)])?;
        connection.execute(
            "INSERT INTO tickets (id, intent, requester, state, created, ends, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (id) DO UPDATE SET state = ?4, ends = ?6, body = ?7",
            params![
                ticket.id,
                ticket.intent,
                ticket.requester,
                ticket.state.name(),
                ticket.created,
                ticket.ends,
                serde_json::to_string(ticket)?
            ],
        )?;
        Ok(())
    }

    /// The ticket of an intent that is pending or approved and has not ended.
    pub fn live(&self, intent: &str, now: u64) -> anyhow::Result<Option<Ticket>> {
        self.one("SELECT body FROM tickets WHERE intent = ?1 AND state IN ('pending', 'approved', 'denied') AND ends > ?2 ORDER BY created DESC LIMIT 1", params![intent, now])
    }

    /// A ticket by its id.
    pub fn get(&self, id: &str) -> anyhow::Result<Option<Ticket>> {
        self.one("SELECT body FROM tickets WHERE id = ?1", params![id])
    }

    fn one(&self, sql: &str, params: impl rusqlite::Params) -> anyhow::Result<Option<Ticket>> {
        let body: Option<String> = self.lock().query_row(sql, params, |row| row.get(0)).optional()?;
        body.map(|text| serde_json::from_str(&text).context("a ticket in the database is not readable")).transpose()
    }

    /// The latest tickets.
    pub fn list(&self, most: u32) -> anyhow::Result<Vec<Ticket>> {
        let connection = self.lock();
        let mut statement = connection.prepare("SELECT body FROM tickets ORDER BY created DESC, id LIMIT ?1")?;
        let rows = statement.query_map([most], |row| row.get::<_, String>(0))?;
        rows.map(|row| Ok(serde_json::from_str(&row?)?)).collect()
    }

    /// How many tickets of a requester are pending.
    pub fn pending_of(&self, requester: &str, now: u64) -> anyhow::Result<u32> {
        let sql = "SELECT count(*) FROM tickets WHERE requester = ?1 AND state = 'pending' AND ends > ?2";
        Ok(self.lock().query_row(sql, params![requester, now], |row| row.get(0))?)
    }

    /// Marks an approved ticket used, if nobody did before.
    pub fn use_up(&self, ticket: &Ticket) -> anyhow::Result<bool> {
        let used = Ticket { state: State::Used, ..ticket.clone() };
        let sql = "UPDATE tickets SET state = 'used', body = ?2 WHERE id = ?1 AND state = 'approved'";
        Ok(self.lock().execute(sql, params![ticket.id, serde_json::to_string(&used)?])? == 1)
    }

    /// Changes a ticket under the lock, if it is as `change` expects it.
    pub fn change<E>(&self, id: &str, change: impl FnOnce(Option<Ticket>) -> Result<Ticket, E>) -> anyhow::Result<Result<Ticket, E>> {
        let connection = self.lock();
        let body: Option<String> = connection.query_row("SELECT body FROM tickets WHERE id = ?1", [id], |row| row.get(0)).optional()?;
        let ticket = body.map(|text| serde_json::from_str(&text)).transpose()?;
        let changed = match change(ticket) {
            Ok(ticket) => ticket,
            Err(error) => return Ok(Err(error)),
        };
        connection.execute(
            "UPDATE tickets SET state = ?2, ends = ?3, body = ?4 WHERE id = ?1",
            params![id, changed.state.name(), changed.ends, serde_json::to_string(&changed)?],
        )?;
        Ok(Ok(changed))
    }
}
