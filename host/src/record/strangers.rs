//! Failed logins, gathered by address: each of a few is an event of its own, and of many it is told how many there were. Who is nobody writes no log without end.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Events of its own that an address has in a window.
const TOLD: u64 = 20;
/// How long a window is.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are told apart. Beyond that they are counted together, as 0.0.0.0.
const MOST: usize = 10_000;

/// Failed logins of the last minute.
#[derive(Default)]
pub struct Strangers(Mutex<HashMap<IpAddr, Window>>);

struct Window {
    began: Instant,
    count: u64,
}

impl Strangers {
    /// Counts a failed login. Whether it is an event of its own.
    pub fn count(&self, address: IpAddr) -> bool {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let address = if windows.len() < MOST || windows.contains_key(&address) { address } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
        let window = windows.entry(address).or_insert_with(|| Window { began: Instant::now(), count: 0 });
        window.count += 1;
        window.count <= TOLD
    }

    /// The addresses whose window has ended, and how many failed logins of each were no events of their own. With `all` the others too.
    pub fn gather(&self, all: bool) -> Vec<(IpAddr, u64)> {
        let mut gathered = Vec::new();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|address, window| {
            let ends = all || window.began.elapsed() >= WINDOW;
            if ends && window.count > TOLD {
                gathered.push((*address, window.count - TOLD));
            }
            !ends
        });
        gathered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_told_each_and_many_together() {
        let strangers = Strangers::default();
        let address = |n: u32| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n));
        let told = (0..1000).filter(|_| strangers.count(address(1))).count() as u64;
        assert_eq!(told, TOLD);
        assert!(strangers.count(address(2)));
        assert!(strangers.gather(false).is_empty(), "not before the window ends");
        assert_eq!(strangers.gather(true), [(address(1), 1000 - TOLD)]);
        (0..2 * MOST as u32).for_each(|n| assert!(strangers.count(address(n)) || n >= MOST as u32));
        assert!(strangers.0.lock().unwrap().len() <= MOST + 1);
    }
}
