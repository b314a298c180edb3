//! Steps of a store, done on a thread of its own.

use std::pin::Pin;

/// What comes of a step, when it is done.
pub type Rows<'a, T> = Pin<Box<dyn Future<Output = anyhow::Result<T>> + Send + 'a>>;

/// Waits for a step on a thread that serves nobody.
pub fn wait<T>(rows: Rows<'_, T>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(rows)
}
