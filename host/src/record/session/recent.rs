//! The latest bodies of requests, in memory, where rules say so. For `policy explain` and `replay`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::mask::json::check;

/// What one body is taken to need beside itself: more than it does, so that there are never so many that they are long gone through.
const OVERHEAD: usize = 1024;

/// The latest bodies, after masking, in so many bytes; the oldest go first. Whoever sent them has a quarter of the room, so that nobody pushes out what all others did.
pub struct RecentBodies {
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// By their numbers, which rise.
    bodies: BTreeMap<u64, RecentBody>,
    next: u64,
    bytes: usize,
    of_owners: HashMap<Arc<str>, Own>,
}

/// What is kept of one who sent it.
#[derive(Default)]
struct Own {
    numbers: VecDeque<u64>,
    bytes: usize,
}

/// The body of a request, after masking.
#[derive(Clone)]
pub struct RecentBody {
    /// Who sent it, with whatever credential.
    pub owner: Arc<str>,
    /// The session it is of.
    pub session: String,
    /// The id of its audit events.
    pub id: String,
    /// The body, in JSON.
    pub body: Arc<str>,
}

/// Some bodies of a session.
pub struct BodyPage {
    /// The oldest first.
    pub bodies: Vec<RecentBody>,
    /// The number of the last, where there are more.
    pub go_on: Option<u64>,
}

impl RecentBody {
    fn size(&self) -> usize {
        self.owner.len() + self.session.len() + self.id.len() + self.body.len() + OVERHEAD
    }
}

impl RecentBodies {
    /// Room for so many bytes.
    pub fn new(most: usize) -> Self {
        Self { most, kept: Mutex::default() }
    }

