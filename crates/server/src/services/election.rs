//! The Election service: who is first in line leads, and the value of its key is what it has to say.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use keelson_api::etcdserverpb::{ResponseHeader, TxnRequest};
use keelson_api::mvccpb::KeyValue;
use keelson_api::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ProclaimResponse,
    ResignRequest, ResignResponse,
};
use keelson_api::{Code, Error, created_at};
use keelson_mvcc::{Event, EventKind, KeyRange};

use super::follow::Follower;
use super::line::{self, Caller, Line, Place};
use crate::grpc::{Call, FrameError, MessageReader, Respond, Status};
use crate::member::Member;

fn no_leader_key() -> Status {
    Status::new(Code::Unknown, "\"leader\" field must be provided")
}

fn not_leader() -> Status {
    Status::new(Code::Unknown, "election: not leader")
}

/// Changes the value of who leads, if it still does.
async fn announce(
    caller: &Caller,
    key: &Bytes,
    revision: i64,
    value: Bytes,
    lease: i64,
) -> Result<Option<ResponseHeader>, Status> {
    let compare = vec![created_at(key, revision)];
    let txn = TxnRequest { compare, success: vec![line::put(key, value, lease)], failure: Vec::new() };
    let announced = caller.txn(txn).await?;
    if announced.succeeded { Ok(announced.header) } else { Err(not_leader()) }
}

/// Takes somebody out of the line, unless a later one stands there by the same name.
fn stepping_down(key: &Bytes, revision: i64) -> TxnRequest {
    TxnRequest { compare: vec![created_at(key, revision)], success: vec![line::delete(key)], failure: Vec::new() }
}

pub async fn campaign(member: Arc<Member>, call: &Call, request: CampaignRequest) -> Result<CampaignResponse, Status> {
    let caller = Caller::of(member, call);
    let lease = caller.lease(request.lease).await?;
    let line = Line::of(&caller, &request.name);
    let key = line.key_of(lease);
    let enter = TxnRequest {
        compare: vec![created_at(&key, 0)],
        success: vec![line::put(&key, request.value.clone(), lease)],
        failure: vec![line::read_one(&key)],
    };
    let entered = caller.txn(enter).await?;
    let before = line::found(entered.responses.into_iter().next());
    let rev = before.as_ref().map_or_else(|| entered.header.map_or(0, |h| h.revision), |kv| kv.create_revision);
    let place = Place::new(&caller, stepping_down(&key, rev));
    if before.is_some_and(|kv| kv.value != request.value) {
        announce(&caller, &key, rev, request.value, lease).await?;
    }
    caller.wait(line.wait_for_turn(rev)).await?;
    place.keep();
    Ok(CampaignResponse { header: entered.header, leader: Some(LeaderKey { name: request.name, key, rev, lease }) })
}

pub async fn proclaim(member: Arc<Member>, call: &Call, request: ProclaimRequest) -> Result<ProclaimResponse, Status> {
    let leader = request.leader.ok_or_else(no_leader_key)?;
    let caller = Caller::of(member, call);
    let lease = caller.lease(leader.lease).await?;
    let header = announce(&caller, &leader.key, leader.rev, request.value, lease).await?;
    Ok(ProclaimResponse { header })
}

pub async fn resign(member: Arc<Member>, call: &Call, request: ResignRequest) -> Result<ResignResponse, Status> {
    let leader = request.leader.ok_or_else(no_leader_key)?;
    // As in etcd, who does not lead any more resigns in vain, and is not told.
    let resigned = Caller::of(member, call).txn(stepping_down(&leader.key, leader.rev)).await?;
    Ok(ResignResponse { header: resigned.header })
}

pub async fn leader(member: Arc<Member>, call: &Call, request: LeaderRequest) -> Result<LeaderResponse, Status> {
    let found = Line::of(&Caller::of(member, call), &request.name).read_first().await?;
    match found.kvs.into_iter().next() {
        Some(kv) => Ok(LeaderResponse { header: found.header, kv: Some(kv) }),
        None => Err(Status::new(Code::Unknown, "election: no leader")),
    }
}

pub async fn observe(member: Arc<Member>, call: &Call, mut reader: MessageReader, mut respond: Respond) -> Option<Code> {
    let request: LeaderRequest = match reader.next().await {
        Ok(Some(request)) => request,
        Ok(None) | Err(FrameError::Gone) => return Some(Code::Canceled),
        Err(FrameError::Refused(status)) => return respond.refuse(&status),
    };
    let Ok(mut sender) = respond.stream() else { return Some(Code::Canceled) };
    let line = Line::of(&Caller::of(member.clone(), call), &request.name);
    let mut leaders = Leaders { line, member: member.clone(), followed: None };
    let mut leader_lost = std::pin::pin!(member.leader_lost(call));
    loop {
        let next = tokio::select! {
            next = leaders.next() => next,
            () = sender.reset() => return Some(Code::Canceled),
            () = &mut leader_lost => return sender.finish(Err(&Error::NoLeader.into())),
            () = member.stopped() => return sender.finish(Err(&Error::Stopped.into())),
        };
        // As in etcd, who cannot be told more is told that this is all.
        let Ok(response) = next else { return sender.finish(Ok(())) };
        if sender.send(&response).await.is_err() {
            return Some(Code::Canceled);
        }
    }
}

/// The leaders of an election, one after the other, and what each has to say.
struct Leaders {
    line: Line,
    member: Arc<Member>,
    /// The key of who leads now, and what has happened to it that was not told yet.
    followed: Option<(Follower, VecDeque<Event>)>,
}

impl Leaders {
    async fn next(&mut self) -> Result<LeaderResponse, Status> {
        loop {
            let Some((follower, events)) = &mut self.followed else { return self.find().await };
            match events.pop_front() {
                Some(event) if event.kind == EventKind::Put => {
                    let header = self.member.header(event.kv.mod_revision);
                    return Ok(LeaderResponse { header, kv: Some(event.kv) });
                }
                Some(_) => self.followed = None,
                None => events.extend(follower.next().await?),
            }
        }
    }

    /// Finds out who leads, or waits for the first who stands in line.
    async fn find(&mut self) -> Result<LeaderResponse, Status> {
        let found = self.line.read_first().await?;
        let revision = found.header.map_or(0, |h| h.revision);
        let (header, kv) = match found.kvs.into_iter().next() {
            Some(kv) => (found.header, kv),
            None => {
                let kv = self.first_to_come(revision + 1).await?;
                (self.member.header(kv.mod_revision), kv)
            }
        };
        let from = header.map_or(kv.mod_revision, |h| h.revision) + 1;
        let follower = Follower::new(&self.member, KeyRange::One(kv.key.to_vec()), from);
        self.followed = Some((follower, VecDeque::new()));
        Ok(LeaderResponse { header, kv: Some(kv) })
    }

    async fn first_to_come(&self, from: i64) -> Result<KeyValue, Status> {
        let mut follower = Follower::new(&self.member, self.line.keys(), from);
        loop {
            let put = follower.next().await?.into_iter().find(|e| e.kind == EventKind::Put);
            if let Some(event) = put {
                return Ok(event.kv);
            }
        }
    }
}
