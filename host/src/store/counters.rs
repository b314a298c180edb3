//! What policies have counted, so that a restart gives nobody a new budget.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use rusqlite::{Connection, params};

/// A counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterRow {
    /// Whose it is.
    pub policy: String,
    /// What it counts.
    pub key: String,
    /// Seconds it looks back.
    pub window: u32,
    /// The number of each slice of time, and what was counted in it.
    pub slices: Vec<(u64, u64)>,
}

/// The counters, in the gateway's database.
pub struct CounterStore(Connection);

impl CounterStore {
    /// Opens it.
    pub fn open(file: &Path) -> anyhow::Result<Self> {
        let connection = Connection::open(file).with_context(|| format!("cannot open the database {}", file.display()))?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS counters (
                policy TEXT NOT NULL, key TEXT NOT NULL, window INTEGER NOT NULL, slices TEXT NOT NULL, ends INTEGER NOT NULL,
                PRIMARY KEY (policy, key, window)) WITHOUT ROWID;",
        )?;
        Ok(Self(connection))
    }

    /// Those that stand at something.
    pub fn load(&self, now: u64) -> anyhow::Result<Vec<CounterRow>> {
        self.0.execute("DELETE FROM counters WHERE ends <= ?1", [now])?;
        let mut statement = self.0.prepare("SELECT policy, key, window, slices FROM counters")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, String>(3)?)))?;
        rows.map(|row| {
            let (policy, key, window, slices) = row?;
            let slices = serde_json::from_str(&slices).context("a counter in the database is not readable")?;
            Ok(CounterRow { policy, key, window, slices })
        })
        .collect()
    }

    /// Writes counters and when each ends, and takes out others.
    pub fn write<'a>(&mut self, rows: impl Iterator<Item = (&'a CounterRow, u64)>, ended: &[(String, String, u32)]) -> anyhow::Result<()> {
        let transaction = self.0.transaction()?;
        {
            let mut remove = transaction.prepare_cached("DELETE FROM counters WHERE policy = ?1 AND key = ?2 AND window = ?3")?;
            for (policy, key, window) in ended {
                remove.execute(params![policy, key, window])?;
            }
            let mut write = transaction.prepare_cached(
                "INSERT INTO counters (policy, key, window, slices, ends) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (policy, key, window) DO UPDATE SET slices = ?4, ends = ?5",
            )?;
            for (row, ends) in rows {
                write.execute(params![row.policy, row.key, row.window, serde_json::to_string(&row.slices)?, ends])?;
            }
        }
        Ok(transaction.commit()?)
    }
}
