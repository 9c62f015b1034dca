//! Clients that write and read through one member each, for as long as the run lasts, and note everything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use keelson_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::request_op::Request as Op;
use keelson_api::etcdserverpb::response_op::Response as Done;
use keelson_api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, ResponseHeader, TxnRequest,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::dial;
use super::record::{ABSENT, Answer, Outcome, Record, Records, Request};

/// Registers at a time. Few, so that clients meet.
const REGISTERS: u32 = 6;
/// Registers are used for so long and then no more, which keeps the search for an order short.
const EPOCH: Duration = Duration::from_secs(4);
/// Written together, always.
pub const TOGETHER: [&str; 3] = ["together/a", "together/b", "together/c"];
/// A client that has no answer by then asks something else.
const LIMIT: Duration = Duration::from_secs(2);
/// The server is told to give up a little earlier, so that its own word is heard if it has one.
const SERVER_LIMIT: Duration = Duration::from_millis(1800);
/// Longest pause between requests.
const PACE_MICROS: u64 = 4000;
/// Pause after an error.
const REST: Duration = Duration::from_millis(20);

pub struct Client {
    number: usize,
    member: usize,
    kv: KvClient<Channel>,
    rng: StdRng,
    begin: Instant,
    records: Records,
    stop: Arc<AtomicBool>,
    /// Newest value of each register that it heard of.
    heard: BTreeMap<String, String>,
    written: u64,
}

fn limited<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(SERVER_LIMIT);
    request
}

fn put_op(key: &str, value: &str) -> RequestOp {
    let put = PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() };
    RequestOp { request: Some(Op::RequestPut(put)) }
}

fn found(response: RangeResponse) -> BTreeMap<String, (String, i64)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    response.kvs.iter().map(|kv| (text(&kv.key), (text(&kv.value), kv.mod_revision))).collect()
}

fn answer(header: Option<ResponseHeader>, done: bool, found: BTreeMap<String, (String, i64)>) -> Answer {
    Answer { revision: header.map_or(0, |h| h.revision), done, found }
}

/// What an error proves.
fn outcome(status: &Status) -> Outcome {
    let refused = matches!(status.code(), Code::ResourceExhausted | Code::InvalidArgument) || dial::was_never_sent(status);
    if refused { Outcome::Refused } else { Outcome::Unknown }
}

impl Client {
    pub fn new(
        (number, member): (usize, usize),
        url: &str,
        seed: u64,
        begin: Instant,
        records: Records,
        stop: Arc<AtomicBool>,
    ) -> Result<Self> {
        let kv = KvClient::new(dial::lazily(url)?);
        let rng = StdRng::seed_from_u64(seed);
        Ok(Self { number, member, kv, rng, begin, records, stop, heard: BTreeMap::new(), written: 0 })
    }

