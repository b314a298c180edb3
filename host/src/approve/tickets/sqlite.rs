//! Tickets in SQLite. The ticket itself is JSON; what is looked for has columns of its own.

use anyhow::Context;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::{Page, Seen, Tickets};
use crate::approve::Ticket;
use crate::store::{Database, Durability, Rows, Worker};

/// Seconds a ticket is kept after it ended: who approved what stays in the audit log.
const KEPT: u64 = 30 * 86_400;

/// Tickets in the embedded database.
pub struct SqliteTickets(Worker);

impl SqliteTickets {
    /// Keeps them in a database, on its disk: who was let pass once is not let pass again.
    pub fn new(database: &Database) -> anyhow::Result<Self> {
        Ok(Self(database.worker("tickets", Durability::Disk)?))
    }
}

impl Tickets for SqliteTickets {
    fn find_or_open(&self, ticket: Ticket, most_pending: u32) -> Rows<'_, Option<Ticket>> {
        self.0.call(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let now = ticket.created;
            let over = "UPDATE tickets SET state = 'ended' WHERE intent = ?1 AND state IN ('pending', 'approved', 'denied') AND ends <= ?2";
            transaction.execute(over, params![ticket.intent, now])?;
            let live = "SELECT body, version FROM tickets WHERE intent = ?1 AND state IN ('pending', 'approved', 'denied')";
            let known = transaction.query_row(live, [&ticket.intent], body_and_version).optional()?;
            if let Some(known) = known {
                transaction.commit()?;
                return read(known).map(Some);
            }
            let pending = "SELECT count(*) FROM tickets WHERE requester = ?1 AND cluster = ?3 AND state = 'pending' AND ends > ?2";
            let pending: u32 =
                transaction.query_row(pending, params![ticket.requester, now, ticket.operation.cluster], |row| row.get(0))?;
            if pending >= most_pending {
                return Ok(None);
            }
            forget(&transaction, now.saturating_sub(KEPT))?;
            open(&transaction, &ticket)?;
            transaction.commit()?;
            Ok(Some(ticket))
        })
    }

    fn get(&self, id: &str) -> Rows<'_, Option<Ticket>> {
        let id = id.to_owned();
        self.0.read(move |connection| {
            let found = connection.query_row("SELECT body, version FROM tickets WHERE id = ?1", [id], body_and_version).optional()?;
            found.map(read).transpose()
        })
    }

    fn list(&self, of: Seen) -> Rows<'_, Page> {
        self.0.read(move |connection| page(connection, &of))
    }

    fn replace(&self, ticket: Ticket) -> Rows<'_, Option<Ticket>> {
        self.0.call(move |connection| {
            let sql = "UPDATE tickets SET state = ?3, ends = ?4, body = ?5, version = version + 1 WHERE id = ?1 AND version = ?2 AND state <> 'ended'";
            let Ticket { id, version, state, ends, .. } = &ticket;
            let replaced = connection.execute(sql, params![id, version, state.name(), ends, serde_json::to_string(&ticket)?])? == 1;
            let version = version + 1;
            Ok(replaced.then_some(Ticket { version, ..ticket }))
        })
    }
}

fn body_and_version(row: &Row<'_>) -> rusqlite::Result<(String, u64)> {
    Ok((row.get(0)?, row.get(1)?))
}

fn read((body, version): (String, u64)) -> anyhow::Result<Ticket> {
    let ticket: Ticket = serde_json::from_str(&body).context("a ticket in the database is not readable")?;
    Ok(Ticket { version, ..ticket })
}

fn open(connection: &Connection, ticket: &Ticket) -> anyhow::Result<()> {
    let sql = "INSERT INTO tickets (id, intent, requester, state, created, ends, body, version, cluster) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let Ticket { id, intent, requester, state, created, ends, version, operation, .. } = ticket;
    connection.execute(
        sql,
        params![id, intent, requester, state.name(), created, ends, serde_json::to_string(ticket)?, version, operation.cluster],
    )?;
    let mut approvers = connection.prepare_cached("INSERT OR IGNORE INTO ticket_approvers (ticket, approvers) VALUES (?1, ?2)")?;
    for group in ticket.requirements.iter().flat_map(|requirement| &requirement.approvers) {
        approvers.execute(params![id, group])?;
    }
    Ok(())
}

fn forget(connection: &Connection, ended_before: u64) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM ticket_approvers WHERE ticket IN (SELECT id FROM tickets WHERE ends < ?1)", [ended_before])?;
    connection.execute("DELETE FROM tickets WHERE ends < ?1", [ended_before])?;
    Ok(())
}

fn page(connection: &Connection, of: &Seen) -> anyhow::Result<Page> {
    let (rank, created, id) = of.after.as_deref().and_then(place_after).unwrap_or((-1, u64::MAX, String::new()));
    let mut statement = connection.prepare_cached(
        "SELECT body, version, rank, created, id FROM (
            SELECT body, version, created, id, NOT (state = 'pending' AND ends > ?3) AS rank FROM tickets
            WHERE (requester = ?1 OR id IN (SELECT ticket FROM ticket_approvers WHERE approvers IN (SELECT value FROM json_each(?2))))
            AND cluster = coalesce(?8, cluster))
         WHERE (rank, -created, id) > (?4, -?5, ?6) ORDER BY rank, created DESC, id LIMIT ?7",
    )?;
    let before = i64::try_from(created).unwrap_or(i64::MAX);
    let groups = serde_json::to_string(&of.groups)?;
    let rows = statement
        .query_map(params![of.requester, groups, of.now, rank, before, id, u64::from(of.limit) + 1, of.cluster], |row| {
            Ok((body_and_version(row)?, (row.get::<_, i64>(2)?, row.get::<_, u64>(3)?, row.get::<_, String>(4)?)))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let more = rows.len() > of.limit as usize;
    let (mut items, mut last) = (Vec::new(), None);
    for (row, place) in rows.into_iter().take(of.limit as usize) {
        items.push(read(row)?);
        last = Some(place);
    }
    Ok(Page { items, go_on: last.filter(|_| more).map(|(rank, created, id)| format!("{rank}.{created}.{id}")) })
}

/// Where a page ended.
fn place_after(text: &str) -> Option<(i64, u64, String)> {
    let mut parts = text.splitn(3, '.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.to_owned()))
}
