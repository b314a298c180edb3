//! What outlives the process: the embedded database with approval tickets, the index of sessions and what policies have counted, and the object
//! store recordings go to.

mod counters;
mod directory;
mod objects;
mod sessions;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

pub use counters::{CounterRow, CounterStore};
pub use directory::{DataDirectory, take};
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
        // What is beside it, SQLite makes with the same mode.
        directory::private(file).with_context(|| format!("cannot make the database {}", file.display()))?;
        let connection = Connection::open(file).with_context(|| format!("cannot open the database {}", file.display()))?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS tickets (
                id TEXT PRIMARY KEY, intent TEXT NOT NULL, requester TEXT NOT NULL, state TEXT NOT NULL, created INTEGER NOT NULL,
                ends INTEGER NOT NULL, body TEXT NOT NULL);
             CREATE INDEX IF NOT EXISTS tickets_intent ON tickets (intent, state);
             CREATE INDEX IF NOT EXISTS tickets_requester ON tickets (requester);
             CREATE TABLE IF NOT EXISTS ticket_approvers (ticket TEXT NOT NULL, approvers TEXT NOT NULL, PRIMARY KEY (approvers, ticket));",
        )?;
        let this = Self(Mutex::new(connection));
        this.name_approvers()?;
        Ok(this)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tickets of a gateway that did not keep yet who may answer them.
    fn name_approvers(&self) -> anyhow::Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let bodies: Vec<String> = transaction
            .prepare("SELECT body FROM tickets WHERE id NOT IN (SELECT ticket FROM ticket_approvers)")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        bodies.iter().try_for_each(|body| put_approvers(&transaction, &parse(body)?))?;
        Ok(transaction.commit()?)
    }

    /// The ticket of the same intent that has not ended; where there is none, this one is written, unless so many of its requester are pending: then none. One
    /// step: two who ask at the same moment find one ticket.
    pub fn find_or_put(&self, ticket: Ticket, most_pending: u32) -> anyhow::Result<Option<Ticket>> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let live = "SELECT body FROM tickets WHERE intent = ?1 AND state IN ('pending', 'approved', 'denied') AND ends > ?2 ORDER BY created DESC LIMIT 1";
        let known: Option<String> = transaction.query_row(live, params![ticket.intent, ticket.created], |row| row.get(0)).optional()?;
        if let Some(body) = known {
            return parse(&body).map(Some);
        }
        let pending = "SELECT count(*) FROM tickets WHERE requester = ?1 AND state = 'pending' AND ends > ?2";
        let pending: u32 = transaction.query_row(pending, params![ticket.requester, ticket.created], |row| row.get(0))?;
        if pending >= most_pending {
            return Ok(None);
        }
        put(&transaction, &ticket)?;
        transaction.commit()?;
        Ok(Some(ticket))
    }

    /// Writes a ticket.
    #[cfg(test)]
    pub fn put(&self, ticket: &Ticket) -> anyhow::Result<()> {
        put(&self.lock(), ticket)
    }

    /// A ticket by its id.
    pub fn get(&self, id: &str) -> anyhow::Result<Option<Ticket>> {
        self.one("SELECT body FROM tickets WHERE id = ?1", params![id])
    }

    fn one(&self, sql: &str, params: impl rusqlite::Params) -> anyhow::Result<Option<Ticket>> {
        let body: Option<String> = self.lock().query_row(sql, params, |row| row.get(0)).optional()?;
        body.map(|text| parse(&text)).transpose()
    }

    /// The tickets of a requester and those that one of these groups may answer: those that are pending first, the latest first, and from where a page ended.
    pub fn list(&self, requester: &str, groups: &[String], now: u64, limit: u32, after: Option<&str>) -> anyhow::Result<Page> {
        let (rank, created, id) = after.and_then(place_after).unwrap_or((-1, u64::MAX, String::new()));
        let connection = self.lock();
        let mut statement = connection.prepare(
            "SELECT body, rank, created, id FROM (
                SELECT body, created, id, NOT (state = 'pending' AND ends > ?3) AS rank FROM tickets
                WHERE requester = ?1 OR id IN (SELECT ticket FROM ticket_approvers WHERE approvers IN (SELECT value FROM json_each(?2))))
             WHERE (rank, -created, id) > (?4, -?5, ?6) ORDER BY rank, created DESC, id LIMIT ?7",
        )?;
        let before = i64::try_from(created).unwrap_or(i64::MAX);
        let rows = statement
            .query_map(params![requester, serde_json::to_string(groups)?, now, rank, before, id, u64::from(limit) + 1], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, u64>(2)?, row.get::<_, String>(3)?))
            })?
            .collect::<Result<Vec<_>, _>>()?;
        let more = rows.len() > limit as usize;
        let rows = &rows[..rows.len().min(limit as usize)];
        let items = rows.iter().map(|(body, ..)| parse(body)).collect::<Result<_, _>>()?;
        let go_on = rows.last().filter(|_| more).map(|(_, rank, created, id)| format!("{rank}.{created}.{id}"));
        Ok(Page { items, go_on })
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

/// Tickets, and where they go on.
pub struct Page {
    /// The tickets.
    pub items: Vec<Ticket>,
    /// What the next page is asked for with, when there are more.
    pub go_on: Option<String>,
}

/// Where a page ended.
fn place_after(text: &str) -> Option<(i64, u64, String)> {
    let mut parts = text.splitn(3, '.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.to_owned()))
}

fn parse(body: &str) -> anyhow::Result<Ticket> {
    serde_json::from_str(body).context("a ticket in the database is not readable")
}

/// Writes a ticket, and forgets those that ended long ago: who approved what stays in the audit log.
fn put(connection: &Connection, ticket: &Ticket) -> anyhow::Result<()> {
    let long_ago = ticket.created.saturating_sub(KEPT);
    connection.execute("DELETE FROM ticket_approvers WHERE ticket IN (SELECT id FROM tickets WHERE ends < ?1)", [long_ago])?;
    connection.execute("DELETE FROM tickets WHERE ends < ?1", [long_ago])?;
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
    put_approvers(connection, ticket)
}

fn put_approvers(connection: &Connection, ticket: &Ticket) -> anyhow::Result<()> {
    let mut statement = connection.prepare_cached("INSERT OR IGNORE INTO ticket_approvers (ticket, approvers) VALUES (?1, ?2)")?;
    for group in ticket.requirements.iter().flat_map(|requirement| &requirement.approvers) {
        statement.execute(params![ticket.id, group])?;
    }
    Ok(())
}
