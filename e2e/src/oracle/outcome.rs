//! What came of a step on one side, already freed of what no two servers can have in common.

use std::collections::BTreeMap;

use keelson_api::etcdserverpb::{
    CompactionResponse, DeleteRangeResponse, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseRevokeResponse, LeaseTimeToLiveResponse, PutResponse, RangeResponse, TxnResponse,
};
use tonic::Code;

use super::history::Item;

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Range(RangeResponse),
    RangeStream(StreamedRange),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compact(CompactionResponse),
    LeaseGrant(LeaseGrantResponse),
    /// A lease too short to outlive the run, which was revoked in the step that granted it.
    ShortLease {
        grant: LeaseGrantResponse,
        revoke: Box<Outcome>,
    },
    LeaseRevoke(LeaseRevokeResponse),
    LeaseTimeToLive(LeaseTimeToLiveResponse),
    LeaseLeases(LeaseLeasesResponse),
    LeaseKeepAlive(LeaseKeepAliveResponse),
    /// The server said no, or a stream of answers ended without one (code `Ok`).
    Refused {
        code: Code,
        message: String,
    },
    /// A watch request was accepted; what it led to is compared when the watches settle.
    Watching,
    /// What every watch of every stream was told since they last settled.
    Watched(BTreeMap<usize, BTreeMap<i64, Vec<Item>>>),
    /// No answer at all: the connection broke or a deadline passed. Never right, not even twice.
    Lost(String),
}

/// A range read in chunks; how many chunks is the server's business.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamedRange {
    /// All keys, and the header, count and more of the last chunk.
    pub merged: RangeResponse,
    /// What only the last chunk may carry but an earlier one did, and the like.
    pub flaws: Vec<String>,
    /// Set when the stream broke off instead of ending.
    pub end: Option<(Code, String)>,
}

impl StreamedRange {
    pub fn add(&mut self, chunk: Option<RangeResponse>) {
        let Some(mut chunk) = chunk else {
            self.flaws.push("a chunk without a range response".into());
            return;
        };
        if self.merged.header.is_some() {
            self.flaws.push("a chunk after the one with the header".into());
        }
        if chunk.header.is_none() && (chunk.count != 0 || chunk.more) {
            self.flaws.push(format!("count {} or more {} before the last chunk", chunk.count, chunk.more));
        }
        self.merged.kvs.append(&mut chunk.kvs);
        self.merged.header = chunk.header;
        self.merged.count = chunk.count;
        self.merged.more = chunk.more;
    }
}

impl Outcome {
    /// Rules that hold for every server, whatever the other one says.
    pub fn flaws(&self) -> Vec<String> {
        match self {
            Outcome::Lost(reason) => vec![reason.clone()],
            Outcome::RangeStream(range) => range.flaws.clone(),
            Outcome::ShortLease { revoke, .. } => revoke.flaws(),
            Outcome::Watched(streams) => streams
                .values()
                .flat_map(BTreeMap::values)
                .flatten()
                .filter_map(|item| match item {
                    Item::Flaw(flaw) => Some(flaw.clone()),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}
