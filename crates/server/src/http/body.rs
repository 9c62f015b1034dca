//! Bodies of requests and answers, the same for both versions of HTTP.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long a client that was answered early may go on sending what nobody reads.
const EARLY: Duration = Duration::from_secs(10);

/// The body of a request.
pub enum Upload {
    /// Of HTTP/1.
    Http1(Incoming),
    /// Of HTTP/2.
    Http2(Streamed),
    /// Messages of a websocket.
    Messages(mpsc::Receiver<Bytes>),
}

/// A body of HTTP/2. What of it comes after it was dropped is taken still, up to the credit that the client has: otherwise
/// its stream would be reset, and the answer lost with it.
pub struct Streamed(Option<RecvStream>);

impl From<RecvStream> for Upload {
    fn from(body: RecvStream) -> Self {
        Self::Http2(Streamed(Some(body)))
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        let Some(mut body) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        // Without a runtime everything is ending.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { timeout(EARLY, async { while let Some(Ok(_)) = body.data().await {} }).await });
        }
    }
}

impl Upload {
    /// The next piece; `None` at the end, which may have come too early: what is there tells.
    pub async fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Http1(body) => loop {
                if let Ok(data) = body.frame().await?.ok()?.into_data() {
                    return Some(data);
                }
            },
            Self::Http2(body) => {
                let body = body.0.as_mut()?;
                let data = body.data().await?.ok()?;
                // The credit only fails to be released when the stream is gone already.
                let _ = body.flow_control().release_capacity(data.len());
                Some(data)
            }
            Self::Messages(messages) => messages.recv().await,
        }
    }
}

/// The body of an answer.
pub enum Download {
    /// All of it.
    Whole(Bytes),
    /// Pieces as they come. Who makes them learns that the client is gone when nobody takes them any more.
    Stream(mpsc::Receiver<Bytes>),
    /// Pieces of something that is nothing without its end, which an empty piece tells. Who takes none for too long is cut off.
    Large(mpsc::Receiver<Bytes>),
}

/// An answer breaks off: what was sent of it is not all.
#[derive(Debug, thiserror::Error)]
#[error("the answer breaks off")]
pub struct BreaksOff;

impl Body for Download {
    type Data = Bytes;
    type Error = BreaksOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BreaksOff>>> {
        let this = self.get_mut();
        let next = match this {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(std::mem::take(bytes))),
            Self::Stream(pieces) => pieces.poll_recv(cx),
            Self::Large(pieces) => match ready!(pieces.poll_recv(cx)) {
                Some(piece) if piece.is_empty() => {
                    *this = Self::Whole(Bytes::new());
                    Poll::Ready(None)
                }
                Some(piece) => Poll::Ready(Some(piece)),
                None => return Poll::Ready(Some(Err(BreaksOff))),
            },
        };
        next.map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(_) | Self::Large(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces of a large answer, and whether it has come to its end.
    async fn taken(sent: &[&'static str]) -> (Vec<Bytes>, bool) {
        let (pieces, receiver) = mpsc::channel(sent.len());
        for piece in sent {
            pieces.send(Bytes::from_static(piece.as_bytes())).await.unwrap();
        }
        drop(pieces);
        let (mut body, mut got) = (Download::Large(receiver), Vec::new());
        loop {
            match body.frame().await {
                Some(Ok(frame)) => got.push(frame.into_data().unwrap()),
                Some(Err(BreaksOff)) => return (got, false),
                None => return (got, body.is_end_stream()),
            }
        }
    }

    #[tokio::test]
    async fn a_large_answer_that_breaks_off_is_told_from_one_that_ends() {
        assert_eq!(taken(&["a", "b", ""]).await, (vec!["a".into(), "b".into()], true));
        assert_eq!(taken(&["a", "b"]).await, (vec!["a".into(), "b".into()], false));
    }
}
