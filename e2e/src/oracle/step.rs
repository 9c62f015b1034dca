//! What the oracle can ask of a server. A step is complete in itself: the same list of steps on a
//! fresh server always means the same, which is what makes replay and shrinking possible.

use keelson_api::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest, RangeRequest, TxnRequest, WatchRequest,
};

#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Range(RangeRequest),
    RangeStream(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    LeaseGrant(LeaseGrantRequest),
    LeaseRevoke(LeaseRevokeRequest),
    LeaseTimeToLive(LeaseTimeToLiveRequest),
    LeaseLeases(LeaseLeasesRequest),
    LeaseKeepAlive(LeaseKeepAliveRequest),
    /// A request on the watch stream with this number, which is opened when first used.
    Watch(usize, WatchRequest),
    /// Wait as for `Settle`, and let go of the watch stream with this number: what is asked of it next opens another one.
    CloseStream(usize),
    /// Wait until every watch has been told all that happened, and compare what they were told.
    Settle,
}

impl Step {
    /// The name of the request, as scripts and statistics write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Step::Range(_) => "range",
            Step::RangeStream(_) => "range-stream",
            Step::Put(_) => "put",
            Step::DeleteRange(_) => "delete-range",
            Step::Txn(_) => "txn",
            Step::Compact(_) => "compact",
            Step::LeaseGrant(_) => "lease-grant",
            Step::LeaseRevoke(_) => "lease-revoke",
            Step::LeaseTimeToLive(_) => "lease-time-to-live",
            Step::LeaseLeases(_) => "lease-leases",
            Step::LeaseKeepAlive(_) => "lease-keep-alive",
            Step::Watch(..) => "watch",
            Step::CloseStream(_) => "close-stream",
            Step::Settle => "settle",
        }
    }
}
