//! Everything that is plain HTTP: health, version and metrics here, calls as JSON in the gateway.

mod access;
mod body;
mod front;
mod health;

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response, StatusCode};

use crate::conn::Surface;
use crate::member::Member;
use crate::peer::CLUSTER_FORMAT;
use crate::version;

pub use body::{Download, Upload};
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
    let now = member.status();
    serde_json::json!({
        "cmdline": std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>(),
        "memstats": { "Sys": usage.resident_bytes },
        "file_descriptor_limit": usage.max_files,
        "raft.status": {
            "id": format!("{:x}", member.member_id),
            "term": now.term,
            "commit": now.committed,
            "applied": now.applied,
            "lead": format!("{:x}", now.leader.unwrap_or(0)),
            "raftState": if now.is_leader { "StateLeader" } else { "StateFollower" },
        },
    })
    .to_string()
}
