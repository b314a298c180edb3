//! Upgraded connections: exec, attach and port-forward, policed at the request and passed through.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::identify::time_left;

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
    carry(TokioIo::new(caller), TokioIo::new(server), Bytes::new(), expires).await
}

/// The same, where the caller has sent something already.
pub async fn carry(
    caller: impl AsyncRead + AsyncWrite + Unpin,
    mut server: impl AsyncRead + AsyncWrite + Unpin,
    already: Bytes,
    expires: u64,
) -> Carried {
    let mut caller = Caller { io: caller, already, carried: Carried::default() };
    // However it ends, what was carried is what counts.
    let _ = tokio::time::timeout(time_left(expires), tokio::io::copy_bidirectional(&mut caller, &mut server)).await;
    caller.carried
}

/// The caller's side, its bytes counted. What it sent already is read first, while the other direction runs: a command may not take input
/// before somebody takes its output.
struct Caller<T> {
    io: T,
    already: Bytes,
    carried: Carried,
}

impl<T: AsyncRead + Unpin> AsyncRead for Caller<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        if self.already.is_empty() {
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        } else {
            let size = self.already.len().min(buf.remaining());
            buf.put_slice(&self.already[..size]);
            self.already.advance(size);
        }
        self.carried.sent += (buf.filled().len() - before) as u64;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Caller<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.carried.received += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<std::io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        self.carried.received += written as u64;
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn what_was_sent_already_goes_first_and_never_holds_up_the_answer() {
        // Pipes of 16 bytes: whoever writes all before it reads waits for ever.
        let ((mut client, caller), (mut command, server)) = (duplex(16), duplex(16));
        let already = Bytes::from(vec![b'a'; 1000]);
        let carrying = tokio::spawn(carry(caller, server, already, u64::MAX));
        let echo = tokio::spawn(async move {
            let mut buffer = [0; 10];
            while let Ok(read @ 1..) = command.read(&mut buffer).await {
                command.write_all(&buffer[..read]).await.unwrap();
            }
        });
        client.write_all(b"then this").await.unwrap();
        let mut echoed = vec![0; 1009];
        client.read_exact(&mut echoed).await.unwrap();
        assert!(echoed[..1000].iter().all(|b| *b == b'a') && echoed.ends_with(b"then this"));
        drop(client);
        let carried = carrying.await.unwrap();
        assert_eq!((carried.sent, carried.received), (1009, 1009));
        echo.await.unwrap();
    }

    #[tokio::test]
    async fn a_credential_that_ends_ends_the_stream_and_what_was_carried_is_known() {
        let ((mut client, caller), (mut command, server)) = (duplex(64), duplex(64));
        let carrying = tokio::spawn(carry(caller, server, Bytes::new(), crate::identify::now() + 1));
        client.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        command.read_exact(&mut heard).await.unwrap();
        assert_eq!(carrying.await.unwrap().sent, 5);
    }
}
