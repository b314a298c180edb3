//! How the gateway ends: what is open goes on for a while, is told, and ends.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// What is open beyond its request, and whether it is soon to end. Clones are of the same.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    open: TaskTracker,
    leaving: CancellationToken,
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

    /// Tells all that is open to end.
    pub fn leave(&self) {
        self.leaving.cancel();
    }

    /// Waits until nothing is open.
    pub async fn ended(&self) {
        self.open.close();
        self.open.wait().await;
    }
}
