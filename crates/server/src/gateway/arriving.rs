//! A connection whose bytes are counted as those of a request that has only half arrived, until its reader says that a
//! message is whole: who takes messages off it does not tell how much it holds.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;

use crate::grpc::half::{Half, Room};

/// How often it is looked whether a message has been on its way for too long.
const LOOK: Duration = Duration::from_secs(5);

/// What has come of a message.
struct Arriving {
    half: Half,
    bytes: usize,
}

/// Tells of a connection when a message is whole.
#[derive(Clone)]
pub struct Count(Arc<Mutex<Arriving>>);

impl Count {
    /// A message has come to its end. What has come of the next one is not counted.
    pub fn is_whole(&self) {
        let mut arriving = self.0.lock();
        arriving.bytes = 0;
        arriving.half.give_back();
    }

    /// Ends when a message has been on its way for too long.
    pub async fn overdue(&self) {
        while !self.0.lock().half.is_overdue() {
            sleep(LOOK).await;
        }
    }
}

/// The connection.
pub struct Counted<T> {
    io: T,
    count: Count,
}

impl<T> Counted<T> {
    /// Counts from now on.
    pub fn new(io: T, room: &'static Room) -> (Self, Count) {
        let count = Count(Arc::new(Mutex::new(Arriving { half: room.share(), bytes: 0 })));
        (Self { io, count: count.clone() }, count)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let mut arriving = self.count.0.lock();
        arriving.bytes += buf.filled().len() - before;
        let bytes = arriving.bytes;
        Poll::Ready(arriving.half.hold(bytes).map_err(|refusal| io::Error::other(refusal.message)))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn bytes_count_until_their_message_is_whole() {
        let room: &'static Room = Box::leak(Box::new(Room::new(10, Duration::from_millis(1))));
        let (here, mut there) = tokio::io::duplex(100);
        let (mut counted, count) = Counted::new(here, room);
        let mut bytes = [0; 6];
        for _ in 0..2 {
            there.write_all(b"abcdef").await.unwrap();
            counted.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"abcdef");
            count.is_whole();
        }
        there.write_all(b"abcdefabcdef").await.unwrap();
        counted.read_exact(&mut bytes).await.unwrap();
        let refused = counted.read_exact(&mut bytes).await.unwrap_err();
        assert!(refused.to_string().contains("half"), "{refused}");
    }

    #[tokio::test]
    async fn a_message_that_does_not_end_is_overdue() {
        let room: &'static Room = Box::leak(Box::new(Room::new(10, Duration::ZERO)));
        let (here, mut there) = tokio::io::duplex(100);
        let (mut counted, count) = Counted::new(here, room);
        there.write_all(b"a").await.unwrap();
        counted.read_u8().await.unwrap();
        count.overdue().await;
        count.is_whole();
        assert!(!count.0.lock().half.is_overdue());
    }
}
