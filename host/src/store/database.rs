//! The embedded database, SQLite: one file, whose tables have a version, and a thread for each connection that is written on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use postern_ground::steps::Rows;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::files;

/// How long another process that holds the file (a `postern session list`) is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Steps that may wait for one connection.
const QUEUE: usize = 1024;

/// What each version of the tables adds to the one before; the number of those done is kept in the file (`PRAGMA user_version`). A step that was released
/// is never changed.
const MIGRATIONS: [&str; 3] = [
    // As they were before they had a version: a database of that time has some or all of them.
    "CREATE TABLE IF NOT EXISTS tickets (
        id TEXT PRIMARY KEY, intent TEXT NOT NULL, requester TEXT NOT NULL, state TEXT NOT NULL, created INTEGER NOT NULL,
        ends INTEGER NOT NULL, body TEXT NOT NULL);
     CREATE INDEX IF NOT EXISTS tickets_intent ON tickets (intent, state);
     CREATE INDEX IF NOT EXISTS tickets_requester ON tickets (requester);
     CREATE TABLE IF NOT EXISTS ticket_approvers (ticket TEXT NOT NULL, approvers TEXT NOT NULL, PRIMARY KEY (approvers, ticket));
     INSERT OR IGNORE INTO ticket_approvers SELECT tickets.id, approvers.value FROM tickets,
        json_each(tickets.body, '$.requirements') AS requirements, json_each(requirements.value, '$.approvers') AS approvers;
     CREATE TABLE IF NOT EXISTS sessions (
        id TEXT PRIMARY KEY, username TEXT NOT NULL, issuer TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        calls INTEGER NOT NULL, streams INTEGER NOT NULL, refused INTEGER NOT NULL);
     CREATE INDEX IF NOT EXISTS sessions_last ON sessions (last);
     CREATE TABLE IF NOT EXISTS counters (
        policy TEXT NOT NULL, key TEXT NOT NULL, window INTEGER NOT NULL, slices TEXT NOT NULL, ends INTEGER NOT NULL,
        PRIMARY KEY (policy, key, window)) WITHOUT ROWID;",
    // One intent has one ticket that has not ended, and of two changes of a ticket that were made at the same moment one is the first.
    "ALTER TABLE tickets ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
     UPDATE tickets SET state = 'ended' WHERE state IN ('pending', 'approved', 'denied') AND EXISTS (SELECT 1 FROM tickets AS later
        WHERE later.intent = tickets.intent AND later.state IN ('pending', 'approved', 'denied')
        AND (later.created, later.id) > (tickets.created, tickets.id));
     DROP INDEX tickets_intent;
     CREATE UNIQUE INDEX tickets_intent ON tickets (intent) WHERE state IN ('pending', 'approved', 'denied');",
    // What is counted, asked for and recorded is of one cluster. Counters of before do not say of which: whoever goes on with them knows.
    "ALTER TABLE tickets ADD COLUMN cluster TEXT NOT NULL DEFAULT '';
     UPDATE tickets SET cluster = coalesce(json_extract(body, '$.operation.cluster'), '');
     ALTER TABLE sessions ADD COLUMN cluster TEXT NOT NULL DEFAULT '';
     CREATE TABLE counters_by_cluster (
        cluster TEXT NOT NULL, policy TEXT NOT NULL, key TEXT NOT NULL, window INTEGER NOT NULL, slices TEXT NOT NULL, ends INTEGER NOT NULL,
        PRIMARY KEY (cluster, policy, key, window)) WITHOUT ROWID;
     INSERT INTO counters_by_cluster SELECT '', policy, key, window, slices, ends FROM counters;
     DROP TABLE counters;
     ALTER TABLE counters_by_cluster RENAME TO counters;",
];

/// The embedded database.
#[derive(Clone, Debug)]
pub struct Database {
    file: PathBuf,
}

/// What is certain once a step is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It is on the disk.
    Disk,
    /// It outlives this process; a machine that loses its power may lose the last of it.
    Process,
}

impl Database {
    /// Opens or makes the file, and brings its tables up to date.
    pub fn open(file: &Path) -> anyhow::Result<Self> {
        let at = || format!("the database {}", file.display());
        // What is beside it, SQLite makes with the same mode.
        files::private(file).with_context(|| format!("cannot make {}", at()))?;
        let this = Self { file: file.to_owned() };
        let mut connection = this.connect(Durability::Disk)?;
        connection.pragma_update(None, "journal_mode", "WAL").with_context(at)?;
        migrate(&mut connection).with_context(at)?;
        Ok(this)
    }

