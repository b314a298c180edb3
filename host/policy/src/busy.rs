//! What a busy system answers when a module's first instance is made, and asking it again.
//!
//! The image of a module's memory is made then, and sealed against writing. Linux answers EBUSY to that as long as it holds one of the fresh pages for itself
//! (`memfd_wait_for_pins`, mm/memfd.c), as it may on a machine with much to do: it says nothing about the module.

use std::io;
use std::time::Duration;

/// How often the first instance is asked for, and how long the system is given between.
const ATTEMPTS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(50);

/// Makes the first instance of a module, again while the system is busy.
pub(super) fn retry_while_busy<T>(mut instantiate: impl FnMut() -> wasmtime::Result<T>) -> wasmtime::Result<T> {
    for _ in 1..ATTEMPTS {
        match instantiate() {
            Err(error) if is_busy(&error) => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
    instantiate()
}

fn is_busy(error: &wasmtime::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|cause| cause.kind() == io::ErrorKind::ResourceBusy)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails so often in one way, then succeeds; says what came of it and after how many attempts.
    fn tried(failures: u32, error: impl Fn() -> wasmtime::Error) -> (bool, u32) {
        let mut attempts = 0;
        let done = retry_while_busy(|| {
            attempts += 1;
            if attempts <= failures { Err(error()) } else { Ok(()) }
        });
        (done.is_ok(), attempts)
    }

    #[test]
    fn a_busy_system_is_asked_again_and_nothing_else_is() {
        let busy = || wasmtime::Error::new(io::Error::from_raw_os_error(16)).context("cannot add seals to the memfd");
        assert_eq!(tried(2, busy), (true, 3));
        assert_eq!(tried(100, busy), (false, ATTEMPTS));
        assert_eq!(tried(2, || wasmtime::Error::new(io::Error::from_raw_os_error(12))), (false, 1));
        assert_eq!(tried(2, || wasmtime::Error::msg("it trapped")), (false, 1));
    }
}
