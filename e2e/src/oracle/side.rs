//! One of the two servers, as the oracle sees it: plays a step and says what came of it.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::time::Duration;

use anyhow::Result;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::lease_client::LeaseClient;
use keelson_api::etcdserverpb::watch_client::WatchClient;
use keelson_api::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, RangeRequest, ResponseHeader};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use super::generate::Scene;
use super::lease_names::LeaseNames;
use super::normal;
use super::outcome::{Outcome, StreamedRange};
use super::step::Step;
use super::watching::{Stall, Stream};

const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// Leases that could expire during a run would make it depend on time.
const SHORT_TTL: i64 = 600;

pub struct Side {
    pub(super) kv: KvClient<Channel>,
    pub(super) watch: WatchClient<Channel>,
    pub(super) streams: BTreeMap<usize, Stream>,
    /// The highest revision seen in any header.
    pub(super) revision: i64,
    pub(super) compacted: i64,
    pub(super) url: String,
    lease: LeaseClient<Channel>,
    names: LeaseNames,
}

impl Side {
    pub async fn connect(url: &str) -> Result<Self> {
        let channel = Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true).connect().await?;
        Ok(Self {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            watch: WatchClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            lease: LeaseClient::new(channel),
            names: LeaseNames::default(),
            streams: BTreeMap::new(),
            revision: 1,
            compacted: 0,
            url: url.to_owned(),
        })
    }

    pub fn scene(&self) -> Scene {
        let watches = self.streams.iter().flat_map(|(&number, stream)| stream.live.keys().map(move |&id| (number, id)));
        Scene { revision: self.revision, compacted: self.compacted, watches: watches.collect() }
    }

    pub async fn play(&mut self, step: &Step) -> Outcome {
        let played = match step {
            Step::LeaseGrant(_)
            | Step::LeaseRevoke(_)
            | Step::LeaseTimeToLive(_)
            | Step::LeaseLeases(_)
            | Step::LeaseKeepAlive(_) => self.play_lease(step).await,
            Step::Watch(stream, request) => {
                self.play_watch(*stream, request).await.map(|()| Outcome::Watching).map_err(Outcome::Lost)
            }
            Step::CloseStream(stream) => self.close_stream(*stream).await.map_err(Outcome::Lost),
            Step::Settle => self.settle().await.map(|()| self.watched()).map_err(Outcome::Lost),
            _ => self.play_kv(step).await,
        };
        played.unwrap_or_else(|other| other)
    }

    /// What all watches were told since the last call.
    fn watched(&mut self) -> Outcome {
        let names = &self.names;
        let told = self.streams.iter_mut().map(|(&number, stream)| (number, stream.history.take(names)));
        Outcome::Watched(told.collect())
    }

    /// A client goes away from one of its streams, without a word, once it has been told everything.
    async fn close_stream(&mut self, number: usize) -> Result<Outcome, Stall> {
        self.settle().await?;
        let told = self.watched();
        self.streams.remove(&number);
        Ok(told)
    }

    async fn play_kv(&mut self, step: &Step) -> Result<Outcome, Outcome> {
        Ok(match step {
            Step::Range(request) => {
                let mut response = answer(self.kv.range(request.clone())).await?;
                self.note(&response.header);
                normal::range(&mut response, &self.names);
                Outcome::Range(response)
            }
            Step::RangeStream(request) => Outcome::RangeStream(self.range_stream(request).await?),
            Step::Put(request) => {
                let mut response = answer(self.kv.put(self.names.put(request.clone()))).await?;
                self.note(&response.header);
                normal::put(&mut response, &self.names);
                Outcome::Put(response)
            }
            Step::DeleteRange(request) => {
                let mut response = answer(self.kv.delete_range(request.clone())).await?;
                self.note(&response.header);
                normal::delete_range(&mut response, &self.names);
                Outcome::DeleteRange(response)
            }
            Step::Txn(request) => {
                let mut response = answer(self.kv.txn(self.names.txn(request.clone()))).await?;
                self.note(&response.header);
                normal::txn(&mut response, &self.names);
                Outcome::Txn(response)
            }
            Step::Compact(request) => {
                // What is compacted while a watch is still behind is told or not, by chance.
                self.settle().await.map_err(Outcome::Lost)?;
                let mut response = answer(self.kv.compact(*request)).await?;
                self.compacted = request.revision;
                self.note(&response.header);
                normal::header(&mut response.header);
                Outcome::Compact(response)
            }
            _ => unreachable!("{} is not a KV request", step.kind()),
        })
    }

    async fn range_stream(&mut self, request: &RangeRequest) -> Result<StreamedRange, Outcome> {
        let mut chunks = answer(self.kv.range_stream(request.clone())).await?;
        let mut range = StreamedRange::default();
        loop {
            let Ok(chunk) = timeout(ANSWER_LIMIT, chunks.message()).await else {
                return Err(Outcome::Lost(format!("no chunk within {ANSWER_LIMIT:?}")));
            };
            match chunk {
                Ok(Some(chunk)) => range.add(chunk.range_response),
                Ok(None) => break,
                // Refused before the first chunk is the same as refused at once.
                Err(status) if range == StreamedRange::default() => return Err(refused(status)),
                Err(status) => {
                    range.end = Some((status.code(), status.message().to_owned()));
                    break;
                }
            }
        }
        self.note(&range.merged.header);
        normal::range(&mut range.merged, &self.names);
        Ok(range)
    }

    async fn play_lease(&mut self, step: &Step) -> Result<Outcome, Outcome> {
        Ok(match step {
            Step::LeaseGrant(request) => self.lease_grant(*request).await?,
            Step::LeaseRevoke(request) => self.lease_revoke(self.names.id(request.id)).await?,
            Step::LeaseTimeToLive(request) => {
                let mut request = *request;
                request.id = self.names.id(request.id);
                let mut response = answer(self.lease.lease_time_to_live(request)).await?;
                normal::lease_time_to_live(&mut response, &self.names);
                Outcome::LeaseTimeToLive(response)
            }
            Step::LeaseLeases(request) => {
                let mut response = answer(self.lease.lease_leases(*request)).await?;
                normal::lease_leases(&mut response, &self.names);
                Outcome::LeaseLeases(response)
            }
            Step::LeaseKeepAlive(request) => {
                let request = LeaseKeepAliveRequest { id: self.names.id(request.id) };
                let mut answers = answer(self.lease.lease_keep_alive(tokio_stream::once(request))).await?;
                match answer(async { answers.message().await.map(Response::new) }).await? {
                    Some(mut response) => {
                        normal::lease_keep_alive(&mut response, &self.names);
                        Outcome::LeaseKeepAlive(response)
                    }
                    None => refused(Status::ok("the stream ended without an answer")),
                }
            }
            _ => unreachable!("{} is not a lease request", step.kind()),
        })
    }

    async fn lease_grant(&mut self, mut request: LeaseGrantRequest) -> Result<Outcome, Outcome> {
        let server_picks = request.id == 0;
        request.id = self.names.id(request.id);
        let mut grant = answer(self.lease.lease_grant(request)).await?;
        // An id that a server may not pick stays what it is, and differs from the other's name.
        if server_picks && grant.id > 0 {
            self.names.add(grant.id);
        }
        let id = grant.id;
        normal::lease_grant(&mut grant, &self.names);
        if grant.ttl >= SHORT_TTL {
            return Ok(Outcome::LeaseGrant(grant));
        }
        let revoke = self.lease_revoke(id).await.unwrap_or_else(|other| other);
        Ok(Outcome::ShortLease { grant, revoke: Box::new(revoke) })
    }

    async fn lease_revoke(&mut self, id: i64) -> Result<Outcome, Outcome> {
        let mut response = answer(self.lease.lease_revoke(LeaseRevokeRequest { id })).await?;
        self.note(&response.header);
        normal::header(&mut response.header);
        Ok(Outcome::LeaseRevoke(response))
    }

    pub(super) fn note(&mut self, header: &Option<ResponseHeader>) {
        if let Some(header) = header {
            self.revision = self.revision.max(header.revision);
        }
    }
}

/// The response, or the outcome that there is none.
pub(super) async fn answer<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Outcome> {
    match timeout(ANSWER_LIMIT, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(refused(status)),
        Err(_) => Err(Outcome::Lost(format!("no answer within {ANSWER_LIMIT:?}"))),
    }
}

/// A status that the server sent has no source; one that the client made up from a broken
/// connection has.
fn refused(status: Status) -> Outcome {
    match status.source() {
        Some(source) => Outcome::Lost(format!("{status}: {source}")),
        None => Outcome::Refused { code: status.code(), message: status.message().to_owned() },
    }
}
