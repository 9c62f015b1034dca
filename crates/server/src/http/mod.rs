//! Everything that is plain HTTP: health, version and metrics here, calls as JSON in the gateway.

mod access;
mod body;
mod front;
mod health;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use keelson_consensus::{Progress, Status};

use crate::conn::Surface;
use crate::member::Member;
use crate::peer::CLUSTER_FORMAT;
use crate::version;

pub use body::{BreaksOff, Download, Upload};
pub use front::Front;

/// A complete answer.
pub type Answer = Response<Bytes>;

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Answers one request.
async fn route(member: &Arc<Member>, surface: Surface, method: &Method, path: &str, query: &str) -> Answer {
    if *method != Method::GET {
        return answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Method Not Allowed\n");
    }
    match path {
        "/health" => health::health(member, query).await,
        "/version" => version_answer(member),
        "/members" if surface == Surface::Peer => members(member),
        "/metrics" => {
            let metrics = member.metrics.render(&member.snapshot());
            answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics)
        }
        "/debug/vars" => answer(StatusCode::OK, "application/json; charset=utf-8", debug_vars(member)),
        _ => match health::check(member, path, query).await {
            Some(answer) => answer,
            None => answer(StatusCode::NOT_FOUND, TEXT, "404 page not found\n"),
        },
    }
}

/// The member list, as members that want to join ask for it.
fn members(member: &Member) -> Answer {
    let listed = member.state.members().into_iter().map(|m| {
        let mut entry = serde_json::json!({ "id": m.id, "peerURLs": m.peer_urls });
        if m.is_learner {
            entry["isLearner"] = true.into();
        }
        if !m.name.is_empty() {
            entry["name"] = m.name.into();
        }
        if !m.client_urls.is_empty() {
            entry["clientURLs"] = m.client_urls.into();
        }
        entry
    });
    let body = serde_json::Value::Array(listed.collect()).to_string() + "\n";
    let mut response = answer(StatusCode::OK, JSON, body);
    if let Ok(id) = http::HeaderValue::from_str(&format!("{:x}", member.cluster_id)) {
        response.headers_mut().insert("x-etcd-cluster-id", id);
    }
    response.headers_mut().insert(CLUSTER_FORMAT, member.state.format().into());
    response
}

fn version_answer(member: &Member) -> Answer {
    let cluster = match member.state.cluster_version() {
        v if v.is_empty() => "not_decided".to_owned(),
        v => v,
    };
    let body = serde_json::json!({ "etcdserver": version::API, "etcdcluster": cluster, "storage": version::CLUSTER });
    answer(StatusCode::OK, JSON, body.to_string())
}

fn debug_vars(member: &Member) -> String {
    let usage = crate::process::usage();
    serde_json::json!({
        "cmdline": std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>(),
        // The rest of what there is in etcd tells of Go's memory.
        "memstats": { "Sys": usage.resident_bytes },
        "file_descriptor_limit": usage.max_files,
        "raft.status": raft_status(member.member_id, &member.status(), member.node.progress()),
    })
    .to_string()
}

/// Where consensus stands. What members have is known to the leader only; a handover is over before it could be told.
fn raft_status(id: u64, now: &Status, others: BTreeMap<u64, Progress>) -> serde_json::Value {
    let hex = |id: u64| format!("{id:x}");
    let matched = |matched: Option<u64>| {
        let state = if matched.is_some() { "StateReplicate" } else { "StateProbe" };
        let matched = matched.unwrap_or(0);
        serde_json::json!({ "match": matched, "next": matched + 1, "state": state })
    };
    let mut progress = serde_json::Map::new();
    if now.is_leader {
        progress.insert(hex(id), matched(Some(now.last)));
        progress.extend(others.into_iter().map(|(id, other)| (hex(id), matched(other.matched))));
    }
    let state = if now.is_leader {
        "StateLeader"
    } else if now.is_candidate {
        "StateCandidate"
    } else {
        "StateFollower"
    };
    serde_json::json!({
        "id": hex(id),
        "term": now.term,
        "vote": hex(now.vote),
        "commit": now.committed,
        "lead": hex(now.leader.unwrap_or(0)),
        "raftState": state,
        "applied": now.applied,
        "progress": progress,
        "leadtransferee": hex(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_tells_how_far_all_members_are_and_others_do_not() {
        let leader = Status { is_leader: true, leader: Some(10), vote: 10, term: 3, last: 9, ..Status::default() };
        let others = [(11, Progress { matched: Some(7), ..Progress::default() }), (12, Progress::default())];
        let told = raft_status(10, &leader, others.into());
        assert_eq!(told["progress"]["a"], serde_json::json!({ "match": 9, "next": 10, "state": "StateReplicate" }));
        assert_eq!(told["progress"]["b"], serde_json::json!({ "match": 7, "next": 8, "state": "StateReplicate" }));
        assert_eq!(told["progress"]["c"], serde_json::json!({ "match": 0, "next": 1, "state": "StateProbe" }));
        assert_eq!((told["raftState"].as_str(), told["vote"].as_str()), (Some("StateLeader"), Some("a")));
        let candidate = raft_status(10, &Status { is_candidate: true, ..Status::default() }, BTreeMap::new());
        assert_eq!((candidate["raftState"].as_str(), candidate["lead"].as_str()), (Some("StateCandidate"), Some("0")));
        assert_eq!(candidate["progress"], serde_json::json!({}));
    }
}
