//! Where events wait for the log: there before it is, since recordings that were taken up when the gateway starts are told of in it.

use std::sync::Arc;

use super::Event;
use super::queue::{Queue, Queued};
use super::session::file::SealedRecording;
use crate::words::Stage;

/// Where events wait for the log.
#[derive(Clone, Default)]
pub struct Inbox(pub(super) Arc<Queue>);

impl Inbox {
    /// A recording is finished: from now on it is missed when it is gone. Whoever tells does not wait for the log, which may itself wait for them.
    pub(super) fn recorded(&self, sealed: &SealedRecording) {
        let mut event = Event::default();
        event.set("recording", &sealed.content.recording).set("bytes", sealed.content.bytes).set("ended", &sealed.content.ended);
        if sealed.content.lost > 0 {
            event.set("lost", sealed.content.lost);
        }
        self.0.push_past(Queued { line: event.at_stage(Stage::Recorded), who: None });
    }
}