    /// Keeps a body. One that does not fit into the room of who sent it is left out, and one so deep that whoever reads a page of them could not read it.
    pub fn keep(&self, body: RecentBody) {
        let (size, share) = (body.size(), self.most / 4);
        if size > share || check(format!("[[[{}]]]", body.body).as_bytes()).is_err() {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(own) = kept.of_owners.get(&body.owner).filter(|own| own.bytes + size > share)
            && let Some(oldest) = own.numbers.front().copied()
        {
            kept.take_out(oldest);
        }
        while kept.bytes + size > self.most
            && let Some((oldest, _)) = kept.bodies.first_key_value()
        {
            let oldest = *oldest;
            kept.take_out(oldest);
        }
        let number = kept.next;
        kept.next += 1;
        kept.bytes += size;
        let own = kept.of_owners.entry(Arc::clone(&body.owner)).or_default();
        own.bytes += size;
        own.numbers.push_back(number);
        kept.bodies.insert(number, body);
    }

    /// Those of a session behind a number, the oldest first: as many as fit into so many bytes, and one at least.
    pub fn page(&self, session: &str, after: Option<u64>, most: usize) -> BodyPage {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let from = after.map_or(0, |after| after.saturating_add(1));
        let (mut page, mut bytes, mut last) = (BodyPage { bodies: Vec::new(), go_on: None }, 0, None);
        for (number, body) in kept.bodies.range(from..).filter(|(_, body)| body.session == session) {
            bytes += body.size();
            if bytes > most && !page.bodies.is_empty() {
                page.go_on = last;
                break;
            }
            page.bodies.push(body.clone());
            last = Some(*number);
        }
        page
    }
}

impl Kept {
    /// Takes out a body that is the oldest of who sent it.
    fn take_out(&mut self, number: u64) {
        let Some(body) = self.bodies.remove(&number) else { return };
        self.bytes -= body.size();
        if let Some(own) = self.of_owners.get_mut(&body.owner) {
            own.bytes -= body.size();
            own.numbers.pop_front();
            if own.numbers.is_empty() {
                self.of_owners.remove(&body.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn body(session: &str, at: usize, size: usize) -> RecentBody {
        let text = format!("\"{}\"", "x".repeat(size));
        RecentBody { owner: session.into(), session: session.into(), id: at.to_string(), body: text.into() }
    }

    fn all(recent: &RecentBodies, session: &str) -> Vec<RecentBody> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let mut page = recent.page(session, after, 3000);
            all.append(&mut page.bodies);
            match page.go_on {
                Some(last) => after = Some(last),
                None => return all,
            }
        }
    }

    #[test]
    fn a_page_goes_on_behind_what_is_gone_and_many_sessions_of_one_push_out_nobody() {
        let recent = RecentBodies::new(40_000);
        recent.keep(body("ann", 0, 100));
        // One caller, with a token for each request.
        let by_eve = |at: usize| RecentBody { owner: "eve".into(), ..body(&format!("eve-{at}"), at, 3000) };
        (1..50).for_each(|at| recent.keep(by_eve(at)));
        assert_eq!(all(&recent, "ann").len(), 1);
        let of_bob = |at: usize| body("bob", at, 1000);
        (50..54).for_each(|at| recent.keep(of_bob(at)));
        let first = recent.page("bob", None, 3000);
        assert_eq!((first.bodies.len(), first.go_on.is_some()), (1, true));
        // What the page ended with is pushed out meanwhile.
        (54..60).for_each(|at| recent.keep(of_bob(at)));
        let rest = recent.page("bob", first.go_on, usize::MAX);
        let ids: Vec<_> = rest.bodies.iter().map(|body| body.id.as_str()).collect();
        assert_eq!((ids, rest.go_on), (vec!["56", "57", "58", "59"], None));
    }

    #[test]
    fn what_nobody_could_read_in_a_page_is_not_kept() {
        let recent = RecentBodies::new(1 << 20);
        for depth in 100..200 {
            let text = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            recent.keep(RecentBody { body: text.into(), ..body("eve", depth, 0) });
        }
        let kept = all(&recent, "eve");
        assert_eq!(kept.len(), 25, "those of 124 levels and less");
        for RecentBody { body, .. } in kept {
            let page = format!("{{\"items\":[{{\"id\":\"1\",\"body\":{body}}}]}}");
            serde_json::from_str::<serde_json::Value>(&page).unwrap();
        }
    }

    proptest! {
        /// There is never more than there is room for, of one who sent them never more than their share, and what there is of it are the latest, in order.
        #[test]
        fn the_latest_are_kept_within_the_room(most in 0usize..40_000, sizes in prop::collection::vec((0usize..3, 0usize..6000), 0..80)) {
            let recent = RecentBodies::new(most);
            for (at, (session, size)) in sizes.iter().enumerate() {
                recent.keep(body(&session.to_string(), at, *size));
            }
            let mut bytes = 0;
            for session in ["0", "1", "2"] {
                let kept = all(&recent, session);
                let own: usize = kept.iter().map(RecentBody::size).sum();
                prop_assert!(own <= most / 4);
                bytes += own;
                let fits = |at: &usize| sizes[*at].0.to_string() == session && body(session, *at, sizes[*at].1).size() <= most / 4;
                let taken: Vec<String> = (0..sizes.len()).filter(fits).map(|at| at.to_string()).collect();
                let ids: Vec<String> = kept.iter().map(|body| body.id.clone()).collect();
                prop_assert!(taken.ends_with(&ids));
                // Three sessions have three quarters: none pushes out another's last.
                prop_assert!(taken.is_empty() || !ids.is_empty());
            }
            prop_assert!(bytes <= most);
            let kept = recent.kept.lock().unwrap();
            prop_assert_eq!(kept.bytes, bytes);
            prop_assert_eq!(kept.of_owners.values().map(|own| own.bytes).sum::<usize>(), bytes);
            prop_assert_eq!(kept.of_owners.values().map(|own| own.numbers.len()).sum::<usize>(), kept.bodies.len());
            drop(kept);
            prop_assert!(all(&recent, "another").is_empty());
        }
    }
}
