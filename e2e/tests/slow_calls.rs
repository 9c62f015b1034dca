//! What the log tells of calls and applies that take long: the same of the same requests, on etcd and on the server under test.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::request_op::Request;
use keelson_api::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use keelson_e2e::wait;
use serde_json::{Map, Value};

const LIMIT: Duration = Duration::from_secs(30);
const SECRET: &str = "nobody is to read this";
/// A key that nobody else writes, which shows up in each line that is looked for.
const KEY: &str = "slow";

fn put() -> PutRequest {
    PutRequest { key: KEY.into(), value: SECRET.into(), ..Default::default() }
}

fn range() -> RangeRequest {
    RangeRequest { key: KEY.into(), range_end: "t".into(), limit: 5, ..Default::default() }
}

/// One request of each kind. The transaction takes its second branch.
async fn ask(server: &Server) -> Result<()> {
    let mut kv = KvClient::connect(server.client_url()).await?;
    let op = |request| RequestOp { request: Some(request) };
    kv.put(put()).await?;
    kv.range(range()).await?;
    let gone = keelson_api::etcdserverpb::Compare { key: KEY.into(), ..Default::default() };
    let failure = vec![op(Request::RequestPut(put())), op(Request::RequestRange(range()))];
    kv.txn(TxnRequest { compare: vec![gone], failure, ..Default::default() }).await?;
    kv.txn(TxnRequest { success: vec![op(Request::RequestRange(range()))], ..Default::default() }).await?;
    kv.delete_range(DeleteRangeRequest { key: KEY.into(), ..Default::default() }).await?;
    Ok(())
}

type Line = Map<String, Value>;

/// Lines with this message that are about the key.
fn lines(server: &Server, message: &str, field: &str) -> Vec<Line> {
    let all = server.log();
    let lines = all.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let told = |line: &Line| line.get(field).and_then(Value::as_str).is_some_and(|text| text.contains(KEY));
    lines.filter(|line| line.get("msg").is_some_and(|msg| msg == message) && told(line)).collect()
}

fn text<'a>(line: &'a Line, field: &str) -> &'a str {
    line.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Of each call: how many and how long its requests are, and how many keys were answered.
fn figures(lines: &[Line]) -> Vec<(String, [Option<i64>; 3])> {
    let number = |line: &Line, field: &str| line.get(field).and_then(Value::as_i64);
    let of = |line: &Line| ["request count", "request size", "response count"].map(|field| number(line, field));
    lines.iter().map(|line| (text(line, "response type").to_owned(), of(line))).collect()
}

/// How often applies of each prefix were told.
fn prefixes(lines: &[Line]) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for line in lines {
        *counted.entry(text(line, "prefix").to_owned()).or_default() += 1;
    }
    counted
}

const CALLS: usize = 5;

#[tokio::test]
async fn calls_and_applies_that_take_long_are_told_with_what_etcd_tells_of_them() -> Result<()> {
    let flags = ["--log-format=json", "--warning-unary-request-duration=1ns", "--warning-apply-duration=1ns"];
    let mut told = Vec::new();
    for program in [Program::Etcd, Program::under_test()?] {
        let server = Server::start(program, &flags).await?;
        ask(&server).await?;
        wait::until("all calls are told", LIMIT, async || Ok(lines(&server, "request stats", "request content").len() >= CALLS))
            .await?;
        wait::until("all applies are told", LIMIT, async || {
            Ok(lines(&server, "apply request took too long", "request").len() >= CALLS)
        })
        .await?;
        ensure!(!server.log().contains(SECRET), "a value is in the log of {}", program.name());
        let calls = lines(&server, "request stats", "request content");
        let applies = lines(&server, "apply request took too long", "request");
        told.push((calls, applies));
    }
    let [(etcd_calls, etcd_applies), (calls, applies)] = &told[..] else { unreachable!("there are two") };
    assert_eq!(figures(calls), figures(etcd_calls));
    assert_eq!(prefixes(applies), prefixes(etcd_applies));
    for (theirs, ours) in [(etcd_calls, calls), (etcd_applies, applies)] {
        let (theirs, ours) = (theirs.first().context("no line")?, ours.first().context("no line")?);
        let missing: Vec<_> = theirs.keys().filter(|field| !ours.contains_key(*field)).collect();
        ensure!(missing.is_empty(), "{missing:?} is missing in {ours:?}");
    }
    ensure!(calls.iter().all(|line| text(line, "remote").starts_with("127.0.0.1:")), "{calls:?}");
    Ok(())
}
