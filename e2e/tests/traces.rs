//! Distributed tracing: a collector is told the same of the same calls by etcd and by the server under test.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::{PutRequest, RangeRequest};
use keelson_api::otlp::any_value::Value;
use keelson_api::otlp::trace_service_server::{TraceService, TraceServiceServer};
use keelson_api::otlp::{ExportTraceServiceRequest, ExportTraceServiceResponse, KeyValue, Span};
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Longest that spans may take. etcd gathers them for five seconds.
const LIMIT: Duration = Duration::from_secs(30);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const SERVER: i32 = 2;

/// A collector that passes on what it is told.
struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        // The test may have heard enough.
        let _ = self.0.send(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn collector() -> Result<(SocketAddr, mpsc::UnboundedReceiver<ExportTraceServiceRequest>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (told, spans) = mpsc::unbounded_channel();
    let service = TraceServiceServer::new(Collector(told));
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
    Ok((address, spans))
}

/// What is told of one process.
#[derive(Default)]
struct Told {
    resource: Vec<KeyValue>,
    /// Of calls. etcd also tells of what it does within one.
    calls: Vec<Span>,
}

impl Told {
    async fn hear(&mut self, spans: &mut mpsc::UnboundedReceiver<ExportTraceServiceRequest>) -> Result<()> {
        for of_process in spans.recv().await.context("the collector is gone")?.resource_spans {
            self.resource = of_process.resource.unwrap_or_default().attributes;
            let spans = of_process.scope_spans.into_iter().flat_map(|of_library| of_library.spans);
            self.calls.extend(spans.filter(|span| span.kind == SERVER));
        }
        Ok(())
    }

    fn named(&self, name: &str) -> Vec<&Span> {
        self.calls.iter().filter(|span| span.name == name).collect()
    }
}

fn text(of: &[KeyValue], key: &str) -> Option<String> {
    let value = of.iter().find(|attribute| attribute.key == key)?.value.as_ref()?.value.as_ref()?;
    match value {
        Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn within<T>(message: T, flags: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-{PARENT}-{flags}").parse().expect("plain text"));
    request
}

#[tokio::test]
async fn calls_are_told_to_a_collector_as_parts_of_their_clients_traces() -> Result<()> {
    for program in [Program::Etcd, Program::under_test()?] {
        let (address, mut spans) = collector().await?;
        let address = format!("--distributed-tracing-address={address}");
        let flags = [
            "--enable-distributed-tracing",
            address.as_str(),
            "--distributed-tracing-service-name=stores",
            "--distributed-tracing-instance-id=one",
        ];
        // At rate 0 what a client wants to be told is told, and nothing else.
        let server = Server::start(program, &flags).await?;
        let mut kv = KvClient::connect(server.client_url()).await?;
        let range = RangeRequest { key: "k".into(), ..Default::default() };
        kv.range(range.clone()).await?;
        kv.range(within(range, "00")).await?;
        kv.put(within(PutRequest { key: "k".into(), ..Default::default() }, "01")).await?;
        let refused = kv.put(within(PutRequest::default(), "01")).await;
        ensure!(refused.is_err(), "a put without a key was taken");
        let mut told = Told::default();
        let all = async {
            while told.calls.len() < 2 {
                told.hear(&mut spans).await?;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(LIMIT, all).await.with_context(|| format!("{} tells too little", program.name()))??;
        ensure!(text(&told.resource, "service.name").as_deref() == Some("stores"), "{:?}", told.resource);
        ensure!(text(&told.resource, "service.instance.id").as_deref() == Some("one"), "{:?}", told.resource);
        let puts = told.named("etcdserverpb.KV/Put");
        ensure!(puts.len() == 2 && told.calls.len() == 2, "{}: {:?}", program.name(), told.calls);
        let mut codes = BTreeSet::new();
        for put in puts {
            ensure!((hex(&put.trace_id), hex(&put.parent_span_id)) == (TRACE.into(), PARENT.into()), "{put:?}");
            ensure!(put.span_id.len() == 8 && put.flags == 0x301, "{put:?}");
            ensure!(0 < put.start_time_unix_nano && put.start_time_unix_nano <= put.end_time_unix_nano, "{put:?}");
            ensure!(text(&put.attributes, "rpc.method").as_deref() == Some("etcdserverpb.KV/Put"), "{put:?}");
            ensure!(text(&put.attributes, "rpc.system.name").as_deref() == Some("grpc"), "{put:?}");
            ensure!(put.status.as_ref().is_none_or(|status| status.code == 0), "{put:?}");
            ensure!(text(&put.attributes, "server.address").as_deref() == Some("127.0.0.1"), "{put:?}");
            ensure!(put.attributes.iter().any(|attribute| attribute.key == "server.port"), "{put:?}");
            codes.extend(text(&put.attributes, "rpc.response.status_code"));
        }
        ensure!(codes == BTreeSet::from(["INVALID_ARGUMENT".into(), "OK".into()]), "{}: {codes:?}", program.name());
    }
    Ok(())
}

#[tokio::test]
async fn a_rate_of_a_million_tells_all_calls_and_what_is_left_when_the_server_stops() -> Result<()> {
    for program in [Program::Etcd, Program::under_test()?] {
        let (address, mut spans) = collector().await?;
        let address = format!("--distributed-tracing-address={address}");
        let flags = ["--enable-distributed-tracing", address.as_str(), "--distributed-tracing-sampling-rate=1000000"];
        let mut server = Server::start(program, &flags).await?;
        let mut kv = KvClient::connect(server.client_url()).await?;
        for _ in 0..10 {
            kv.range(RangeRequest { key: "k".into(), ..Default::default() }).await?;
        }
        drop(kv);
        server.stop().await?;
        let mut told = Told::default();
        let all = async {
            while told.named("etcdserverpb.KV/Range").len() < 10 {
                told.hear(&mut spans).await?;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(LIMIT, all).await.with_context(|| format!("{} tells too little", program.name()))??;
        ensure!(text(&told.resource, "service.name").as_deref() == Some("etcd"), "{:?}", told.resource);
        let ranges = told.named("etcdserverpb.KV/Range");
        let traces: BTreeSet<_> = ranges.iter().map(|span| span.trace_id.clone()).collect();
        ensure!(traces.len() == ranges.len(), "calls that belong to no trace share one: {traces:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_collector_that_cannot_be_reached_holds_nothing_up() -> Result<()> {
    // Bound and let go of, so that nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let address = format!("--distributed-tracing-address={address}");
    let flags = ["--enable-distributed-tracing", address.as_str(), "--distributed-tracing-sampling-rate=1000000"];
    let mut server = Server::start(Program::under_test()?, &flags).await?;
    let mut kv = KvClient::connect(server.client_url()).await?;
    let calls = async {
        // More than may wait to be told.
        for _ in 0..4000 {
            kv.range(RangeRequest { key: "k".into(), serializable: true, ..Default::default() }).await?;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(LIMIT, calls).await.context("calls are held up")??;
    drop(kv);
    server.stop().await
}
