//! Between openraft's messages and those that travel.

use std::io;

use keelson_api::keelson::peer::{self, append_reply};
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest, VoteRequest, VoteResponse,
};

use crate::codec;
use crate::types::{RaftLogId, RaftVote, Types};

fn missing(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a peer's message has no {what}"))
}

pub(crate) fn log_id(id: &RaftLogId) -> peer::LogId {
    peer::LogId { term: codec::term_of(id), index: id.index }
}

pub(crate) fn to_log_id(id: peer::LogId) -> RaftLogId {
    codec::log_id(id.term, id.index)
}

pub(crate) fn vote(vote: &RaftVote) -> peer::Vote {
    peer::Vote { term: vote.leader_id.term, voted_for: vote.leader_id.voted_for, committed: vote.committed }
}

pub(crate) fn to_vote(vote: Option<peer::Vote>) -> io::Result<RaftVote> {
    let peer::Vote { term, voted_for, committed } = vote.ok_or_else(|| missing("vote"))?;
    Ok(if committed { RaftVote::new_committed(term, voted_for) } else { RaftVote::new(term, voted_for) })
}

pub(crate) fn append_request(request: &AppendEntriesRequest<Types>) -> peer::AppendRequest {
    let entry = |e| peer::LogEntry { index: codec::index_of(e), row: codec::encode_entry(e) };
    peer::AppendRequest {
        vote: Some(vote(&request.vote)),
        previous: request.prev_log_id.as_ref().map(log_id),
        entries: request.entries.iter().map(entry).collect(),
        committed: request.leader_commit.as_ref().map(log_id),
    }
}

pub(crate) fn to_append_request(request: peer::AppendRequest) -> io::Result<AppendEntriesRequest<Types>> {
    Ok(AppendEntriesRequest {
        vote: to_vote(request.vote)?,
        prev_log_id: request.previous.map(to_log_id),
        entries: request.entries.into_iter().map(|e| codec::decode_entry(e.index, e.row)).collect::<io::Result<_>>()?,
        leader_commit: request.committed.map(to_log_id),
    })
}

pub(crate) fn append_reply(result: &StreamAppendResult<Types>) -> peer::AppendReply {
    let result = match result {
        Ok(id) => append_reply::Result::Matching(peer::Matching { id: id.as_ref().map(log_id) }),
        Err(StreamAppendError::Conflict(id)) => append_reply::Result::Conflict(log_id(id)),
        Err(StreamAppendError::HigherVote(v)) => append_reply::Result::HigherVote(vote(v)),
    };
    peer::AppendReply { result: Some(result) }
}

pub(crate) fn to_append_reply(reply: peer::AppendReply) -> io::Result<StreamAppendResult<Types>> {
    Ok(match reply.result.ok_or_else(|| missing("result"))? {
        append_reply::Result::Matching(m) => Ok(m.id.map(to_log_id)),
        append_reply::Result::Conflict(id) => Err(StreamAppendError::Conflict(to_log_id(id))),
        append_reply::Result::HigherVote(v) => Err(StreamAppendError::HigherVote(to_vote(Some(v))?)),
    })
}

pub(crate) fn vote_request(request: &VoteRequest<Types>, pre_vote: bool) -> peer::VoteRequest {
    peer::VoteRequest {
        vote: Some(vote(&request.vote)),
        last: request.last_log_id.as_ref().map(log_id),
        transfer: request.leadership_transfer,
        pre_vote,
    }
}

pub(crate) fn to_vote_request(request: &peer::VoteRequest) -> io::Result<VoteRequest<Types>> {
    let mut asked = VoteRequest::new(to_vote(request.vote)?, request.last.map(to_log_id));
    asked.leadership_transfer = request.transfer;
    Ok(asked)
}

pub(crate) fn vote_reply(response: &VoteResponse<Types>) -> peer::VoteReply {
    peer::VoteReply {
        vote: Some(vote(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(log_id),
    }
}

pub(crate) fn to_vote_reply(reply: peer::VoteReply) -> io::Result<VoteResponse<Types>> {
    Ok(VoteResponse { vote: to_vote(reply.vote)?, vote_granted: reply.granted, last_log_id: reply.last.map(to_log_id) })
}

pub(crate) fn transfer_request(request: &TransferLeaderRequest<Types>) -> peer::TransferRequest {
    peer::TransferRequest {
        from: Some(vote(request.from_leader())),
        to: *request.to_node_id(),
        last: request.last_log_id().map(log_id),
    }
}

pub(crate) fn to_transfer_request(request: peer::TransferRequest) -> io::Result<TransferLeaderRequest<Types>> {
    Ok(TransferLeaderRequest::new(to_vote(request.from)?, request.to, request.last.map(to_log_id)))
}
