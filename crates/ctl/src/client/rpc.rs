//! The API's calls, one method each.

use keelson_api::etcdserverpb::auth_client::AuthClient;
use keelson_api::etcdserverpb::cluster_client::ClusterClient;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::lease_client::LeaseClient;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::*;
use tonic::Streaming;

use super::call::{Client, Repeat, Wire};
use super::config::Ways;
use crate::exit::Failure;

macro_rules! calls {
    ($($repeat:ident $service:ident $name:ident($request:ident) -> $response:ident;)*) => {
        impl Client {$(
            pub async fn $name(&self, request: $request) -> Result<$response, Failure> {
                let ways = self.ways();
                let send = async |wire: Wire, request: $request| $service(wire, ways).$name(request).await;
                self.call(Repeat::$repeat, request, send).await
            }
        )*}
    };
}

// What changes something is sent once, but for leases, where a second time does no harm.
calls! {
    Yes kv range(RangeRequest) -> RangeResponse;
    No kv put(PutRequest) -> PutResponse;
    No kv delete_range(DeleteRangeRequest) -> DeleteRangeResponse;
    No kv txn(TxnRequest) -> TxnResponse;
    No kv compact(CompactionRequest) -> CompactionResponse;

    Yes lease lease_grant(LeaseGrantRequest) -> LeaseGrantResponse;
    Yes lease lease_revoke(LeaseRevokeRequest) -> LeaseRevokeResponse;
    Yes lease lease_time_to_live(LeaseTimeToLiveRequest) -> LeaseTimeToLiveResponse;
    Yes lease lease_leases(LeaseLeasesRequest) -> LeaseLeasesResponse;

    Yes cluster member_list(MemberListRequest) -> MemberListResponse;
    No cluster member_add(MemberAddRequest) -> MemberAddResponse;
    No cluster member_remove(MemberRemoveRequest) -> MemberRemoveResponse;
    No cluster member_update(MemberUpdateRequest) -> MemberUpdateResponse;
    No cluster member_promote(MemberPromoteRequest) -> MemberPromoteResponse;

    Yes maintenance alarm(AlarmRequest) -> AlarmResponse;
    Yes maintenance status(StatusRequest) -> StatusResponse;
    Yes maintenance hash_kv(HashKvRequest) -> HashKvResponse;
    Yes maintenance move_leader(MoveLeaderRequest) -> MoveLeaderResponse;
    No maintenance defragment(DefragmentRequest) -> DefragmentResponse;
    No maintenance downgrade(DowngradeRequest) -> DowngradeResponse;

    No auth auth_enable(AuthEnableRequest) -> AuthEnableResponse;
    No auth auth_disable(AuthDisableRequest) -> AuthDisableResponse;
    No auth auth_status(AuthStatusRequest) -> AuthStatusResponse;
    No auth user_add(AuthUserAddRequest) -> AuthUserAddResponse;
    Yes auth user_get(AuthUserGetRequest) -> AuthUserGetResponse;
    Yes auth user_list(AuthUserListRequest) -> AuthUserListResponse;
    No auth user_delete(AuthUserDeleteRequest) -> AuthUserDeleteResponse;
    No auth user_change_password(AuthUserChangePasswordRequest) -> AuthUserChangePasswordResponse;
    No auth user_grant_role(AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse;
    No auth user_revoke_role(AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse;
    No auth role_add(AuthRoleAddRequest) -> AuthRoleAddResponse;
    Yes auth role_get(AuthRoleGetRequest) -> AuthRoleGetResponse;
    Yes auth role_list(AuthRoleListRequest) -> AuthRoleListResponse;
    No auth role_delete(AuthRoleDeleteRequest) -> AuthRoleDeleteResponse;
    No auth role_grant_permission(AuthRoleGrantPermissionRequest) -> AuthRoleGrantPermissionResponse;
    No auth role_revoke_permission(AuthRoleRevokePermissionRequest) -> AuthRoleRevokePermissionResponse;
}

impl Client {
    /// The pieces of a range as one answer.
    pub async fn range_stream(&self, request: RangeRequest) -> Result<RangeResponse, Failure> {
        let whole = async {
            let mut pieces = kv(self.wire(false).await, self.ways()).range_stream(request).await?.into_inner();
            let mut whole = RangeResponse::default();
            while let Some(piece) = pieces.message().await? {
                let Some(piece) = piece.range_response else { continue };
                whole.header = piece.header.or(whole.header);
                whole.kvs.extend(piece.kvs);
                whole.more |= piece.more;
                whole.count = whole.count.max(piece.count);
            }
            Ok::<_, Failure>(whole)
        };
        self.within(whole).await
    }

    /// The pieces of a snapshot, as they come.
    pub async fn snapshot(&self) -> Result<Streaming<SnapshotResponse>, Failure> {
        let send = async |wire: Wire, request: SnapshotRequest| maintenance(wire, self.ways()).snapshot(request).await;
        self.call(Repeat::Yes, SnapshotRequest {}, send).await
    }
}

/// A client of one service that keeps to the sizes the user gave.
macro_rules! services {
    ($($name:ident $client:ident;)*) => {$(
        pub(super) fn $name(wire: Wire, ways: &Ways) -> $client<Wire> {
            $client::new(wire).max_decoding_message_size(ways.response_bytes).max_encoding_message_size(ways.request_bytes)
        }
    )*};
}

services! {
    kv KvClient;
    lease LeaseClient;
    cluster ClusterClient;
    maintenance MaintenanceClient;
    auth AuthClient;
}