    /// Until it is told to stop; its last request is noted like all others.
    pub async fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            let request = self.draw();
            let call = self.begin.elapsed();
            let outcome = match tokio::time::timeout(LIMIT, self.ask(&request)).await {
                Ok(Ok(answer)) => Outcome::Answered(answer),
                Ok(Err(status)) => outcome(&status),
                Err(_) => Outcome::Unknown,
            };
            let end = self.begin.elapsed();
            self.hear(&request, &outcome);
            let pause = match outcome {
                Outcome::Answered(_) => Duration::from_micros(self.rng.random_range(0..PACE_MICROS)),
                Outcome::Refused | Outcome::Unknown => REST,
            };
            let (client, member) = (self.number, self.member);
            self.records.lock().push(Record { client, member, request, call, end, outcome });
            tokio::time::sleep(pause).await;
        }
    }

    fn epoch(&self) -> String {
        format!("register/{:04}/", self.begin.elapsed().as_millis() / EPOCH.as_millis())
    }

    fn value(&mut self) -> String {
        self.written += 1;
        format!("{}.{}", self.number, self.written)
    }

    fn draw(&mut self) -> Request {
        let prefix = self.epoch();
        let key = format!("{prefix}{}", self.rng.random_range(0..REGISTERS));
        match self.rng.random_range(0..100) {
            0..35 => Request::Put { key, value: self.value() },
            35..55 => Request::Get { key },
            55..70 => {
                let expect = self.heard.get(&key).cloned().unwrap_or_else(|| ABSENT.to_owned());
                Request::Swap { key, expect, value: self.value() }
            }
            70..80 => Request::Delete { key },
            80..88 => Request::PutAll { keys: TOGETHER.map(str::to_owned).to_vec(), value: self.value() },
            88..94 => Request::List { prefix, serializable: self.rng.random_bool(0.3) },
            _ => Request::List { prefix: "together/".into(), serializable: self.rng.random_bool(0.3) },
        }
    }

    fn hear(&mut self, request: &Request, outcome: &Outcome) {
        let Outcome::Answered(answer) = outcome else { return };
        match request {
            Request::Put { key, value } => {
                self.heard.insert(key.clone(), value.clone());
            }
            Request::Swap { key, value, .. } if answer.done => {
                self.heard.insert(key.clone(), value.clone());
            }
            Request::Get { key } | Request::Swap { key, .. } => match answer.found.get(key) {
                Some((value, _)) => drop(self.heard.insert(key.clone(), value.clone())),
                None => drop(self.heard.remove(key)),
            },
            Request::Delete { key } => drop(self.heard.remove(key)),
            Request::PutAll { .. } | Request::List { .. } => {}
        }
    }

    async fn ask(&mut self, request: &Request) -> Result<Answer, Status> {
        match request {
            Request::Put { key, value } => {
                let put = PutRequest { key: key.clone().into(), value: value.clone().into(), ..Default::default() };
                let response = self.kv.put(limited(put)).await?.into_inner();
                Ok(answer(response.header, true, BTreeMap::new()))
            }
            Request::Get { key } => {
                let range = RangeRequest { key: key.clone().into(), ..Default::default() };
                let response = self.kv.range(limited(range)).await?.into_inner();
                Ok(answer(response.header, false, found(response)))
            }
            Request::Delete { key } => {
                let delete = DeleteRangeRequest { key: key.clone().into(), ..Default::default() };
                let response = self.kv.delete_range(limited(delete)).await?.into_inner();
                Ok(answer(response.header, response.deleted > 0, BTreeMap::new()))
            }
            Request::PutAll { keys, value } => {
                let success = keys.iter().map(|key| put_op(key, value)).collect();
                let response = self.kv.txn(limited(TxnRequest { success, ..Default::default() })).await?.into_inner();
                Ok(answer(response.header, response.succeeded, BTreeMap::new()))
            }
            Request::List { prefix, serializable } => {
                let mut end = prefix.clone().into_bytes();
                // A prefix ends with a slash, which is not the last of all bytes.
                *end.last_mut().expect("not empty") += 1;
                let range = RangeRequest {
                    key: prefix.clone().into(),
                    range_end: end.into(),
                    serializable: *serializable,
                    ..Default::default()
                };
                let response = self.kv.range(limited(range)).await?.into_inner();
                Ok(answer(response.header, false, found(response)))
            }
            Request::Swap { key, expect, value } => self.swap(key, expect, value).await,
        }
    }

    async fn swap(&mut self, key: &str, expect: &str, value: &str) -> Result<Answer, Status> {
        let (target, operand) = match expect {
            ABSENT => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
            _ => (CompareTarget::Value, TargetUnion::Value(expect.to_owned().into())),
        };
        let compare = Compare {
            result: CompareResult::Equal.into(),
            target: target.into(),
            key: key.to_owned().into(),
            target_union: Some(operand),
            ..Default::default()
        };
        let read = RangeRequest { key: key.to_owned().into(), ..Default::default() };
        let request = TxnRequest {
            compare: vec![compare],
            success: vec![put_op(key, value)],
            failure: vec![RequestOp { request: Some(Op::RequestRange(read)) }],
        };
        let mut response = self.kv.txn(limited(request)).await?.into_inner();
        let read = match response.responses.pop().and_then(|r| r.response) {
            Some(Done::ResponseRange(read)) => found(read),
            _ => BTreeMap::new(),
        };
        Ok(answer(response.header, response.succeeded, read))
    }
}
