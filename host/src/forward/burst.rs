//! A read buffer that a connection has only while there is something in it: most connections wait most of the time, watches above all.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is read at a time. rustls alone reads 4 KiB: a long list would be a thousand system calls.
const AT_A_TIME: usize = 32 << 10;
/// Buffers a thread keeps for the next that reads.
const SPARE: usize = 8;

thread_local! {
    static SPARES: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A connection that is read in long pieces.
pub(super) struct Burst<S> {
    inner: S,
    /// What was read and not yet taken; none when there is nothing.
    held: Option<Held>,
}

struct Held {
    buffer: Box<[u8]>,
    at: usize,
    end: usize,
}

impl<S> Burst<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, held: None }
    }
}

fn take_spare() -> Box<[u8]> {
    SPARES.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; AT_A_TIME].into_boxed_slice())
}

fn put_back(buffer: Box<[u8]>) {
    SPARES.with_borrow_mut(|spares| {
        if spares.len() < SPARE {
            spares.push(buffer);
        }
    });
}

impl<S: AsyncRead + Unpin> AsyncRead for Burst<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut held = match this.held.take() {
            Some(held) => held,
            None => {
                let mut buffer = take_spare();
                let mut read = ReadBuf::new(&mut buffer);
                let polled = Pin::new(&mut this.inner).poll_read(cx, &mut read);
                let end = read.filled().len();
                if end == 0 {
                    put_back(buffer);
                    return polled;
                }
                ready!(polled)?;
                Held { buffer, at: 0, end }
            }
        };
        let size = (held.end - held.at).min(out.remaining());
        out.put_slice(&held.buffer[held.at..held.at + size]);
        held.at += size;
        if held.at == held.end {
            put_back(held.buffer);
        } else {
            this.held = Some(held);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Burst<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A TLS connection that gives all it has. TLS alone gives a record at a time, and each would travel to the caller by itself.
pub(super) struct Filling<S>(pub(super) S);

impl<S: AsyncRead + Unpin> AsyncRead for Filling<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        while out.remaining() > 0 {
            let filled = out.filled().len();
            match Pin::new(&mut self.0).poll_read(cx, out) {
                Poll::Ready(Ok(())) if out.filled().len() > filled => {}
                // What ends it is told again when there is nothing else to give.
                Poll::Ready(Err(_)) | Poll::Pending if filled > before => return Poll::Ready(Ok(())),
                ended => return ended,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Filling<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn bytes_come_as_they_were_sent_and_the_buffer_goes_back() {
        let (mut one, other) = tokio::io::duplex(100_000);
        let mut burst = Burst::new(other);
        let sent: Vec<u8> = (0..80_000u32).map(|n| n as u8).collect();
        one.write_all(&sent).await.unwrap();
        one.shutdown().await.unwrap();
        let (mut got, mut piece) = (Vec::new(), [0; 777]);
        loop {
            match burst.read(&mut piece).await.unwrap() {
                0 => break,
                read => got.extend_from_slice(&piece[..read]),
            }
        }
        assert!(got == sent);
        assert!(burst.held.is_none());
        assert_eq!(SPARES.with_borrow(Vec::len), 1);
    }
}
