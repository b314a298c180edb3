//! How long a call may take. What counts is the processor's time that it used: a call that waits for a processor on a machine with much to do is not one that
//! does not come to its end. It waits for so long and no longer.

use std::time::{Duration, Instant};

use postern_ground::clock::thread_time;
use wasmtime::{Store, StoreContextMut, UpdateDeadline};

use crate::state::HostState;

/// How often the epoch moves on while policies are called, and a call's time is looked at.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// How many times its deadline a call may take by the clock on the wall, however little it ran in it.
const MOST_WAITING: u32 = 10;

/// What one call may use, and has used.
pub(super) struct Deadline {
    allowed: Duration,
    began: Instant,
    /// The thread's time when the call was first looked at. Calls are done by then, nearly all: they read no clock of the thread's.
    first: Option<Duration>,
}

impl Deadline {
    /// One that nothing has begun under.
    pub(super) fn new(milliseconds: u64) -> Self {
        Self { allowed: Duration::from_millis(milliseconds), began: Instant::now(), first: None }
    }

    /// Whether the call, which has just ended on this thread, used more than half of what it is allowed.
    pub(super) fn is_half_used(&self) -> bool {
        // One that was never looked at ended within a tick or two.
        self.first.is_some() && self.used(thread_time()) > self.allowed / 2
    }

    /// What the call has used, on a thread that has used so much in all. Until it was first looked at it ran for a tick, or was kept from it.
    fn used(&self, thread: Duration) -> Duration {
        self.first.map_or(Duration::ZERO, |first| TICK + thread.saturating_sub(first))
    }

    /// Looks at a call that has been running for `elapsed`, on a thread that has used `thread` in all.
    fn look(&mut self, elapsed: Duration, thread: Duration) -> UpdateDeadline {
        self.first.get_or_insert(thread);
        match self.used(thread) >= self.allowed || elapsed >= self.allowed * MOST_WAITING {
            true => UpdateDeadline::Interrupt,
            false => UpdateDeadline::Continue(1),
        }
    }
}

/// Has a store's calls keep to the deadlines they are given.
pub(super) fn keep(store: &mut Store<HostState>) {
    store.epoch_deadline_callback(|mut store: StoreContextMut<'_, HostState>| {
        let deadline = &mut store.data_mut().deadline;
        let elapsed = deadline.began.elapsed();
        Ok(deadline.look(elapsed, thread_time()))
    });
}

/// Gives the call that is to begin so many milliseconds.
pub(super) fn set(store: &mut Store<HostState>, milliseconds: u64) {
    store.data_mut().deadline = Deadline::new(milliseconds);
    // The tick that is under way is none of the call's.
    store.set_epoch_deadline(2);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remember::Run;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn goes_on(deadline: &mut Deadline, elapsed: u64, thread: u64) -> bool {
        matches!(deadline.look(ms(elapsed), ms(thread)), UpdateDeadline::Continue(1))
    }

    #[test]
    fn what_a_call_computes_counts_and_not_what_it_waits() {
        // The thread has served others before: their time is not this call's.
        let mut busy = Deadline::new(100);
        assert!(goes_on(&mut busy, 10, 5000) && goes_on(&mut busy, 90, 5080) && !goes_on(&mut busy, 100, 5090));
        let mut waits = Deadline::new(100);
        assert!(goes_on(&mut waits, 300, 5000) && goes_on(&mut waits, 900, 5020) && goes_on(&mut waits, 999, 5089));
        assert!(!goes_on(&mut waits, 1000, 5020), "it does not wait for ever");
        assert!(!goes_on(&mut Deadline::new(10), 10, 0), "a tick is all it has");
    }

    #[test]
    fn what_half_of_it_is_counts_what_a_call_computes() {
        assert!(!Deadline::new(1).is_half_used(), "it ended before anybody looked");
        let mut waits = Deadline::new(60_000);
        assert!(goes_on(&mut waits, 50_000, 0) && waits.used(ms(100)) == ms(110));
        waits.first = Some(thread_time());
        assert!(!waits.is_half_used(), "it waited, and computed nothing");
        waits.allowed = TICK;
        assert!(waits.is_half_used());
        // Neither such a run is remembered, nor one that was refused memory.
        let open = |deadline: Deadline, was_refused| {
            let mut state = HostState::new(0);
            (state.deadline, state.limiter.was_refused, state.run) = (deadline, was_refused, Some(Run::default()));
            state.end_run();
            state.run.and_then(|run| run.open())
        };
        assert_eq!(open(Deadline::new(100), false), None);
        assert_eq!(open(Deadline::new(100), true), Some("more memory than it may have"));
        assert_eq!(open(waits, false), Some("more than half of its time"));
    }
}
