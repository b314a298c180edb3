//! Upgraded connections to something behind the API server: what a proxied server speaks is not read.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stream::end::Ends;

/// What a connection carried.
pub struct Tunnelled {
    /// Bytes from the caller.
    pub sent: u64,
    /// Bytes to the caller.
    pub received: u64,
    /// How it ended, as the audit log has it.
    pub ended: &'static str,
}

/// Passes bytes both ways until one side ends, or the caller's credential or right does.
pub async fn tunnel(caller: OnUpgrade, server: OnUpgrade, ends: Ends) -> Tunnelled {
    let (Ok(caller), Ok(server)) = (caller.await, server.await) else { return Tunnelled { sent: 0, received: 0, ended: "client-gone" } };
    let (mut caller, mut server) = (Counted { io: TokioIo::new(caller), read: 0, written: 0 }, Lenient(TokioIo::new(server)));
    // However it ends, what was carried is what counts.
    let ended = tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut caller, &mut server) => "ok",
        end = ends => end.how(),
    };
    Tunnelled { sent: caller.read, received: caller.written, ended }
}

/// A server that takes nothing more: what it said before still goes to the caller, and what the caller says is thrown away until it ends.
struct Lenient<T>(T);

impl<T: AsyncRead + Unpin> AsyncRead for Lenient<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Lenient<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.0).poll_write(cx, buf));
        Poll::Ready(Ok(written.unwrap_or(buf.len())))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let _ = ready!(Pin::new(&mut self.0).poll_flush(cx));
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let _ = ready!(Pin::new(&mut self.0).poll_shutdown(cx));
        Poll::Ready(Ok(()))
    }
}

struct Counted<T> {
    io: T,
    read: u64,
    written: u64,
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.read += (buf.filled().len() - before) as u64;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.written += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
