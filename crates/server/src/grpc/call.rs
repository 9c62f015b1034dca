//! One call: its metadata and deadline, and the two shapes of answers.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use keelson_api::{Code, Error};
use prost::Message;

use super::account::Account;
use super::frame::{FrameError, HEADER, MessageReader, frame};
use super::status::Status;
use super::stream::{Answer, Pieces, Sender, Told};

/// What a connection is between; nothing is known of a unix socket.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends {
    /// Where the client is.
    pub client: Option<SocketAddr>,
    /// Where it has come to.
    pub server: Option<SocketAddr>,
}

/// What the client sent ahead of its messages.
#[derive(Clone, Debug)]
pub struct Call {
    /// Metadata.
    pub headers: HeaderMap,
    /// How long the client will wait.
    pub timeout: Option<Duration>,
    /// Common name of the certificate that its connection came with, where those name users.
    pub certificate_name: Option<Arc<str>>,
    /// What its connection is between.
    pub ends: Ends,
    /// What it asks and is answered, where that is wanted.
    pub account: Option<Account>,
}

/// Whether a content type is gRPC's, whatever its codec and parameters.
pub fn is_grpc(content_type: &[u8]) -> bool {
    matches!(content_type.strip_prefix(b"application/grpc"), Some([] | [b'+' | b';', ..]))
}

/// A call that is refused for its headers: the status of HTTP, and that of gRPC.
pub type Malformed = (StatusCode, Status);

impl Call {
    /// Reads the headers of a request. What is wrong with them is told in the order and words of etcd's library.
    pub fn new(method: &Method, headers: HeaderMap) -> Result<Self, Malformed> {
        let internal = |http, text| Err((http, Status::new(Code::Internal, text)));
        let content_type = headers.get(http::header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if !is_grpc(content_type) {
            let text = format!("invalid gRPC request content-type {:?}", String::from_utf8_lossy(content_type));
            return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, Status::new(Code::InvalidArgument, text)));
        }
        let text_of = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let timeout = match headers.get("grpc-timeout").map(|v| parse_timeout(&text_of(v))).transpose() {
            Ok(timeout) => timeout,
            Err(e) => return internal(StatusCode::BAD_REQUEST, format!("malformed grpc-timeout: {e}")),
        };
        for (name, value) in headers.iter().filter(|(name, _)| name.as_str().ends_with("-bin")) {
            if let Some(at) = not_base64(value.as_bytes()) {
                let what = format!("malformed binary metadata {:?} in header \"{name}\"", text_of(value));
                return internal(StatusCode::BAD_REQUEST, format!("{what}: illegal base64 data at input byte {at}"));
            }
        }
        if *method != Method::POST {
            let text = format!("Received a HEADERS frame with :method \"{method}\" which should be POST");
            return internal(StatusCode::METHOD_NOT_ALLOWED, text);
        }
        if timeout == Some(Duration::ZERO) {
            return Err((StatusCode::OK, too_late()));
        }
        Ok(Self { headers, timeout, certificate_name: None, ends: Ends::default(), account: None })
    }

    /// Whether the client wants to be told when there is no leader.
    pub fn wants_leader(&self) -> bool {
        self.headers.get("hasleader").is_some_and(|v| v == "true")
    }
}

/// What a call is told that took longer than its client would wait.
pub fn too_late() -> Status {
    Status::new(Code::DeadlineExceeded, "context deadline exceeded")
}

/// Up to eight digits and a unit, as gRPC has it.
pub fn parse_timeout(value: &str) -> Result<Duration, String> {
    if value.len() < 2 {
        return Err(format!("transport: timeout string is too short: {value:?}"));
    }
    if value.len() > 9 {
        return Err(format!("transport: timeout string is too long: {value:?}"));
    }
    let unit: fn(u64) -> Duration = match value.as_bytes()[value.len() - 1] {
        b'H' => |n| Duration::from_secs(n * 3600),
        b'M' => |n| Duration::from_secs(n * 60),
        b'S' => Duration::from_secs,
        b'm' => Duration::from_millis,
        b'u' => Duration::from_micros,
        b'n' => Duration::from_nanos,
        _ => return Err(format!("transport: timeout unit is not recognized: {value:?}")),
    };
    let digits = &value[..value.len() - 1];
    // A sign is none to Go.
    let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
    number.map(unit).ok_or_else(|| format!("strconv.ParseUint: parsing {digits:?}: invalid syntax"))
}

/// Where a value stops being base64, whose padding may be left out.
fn not_base64(value: &[u8]) -> Option<usize> {
    let padding = if value.len().is_multiple_of(4) { value.iter().rev().take(2).take_while(|b| **b == b'=').count() } else { 0 };
    let digits = &value[..value.len() - padding];
    let illegal = digits.iter().position(|b| !b.is_ascii_alphanumeric() && !matches!(b, b'+' | b'/'));
    // One digit has six bits, too few for a byte.
    illegal.or((digits.len() % 4 == 1).then_some(digits.len()))
}