    /// A connection of one's own.
    fn connect(&self, durability: Durability) -> anyhow::Result<Connection> {
        let connection = Connection::open(&self.file).with_context(|| format!("cannot open the database {}", self.file.display()))?;
        connection.busy_timeout(PATIENCE)?;
        connection.pragma_update(None, "synchronous", if durability == Durability::Disk { "FULL" } else { "NORMAL" })?;
        Ok(connection)
    }

    /// A connection with a thread that runs steps on it, one after another.
    pub fn worker(&self, name: &str, durability: Durability) -> anyhow::Result<Worker> {
        Worker::start(name, self.connect(durability)?)
    }

    /// A worker that reads a gateway's database beside it, and writes nothing.
    pub fn reader(file: &Path) -> anyhow::Result<Worker> {
        let at = || format!("cannot read the database {}", file.display());
        let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).with_context(at)?;
        connection.busy_timeout(PATIENCE)?;
        let version = version_of(&connection).with_context(at)?;
        ensure!(version <= MIGRATIONS.len(), "{}: {}", at(), newer(version));
        Worker::start("reader", connection)
    }
}

/// The version of a database's tables, and how many rows each has.
pub fn tables(file: &Path) -> anyhow::Result<serde_json::Value> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).with_context(|| file.display().to_string())?;
    connection.busy_timeout(PATIENCE)?;
    let version = version_of(&connection)?;
    let mut rows = serde_json::Map::new();
    for table in ["tickets", "ticket_approvers", "sessions", "counters"] {
        let count = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, u64>(0));
        rows.insert(table.into(), count.map_or_else(|error| error.to_string().into(), Into::into));
    }
    let bytes = std::fs::metadata(file)?.len();
    Ok(serde_json::json!({"version": version, "known": MIGRATIONS.len(), "bytes": bytes, "rows": rows}))
}

fn version_of(connection: &Connection) -> anyhow::Result<usize> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

fn newer(version: usize) -> String {
    format!("its tables have the version {version}, of a newer postern; this one knows them up to {}", MIGRATIONS.len())
}

fn migrate(connection: &mut Connection) -> anyhow::Result<()> {
    loop {
        // Another process may be doing the same: what is done is asked within the step that does it.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version = version_of(&transaction)?;
        if version > MIGRATIONS.len() {
            bail!(newer(version));
        }
        let Some(step) = MIGRATIONS.get(version) else { return Ok(()) };
        transaction.execute_batch(step).with_context(|| format!("its tables cannot be brought to version {}", version + 1))?;
        transaction.pragma_update(None, "user_version", version + 1)?;
        transaction.commit()?;
    }
}

type Step = Box<dyn FnOnce(&mut Connection) + Send>;

/// A connection and the thread that runs steps on it, in the order in which they were given: no thread that serves waits for the disk. A step that was
/// begun is done, whether anybody waits for it still or not; one that only reads is not begun where nobody does.
#[derive(Clone, Debug)]
pub struct Worker {
    steps: mpsc::Sender<Step>,
}

impl Worker {
    fn start(name: &str, mut connection: Connection) -> anyhow::Result<Self> {
        let (steps, mut waiting) = mpsc::channel::<Step>(QUEUE);
        std::thread::Builder::new().name(name.into()).spawn(move || {
            while let Some(step) = waiting.blocking_recv() {
                step(&mut connection);
            }
        })?;
        Ok(Self { steps })
    }

    /// Has a step done.
    pub fn call<T: Send + 'static>(&self, step: impl FnOnce(&mut Connection) -> anyhow::Result<T> + Send + 'static) -> Rows<'_, T> {
        self.hand(step, false)
    }

    /// Has something read. What nobody waits for any more when its turn comes is not read: whoever asks and hangs up, again and again, holds nobody else up.
    pub fn read<T: Send + 'static>(&self, step: impl FnOnce(&mut Connection) -> anyhow::Result<T> + Send + 'static) -> Rows<'_, T> {
        self.hand(step, true)
    }

    fn hand<T: Send + 'static>(
        &self,
        step: impl FnOnce(&mut Connection) -> anyhow::Result<T> + Send + 'static,
        only_if_wanted: bool,
    ) -> Rows<'_, T> {
        Box::pin(async move {
            let (done, answer) = oneshot::channel();
            let step: Step = Box::new(move |connection| {
                if !(only_if_wanted && done.is_closed()) {
                    drop(done.send(step(connection)));
                }
            });
            let gone = "the database's thread has ended";
            self.steps.send(step).await.map_err(|_| anyhow::anyhow!(gone))?;
            answer.await.map_err(|_| anyhow::anyhow!(gone))?
        })
    }
}

#[cfg(test)]
mod tests;
