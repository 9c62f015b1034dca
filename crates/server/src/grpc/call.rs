//! One call: its metadata and deadline, and the two shapes of answers.

use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response};
use keelson_api::{Code, Error};
use prost::Message;

use super::frame::{FrameError, MessageReader, frame};
use super::status::Status;
use super::stream::{Answer, Pieces, Sender};

/// What the client sent ahead of its messages.
#[derive(Clone, Debug)]
pub struct Call {
    /// Metadata.
    pub headers: HeaderMap,
    /// How long the client will wait.
    pub timeout: Option<Duration>,
}

impl Call {
    /// Reads the metadata of a request.
    pub fn new(headers: HeaderMap) -> Self {
        let timeout = headers.get("grpc-timeout").and_then(|v| parse_timeout(v.as_bytes()));
        Self { headers, timeout }
    }

    /// Whether the client wants to be told when there is no leader.
    pub fn wants_leader(&self) -> bool {
        self.headers.get("hasleader").is_some_and(|v| v == "true")
    }
}

/// Digits of a timeout, by gRPC's specification.
const MAX_TIMEOUT_DIGITS: usize = 8;

/// Digits and a unit, as gRPC has it.
fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let all_digits = (1..=MAX_TIMEOUT_DIGITS).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let amount: u64 = std::str::from_utf8(digits).ok().filter(|_| all_digits)?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// Reads the request and runs it, for as long as the client will wait.
async fn answer<Q, R, F>(call: &Call, mut reader: MessageReader, run: impl FnOnce(Q) -> F) -> Result<R, FrameError>
where
    Q: Message + Default,
    F: Future<Output = Result<R, Status>>,
{
    let work = async {
        match reader.next::<Q>().await? {
            Some(request) => run(request).await.map_err(FrameError::Refused),
            None => Err(FrameError::Refused(Status::new(Code::Internal, "EOF"))),
        }
    };
    match call.timeout {
        None => work.await,
        Some(limit) => tokio::time::timeout(limit, work)
            .await
            .unwrap_or_else(|_| Err(FrameError::Refused(Status::new(Code::DeadlineExceeded, "context deadline exceeded")))),
    }
}

/// The response side of a call.
pub struct Respond {
    inner: SendResponse<Bytes>,
}

fn head() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

impl Respond {
    /// Wraps what h2 hands out for a request.
    pub const fn new(inner: SendResponse<Bytes>) -> Self {
        Self { inner }
    }

    /// Runs a call of one request and one response; answers the code for the metrics.
    pub async fn unary<Q, R, F>(mut self, call: &Call, reader: MessageReader, run: impl FnOnce(Q) -> F) -> Option<Code>
    where
        Q: Message + Default,
        R: Message,
        F: Future<Output = Result<R, Status>>,
    {
        match answer(call, reader, run).await {
            Ok(message) => self.send_one(&message),
            Err(FrameError::Refused(status)) => self.refuse(&status),
            Err(FrameError::Gone) => Some(Code::Canceled),
        }
    }

    /// As [`Self::unary`], for answers that may be too large to be held.
    pub async fn unary_in_pieces<Q, R, P, F>(
        mut self,
        call: &Call,
        reader: MessageReader,
        run: impl FnOnce(Q) -> F,
    ) -> Option<Code>
    where
        Q: Message + Default,
        R: Message,
        P: Pieces,
        F: Future<Output = Result<Answer<R, P>, Status>>,
    {
        let begun = Instant::now();
        let pieces = match answer(call, reader, run).await {
            Ok(Answer::Whole(message)) => return self.send_one(&message),
            Ok(Answer::Pieces(pieces)) => pieces,
            Err(FrameError::Refused(status)) => return self.refuse(&status),
            Err(FrameError::Gone) => return Some(Code::Canceled),
        };
        let Ok(mut sender) = self.stream() else { return Some(Code::Canceled) };
        let left = call.timeout.map_or(Duration::MAX, |t| t.saturating_sub(begun.elapsed()));
        match tokio::time::timeout(left, sender.send_pieces(pieces)).await {
            Ok(Ok(Ok(()))) => sender.finish(Ok(())),
            // What is missing cannot be told from what was promised but by the stream's end.
            Ok(Ok(Err(status))) => sender.finish(Err(&status)),
            Ok(Err(_)) => Some(Code::Canceled),
            Err(_) => Some(Code::DeadlineExceeded),
        }
    }

    // A failed send means that the client is gone; there is nobody to tell.

    fn send_one(&mut self, message: &impl Message) -> Option<Code> {
        if let Ok(mut body) = self.inner.send_response(head(), false) {
            let _ = body.send_data(frame(message), false);
            let mut trailers = HeaderMap::with_capacity(1);
            Status::write(Ok(()), &mut trailers);
            let _ = body.send_trailers(trailers);
        }
        None
    }

    /// Ends the call with a status and no message.
    pub fn refuse(&mut self, status: &Status) -> Option<Code> {
        let mut response = head();
        Status::write(Err(status), response.headers_mut());
        let _ = self.inner.send_response(response, true);
        Some(status.code)
    }

    /// Begins a stream of responses.
    pub fn stream(mut self) -> Result<Sender, Status> {
        match self.inner.send_response(head(), false) {
            Ok(body) => Ok(Sender::new(body)),
            Err(_) => Err(Error::RequestCanceled.into()),
        }
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_all_units() {
        assert_eq!(parse_timeout(b"2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse_timeout(b"99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(parse_timeout(b"5m"), Some(Duration::from_millis(5)));
        assert_eq!(parse_timeout(b"5"), None);
        assert_eq!(parse_timeout(b"x5S"), None);
        assert_eq!(parse_timeout(b"+5S"), None);
        assert_eq!(parse_timeout(b"999999999S"), None, "eight digits at most");
        assert_eq!(parse_timeout(b"S"), None);
    }
}
