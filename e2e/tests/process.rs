//! The process itself, beside etcd's: what it prints of itself, what its log lines look like, how it is configured, and
//! what those hear whose streams are open when it is told to end.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::lease_client::LeaseClient;
use keelson_api::etcdserverpb::request_op::Request;
use keelson_api::etcdserverpb::watch_client::WatchClient;
use keelson_api::etcdserverpb::watch_request::RequestUnion;
use keelson_api::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchRequest,
};
use keelson_e2e::ports::Reservation;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use keelson_e2e::wait;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

const LIMIT: Duration = Duration::from_secs(20);

fn both() -> Result<[Program; 2]> {
    Ok([Program::Etcd, Program::under_test()?])
}

/// What `--version` prints: name and value of each line.
fn version_of(program: Program) -> Result<Vec<(String, String)>> {
    let output = Command::new(program.path()?).arg("--version").output()?;
    ensure!(output.status.success(), "{}: {}", program.name(), output.status);
    let text = String::from_utf8(output.stdout)?;
    let pair = |line: &str| {
        let (name, value) = line.split_once(": ").with_context(|| format!("{}: {line:?}", program.name()))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    text.lines().map(pair).collect()
}

#[test]
fn the_version_is_four_lines_that_scripts_read_as_etcds() -> Result<()> {
    let [etcd, ours] = both()?;
    let (etcd, ours) = (version_of(etcd)?, version_of(ours)?);
    let names = |lines: &[(String, String)]| lines.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&ours), ["etcd Version", "Git SHA", "Go Version", "Go OS/Arch"]);
    assert_eq!(names(&ours), names(&etcd));
    assert_eq!((&ours[0], &ours[3]), (&etcd[0], &etcd[3]));
    Ok(())
}

fn zeroed(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect()
}

/// The line that says that clients are served. The log may lag behind the first answer.
async fn ready_line(server: &Server) -> Result<Map<String, Value>> {
    let mut found = None;
    wait::until("the log says that clients are served", LIMIT, async || {
        found = server.log().lines().find(|line| line.contains("ready to serve client requests")).map(str::to_owned);
        Ok(found.is_some())
    })
    .await
    .with_context(|| server.log_tail())?;
    let line = found.context("it was found")?;
    ensure!(line.starts_with("{\"level\":\"info\",\"ts\":\""), "{line}");
    Ok(serde_json::from_str(&line)?)
}

#[tokio::test]
async fn log_lines_have_the_form_of_etcds_and_say_when_clients_are_served() -> Result<()> {
    let mut times = Vec::new();
    for program in both()? {
        let mut server = Server::start(program, &[]).await?;
        let line = ready_line(&server).await?;
        let text = |name: &str| line.get(name).and_then(Value::as_str).with_context(|| format!("{name} in {line:?}"));
        assert_eq!(text("msg")?, "ready to serve client requests", "of {}", program.name());
        let (file, number) = text("caller")?.rsplit_once(':').context("a caller")?;
        ensure!(file.contains('.') && number.parse::<u32>().is_ok(), "{file} {number}");
        times.push(zeroed(text("ts")?));
        server.stop().await?;
        if program == Program::Keelson {
            for line in server.log().lines() {
                let fields: Map<String, Value> = serde_json::from_str(line).with_context(|| line.to_owned())?;
                ensure!(["level", "ts", "caller", "msg"].iter().all(|name| fields.contains_key(*name)), "{line}");
            }
        }
    }
    assert_eq!(times[0], times[1], "etcd's and keelson's");
    Ok(())
}

fn put(key: &str) -> RequestOp {
    let put = PutRequest { key: key.to_owned().into(), ..Default::default() };
    RequestOp { request: Some(Request::RequestPut(put)) }
}

#[tokio::test]
async fn the_environment_says_what_flags_leave_open() -> Result<()> {
    for program in both()? {
        println!("--- {}", program.name());
        let mut server = Server::member(program, "default", Reservation::new()?.ports()?, &[])?;
        server.set_env("ETCD_MAX_TXN_OPS", Some("2".to_owned()));
        server.restart().await?;
        let mut kv = KvClient::connect(server.client_url()).await?;
        let three = TxnRequest { success: ["a", "b", "c"].map(put).to_vec(), ..Default::default() };
        let refused = kv.txn(three).await.err().context("three operations are one too many")?;
        ensure!(refused.message() == "etcdserver: too many operations in txn request", "{refused}");
        server.stop().await?;

        server.set_env("ETCD_MAX_TXN_OPS", Some("many".to_owned()));
        ensure!(server.restart().await.is_err(), "{} takes any value", program.name());
    }
    Ok(())
}

/// Reads a stream to its end.
async fn rest<T>(stream: &mut Streaming<T>) -> Result<Result<(), Status>> {
    let read = async {
        while let Some(_more) = stream.message().await? {}
        Ok(())
    };
    tokio::time::timeout(LIMIT, read).await.context("a stream outlives its server")
}

/// etcd leaves such streams open until its patience is over, and cuts the connection then.
#[tokio::test]
async fn open_streams_are_told_that_the_server_ends_and_do_not_hold_it_up() -> Result<()> {
    let mut server = Server::start(Program::Keelson, &[]).await?;
    let (watches, requests) = mpsc::unbounded_channel();
    let create = WatchCreateRequest { key: "k".into(), ..Default::default() };
    watches.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) })?;
    let mut watcher = WatchClient::connect(server.client_url()).await?;
    let mut watch = watcher.watch(UnboundedReceiverStream::new(requests)).await?.into_inner();
    ensure!(watch.message().await?.is_some_and(|response| response.created), "the watch is there");

    let mut leases = LeaseClient::connect(server.client_url()).await?;
    let id = leases.lease_grant(LeaseGrantRequest { ttl: 60, id: 0 }).await?.into_inner().id;
    let (renewals, requests) = mpsc::unbounded_channel();
    renewals.send(LeaseKeepAliveRequest { id })?;
    let mut renewed = leases.lease_keep_alive(UnboundedReceiverStream::new(requests)).await?.into_inner();
    ensure!(renewed.message().await?.is_some_and(|response| response.ttl == 60), "the lease is renewed");

    let (stopped, of_watch, of_lease) = tokio::join!(server.stop(), rest(&mut watch), rest(&mut renewed));
    stopped?;
    for ended in [of_watch?, of_lease?] {
        let told = ended.err().context("a stream has ended well")?;
        ensure!(told.code() == Code::Unavailable && told.message() == "etcdserver: server stopped", "{told}");
    }
    Ok(())
}
