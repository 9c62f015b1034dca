//! The Cluster service.

use std::sync::Arc;

use keelson_api::Error;
use keelson_api::etcdserverpb::{
    Member as ApiMember, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest, MemberUpdateResponse, ResponseHeader,
};
use keelson_api::keelson::peer::{lead_reply::Reply, lead_request::Request};

use crate::grpc::{Call, Status};
use crate::lead;
use crate::member::Member;

fn listed(member: &Member) -> Vec<ApiMember> {
    let api = |m: keelson_state::Member| ApiMember {
        id: m.id,
        name: m.name,
        peer_ur_ls: m.peer_urls,
        client_ur_ls: m.client_urls,
        is_learner: m.is_learner,
    };
    member.state.members().into_iter().map(api).collect()
}

/// Headers of this service carry no revision.
fn header(member: &Member) -> Option<ResponseHeader> {
    member.header(0).map(|h| ResponseHeader { revision: 0, ..h })
}

pub async fn member_list(member: Arc<Member>, call: &Call, request: MemberListRequest) -> Result<MemberListResponse, Status> {
    if request.linearizable {
        member.read_barrier().await?;
        // That users are asked for may have become known here just now.
        member.somebody(call).await?;
    }
    Ok(MemberListResponse { header: header(&member), members: listed(&member) })
}

/// Changes the list on the leader, and waits until the change shows here.
async fn change(member: &Arc<Member>, request: Request) -> Result<Reply, Status> {
    let reply = lead::ask(member, request).await?;
    member.read_barrier().await?;
    Ok(reply)
}

pub async fn member_add(member: Arc<Member>, request: MemberAddRequest) -> Result<MemberAddResponse, Status> {
    let sound = |url: &String| url::Url::parse(url).is_ok_and(|u| u.has_host() && u.port_or_known_default().is_some());
    if request.peer_ur_ls.is_empty() || !request.peer_ur_ls.iter().all(sound) {
        return Err(Error::MemberBadUrls.into());
    }
    let Reply::Added(id) = change(&member, Request::Add(request)).await? else { return Err(Error::Timeout.into()) };
    let members = listed(&member);
    let added = members.iter().find(|m| m.id == id).cloned();
    Ok(MemberAddResponse { header: header(&member), member: added, members })
}

pub async fn member_remove(member: Arc<Member>, request: MemberRemoveRequest) -> Result<MemberRemoveResponse, Status> {
    change(&member, Request::Remove(request)).await?;
    Ok(MemberRemoveResponse { header: header(&member), members: listed(&member) })
}

pub async fn member_update(member: Arc<Member>, request: MemberUpdateRequest) -> Result<MemberUpdateResponse, Status> {
    change(&member, Request::Update(request)).await?;
    Ok(MemberUpdateResponse { header: header(&member), members: listed(&member) })
}

pub async fn member_promote(member: Arc<Member>, request: MemberPromoteRequest) -> Result<MemberPromoteResponse, Status> {
    change(&member, Request::Promote(request)).await?;
    Ok(MemberPromoteResponse { header: header(&member), members: listed(&member) })
}
