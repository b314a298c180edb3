//! Upgraded connections to something behind the API server: what a proxied server speaks is not read.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

use crate::stream::end::Ends;
use crate::words::Ending;

/// What a connection carried.
pub struct Tunnelled {
    /// Bytes from the caller.
    pub sent: u64,
    /// Bytes to the caller.
    pub received: u64,
    /// How it ended, as the audit log has it.
    pub ended: Ending,
}

/// How long a connection goes on that nobody ends.
pub struct Lasting {
    /// While it carries nothing.
    pub idle: Duration,
    /// In all.
    pub longest: Duration,
}

/// Passes bytes both ways until one side ends, or the caller's credential or right does, or a limit is met. The caller is told nothing: in a protocol that
/// is not known nothing can be said.
pub async fn tunnel(caller: OnUpgrade, server: OnUpgrade, ends: Ends, lasting: Lasting) -> Tunnelled {
    let (Ok(caller), Ok(server)) = (caller.await, server.await) else {
        return Tunnelled { sent: 0, received: 0, ended: Ending::ClientGone };
    };
    let last = Cell::new(Instant::now());
    let mut caller = Counted { io: TokioIo::new(caller), read: 0, written: 0, last: &last };
    let mut server = Lenient(TokioIo::new(server));
    // However it ends, what was carried is what counts.
    let ended = tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut caller, &mut server) => Ending::Ok,
        end = ends => end.how(),
        how = lasting.over(&last) => how,
    };
    Tunnelled { sent: caller.read, received: caller.written, ended }
}

impl Lasting {
    /// Waits until it is over; `last` is when something was carried.
    async fn over(&self, last: &Cell<Instant>) -> Ending {
        let total = last.get() + self.longest;
        loop {
            sleep_until(total.min(last.get() + self.idle)).await;
            let now = Instant::now();
            if now >= total {
                return Ending::TooLong;
            } else if now >= last.get() + self.idle {
                return Ending::Idle;
            }
        }
    }
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

struct Counted<'a, T> {
    io: T,
    read: u64,
    written: u64,
    last: &'a Cell<Instant>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<'_, T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.read += (buf.filled().len() - before) as u64;
        self.last.set(Instant::now());
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<'_, T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.written += written as u64;
        self.last.set(Instant::now());
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
