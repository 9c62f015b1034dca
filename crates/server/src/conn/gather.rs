//! Writes of a connection, gathered until it has nothing more to say for the moment. HTTP/2 hands
//! its frames of 16 KiB over one by one, and each would be a call of the kernel that wakes the reader.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are gathered before they are written, whatever else is to come.
const FULL: usize = 128 << 10;
/// Bytes at once that make it likely that there is much to say.
const LARGE: usize = 8 << 10;
/// A buffer that has grown beyond this is given back as soon as it is empty: most connections are idle.
const KEPT: usize = 512;

struct Gather<T> {
    io: T,
    buffer: Vec<u8>,
    /// Bytes of the buffer that have been written already.
    written: usize,
}

impl<T: AsyncWrite + Unpin> Gather<T> {
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.buffer.len() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.buffer[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.written += n,
            }
        }
        self.written = 0;
        if self.buffer.capacity() > KEPT {
            self.buffer = Vec::new();
        } else {
            self.buffer.clear();
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_take(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.buffer.len() >= FULL {
            ready!(self.poll_out(cx))?;
        }
        let len = slices.iter().map(|slice| slice.len()).sum();
        if len > LARGE {
            // More of the kind follows: growing step by step would copy it again and again.
            self.buffer.reserve(FULL + len - self.buffer.len());
        }
        slices.iter().for_each(|slice| self.buffer.extend_from_slice(slice));
        Poll::Ready(Ok(len))
    }
}

/// The protocol's end of a gathered connection. What it writes stays here until [`Outlet::poll`].
pub struct Gathered<T>(Arc<Mutex<Gather<T>>>);

/// Sends what was gathered. Belongs to the task that drives the protocol.
pub struct Outlet<T>(Arc<Mutex<Gather<T>>>);

/// Gathers what is written to `io`.
pub fn gather<T>(io: T) -> (Gathered<T>, Outlet<T>) {
    let shared = Arc::new(Mutex::new(Gather { io, buffer: Vec::new(), written: 0 }));
    (Gathered(shared.clone()), Outlet(shared))
}

impl<T: AsyncWrite + Unpin> Outlet<T> {
    /// Writes all that is there.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().poll_out(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gathered<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gathered<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().poll_take(cx, &[IoSlice::new(buf)])
    }
    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.0.lock().poll_take(cx, slices)
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    /// The outlet's business.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gather = self.0.lock();
        ready!(gather.poll_out(cx))?;
        Pin::new(&mut gather.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_written_arrives_whole_and_in_order_once_it_is_let_out_or_there_is_too_much_of_it() {
        let (here, mut there) = tokio::io::duplex(1000);
        let (mut gathered, outlet) = gather(here);
        gathered.write_all(b"small").await.unwrap();
        gathered.flush().await.unwrap();
        assert!(futures::poll!(Box::pin(there.read_u8())).is_pending(), "sent before it was let out");
        poll_fn(|cx| outlet.poll(cx)).await.unwrap();
        let mut small = [0; 5];
        there.read_exact(&mut small).await.unwrap();
        assert_eq!(&small, b"small");

        let large: Vec<u8> = (0..5 * FULL + 7).map(|i| (i % 251) as u8).collect();
        let expected = large.clone();
        let reader = tokio::spawn(async move {
            let mut received = Vec::new();
            there.read_to_end(&mut received).await.map(|_| received)
        });
        for piece in large.chunks(16 << 10) {
            gathered.write_all(piece).await.unwrap();
            let held = gathered.0.lock().buffer.len();
            assert!(held < FULL + (16 << 10), "{held} bytes are held");
        }
        gathered.shutdown().await.unwrap();
        assert!(reader.await.unwrap().unwrap() == expected);
        assert!(outlet.0.lock().buffer.capacity() <= KEPT, "an idle connection holds a large buffer");
    }
}
