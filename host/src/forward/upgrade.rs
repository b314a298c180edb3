//! Upgraded connections: exec, attach and port-forward, policed at the request and passed through.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

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
    carry(TokioIo::new(caller), TokioIo::new(server), &[], expires).await
}

/// The same, where the caller has sent something already.
pub async fn carry(
    mut caller: impl AsyncRead + AsyncWrite + Unpin,
    mut server: impl AsyncRead + AsyncWrite + Unpin,
    already: &[u8],
    expires: u64,
) -> Carried {
    let left = (UNIX_EPOCH + Duration::from_secs(expires)).duration_since(SystemTime::now()).unwrap_or_default();
    let copy = async {
        server.write_all(already).await?;
        tokio::io::copy_bidirectional(&mut caller, &mut server).await
    };
    match tokio::time::timeout(left, copy).await {
        Ok(Ok((sent, received))) => Carried { sent: sent + already.len() as u64, received },
        _ => Carried::default(),
    }
}
