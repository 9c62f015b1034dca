//! Spans on their way to the collector: gathered for a while, sent in one call, and given up when they cannot be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderMap;
use keelson_api::Code;
use keelson_api::otlp::{
    ExportTraceServiceRequest, ExportTraceServiceResponse, InstrumentationScope, Resource, ResourceSpans, ScopeSpans, Span,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{attribute, text};
use crate::config::Traces;
use crate::grpc::{CallError, Connection};
use crate::metrics::Traffic;
use crate::peer::Dialer;

/// The call that takes spans.
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// Spans that are sent at once.
const BATCH: usize = 512;
/// For how long they are gathered.
const GATHERED: Duration = Duration::from_secs(1);
/// How long a connection may take, and how long a call.
const DIAL: Duration = Duration::from_secs(5);
const CALL: Duration = Duration::from_secs(10);
/// How often a collector is asked for a sign of life. Many send away who asks more often than every five minutes; one that
/// is gone is noticed by the next call.
const PING: Duration = Duration::from_secs(600);
/// How long spans are tried to be sent, and how long to wait in between.
const TRIED: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(5);
/// How long the last ones may take when the process stops.
const LAST: Duration = Duration::from_secs(2);

/// The task that sends spans.
pub struct Exporter {
    task: JoinHandle<()>,
    end: oneshot::Sender<()>,
}

impl Exporter {
    pub(super) fn start(traces: &Traces, mut spans: mpsc::Receiver<Span>, left_out: Arc<AtomicU64>, runtime: &Handle) -> Self {
        let (end, mut ends) = oneshot::channel();
        let mut collector = Collector::new(traces, left_out);
        let task = runtime.spawn(async move {
            tokio::select! {
                () = collector.follow(&mut spans) => return,
                // Whoever has it either says so or is gone.
                _ = &mut ends => {}
            }
            collector.send_last(&mut spans).await;
        });
        Self { task, end }
    }

    /// Sends what is left, if that does not take long.
    pub async fn finish(self) {
        // It has ended already if nobody could have told it anything more.
        let _ = self.end.send(());
        let _ = timeout(LAST, self.task).await;
    }
}

struct Collector {
    url: String,
    authority: String,
    dialer: Dialer,
    connection: Option<Connection>,
    resource: Resource,
    /// Spans that are not sent yet; they stay here while they are tried to be sent.
    batch: Vec<Span>,
    left_out: Arc<AtomicU64>,
    is_failing: bool,
}

/// Whether another try may do better.
fn may_be_tried_again(e: &CallError) -> bool {
    match e {
        CallError::Unsent(_) | CallError::Lost(_) => true,
        CallError::Refused(status) => {
            matches!(status.code, Code::Canceled | Code::DeadlineExceeded | Code::OutOfRange | Code::Unavailable | Code::DataLoss)
        }
    }
}

impl Collector {
    fn new(traces: &Traces, left_out: Arc<AtomicU64>) -> Self {
        let mut attributes = vec![attribute("service.name", text(traces.service.as_str()))];
        if !traces.instance.is_empty() {
            attributes.push(attribute("service.instance.id", text(traces.instance.as_str())));
        }
        Self {
            url: format!("http://{}", traces.address),
            authority: traces.address.clone(),
            dialer: Dialer { limit: DIAL, ping: PING, tls: None },
            connection: None,
            resource: Resource { attributes },
            batch: Vec::new(),
            left_out,
            is_failing: false,
        }
    }

    /// Sends spans for as long as there may be more.
    async fn follow(&mut self, spans: &mut mpsc::Receiver<Span>) {
        while spans.recv_many(&mut self.batch, BATCH).await > 0 {
            let end = Instant::now() + GATHERED;
            while self.batch.len() < BATCH {
                let room = BATCH - self.batch.len();
                let Ok(1..) = timeout_at(end, spans.recv_many(&mut self.batch, room)).await else { break };
            }
            self.deliver().await;
        }
    }

    /// Sends what there is, once.
    async fn send_last(&mut self, spans: &mut mpsc::Receiver<Span>) {
        while let Ok(span) = spans.try_recv() {
            self.batch.push(span);
        }
        if !self.batch.is_empty()
            && let Err(e) = self.send().await
        {
            tracing::warn!(error = %e, spans = self.batch.len(), "the last spans could not be sent to the collector");
        }
    }

    /// Sends the batch, or gives it up.
    async fn deliver(&mut self) {
        let end = Instant::now() + TRIED;
        loop {
            let Err(e) = self.send().await else { break };
            self.tell_of(&e);
            if !may_be_tried_again(&e) || Instant::now() + AGAIN > end {
                self.left_out.fetch_add(self.batch.len() as u64, Ordering::Relaxed);
                self.batch.clear();
                return;
            }
            sleep(AGAIN).await;
        }
        self.batch.clear();
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            tracing::warn!(left_out, "spans were left out, as the collector did not take them fast enough");
        }
        if std::mem::take(&mut self.is_failing) {
            tracing::info!(address = self.authority, "the collector takes spans again");
        }
    }

    /// One try. The batch is kept.
    async fn send(&mut self) -> Result<(), CallError> {
        let connection = match self.connection.take().filter(|connection| !connection.is_over()) {
            Some(connection) => connection,
            None => self.dialer.dial(&self.url).await?.named(self.authority.clone()),
        };
        let scope = InstrumentationScope { name: "keelson".into(), version: env!("CARGO_PKG_VERSION").into() };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans: self.batch.clone() }];
        let resource_spans = vec![ResourceSpans { resource: Some(self.resource.clone()), scope_spans }];
        let request = ExportTraceServiceRequest { resource_spans };
        let (metadata, traffic) = (HeaderMap::new(), Traffic::default());
        let call = connection.call::<ExportTraceServiceResponse>(EXPORT, &metadata, &request, &traffic);
        let answered = timeout(CALL, call).await.unwrap_or_else(|_| Err(CallError::Lost(format!("no answer within {CALL:?}"))));
        if matches!(answered, Ok(_) | Err(CallError::Refused(_))) {
            self.connection = Some(connection);
        }
        if let Some(partly) = answered?.partial_success.filter(|partly| partly.rejected_spans > 0) {
            let (rejected, error) = (partly.rejected_spans, partly.error_message);
            tracing::warn!(rejected, error, "the collector did not take all spans");
        }
        Ok(())
    }

    /// Tells that spans cannot be sent, until they can be again.
    fn tell_of(&mut self, e: &CallError) {
        if !std::mem::replace(&mut self.is_failing, true) {
            let address = self.authority.as_str();
            tracing::warn!(error = %e, address, "spans cannot be sent to the collector; see --distributed-tracing-address");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::Status;

    #[test]
    fn what_a_collector_refuses_for_good_is_not_sent_again() {
        let refused = |code| CallError::Refused(Status::new(code, ""));
        assert!(may_be_tried_again(&refused(Code::Unavailable)) && may_be_tried_again(&CallError::Unsent(String::new())));
        assert!(!may_be_tried_again(&refused(Code::InvalidArgument)) && !may_be_tried_again(&refused(Code::Unimplemented)));
    }

    #[test]
    fn a_member_without_a_name_of_its_own_tells_the_service_only() {
        let traces = |instance: &str| Traces {
            address: "localhost:4317".into(),
            service: "stores".into(),
            instance: instance.into(),
            per_million: 1,
        };
        let told = |instance| Collector::new(&traces(instance), Arc::default()).resource.attributes;
        let service = attribute("service.name", text("stores"));
        assert_eq!(told(""), std::slice::from_ref(&service));
        assert_eq!(told("one"), [service, attribute("service.instance.id", text("one"))]);
    }
}
