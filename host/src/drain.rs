//! How the gateway ends: what is open goes on for a while, is told, and ends.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// What is open beyond its request, and whether it is soon to end. Clones are of the same.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    open: TaskTracker,
    leaving: CancellationToken,
    begun: CancellationToken,
}

impl Drain {
    /// Something is open until this is dropped.
    pub fn hold(&self) -> TaskTrackerToken {
        self.open.token()
    }

    /// Is cancelled shortly before the gateway ends: streams that are open then end with a message.
    pub fn leaving(&self) -> CancellationToken {
        self.leaving.clone()
    }

    /// The gateway is to end: what is open may go on for a while.
    pub fn begin(&self) {
        self.begun.cancel();
    }

    /// Is cancelled when the gateway is to end: what only waits is answered then.
    pub fn beginning(&self) -> CancellationToken {
        self.begun.clone()
    }

    /// Whether the gateway is to end.
    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Tells all that is open to end.
    pub fn leave(&self) {
        self.leaving.cancel();
    }

    /// Waits until nothing is open, and none of these connections is. What is upgraded opens while its connection ends: both are empty at one moment, or it is
    /// waited on.
    pub async fn ended(&self, connections: &TaskTracker) {
        self.open.close();
        connections.close();
        while !(connections.is_empty() && self.open.is_empty()) {
            tokio::join!(connections.wait(), self.open.wait());
        }
    }
}

#[cfg(test)]
mod tests;