/// Reads the request and runs it, for as long as the client will wait.
async fn answer<Q, R, F>(call: &Call, mut reader: MessageReader, run: impl FnOnce(Q) -> F) -> Result<R, FrameError>
where
    Q: Message + Default,
    F: Future<Output = Result<R, Status>>,
{
    let work = async {
        match reader.next_with_bytes::<Q>().await? {
            Some((request, bytes)) => {
                match &call.account {
                    Some(account) => account.asked(bytes),
                    // Calls may take long.
                    None => drop(bytes),
                }
                run(request).await.map_err(FrameError::Refused)
            }
            None => Err(FrameError::Refused(Status::new(Code::Internal, "EOF"))),
        }
    };
    match call.timeout {
        None => work.await,
        Some(limit) => tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(FrameError::Refused(too_late()))),
    }
}

/// The response side of a call.
pub struct Respond {
    inner: SendResponse<Bytes>,
    told: Option<Told>,
}

fn head() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

impl Respond {
    /// Wraps what h2 hands out for a request.
    pub const fn new(inner: SendResponse<Bytes>) -> Self {
        Self { inner, told: None }
    }

    /// Lets somebody know what the call is refused with, if it is.
    pub fn telling(self, told: Option<Told>) -> Self {
        Self { told, ..self }
    }

    /// Runs a call of one request and one response; answers the code for the metrics.
    pub async fn unary<Q, R, F>(mut self, call: &Call, reader: MessageReader, run: impl FnOnce(Q) -> F) -> Option<Code>
    where
        Q: Message + Default,
        R: Message,
        F: Future<Output = Result<R, Status>>,
    {
        let answered = answer(call, reader, run).await;
        self.send_answer(call, answered)
    }

    /// As [`Self::unary`], for calls that may take long: what they do ends when nobody waits for it any more.
    pub async fn unary_while_wanted<Q, R, F>(
        mut self,
        call: &Call,
        reader: MessageReader,
        run: impl FnOnce(Q) -> F,
    ) -> Option<Code>
    where
        Q: Message + Default,
        R: Message,
        F: Future<Output = Result<R, Status>>,
    {
        let answered = tokio::select! {
            answered = answer(call, reader, run) => answered,
            // Whatever the reason, the stream is over.
            _ = poll_fn(|cx| self.inner.poll_reset(cx)) => Err(FrameError::Gone),
        };
        self.send_answer(call, answered)
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
            Ok(Answer::Whole(message)) => return self.send_one(call, &message),
            Ok(Answer::Pieces(pieces)) => pieces,
            Err(FrameError::Refused(status)) => return self.refuse(&status),
            Err(FrameError::Gone) => return Some(Code::Canceled),
        };
        if let Some(account) = &call.account {
            account.answered(pieces.encoded_len());
        }
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

    fn send_answer(&mut self, call: &Call, answered: Result<impl Message, FrameError>) -> Option<Code> {
        match answered {
            Ok(message) => self.send_one(call, &message),
            Err(FrameError::Refused(status)) => self.refuse(&status),
            Err(FrameError::Gone) => Some(Code::Canceled),
        }
    }

    fn send_one(&mut self, call: &Call, message: &impl Message) -> Option<Code> {
        let framed = frame(message);
        if let Some(account) = &call.account {
            account.answered(framed.len() - HEADER);
        }
        if let Ok(mut body) = self.inner.send_response(head(), false) {
            let _ = body.send_data(framed, false);
            let mut trailers = HeaderMap::with_capacity(1);
            Status::write(Ok(()), &mut trailers);
            let _ = body.send_trailers(trailers);
        }
        None
    }

    /// Ends the call with a status and no message.
    pub fn refuse(&mut self, status: &Status) -> Option<Code> {
        self.refuse_as(StatusCode::OK, status)
    }

    /// The same, when HTTP has a name for what is wrong.
    pub fn refuse_as(&mut self, http: StatusCode, status: &Status) -> Option<Code> {
        if let Some(told) = &self.told {
            told.tell(status);
        }
        let mut response = head();
        *response.status_mut() = http;
        Status::write(Err(status), response.headers_mut());
        let _ = self.inner.send_response(response, true);
        Some(status.code)
    }

    /// Begins a stream of responses.
    pub fn stream(mut self) -> Result<Sender, Status> {
        match self.inner.send_response(head(), false) {
            Ok(body) => Ok(Sender::new(body).telling(self.told)),
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
        assert_eq!(parse_timeout("2H"), Ok(Duration::from_secs(7200)));
        assert_eq!(parse_timeout("99999999H"), Ok(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parse_timeout("5m"), Ok(Duration::from_millis(5)));
        for malformed in ["", "5", "x5S", "+5S", "S", "é", "é5é", "123456789S"] {
            parse_timeout(malformed).unwrap_err();
        }
    }

    #[test]
    fn base64_is_told_from_other_text() {
        assert!([&b""[..], b"YQ", b"YQ==", b"YWI", b"YWI=", b"YWJj", b"+/9A"].iter().all(|v| not_base64(v).is_none()));
        let wrong: [(&[u8], usize); 5] = [(b"!", 0), (b"A", 1), (b"A===", 1), (b"YQ=", 2), (b"YW-j", 2)];
        assert!(wrong.iter().all(|(value, at)| not_base64(value) == Some(*at)));
    }
}
