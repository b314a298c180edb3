//! What policies have counted, as it is kept, so that a restart gives nobody a new budget.

use anyhow::Context;
use rusqlite::params;

use crate::store::{Database, Durability, Rows, Worker};

/// Where counters are kept.
pub trait CounterRows: Send + Sync {
    /// Those that stand at something at a time, in Unix seconds; the others are forgotten.
    fn load(&self, now: u64) -> Rows<'_, Vec<CounterRow>>;

    /// Writes some, each with the second at which it ends, and takes out others, all of it or nothing.
    fn write(&self, rows: Vec<(CounterRow, u64)>, ended: Vec<CounterId>) -> Rows<'_, ()>;
}

/// Which counter: of a policy, by its key and the seconds it looks back.
pub type CounterId = (String, String, u32);

/// A counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterRow {
    /// Which it is.
    pub id: CounterId,
    /// The number of each slice of time, and what was counted in it.
    pub slices: Vec<(u64, u64)>,
}

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
            let mut statement = connection.prepare("SELECT policy, key, window, slices FROM counters")?;
            let rows = statement.query_map([], |row| Ok(((row.get(0)?, row.get(1)?, row.get(2)?), row.get::<_, String>(3)?)))?;
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
                let mut remove = transaction.prepare_cached("DELETE FROM counters WHERE policy = ?1 AND key = ?2 AND window = ?3")?;
                for (policy, key, window) in ended {
                    remove.execute(params![policy, key, window])?;
                }
                let mut write = transaction.prepare_cached(
                    "INSERT INTO counters (policy, key, window, slices, ends) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (policy, key, window) DO UPDATE SET slices = ?4, ends = ?5",
                )?;
                for (CounterRow { id: (policy, key, window), slices }, ends) in rows {
                    write.execute(params![policy, key, window, serde_json::to_string(&slices)?, ends])?;
                }
            }
            Ok(transaction.commit()?)
        })
    }
}
