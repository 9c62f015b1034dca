//! What consensus needs of a network: calls to members by id. Sockets, TLS and addresses are the
//! server's; a simulation has its own.

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use keelson_api::keelson::peer;

use crate::log::REQUEST_BYTES;
use crate::propose::{BATCH_BYTES, BATCH_COMMANDS};
use crate::snapshot::Checkpoint;

/// Bytes that a message may have beside its largest command. A batch is closed by the command that goes beyond its limit,
/// and a request by the batch that does; each has some bytes to tell its parts apart.
pub const MESSAGE_ROOM: usize = BATCH_BYTES + REQUEST_BYTES + BATCH_COMMANDS * 64;

/// Why a peer gave no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PeerError {
    /// The call did not reach the peer, or was refused: nothing was done.
    #[error("{0}")]
    Unreachable(String),
    /// The call may have been done, but its answer was lost.
    #[error("{0}")]
    Lost(String),
}

/// An answer that has to be waited for.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, PeerError>>;
/// Requests of a stream, handed over as they come.
pub type Requests = BoxStream<'static, peer::AppendRequest>;
/// Answers of a stream, in the order of the requests.
pub type Replies = BoxStream<'static, Result<peer::AppendReply, PeerError>>;

/// Calls to other members.
pub trait Transport: Send + Sync + 'static {
    /// Opens a stream of log entries. It ends when the requests have ended and all are answered.
    fn append(&self, to: u64, requests: Requests) -> Answer<'_, Replies>;
    /// Asks for a vote.
    fn vote(&self, to: u64, request: peer::VoteRequest) -> Answer<'_, peer::VoteReply>;
    /// Asks a member to become leader.
    fn transfer(&self, to: u64, request: peer::TransferRequest) -> Answer<'_, peer::TransferReply>;
    /// Hands commands to the leader.
    fn propose(&self, to: u64, request: peer::ProposeRequest) -> Answer<'_, peer::ProposeReply>;
    /// Asks the leader for the index that a read has to wait for.
    fn read_index(&self, to: u64) -> Answer<'_, peer::ReadIndexReply>;
    /// Sends a checkpoint.
    fn snapshot<'a>(&'a self, to: u64, vote: peer::Vote, checkpoint: &'a Checkpoint) -> Answer<'a, peer::SnapshotReply>;
}
