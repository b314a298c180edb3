//! Upgraded connections: exec, attach and port-forward, policed at the request and passed through.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

/// Bytes each way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Carried {
    /// From the caller.
    pub sent: u64,
    /// To the caller.
    pub received: u64,
}

/// Passes bytes both ways until one side ends or the caller's credential does.
pub async fn tunnel(caller: OnUpgrade, server: OnUpgrade, expires: u64) -> Carried {
    let (Ok(caller), Ok(server)) = (caller.await, server.await) else { return Carried::default() };
    let (mut caller, mut server) = (TokioIo::new(caller), TokioIo::new(server));
    let left = (UNIX_EPOCH + Duration::from_secs(expires)).duration_since(SystemTime::now()).unwrap_or_default();
    let copy = tokio::io::copy_bidirectional(&mut caller, &mut server);
    match tokio::time::timeout(left, copy).await {
        Ok(Ok((sent, received))) => Carried { sent, received },
        _ => Carried::default(),
    }
}
