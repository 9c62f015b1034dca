//! All methods of all services.

macro_rules! methods {
    ($($name:ident $service:literal $method:literal $kind:literal;)*) => {
        /// A gRPC method.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Method { $($name,)* }

        impl Method {
            /// Every method, in the order of its number.
            pub const ALL: &'static [Method] = &[$(Method::$name,)*];

            /// The method of an HTTP/2 path.
            #[must_use]
            pub fn of(path: &str) -> Option<Self> {
                match path {
                    $(concat!("/", $service, "/", $method) => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Name without the service.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $method,)* }
            }

            /// Full name of the service.
            #[must_use]
            pub const fn service(self) -> &'static str {
                match self { $(Self::$name => $service,)* }
            }

            /// unary, server_stream or bidi_stream, as metrics label it.
            #[must_use]
            pub const fn kind(self) -> &'static str {
                match self { $(Self::$name => $kind,)* }
            }
        }
    };
}

methods! {
    Range "etcdserverpb.KV" "Range" "unary";
    RangeStream "etcdserverpb.KV" "RangeStream" "server_stream";
    Put "etcdserverpb.KV" "Put" "unary";
    DeleteRange "etcdserverpb.KV" "DeleteRange" "unary";
    Txn "etcdserverpb.KV" "Txn" "unary";
    Compact "etcdserverpb.KV" "Compact" "unary";
    Watch "etcdserverpb.Watch" "Watch" "bidi_stream";
    LeaseGrant "etcdserverpb.Lease" "LeaseGrant" "unary";
    LeaseRevoke "etcdserverpb.Lease" "LeaseRevoke" "unary";
    LeaseKeepAlive "etcdserverpb.Lease" "LeaseKeepAlive" "bidi_stream";
    LeaseTimeToLive "etcdserverpb.Lease" "LeaseTimeToLive" "unary";
    LeaseLeases "etcdserverpb.Lease" "LeaseLeases" "unary";
    MemberAdd "etcdserverpb.Cluster" "MemberAdd" "unary";
    MemberRemove "etcdserverpb.Cluster" "MemberRemove" "unary";
    MemberUpdate "etcdserverpb.Cluster" "MemberUpdate" "unary";
    MemberList "etcdserverpb.Cluster" "MemberList" "unary";
    MemberPromote "etcdserverpb.Cluster" "MemberPromote" "unary";
    Alarm "etcdserverpb.Maintenance" "Alarm" "unary";
    Status "etcdserverpb.Maintenance" "Status" "unary";
    Defragment "etcdserverpb.Maintenance" "Defragment" "unary";
    Hash "etcdserverpb.Maintenance" "Hash" "unary";
    HashKv "etcdserverpb.Maintenance" "HashKV" "unary";
    Snapshot "etcdserverpb.Maintenance" "Snapshot" "server_stream";
    MoveLeader "etcdserverpb.Maintenance" "MoveLeader" "unary";
    Downgrade "etcdserverpb.Maintenance" "Downgrade" "unary";
    AuthEnable "etcdserverpb.Auth" "AuthEnable" "unary";
    AuthDisable "etcdserverpb.Auth" "AuthDisable" "unary";
    AuthStatus "etcdserverpb.Auth" "AuthStatus" "unary";
    Authenticate "etcdserverpb.Auth" "Authenticate" "unary";
    UserAdd "etcdserverpb.Auth" "UserAdd" "unary";
    UserGet "etcdserverpb.Auth" "UserGet" "unary";
    UserList "etcdserverpb.Auth" "UserList" "unary";
    UserDelete "etcdserverpb.Auth" "UserDelete" "unary";
    UserChangePassword "etcdserverpb.Auth" "UserChangePassword" "unary";
    UserGrantRole "etcdserverpb.Auth" "UserGrantRole" "unary";
    UserRevokeRole "etcdserverpb.Auth" "UserRevokeRole" "unary";
    RoleAdd "etcdserverpb.Auth" "RoleAdd" "unary";
    RoleGet "etcdserverpb.Auth" "RoleGet" "unary";
    RoleList "etcdserverpb.Auth" "RoleList" "unary";
    RoleDelete "etcdserverpb.Auth" "RoleDelete" "unary";
    RoleGrantPermission "etcdserverpb.Auth" "RoleGrantPermission" "unary";
    RoleRevokePermission "etcdserverpb.Auth" "RoleRevokePermission" "unary";
    Campaign "v3electionpb.Election" "Campaign" "unary";
    Proclaim "v3electionpb.Election" "Proclaim" "unary";
    Leader "v3electionpb.Election" "Leader" "unary";
    Observe "v3electionpb.Election" "Observe" "server_stream";
    Resign "v3electionpb.Election" "Resign" "unary";
    Lock "v3lockpb.Lock" "Lock" "unary";
    Unlock "v3lockpb.Lock" "Unlock" "unary";
    HealthCheck "grpc.health.v1.Health" "Check" "unary";
    HealthList "grpc.health.v1.Health" "List" "unary";
    HealthWatch "grpc.health.v1.Health" "Watch" "server_stream";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_of_the_api_has_a_path() {
        let api = Method::ALL.iter().filter(|m| m.service() != "grpc.health.v1.Health").count();
        assert_eq!(api, 49);
        for (number, m) in Method::ALL.iter().enumerate() {
            assert_eq!(*m as usize, number);
            assert_eq!(Method::of(&format!("/{}/{}", m.service(), m.name())), Some(*m));
        }
    }
}
