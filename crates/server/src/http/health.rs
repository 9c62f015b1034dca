//! `/health`, and the `/livez` and `/readyz` checks that kubelets ask for.

use std::sync::Arc;

use http::StatusCode;
use keelson_api::etcdserverpb::{AlarmType, RangeRequest};

use super::{Answer, TEXT, answer};
use crate::member::Member;
use crate::services::range_for_health;

fn parameters<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    query.split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

async fn read(member: &Arc<Member>, serializable: bool) -> Result<(), String> {
    let request = RangeRequest { key: vec![0].into(), keys_only: true, limit: 1, serializable, ..RangeRequest::default() };
    range_for_health(member.clone(), request).await.map(|_| ()).map_err(|status| status.message)
}

/// etcd's classic health answer.
pub async fn health(member: &Arc<Member>, query: &str) -> Answer {
    let serializable = parameters(query, "serializable").any(|v| v == "true");
    let reason = reason(member, query, serializable).await;
    let (status, healthy) = match &reason {
        None => {
            member.metrics.health_success.inc();
            (StatusCode::OK, "true")
        }
        Some(reason) => {
            member.metrics.health_failures.inc();
            tracing::warn!(reason, "serving /health false");
            (StatusCode::SERVICE_UNAVAILABLE, "false")
        }
    };
    let reason = reason.unwrap_or_default();
    let end = if status == StatusCode::OK { "" } else { "\n" };
    let body = format!("{{\"health\":\"{healthy}\",\"reason\":{}}}{end}", serde_json::Value::from(reason));
    // etcd does not say that it is JSON.
    answer(status, TEXT, body)
}

async fn reason(member: &Arc<Member>, query: &str, serializable: bool) -> Option<String> {
    for alarm in member.state.alarms() {
        let name = AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |k| k.as_str_name());
        if !parameters(query, "exclude").any(|excluded| excluded == name) {
            return Some(format!("ALARM {name}"));
        }
    }
    if !serializable && member.status().leader.is_none() {
        return Some("RAFT NO LEADER".into());
    }
    read(member, serializable).await.err().map(|e| format!("RANGE ERROR:{e}"))
}

const LIVEZ: &[&str] = &["serializable_read"];
const READYZ: &[&str] = &["data_corruption", "serializable_read", "linearizable_read", "non_learner"];

async fn run(member: &Arc<Member>, name: &str) -> Result<(), String> {
    match name {
        "data_corruption" if member.state.is_alarmed(AlarmType::Corrupt) => Err("alarm activated: CORRUPT".into()),
        "serializable_read" => read(member, true).await.map_err(|e| format!("range error: {e}")),
        "linearizable_read" => read(member, false).await.map_err(|e| format!("range error: {e}")),
        "non_learner" if member.status().is_learner => Err("not supported for learner".into()),
        _ => Ok(()),
    }
}

/// Answers `/livez`, `/readyz` and their single checks; `None` for any other path.
pub async fn check(member: &Arc<Member>, path: &str, query: &str) -> Option<Answer> {
    let (checks, rest) = match path.strip_prefix("/livez") {
        Some(rest) => (LIVEZ, rest),
        None => (READYZ, path.strip_prefix("/readyz")?),
    };
    let wanted: Vec<&str> = match rest.trim_end_matches('/') {
        "" => {
            let excluded = |name: &str| parameters(query, "exclude").any(|e| e == name);
            checks.iter().copied().filter(|name| !excluded(name)).collect()
        }
        one => vec![*checks.iter().find(|name| one.strip_prefix('/') == Some(name))?],
    };
    let verbose = parameters(query, "verbose").next().is_some();
    let mut lines = String::new();
    let mut failed = false;
    for name in wanted {
        match run(member, name).await {
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            Err(e) => {
                failed = true;
                lines.push_str(&format!("[-]{name} failed: {e}\n"));
            }
        }
    }
    Some(match (failed, verbose) {
        (true, _) => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, lines),
        (false, true) => answer(StatusCode::OK, TEXT, lines + "ok\n"),
        (false, false) => answer(StatusCode::OK, TEXT, "ok\n"),
    })
}

#[cfg(test)]
mod fuzz;
