//! The Lease service.

use std::collections::BTreeSet;
use std::sync::Arc;

use keelson_api::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use keelson_api::keelson::command::Action;
use keelson_api::keelson::peer::{lead_reply::Reply, lead_request::Request};
use keelson_api::keelson::{LeaseGrant, LeaseRevoke};
use keelson_api::{Code, Error};
use keelson_state::{Reply as Applied, Right};

use crate::grpc::{Call, FrameError, MessageReader, Respond, Status};
use crate::lead;
use crate::member::Member;

/// What a lease counts against the quota before it is granted, in bytes.
const GRANT_COST: u64 = 64;

pub async fn grant(member: Arc<Member>, request: LeaseGrantRequest) -> Result<LeaseGrantResponse, Status> {
    member.check_quota(GRANT_COST).await?;
    let mut id = request.id;
    while id == 0 {
        id = rand::random::<i64>() & i64::MAX;
    }
    let ttl = request.ttl.max(member.min_lease_ttl());
    match member.propose(Action::LeaseGrant(LeaseGrant { id, ttl })).await? {
        Applied::LeaseGrant { id, ttl, revision } => {
            Ok(LeaseGrantResponse { header: member.header(revision), id, ttl, error: String::new() })
        }
        _ => Err(Error::LeaseNotFound.into()),
    }
}

pub async fn revoke(member: Arc<Member>, call: &Call, request: LeaseRevokeRequest) -> Result<LeaseRevokeResponse, Status> {
    let action = Action::LeaseRevoke(LeaseRevoke { id: request.id, expired_in_term: 0 });
    let asker = member.asker(call).await?;
    match member.propose_for(asker, action).await? {
        Applied::LeaseRevoke { revision } => Ok(LeaseRevokeResponse { header: member.header(revision) }),
        _ => Err(Error::LeaseNotFound.into()),
    }
}

/// Who may not read all keys of a lease is not told which they are; of the time it is told.
pub async fn time_to_live(
    member: Arc<Member>,
    call: &Call,
    request: LeaseTimeToLiveRequest,
) -> Result<LeaseTimeToLiveResponse, Status> {
    let asker = member.asker(call).await?;
    if let Some(asker) = asker.as_ref().filter(|_| request.keys) {
        member.state.check_lease(asker.caller(), Right::Read, request.id)?;
    }
    let Reply::TimeToLive(mut response) = lead::ask(&member, Request::TimeToLive(request)).await? else {
        return Err(Error::LeaseNotFound.into());
    };
    if let Some(asker) = &asker {
        // The leader may have had keys that were not here yet.
        let keys: BTreeSet<_> = response.keys.iter().cloned().collect();
        member.state.users().check_keys(asker.caller(), Right::Read, &keys)?;
    }
    response.header = member.header(member.state.store.revision());
    Ok(response)
}

pub async fn leases(member: Arc<Member>, call: &Call, _: LeaseLeasesRequest) -> Result<LeaseLeasesResponse, Status> {
    member.read_barrier().await?;
    let ids = member.lessor.by_end();
    if let Some(asker) = member.somebody(call).await? {
        ids.iter().try_for_each(|id| member.state.check_lease(asker.caller(), Right::Read, *id))?;
    }
    let leases = ids.into_iter().map(|id| LeaseStatus { id }).collect();
    Ok(LeaseLeasesResponse { header: member.header(member.state.store.revision()), leases })
}

/// Whoever keeps a lease alive must be able to write all its keys.
async fn may_renew(member: &Member, call: &Call, id: i64) -> Result<(), Error> {
    match member.somebody(call).await? {
        Some(asker) => member.state.check_lease(asker.caller(), Right::Write, id),
        None => Ok(()),
    }
}

pub async fn keep_alive(member: Arc<Member>, call: &Call, mut reader: MessageReader, respond: Respond) -> Option<Code> {
    let Ok(mut sender) = respond.stream() else { return Some(Code::Canceled) };
    let mut leader_lost = std::pin::pin!(member.leader_lost(call));
    loop {
        let next = tokio::select! {
            next = reader.next::<LeaseKeepAliveRequest>() => next,
            () = member.stopped() => return sender.finish(Err(&Error::Stopped.into())),
            () = &mut leader_lost => return sender.finish(Err(&Error::NoLeader.into())),
        };
        let request = match next {
            Ok(Some(request)) => request,
            Ok(None) => return sender.finish(Ok(())),
            Err(FrameError::Gone) => return Some(Code::Canceled),
            Err(FrameError::Refused(status)) => {
                member.metrics.stream_failed("lease-keepalive", &status);
                return sender.finish(Err(&status));
            }
        };
        member.metrics.received(super::Method::LeaseKeepAlive);
        // The header is taken before the renewal, as etcd does it.
        let header = member.header(member.state.store.revision());
        if let Err(e) = may_renew(&member, call, request.id).await {
            return sender.finish(Err(&e.into()));
        }
        let renewed = tokio::select! {
            renewed = lead::renew_lease(&member, request.id) => renewed,
            () = &mut leader_lost => Err(Error::NoLeader),
        };
        let ttl = match renewed {
            Ok(ttl) => ttl,
            Err(e) => return sender.finish(Err(&e.into())),
        };
        let response = LeaseKeepAliveResponse { header, id: request.id, ttl };
        if sender.send(&response).await.is_err() {
            return Some(Code::Canceled);
        }
        member.metrics.sent(super::Method::LeaseKeepAlive);
    }
}
