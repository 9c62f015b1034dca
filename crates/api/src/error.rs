//! The one error table. Clients match on the exact text, so a text here is part of the contract.

/// gRPC status codes, numbered as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Code {
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

macro_rules! errors {
    ($($name:ident $code:ident $text:literal;)*) => {
        /// Every error the API can answer with a text of its own.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
        #[allow(missing_docs)]
        pub enum Error { $(#[error($text)] $name,)* }

        impl Error {
            /// Every row of the table.
            pub const ALL: &'static [Error] = &[$(Error::$name,)*];

            /// The gRPC code this error travels with.
            #[must_use]
            pub const fn code(self) -> Code {
                match self { $(Error::$name => Code::$code,)* }
            }

            /// The exact text clients match on.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Error::$name => $text,)* }
            }
        }
    };
}

errors! {
    EmptyKey InvalidArgument "etcdserver: key is not provided";
    KeyNotFound InvalidArgument "etcdserver: key not found";
    ValueProvided InvalidArgument "etcdserver: value is provided";
    LeaseProvided InvalidArgument "etcdserver: lease is provided";
    TooManyOps InvalidArgument "etcdserver: too many operations in txn request";
    DuplicateKey InvalidArgument "etcdserver: duplicate key given in txn request";
    InvalidClientApiVersion InvalidArgument "etcdserver: invalid client api version";
    InvalidSortOption InvalidArgument "etcdserver: invalid sort option";
    Compacted OutOfRange "etcdserver: mvcc: required revision has been compacted";
    FutureRevision OutOfRange "etcdserver: mvcc: required revision is a future revision";
    NoSpace ResourceExhausted "etcdserver: mvcc: database space exceeded";
    LeaseNotFound NotFound "etcdserver: requested lease not found";
    LeaseExists FailedPrecondition "etcdserver: lease already exists";
    LeaseTtlTooLarge OutOfRange "etcdserver: too large lease TTL";
    WatchCanceled Canceled "etcdserver: watch canceled";
    MemberExists FailedPrecondition "etcdserver: member ID already exist";
    PeerUrlExists FailedPrecondition "etcdserver: Peer URLs already exists";
    // etcd maps this one to no status of its own, so it travels as Unknown.
    MemberNotEnoughStarted Unknown "etcdserver: re-configuration failed due to not enough started members";
    MemberBadUrls InvalidArgument "etcdserver: given member URLs are invalid";
    MemberNotFound NotFound "etcdserver: member not found";
    MemberNotLearner FailedPrecondition "etcdserver: can only promote a learner member";
    LearnerNotReady FailedPrecondition "etcdserver: can only promote a learner member which is in sync with leader";
    TooManyLearners FailedPrecondition "etcdserver: too many learner members in cluster";
    ClusterIdMismatch FailedPrecondition "etcdserver: cluster ID mismatch";
    RequestTooLarge InvalidArgument "etcdserver: request is too large";
    // As above: Unknown on the wire.
    TooManyRequests Unknown "etcdserver: too many requests";
    RootUserNotExist FailedPrecondition "etcdserver: root user does not exist";
    RootRoleNotExist FailedPrecondition "etcdserver: root user does not have root role";
    UserAlreadyExists FailedPrecondition "etcdserver: user name already exists";
    UserEmpty InvalidArgument "etcdserver: user name is empty";
    UserNotFound FailedPrecondition "etcdserver: user name not found";
    RoleAlreadyExists FailedPrecondition "etcdserver: role name already exists";
    RoleNotFound FailedPrecondition "etcdserver: role name not found";
    RoleEmpty InvalidArgument "etcdserver: role name is empty";
    AuthFailed InvalidArgument "etcdserver: authentication failed, invalid user ID or password";
    PermissionNotGiven InvalidArgument "etcdserver: permission not given";
    PermissionDenied PermissionDenied "etcdserver: permission denied";
    RoleNotGranted FailedPrecondition "etcdserver: role is not granted to the user";
    PermissionNotGranted FailedPrecondition "etcdserver: permission is not granted to the role";
    AuthNotEnabled FailedPrecondition "etcdserver: authentication is not enabled";
    InvalidAuthToken Unauthenticated "etcdserver: invalid auth token";
    InvalidAuthMgmt InvalidArgument "etcdserver: invalid auth management";
    AuthOldRevision InvalidArgument "etcdserver: revision of auth store is old";
    // etcd has no status for the next three, which travel as Unknown with the text of the library beneath.
    NoPasswordUser Unknown "auth: authentication failed, password was given for no password user";
    PasswordTooLong Unknown "bcrypt: password length exceeds 72 bytes";
    VerifyOnlyKey Unknown "auth: token signing attempted with verify-only key";
    NoLeader Unavailable "etcdserver: no leader";
    NotLeader FailedPrecondition "etcdserver: not leader";
    LeaderChanged Unavailable "etcdserver: leader changed";
    NotCapable FailedPrecondition "etcdserver: not capable";
    Stopped Unavailable "etcdserver: server stopped";
    Timeout Unavailable "etcdserver: request timed out";
    TimeoutLeaderFail Unavailable "etcdserver: request timed out, possibly due to previous leader failure";
    TimeoutConnectionLost Unavailable "etcdserver: request timed out, possibly due to connection lost";
    TimeoutWaitApplied Unavailable "etcdserver: request timed out, waiting for the applied index took too long";
    TimeoutLeaderTransfer Unknown "etcdserver: request timed out, leader transfer took too long";
    Unhealthy Unavailable "etcdserver: unhealthy cluster";
    Corrupt DataLoss "etcdserver: corrupt cluster";
    NotSupportedForLearner FailedPrecondition "etcdserver: rpc not supported for learner";
    BadLeaderTransferee FailedPrecondition "etcdserver: bad leader transferee";
    WrongDowngradeVersionFormat InvalidArgument "etcdserver: wrong downgrade target version format";
    InvalidDowngradeTarget InvalidArgument "etcdserver: invalid downgrade target version";
    ClusterVersionUnavailable FailedPrecondition "etcdserver: cluster version not found during downgrade";
    DowngradeInProcess FailedPrecondition "etcdserver: cluster has a downgrade job in progress";
    NoInflightDowngrade FailedPrecondition "etcdserver: no inflight downgrade job";
    RequestCanceled Canceled "etcdserver: request canceled";
    RequestDeadline DeadlineExceeded "etcdserver: context deadline exceeded";
    // Not etcd's: what damage below the store's floor looks like to a client.
    Storage Internal "keelson: the store could not be read; see this member's log";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_unique_so_that_a_client_can_tell_them_apart() {
        let mut texts: Vec<_> = Error::ALL.iter().map(|e| e.text()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), Error::ALL.len());
        assert_eq!(Error::Compacted.to_string(), Error::Compacted.text());
    }
}
