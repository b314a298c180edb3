//! One connection of a client: its place among all, and whether it is in use.

use std::cell::Cell;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::config::Limits;
use crate::slots::{Full, Slot, Slots};

/// Descriptors that are not for connections: files, the database, recordings that are open.
const FILES: u64 = 128;
/// What a connection that is to end may still send.
const PARTING: Duration = Duration::from_secs(5);

/// The places that connections have: in all, and from one address.
pub(super) struct Places {
    slots: Arc<Slots>,
    for_one: usize,
}

impl Places {
    /// As many as the configuration says, and no more than there are descriptors for: each may need one more on the way to the API server.
    pub(super) fn new(limits: &Limits) -> Self {
        let bearable = usize::try_from(descriptors().saturating_sub(FILES) / 2).unwrap_or(usize::MAX);
        let most = limits.connections.min(bearable).max(2);
        if most < limits.connections {
            tracing::warn!(
                "limits.connections is {}, and this process may open files for {most} only; raise its limit (LimitNOFILE, ulimit -n)",
                limits.connections
            );
        }
        let for_one = if limits.connections_per_address == 0 { most.div_ceil(4) } else { limits.connections_per_address };
        Self { slots: Slots::new(most), for_one }
    }

    /// A place for a connection from an address.
    pub(super) fn take(&self, address: IpAddr) -> Result<Slot, Full> {
        self.slots.take(&[&neighbourhood(address).to_string()], self.for_one)
    }
}

/// The address by which somebody is counted. Of IPv6 one has 2^64 of them: they count as one.
pub fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

/// Raises what this process may open to what it is let, and says how much that is.
fn descriptors() -> u64 {
    let (soft, hard) = rlimit::Resource::NOFILE.get().unwrap_or((1024, 1024));
    match rlimit::Resource::NOFILE.set(hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// A connection, for as long as anything of it lives: one that was upgraded goes on without its HTTP.
pub struct Connection {
    _place: Slot,
    /// Requests under way, and answers that are still sent.
    busy: Cell<usize>,
    /// When the last of them ended.
    used: Cell<Instant>,
    /// Whether anybody was identified on it.
    is_known: Cell<bool>,
}

impl Connection {
    pub(super) fn new(place: Slot) -> Rc<Self> {
        Rc::new(Self { _place: place, busy: Cell::new(0), used: Cell::new(Instant::now()), is_known: Cell::new(false) })
    }

    /// Somebody was identified on it.
    pub fn known(&self) {
        self.is_known.set(true);
    }

    /// A request is under way.
    pub fn busy(self: &Rc<Self>) -> Busy {
        self.busy.set(self.busy.get() + 1);
        Busy(Rc::clone(self))
    }

    /// Waits until nothing was carried for longer than a client that knows what it wants lets pass. Who has not yet said who they are has less time.
    pub(super) async fn idle(&self, limits: &Limits) {
        loop {
            let patience = if self.is_known.get() { limits.idle_connection_time } else { limits.request_head_time };
            let end = self.used.get() + patience.duration();
            let is_idle = self.busy.get() == 0;
            if is_idle && end <= Instant::now() {
                return;
            }
            sleep_until(if is_idle { end } else { Instant::now() + patience.duration() }).await;
        }
    }

    /// Waits for as long as a connection may take to end: what came at the last moment is answered.
    pub(super) async fn parting(&self) {
        loop {
            tokio::time::sleep(PARTING).await;
            if self.busy.get() == 0 {
                return;
            }
        }
    }
}

/// A request that is under way on a connection, until its answer is sent.
pub struct Busy(Rc<Connection>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get() - 1);
        self.0.used.set(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_of_ipv6_is_one_address() {
        let of = |text: &str| neighbourhood(text.parse().unwrap()).to_string();
        assert_eq!((of("2001:db8::1"), of("2001:db8::ffff:1:2:3")), ("2001:db8::".into(), "2001:db8::".into()));
        assert_eq!((of("::ffff:10.0.0.1"), of("10.0.0.1"), of("10.0.0.2")), ("10.0.0.1".into(), "10.0.0.1".into(), "10.0.0.2".into()));
    }
}
