//! Share: policies go to and come from OCI registries, signed, and a directory of them is pinned.
//!
//! [`registry`] carries modules, [`signature`] says whose they are, [`keys`] reads keys, [`store`] keeps what was fetched so that a gateway works
//! without the registry, [`lock`] pins what a directory holds.

pub mod keys;
pub mod lock;
pub mod registry;
pub mod signature;
pub mod store;

pub use crate::digest::of_blob as sha256;

/// Largest module taken.
pub const LARGEST_MODULE: u64 = 64 << 20;
/// Runs something that waits for a registry, from a thread that may be serving already.
pub fn wait<T: Send>(work: impl Future<Output = anyhow::Result<T>> + Send) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work));
        waiting.join().map_err(|_| anyhow::anyhow!("what waits for the registry panicked"))?
    })
}
