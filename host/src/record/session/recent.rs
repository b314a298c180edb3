//! The latest bodies of requests, in memory: what policies that are in force read, and no rule keeps. For `policy explain` and `replay`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::value::RawValue;

/// What one body takes beside itself, about.
const OVERHEAD: usize = 128;

/// The latest bodies, after masking, in so many bytes; the oldest go first.
pub struct RecentBodies {
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    bodies: VecDeque<RecentBody>,
    bytes: usize,
}

/// The body of a request, after masking.
#[derive(Clone)]
pub struct RecentBody {
    /// The session it is of.
    pub session: String,
    /// The id of its audit events.
    pub id: String,
    /// The body, in JSON.
    pub body: Arc<RawValue>,
}

impl RecentBody {
    fn size(&self) -> usize {
        self.session.len() + self.id.len() + self.body.get().len() + OVERHEAD
    }
}

impl RecentBodies {
    /// Room for so many bytes; none keeps nothing.
    pub fn new(most: usize) -> Self {
        Self { most, kept: Mutex::default() }
    }

    /// Whether anything is kept.
    pub fn is_on(&self) -> bool {
        self.most > 0
    }

    /// Keeps a body. One that would take a quarter of the room is left out: it would push out many.
    pub fn keep(&self, body: RecentBody) {
        let size = body.size();
        if size > self.most / 4 {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.bytes + size > self.most
            && let Some(oldest) = kept.bodies.pop_front()
        {
            kept.bytes -= oldest.size();
        }
        kept.bytes += size;
        kept.bodies.push_back(body);
    }

    /// Those of a session, the oldest first.
    pub fn of(&self, session: &str) -> Vec<RecentBody> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bodies.iter().filter(|body| body.session == session).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn body(at: usize, size: usize) -> RecentBody {
        let text = RawValue::from_string(format!("\"{}\"", "x".repeat(size))).unwrap();
        RecentBody { session: "s".into(), id: at.to_string(), body: text.into() }
    }

    proptest! {
        /// There is never more than there is room for, and what there is are the latest, in order.
        #[test]
        fn the_latest_are_kept_within_the_room(most in 0usize..4000, sizes in prop::collection::vec(0usize..1200, 0..60)) {
            let recent = RecentBodies::new(most);
            for (at, size) in sizes.iter().enumerate() {
                recent.keep(body(at, *size));
            }
            let kept = recent.of("s");
            let bytes: usize = kept.iter().map(RecentBody::size).sum();
            prop_assert!(bytes <= most);
            let fits = |at: &usize| body(*at, sizes[*at]).size() <= most / 4;
            let taken: Vec<String> = (0..sizes.len()).filter(fits).map(|at| at.to_string()).collect();
            let ids: Vec<String> = kept.iter().map(|body| body.id.clone()).collect();
            prop_assert!(taken.ends_with(&ids));
            prop_assert!(taken.is_empty() || !ids.is_empty());
            prop_assert!(recent.of("another").is_empty());
        }
    }
}
