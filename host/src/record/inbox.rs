//! Where events wait for the log: there before it is, since recordings that were taken up when the gateway starts are told of in it.

use std::sync::Arc;

use serde_json::json;

use super::Event;
use super::queue::{Queue, Queued};
use super::session::file::SealedRecording;
use super::session::seal::SealContent;
use crate::words::Stage;

/// Where events wait for the log.
#[derive(Clone, Default)]
pub struct Inbox(pub(super) Arc<Queue>);

impl Inbox {
    /// A recording is finished: from now on it is missed when it is gone. Whoever tells does not wait for the log, which may itself wait for them.
    pub(super) fn recorded(&self, sealed: &SealedRecording) {
        let SealContent { recording, bytes, ended, lost, .. } = &sealed.content;
        let mut event = Event::default();
        // In a field of its own: that an operation has ended is told by its own event.
        event.set("recording", recording).set("seal", json!({"bytes": bytes, "ended": ended, "lost": lost}));
        self.0.push_past(Queued { line: event.at_stage(Stage::Recorded), who: None });
    }
}
