//! What policies have counted, as the embedded database keeps it, so that a restart gives nobody a new budget.

use anyhow::Context;
use rusqlite::params;

use super::{CounterId, CounterOwner, CounterRow, CounterRows};
use crate::store::{Database, Durability, Rows, Worker};

/// Counters in the embedded database.
pub struct SqliteCounters(Worker);

impl SqliteCounters {
    /// Keeps them in a database.
    pub fn new(database: &Database) -> anyhow::Result<Self> {
        Ok(Self(database.worker("counter-rows", Durability::Process)?))
    }
}

impl CounterRows for SqliteCounters {
    fn load(&self, now: u64) -> Rows<'_, Vec<CounterRow>> {
        self.0.call(move |connection| {
            connection.execute("DELETE FROM counters WHERE ends <= ?1", [now])?;
            let mut statement = connection.prepare("SELECT cluster, policy, key, window, slices FROM counters")?;
            let rows = statement.query_map([], |row| {
                let owner = CounterOwner { cluster: row.get(0)?, policy: row.get(1)? };
                Ok((CounterId { owner, key: row.get(2)?, window: row.get(3)? }, row.get::<_, String>(4)?))
            })?;
            rows.map(|row| {
                let (id, slices) = row?;
                Ok(CounterRow { id, slices: serde_json::from_str(&slices).context("a counter in the database is not readable")? })
            })
            .collect()
        })
    }

    fn write(&self, rows: Vec<(CounterRow, u64)>, ended: Vec<CounterId>) -> Rows<'_, ()> {
        self.0.call(move |connection| {
            let transaction = connection.transaction()?;
            {
                let mut remove =
                    transaction.prepare_cached("DELETE FROM counters WHERE cluster = ?1 AND policy = ?2 AND key = ?3 AND window = ?4")?;
                for CounterId { owner, key, window } in ended {
                    remove.execute(params![owner.cluster, owner.policy, key, window])?;
                }
                let mut write = transaction.prepare_cached(
                    "INSERT INTO counters (cluster, policy, key, window, slices, ends) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                     ON CONFLICT (cluster, policy, key, window) DO UPDATE SET slices = ?5, ends = ?6",
                )?;
                for (CounterRow { id: CounterId { owner, key, window }, slices }, ends) in rows {
                    write.execute(params![owner.cluster, owner.policy, key, window, serde_json::to_string(&slices)?, ends])?;
                }
            }
            Ok(transaction.commit()?)
        })
    }
}

#[cfg(test)]
mod tests;
