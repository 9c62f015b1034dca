//! Questions that only the leader can answer, asked from any member: lease clocks, and changes of the
//! member list. A member that does not lead passes them on.

use std::sync::Arc;
use std::time::Duration;

use keelson_api::Error;
use keelson_api::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};
use keelson_api::keelson::peer::{LeadReply, LeadRequest, lead_reply::Reply, lead_request::Request};
use keelson_consensus::{PeerError, Renewal};

use crate::member::Member;
use crate::membership;

/// How long a member waits before it looks for a leader again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Puts a question to the leader, whoever that is, until it is answered or the time is up.
pub async fn ask(member: &Arc<Member>, request: Request) -> Result<Reply, Error> {
    let deadline = tokio::time::Instant::now() + member.request_timeout();
    loop {
        let status = member.status();
        let reply = match status.leader {
            Some(leader) if leader == member.member_id => Some(here(member, request.clone()).await),
            Some(leader) => {
                let message = LeadRequest { request: Some(request.clone()) };
                match tokio::time::timeout_at(deadline, member.peers.ask::<LeadReply>(leader, "Lead", &message)).await {
                    Ok(Ok(reply)) => reply.reply,
                    Ok(Err(PeerError::Unreachable(_))) => None,
                    // A renewal or a question may be asked twice, a change of members may not.
                    Ok(Err(PeerError::Lost(_))) if matches!(request, Request::Renew(_) | Request::TimeToLive(_)) => None,
                    Ok(Err(PeerError::Lost(_))) => return Err(Error::TimeoutLeaderFail),
                    Err(_) => return Err(Error::Timeout),
                }
            }
            None => None,
        };
        match reply {
            Some(Reply::Error(text)) => {
                return Err(Error::ALL.iter().copied().find(|e| e.text() == text).unwrap_or(Error::Timeout));
            }
            Some(Reply::NotLeader(_)) | None => {}
            Some(reply) => return Ok(reply),
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(if status.leader.is_none() { Error::NoLeader } else { Error::Timeout });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Seconds a lease lives on after it was renewed, 0 if it is gone.
pub async fn renew_lease(member: &Arc<Member>, id: i64) -> Result<i64, Error> {
    // Nothing is asked of others, and nothing wrapped, where the clock is here.
    if member.status().leader == Some(member.member_id) {
        match renew(member, id).await {
            // Another member has come to lead.
            Err(Error::NotLeader) => {}
            renewed => return renewed,
        }
    }
    match ask(member, Request::Renew(LeaseKeepAliveRequest { id })).await? {
        Reply::Renewed(renewed) => Ok(renewed.ttl),
        _ => Err(Error::Timeout),
    }
}

/// Answers another member.
pub async fn answer(member: &Arc<Member>, request: LeadRequest) -> LeadReply {
    let reply = match request.request {
        Some(request) => here(member, request).await,
        None => Reply::Error(Error::Timeout.text().into()),
    };
    LeadReply { reply: Some(reply) }
}

async fn here(member: &Arc<Member>, request: Request) -> Reply {
    if member.status().leader != Some(member.member_id) {
        return Reply::NotLeader(true);
    }
    let done = match request {
        Request::Renew(r) => {
            renew(member, r.id).await.map(|ttl| Reply::Renewed(LeaseKeepAliveResponse { header: None, id: r.id, ttl }))
        }
        Request::TimeToLive(r) => time_to_live(member, &r).await.map(Reply::TimeToLive),
        Request::Add(r) => membership::add(member, &r).await.map(Reply::Added),
        Request::Remove(r) => membership::remove(member, r.id).await.map(|()| Reply::Done(true)),
        Request::Update(r) => membership::update(member, r).await.map(|()| Reply::Done(true)),
        Request::Promote(r) => membership::promote(member, r.id).await.map(|()| Reply::Done(true)),
    };
    done.unwrap_or_else(|e| if e == Error::NotLeader { Reply::NotLeader(true) } else { Reply::Error(e.text().into()) })
}

/// Seconds the lease lives on, 0 if it is gone.
async fn renew(member: &Member, id: i64) -> Result<i64, Error> {
    loop {
        let renewal = tokio::time::timeout(member.request_timeout(), member.node.renew_lease(&member.lessor, id)).await;
        match renewal.map_err(|_| Error::Timeout)?? {
            Renewal::Renewed(ttl) => {
                member.metrics.leases_renewed.inc();
                return Ok(ttl);
            }
            Renewal::NotFound => return Ok(0),
            Renewal::Ending(revoked) => {
                // An error means that the lease was revoked; then the next look finds it gone.
                if tokio::time::timeout(member.request_timeout(), revoked).await.is_err() {
                    return Err(Error::Timeout);
                }
            }
        }
    }
}

async fn time_to_live(member: &Member, request: &LeaseTimeToLiveRequest) -> Result<LeaseTimeToLiveResponse, Error> {
    member.read_barrier().await?;
    let begun = tokio::time::timeout(member.request_timeout(), member.node.begin_leases(&member.lessor)).await;
    begun.map_err(|_| Error::Timeout)??;
    let id = request.id;
    let Some((granted_ttl, ttl)) = member.lessor.time_to_live(id) else {
        return Ok(LeaseTimeToLiveResponse { id, ttl: -1, ..Default::default() });
    };
    let lease = request.keys.then(|| member.state.lease(id)).flatten();
    let keys = lease.map_or_else(Vec::new, |l| l.keys.into_iter().collect());
    Ok(LeaseTimeToLiveResponse { header: None, id, ttl, granted_ttl, keys })
}
