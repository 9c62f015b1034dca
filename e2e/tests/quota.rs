//! Running out of quota, and the way back: compact, disarm, write again. Beside it what `/health` and
//! the metrics say of it. Etcd goes through the same, so that the texts and codes are its own.

use anyhow::{Context, Result};
use keelson_api::etcdserverpb::alarm_request::AlarmAction;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::lease_client::LeaseClient;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::request_op::Request;
use keelson_api::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp,
    StatusRequest, TxnRequest,
};
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::{Code, Status};

const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
const QUOTA: &str = "--quota-backend-bytes=1000000";

fn put(size: usize) -> PutRequest {
    PutRequest { key: "k".into(), value: vec![b'v'; size].into(), ..Default::default() }
}

async fn get(server: &Server, path: &str) -> Result<String> {
    let address = server.client_url().replace("http://", "");
    let mut connection = TcpStream::connect(&address).await?;
    connection.write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn assert_no_space<T: std::fmt::Debug>(answer: Result<T, Status>) {
    let status = answer.expect_err("there is no space");
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, NO_SPACE));
}

/// Writes until the quota refuses.
async fn fill(kv: &mut KvClient<tonic::transport::Channel>) -> Result<()> {
    for _ in 0..200 {
        if let Err(status) = kv.put(put(10_000)).await {
            assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, NO_SPACE));
            return Ok(());
        }
    }
    anyhow::bail!("two million bytes went into a quota of one")
}

async fn runs_out_and_recovers(program: Program) -> Result<()> {
    let mut server = Server::start(program, &[QUOTA, "--log-level", "error"]).await?;
    let mut kv = KvClient::connect(server.client_url()).await?;
    let mut lease = LeaseClient::connect(server.client_url()).await?;
    let mut maintenance = MaintenanceClient::connect(server.client_url()).await?;
    fill(&mut kv).await?;

    // Whatever could grow the data is refused, also in a branch that would not be taken.
    let op = RequestOp { request: Some(Request::RequestPut(put(1))) };
    assert_no_space(kv.put(put(1)).await);
    assert_no_space(kv.txn(TxnRequest { failure: vec![op], ..Default::default() }).await);
    assert_no_space(lease.lease_grant(LeaseGrantRequest { ttl: 60, id: 0 }).await);
    // Reads and deletes go on.
    let found = kv.range(RangeRequest { key: "k".into(), ..Default::default() }).await?.into_inner();
    assert_eq!(found.count, 1);
    kv.delete_range(DeleteRangeRequest { key: "k".into(), ..Default::default() }).await?;

    let status = maintenance.status(StatusRequest {}).await?.into_inner();
    assert!(status.errors.iter().any(|e| e.contains("NOSPACE")), "{:?}", status.errors);
    let health = get(&server, "/health").await?;
    assert!(health.contains("503") && health.contains(r#"{"health":"false","reason":"ALARM NOSPACE"}"#), "{health}");
    let excluded = get(&server, "/health?exclude=NOSPACE").await?;
    assert!(excluded.contains(r#"{"health":"true","reason":""}"#), "{excluded}");
    assert!(get(&server, "/readyz").await?.ends_with("ok\n"), "a full member still serves reads");

    // The alarm outlives a restart.
    server.stop().await?;
    server.restart().await?;
    let mut kv = KvClient::connect(server.client_url()).await?;
    let mut maintenance = MaintenanceClient::connect(server.client_url()).await?;
    assert_no_space(kv.put(put(1)).await);

    let revision = kv.range(RangeRequest { key: "k".into(), ..Default::default() }).await?.into_inner();
    let revision = revision.header.context("header")?.revision;
    kv.compact(CompactionRequest { revision, physical: true }).await?;
    maintenance.defragment(keelson_api::etcdserverpb::DefragmentRequest {}).await?;
    let disarm = AlarmRequest { action: AlarmAction::Deactivate.into(), member_id: 0, alarm: AlarmType::Nospace.into() };
    let raised = maintenance.alarm(AlarmRequest { action: AlarmAction::Get.into(), ..disarm }).await?.into_inner().alarms;
    assert_eq!(raised.len(), 1);
    maintenance.alarm(AlarmRequest { member_id: raised[0].member_id, ..disarm }).await?;
    kv.put(put(1)).await?;
    assert!(get(&server, "/health").await?.contains(r#""health":"true""#));
    Ok(())
}

#[tokio::test]
async fn keelson_runs_out_of_quota_and_recovers_as_etcd_does() -> Result<()> {
    runs_out_and_recovers(Program::Etcd).await.context("etcd")?;
    runs_out_and_recovers(Program::under_test()?).await.context("the server under test")
}

#[tokio::test]
async fn plain_http_answers_what_probes_and_scrapers_ask() -> Result<()> {
    let server = Server::start(Program::under_test()?, &["--log-level", "error"]).await?;
    assert!(get(&server, "/livez?verbose").await?.ends_with("[+]serializable_read ok\nok\n"));
    assert!(get(&server, "/readyz/linearizable_read").await?.ends_with("ok\n"));
    assert!(get(&server, "/readyz/nope").await?.contains("404"));
    assert!(get(&server, "/version").await?.contains(r#""etcdserver":"3.7"#));
    let metrics = get(&server, "/metrics").await?;
    for name in ["etcd_server_has_leader 1", "etcd_server_is_leader 1", "etcd_network_client_grpc_received_bytes_total"] {
        assert!(metrics.contains(name), "{name} is missing");
    }
    Ok(())
}
