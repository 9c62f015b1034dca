//! Distributed tracing: a collector of OpenTelemetry is told of calls, each as a span of the trace that its client is in.
//!
//! While it is off, which it is unless a flag says otherwise, there is no [`Tracer`], and that is all a call looks at. When it
//! is on, calls are told by a bounded queue: a collector that cannot be reached costs spans, and nothing else.

mod export;
mod parent;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use keelson_api::Code;
use keelson_api::otlp::any_value::Value;
use keelson_api::otlp::span::SpanKind;
use keelson_api::otlp::status::StatusCode;
use keelson_api::otlp::{AnyValue, KeyValue, Span, Status};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

pub use self::export::Exporter;
use self::parent::Parent;
use crate::config::Traces;
use crate::grpc::Call;
use crate::services::Method;

/// Spans that wait to be sent.
const WAITING: usize = 2048;
/// Flags of a span: it is told, it is known where its parent is, and that is in another process.
const SAMPLED: u32 = 1;
const KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// Notes down which calls there are.
pub struct Tracer {
    queue: mpsc::Sender<Span>,
    /// Spans for which there was no place.
    left_out: Arc<AtomicU64>,
    /// Traces that begin here are told if half of their id is below this.
    bound: u64,
}

/// A call that is going to be told.
pub struct Begun {
    trace: [u8; 16],
    parent: Option<Parent>,
    at: SystemTime,
    /// The same, by a clock that is not set.
    begun: Instant,
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

fn text(text: impl Into<String>) -> Value {
    Value::StringValue(text.into())
}

/// Nanoseconds since 1970.
fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Random bytes that are not all zero.
fn id<const N: usize>() -> [u8; N] {
    let mut id = [0; N];
    while id == [0; N] {
        rand::fill(&mut id[..]);
    }
    id
}

/// The name of a code where spans have it.
const fn name_of(code: Option<Code>) -> &'static str {
    match code {
        None => "OK",
        Some(Code::Canceled) => "CANCELLED",
        Some(Code::Unknown) => "UNKNOWN",
        Some(Code::InvalidArgument) => "INVALID_ARGUMENT",
        Some(Code::DeadlineExceeded) => "DEADLINE_EXCEEDED",
        Some(Code::NotFound) => "NOT_FOUND",
        Some(Code::PermissionDenied) => "PERMISSION_DENIED",
        Some(Code::ResourceExhausted) => "RESOURCE_EXHAUSTED",
        Some(Code::FailedPrecondition) => "FAILED_PRECONDITION",
        Some(Code::OutOfRange) => "OUT_OF_RANGE",
        Some(Code::Unimplemented) => "UNIMPLEMENTED",
        Some(Code::Internal) => "INTERNAL",
        Some(Code::Unavailable) => "UNAVAILABLE",
        Some(Code::DataLoss) => "DATA_LOSS",
        Some(Code::Unauthenticated) => "UNAUTHENTICATED",
    }
}

/// Whether it is the server that failed, and not its client.
const fn is_failure(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown | Code::DeadlineExceeded | Code::Unimplemented | Code::Internal | Code::Unavailable | Code::DataLoss
    )
}

impl Tracer {
    /// Begins to send spans, in tasks of this runtime.
    pub fn start(traces: &Traces, runtime: &Handle) -> (Self, Exporter) {
        let (queue, spans) = mpsc::channel(WAITING);
        let left_out = Arc::new(AtomicU64::new(0));
        let exporter = Exporter::start(traces, spans, left_out.clone(), runtime);
        (Self::to(queue, left_out, traces.per_million), exporter)
    }

    fn to(queue: mpsc::Sender<Span>, left_out: Arc<AtomicU64>, per_million: u32) -> Self {
        // As OpenTelemetry's libraries do it, so that all services of one rate choose the same traces.
        let part = f64::from(per_million) / f64::from(crate::config::MILLION);
        Self { queue, left_out, bound: (part * 2f64.powi(63)) as u64 }
    }

    /// Notes down that a call begins; nothing if it is not to be told.
    pub fn begin(&self, headers: &HeaderMap) -> Option<Begun> {
        let parent = Parent::of(headers);
        let (trace, is_told) = match &parent {
            // The first one of a trace decides for all.
            Some(parent) => (parent.trace, parent.is_sampled),
            None => {
                let trace = id();
                (trace, self.chooses(trace))
            }
        };
        is_told.then(|| Begun { trace, parent, at: SystemTime::now(), begun: Instant::now() })
    }

    fn chooses(&self, trace: [u8; 16]) -> bool {
        let [_, _, _, _, _, _, _, _, half @ ..] = trace;
        (u64::from_be_bytes(half) >> 1) < self.bound
    }

