//! Events on their way to the thread that writes them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::identify::Caller;

/// Events that may wait for the disk. Past that the log counts as unwritable until it has caught up.
const MOST: usize = 16_384;
/// Bytes of them.
const MOST_BYTES: usize = 64 << 20;
/// How long the writer gathers events nobody waits for: a wake-up and a write for each would cost more than the event.
const GATHER: Duration = Duration::from_millis(5);
/// Changes come close together when one comes so soon after the disk had the last.
const CLOSE: Duration = Duration::from_millis(3);
/// How long the writer gathers changes that come close together: a sync costs as much for one as for several. A change that comes alone is written at once.
const TOGETHER: Duration = Duration::from_millis(1);

/// An event in the queue.
#[derive(Debug, Default)]
pub(super) struct Queued {
    pub(super) line: Vec<u8>,
    /// Whose session it belongs to, when it is the last word on an operation.
    pub(super) who: Option<Arc<Caller>>,
}

/// What is written at a time.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) events: Vec<Queued>,
    /// How long they are together.
    bytes: usize,
    /// Those who wait until it is on the disk.
    pub(super) waiting: Vec<oneshot::Sender<()>>,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.events.len() >= MOST || self.bytes >= MOST_BYTES
    }

    fn push(&mut self, event: Queued) {
        self.bytes += event.line.len();
        self.events.push(event);
    }
}

/// The queue between those who record and the one who writes.
pub(super) struct Queue {
    batch: Mutex<Batch>,
    /// Something to write.
    filled: Condvar,
    /// Room again.
    emptied: Condvar,
    healthy: AtomicBool,
}

impl Default for Queue {
    fn default() -> Self {
        Self { batch: Mutex::default(), filled: Condvar::new(), emptied: Condvar::new(), healthy: AtomicBool::new(true) }
    }
}

impl Queue {
    pub(super) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Events that wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.lock().events.len()
    }

    /// Says whether the log can be written, and tells what was said before.
    pub(super) fn set_healthy(&self, healthy: bool) -> bool {
        self.healthy.swap(healthy, Ordering::Relaxed)
    }

    /// Adds an event; waits while there is no room.
    pub(super) fn push(&self, event: Queued) {
        let mut batch = self.lock();
        while batch.is_full() {
            self.set_healthy(false);
            batch = self.emptied.wait(batch).unwrap_or_else(PoisonError::into_inner);
        }
        batch.push(event);
        if batch.events.len() == 1 {
            self.filled.notify_one();
        }
    }

    /// Adds an event whether there is room or not: of what is told so there is little.
    pub(super) fn push_past(&self, event: Queued) {
        let mut batch = self.lock();
        batch.push(event);
        if batch.events.len() == 1 {
            self.filled.notify_one();
        }
    }

    /// Adds an event and says when it is on the disk; none while there is no room.
    pub(super) fn push_durably(&self, event: Queued) -> Option<oneshot::Receiver<()>> {
        let mut batch = self.lock();
        if batch.is_full() {
            return None;
        }
        let (written, on_disk) = oneshot::channel();
        batch.push(event);
        batch.waiting.push(written);
        self.filled.notify_one();
        Some(on_disk)
    }

    /// Takes all there is; waits until there is something. `synced` is when the disk last had changes, and how many at once.
    pub(super) fn take(&self, synced: Option<(Instant, usize)>) -> Batch {
        let mut batch = self.lock();
        while batch.events.is_empty() {
            batch = self.filled.wait(batch).unwrap_or_else(PoisonError::into_inner);
        }
        if batch.waiting.is_empty() {
            let gathered = self.filled.wait_timeout_while(batch, GATHER, |batch| batch.waiting.is_empty());
            batch = gathered.unwrap_or_else(PoisonError::into_inner).0;
        }
        // Of one client that makes one change after another there are never two at once.
        let are_close = synced.is_some_and(|(at, together)| at.elapsed() < CLOSE && together.max(batch.waiting.len()) > 1);
        if !batch.waiting.is_empty() && are_close {
            drop(batch);
            std::thread::sleep(TOGETHER);
            batch = self.lock();
        }
        let taken = std::mem::take(&mut *batch);
        self.emptied.notify_all();
        taken
    }

    fn lock(&self) -> MutexGuard<'_, Batch> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_waits_for_is_not_gathered_and_order_is_kept() {
        let queue = Queue::default();
        let event = |line: &[u8]| Queued { line: line.to_vec(), who: None };
        queue.push(event(b"a"));
        let on_disk = queue.push_durably(event(b"b")).unwrap();
        let batch = queue.take(None);
        let lines: Vec<_> = batch.events.iter().map(|event| event.line.as_slice()).collect();
        assert_eq!((lines, batch.waiting.len()), (vec![&b"a"[..], b"b"], 1));
        drop(on_disk);
    }

    #[test]
    fn changes_that_come_close_together_are_written_with_one_sync() {
        let queue = Arc::new(Queue::default());
        let event = || Queued::default();
        let comes_later = |after: Duration| {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || {
                std::thread::sleep(after);
                drop(queue.push_durably(event()));
            })
        };
        // Whatever a loaded machine does in between, one of many tries has both.
        let both = (0..100).any(|_| {
            drop(queue.push_durably(event()));
            let later = comes_later(TOGETHER / 10);
            let taken = queue.take(Some((Instant::now(), 2))).events.len();
            later.join().unwrap();
            if taken == 1 {
                queue.take(None);
            }
            taken == 2
        });
        assert!(both);
        // Who comes alone is not kept waiting for others.
        let long_ago = Instant::now().checked_sub(2 * CLOSE).unwrap();
        for before in [|_: Instant| (Instant::now(), 1), |long_ago| (long_ago, 2)] {
            let quick = (0..100).any(|_| {
                drop(queue.push_durably(event()));
                let began = Instant::now();
                queue.take(Some(before(long_ago)));
                began.elapsed() < TOGETHER / 2
            });
            assert!(quick);
        }
    }

    #[test]
    fn a_full_queue_refuses_changes_and_holds_the_rest_up() {
        let queue = Arc::new(Queue::default());
        (0..MOST).for_each(|_| queue.push(Queued::default()));
        assert!(queue.push_durably(Queued::default()).is_none());
        let held = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.push(Queued { line: b"last".to_vec(), who: None })
        });
        while queue.is_healthy() {
            std::thread::yield_now();
        }
        assert_eq!(queue.take(None).events.len(), MOST);
        held.join().unwrap();
        assert_eq!(queue.take(None).events[0].line, b"last");
        // Few that are long are as much as many.
        queue.push(Queued { line: vec![0; MOST_BYTES], who: None });
        assert!(queue.push_durably(Queued::default()).is_none());
    }
}
