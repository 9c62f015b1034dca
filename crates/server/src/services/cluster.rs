//! The Cluster service.

use std::sync::Arc;

use keelson_api::etcdserverpb::{Member as ApiMember, MemberListRequest, MemberListResponse, ResponseHeader};

use crate::grpc::Status;
use crate::member::Member;

pub async fn member_list(member: Arc<Member>, request: MemberListRequest) -> Result<MemberListResponse, Status> {
    if request.linearizable {
        member.read_barrier().await?;
    }
    let members = member.state.members().into_iter().map(|m| ApiMember {
        id: m.id,
        name: m.name,
        peer_ur_ls: m.peer_urls,
        client_ur_ls: m.client_urls,
        is_learner: m.is_learner,
    });
    // Headers of this service carry no revision.
    let header = member.header(0).map(|h| ResponseHeader { revision: 0, ..h });
    Ok(MemberListResponse { header, members: members.collect() })
}