    /// Tells of a call that has ended, and what it was refused with, if it was.
    pub fn end(&self, begun: Begun, method: Method, call: &Call, code: Option<Code>, refused: Option<&str>) {
        let name = format!("{}/{}", method.service(), method.name());
        let is_remote = begun.parent.is_some();
        let parent = begun.parent.map(|parent| (parent.span.to_vec(), parent.state));
        let (parent_span_id, trace_state) = parent.unwrap_or_default();
        let status = match code {
            Some(code) if is_failure(code) => {
                Status { code: StatusCode::Error.into(), message: refused.unwrap_or_default().to_owned() }
            }
            _ => Status::default(),
        };
        let mut attributes = vec![
            attribute("rpc.method", text(name.as_str())),
            attribute("rpc.system.name", text("grpc")),
            attribute("rpc.response.status_code", text(name_of(code))),
        ];
        if let Some(server) = call.ends.server {
            attributes.push(attribute("server.address", text(server.ip().to_string())));
            attributes.push(attribute("server.port", Value::IntValue(server.port().into())));
        }
        let span = Span {
            trace_id: begun.trace.to_vec().into(),
            span_id: id::<8>().to_vec().into(),
            trace_state,
            parent_span_id: parent_span_id.into(),
            kind: SpanKind::Server.into(),
            start_time_unix_nano: nanoseconds(begun.at),
            end_time_unix_nano: nanoseconds(begun.at + begun.begun.elapsed()),
            attributes,
            name,
            status: Some(status),
            flags: SAMPLED | KNOWN | if is_remote { REMOTE } else { 0 },
        };
        if self.queue.try_send(span).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::grpc::Ends;

    fn tracer(per_million: u32, room: usize) -> (Tracer, mpsc::Receiver<Span>) {
        let (queue, spans) = mpsc::channel(room);
        (Tracer::to(queue, Arc::default(), per_million), spans)
    }

    fn call() -> Call {
        let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"))]);
        let ends = Ends { server: Some(([127, 0, 0, 1], 2379).into()), ..Ends::default() };
        Call { ends, ..Call::new(&http::Method::POST, headers).unwrap() }
    }

    fn within(flags: &str) -> HeaderMap {
        let value = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
        HeaderMap::from_iter([("traceparent".parse().unwrap(), HeaderValue::from_str(&value).unwrap())])
    }

    #[test]
    fn a_call_is_a_part_of_its_clients_trace_and_told_if_that_is() {
        // At whichever rate.
        for per_million in [0, 1_000_000] {
            let (tracer, mut spans) = tracer(per_million, 9);
            assert!(tracer.begin(&within("00")).is_none());
            let begun = tracer.begin(&within("01")).unwrap();
            tracer.end(begun, Method::Put, &call(), None, None);
            let span = spans.try_recv().unwrap();
            assert_eq!((span.name.as_str(), span.trace_id[0], span.parent_span_id[7]), ("etcdserverpb.KV/Put", 0x4b, 0xb7));
            assert_eq!((span.kind, span.flags, span.span_id.len()), (2, 0x301, 8));
            assert!(span.start_time_unix_nano > 0 && span.end_time_unix_nano >= span.start_time_unix_nano);
        }
    }

    #[test]
    fn of_other_calls_as_many_are_told_as_the_rate_says() {
        let nothing = HeaderMap::new();
        assert!((0..100).all(|_| tracer(0, 1).0.begin(&nothing).is_none()));
        assert!((0..100).all(|_| tracer(1_000_000, 1).0.begin(&nothing).is_some()));
        let (half, _spans) = tracer(500_000, 1);
        // By the second half of the id, but for its lowest bit.
        let trace = |byte: u8| std::array::from_fn(|at| if at == 8 { byte } else { 0xff });
        assert!(half.chooses(trace(0x7f)) && !half.chooses(trace(0x80)));
        let begun = half.begin(&nothing).or_else(|| (0..1000).find_map(|_| half.begin(&nothing)));
        assert!(begun.is_some_and(|begun| begun.parent.is_none() && begun.trace != [0; 16]));
    }

    #[test]
    fn what_the_server_failed_in_is_an_error_and_what_its_client_did_wrong_is_none() {
        let (tracer, mut spans) = tracer(1_000_000, 9);
        for (code, name, is_error) in [
            (None, "OK", false),
            (Some(Code::InvalidArgument), "INVALID_ARGUMENT", false),
            (Some(Code::Unavailable), "UNAVAILABLE", true),
        ] {
            tracer.end(tracer.begin(&HeaderMap::new()).unwrap(), Method::Range, &call(), code, Some("why"));
            let span = spans.try_recv().unwrap();
            let (code, message) = if is_error { (StatusCode::Error, "why") } else { (StatusCode::Unset, "") };
            assert_eq!(span.status, Some(Status { code: code.into(), message: message.into() }), "{name}");
            assert!(span.attributes.contains(&attribute("rpc.response.status_code", text(name))));
            assert!(span.attributes.contains(&attribute("server.port", Value::IntValue(2379))));
            assert!(span.parent_span_id.is_empty() && span.flags == 0x101);
        }
    }

    #[test]
    fn spans_for_which_there_is_no_place_are_left_out_and_counted() {
        let (tracer, mut spans) = tracer(1_000_000, 1);
        for _ in 0..3 {
            tracer.end(tracer.begin(&HeaderMap::new()).unwrap(), Method::Range, &call(), None, None);
        }
        assert!(spans.try_recv().is_ok() && spans.try_recv().is_err());
        assert_eq!(tracer.left_out.load(Ordering::Relaxed), 2);
    }
}
