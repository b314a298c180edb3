//! What an upgraded connection is, and what stands before one is opened.

use crate::record::session::Unopened;
use crate::slots::Slot;
use crate::stream::end::Ends;
use crate::stream::filter::Filter;
use crate::wire::Channel;

/// What an upgraded connection is.
pub(super) enum Opens {
    /// A stream that is read.
    Stream(Box<Ready>),
    /// Whatever a proxied server speaks. A command can be run through one as well: it counts.
    Tunnel(Slot),
}

/// What stands before a stream is opened.
pub(super) struct Ready {
    /// What is done with its text.
    pub(super) filter: Filter,
    /// Its recording, begun; none where it goes on without.
    pub(super) recording: Option<Unopened>,
    /// The channel on which the user is told something, as far as there is one.
    pub(super) told_on: Option<Channel>,
    /// What ends it from outside.
    pub(super) ends: Ends,
    /// Its place among its caller's streams.
    pub(super) slot: Slot,
}

impl Opens {
    /// It is about to be sent.
    pub(super) fn sent(&mut self) {
        if let Self::Stream(ready) = self {
            ready.sent();
        }
    }

    /// It was not opened.
    pub(super) fn refused(self) {
        if let Self::Stream(ready) = self {
            ready.refused();
        }
    }
}

impl Ready {
    /// It is about to be sent.
    pub(super) fn sent(&mut self) {
        self.recording.iter_mut().for_each(Unopened::sent);
    }

    /// It was not opened.
    pub(super) fn refused(self) {
        self.recording.into_iter().for_each(Unopened::refused);
    }
}
