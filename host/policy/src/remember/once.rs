//! Runs that were seen once: what is asked only once never comes to be remembered, and a run that is seen twice has shown that it says the same.

use std::sync::Arc;

use super::Decision;
use super::tree::{OwnedRoot, Step};

/// Places: what one caller asks pushes out what callers of the same place have asked, and no others.
const PLACES: usize = 16;
/// The most runs of a place, and bytes of them.
const MOST: usize = 64;
const MOST_BYTES: usize = 64 << 10;

/// Runs of one policy that were seen once.
#[derive(Debug, Default)]
pub(super) struct Once([Place; PLACES]);

#[derive(Debug, Default)]
struct Place {
    runs: Vec<Seen>,
    bytes: usize,
    /// Which is pushed out next, as good as at random.
    out: usize,
}

#[derive(Debug)]
struct Seen {
    root: OwnedRoot,
    steps: Vec<Step>,
    decision: Arc<Decision>,
    bytes: usize,
}

/// What is known of a run.
pub(super) enum Again {
    /// It was not seen before, or that is forgotten.
    First,
    /// It was, and said the same.
    Same,
    /// It was, and said something else.
    Differs,
}

impl Once {
    /// A run of a caller. One that was seen before is taken out: it is in the tree from now on, or was in vain.
    pub(super) fn see(&mut self, caller: u64, root: &OwnedRoot, steps: &[Step], bytes: usize, decision: &Arc<Decision>) -> Again {
        let place = &mut self.0[caller as usize % PLACES];
        if let Some(at) = place.runs.iter().position(|seen| seen.root == *root && seen.steps == steps) {
            let seen = place.runs.swap_remove(at);
            place.bytes -= seen.bytes;
            return if seen.decision == *decision { Again::Same } else { Again::Differs };
        }
        if bytes > MOST_BYTES {
            return Again::First;
        }
        while place.runs.len() >= MOST || place.bytes + bytes > MOST_BYTES {
            // Not the oldest: of a round of operations that is longer than there is room each would be gone when it comes again.
            place.out = place.out.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let seen = place.runs.swap_remove((place.out >> 33) % place.runs.len());
            place.bytes -= seen.bytes;
        }
        place.bytes += bytes;
        place.runs.push(Seen { root: root.clone(), steps: steps.to_vec(), decision: Arc::clone(decision), bytes });
        Again::First
    }
}
