//! The Maintenance service, as far as one member needs it, and gRPC's health service.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use keelson_api::etcdserverpb::alarm_request::AlarmAction;
use keelson_api::etcdserverpb::{
    AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, DowngradeInfo, HashKvRequest, HashKvResponse,
    HashRequest, HashResponse, MoveLeaderRequest, MoveLeaderResponse, StatusRequest, StatusResponse,
};
use keelson_api::health::health_check_response::ServingStatus;
use keelson_api::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use keelson_api::keelson::command::Action;
use keelson_api::{Code, Error};
use keelson_state::Reply;

use crate::corruption;
use crate::grpc::{Call, FrameError, MessageReader, Respond, Status};
use crate::member::{Member, alarm_name};
use crate::version;

pub async fn alarm(member: Arc<Member>, call: &Call, request: AlarmRequest) -> Result<AlarmResponse, Status> {
    // Whoever may ask at all may look.
    if request.action != i32::from(AlarmAction::Get) {
        member.root(call).await?;
    }
    match member.propose(Action::Alarm(request)).await? {
        Reply::Alarm(mut response) => {
            response.header = member.complete(response.header);
            Ok(response)
        }
        _ => Err(Error::Storage.into()),
    }
}

pub async fn status(member: Arc<Member>, _: StatusRequest) -> Result<StatusResponse, Status> {
    let now = member.status();
    let store = &member.state.store;
    let mut errors = Vec::new();
    if now.leader.is_none() {
        errors.push(Error::NoLeader.text().to_owned());
    }
    for alarm in member.state.alarms() {
        let kind = alarm_name(alarm.alarm);
        errors.push(format!("memberID:{} alarm:{kind} ", alarm.member_id));
    }
    Ok(StatusResponse {
        header: member.header(store.revision()),
        version: version::API.to_owned(),
        db_size: i64::try_from(store.backend().disk_size()).unwrap_or(i64::MAX),
        db_size_in_use: i64::try_from(store.bytes_in_use()).unwrap_or(i64::MAX),
        db_size_quota: i64::try_from(member.config.quota.unwrap_or(0)).unwrap_or(i64::MAX),
        leader: now.leader.unwrap_or(0),
        raft_index: now.committed,
        raft_applied_index: now.applied,
        raft_term: now.term,
        is_learner: now.is_learner,
        errors,
        storage_version: version::CLUSTER.to_owned(),
        downgrade_info: Some(DowngradeInfo::default()),
    })
}

pub async fn defragment(member: Arc<Member>, _: DefragmentRequest) -> Result<DefragmentResponse, Status> {
    // Nobody has to wait: the store stays readable and writable while its files are rewritten.
    // One rewrite at a time does for all who ask.
    if !member.defragmenting.swap(true, Ordering::AcqRel) {
        let (state, running) = (member.state.clone(), member.defragmenting.clone());
        let metrics = member.metrics.clone();
        metrics.upkeep.defragmentation_begins();
        let rewrite = move || {
            let begun = Instant::now();
            let rewritten = state.store.backend().compact_all();
            if let Err(e) = &rewritten {
                tracing::warn!(error = %e, "the files of the state store could not be rewritten; nothing is lost, ask for it again");
            }
            metrics.upkeep.defragmentation_ended(rewritten.ok().map(|()| begun.elapsed()));
            running.store(false, Ordering::Release);
        };
        if let Err(e) = std::thread::Builder::new().name("defragment".into()).spawn(rewrite) {
            member.metrics.upkeep.defragmentation_ended(None);
            member.defragmenting.store(false, Ordering::Release);
            return Err(Status::new(Code::Unavailable, format!("keelson: no thread for defragmenting: {e}")));
        }
    }
    Ok(DefragmentResponse::default())
}

pub async fn move_leader(member: Arc<Member>, request: MoveLeaderRequest) -> Result<MoveLeaderResponse, Status> {
    let status = member.status();
    if status.leader != Some(member.member_id) {
        return Err(Error::NotLeader.into());
    }
    let to = request.target_id;
    if !member.state.members().iter().any(|m| m.id == to && !m.is_learner) || !member.node.configuration().voters.contains(&to) {
        return Err(Error::BadLeaderTransferee.into());
    }
    if to != member.member_id {
        crate::handover::to(&member, to).await?;
    }
    Ok(MoveLeaderResponse::default())
}

pub async fn hash(member: Arc<Member>, _: HashRequest) -> Result<HashResponse, Status> {
    let begun = Instant::now();
    let result = corruption::hash_at(&member, 0).await?;
    member.metrics.upkeep.hash.observe(begun.elapsed().as_secs_f64());
    Ok(HashResponse { header: member.header(result.current), hash: result.hash })
}

pub async fn hash_kv(member: Arc<Member>, request: HashKvRequest) -> Result<HashKvResponse, Status> {
    let result = corruption::hash_at(&member, request.revision).await?;
    Ok(HashKvResponse {
        header: member.header(result.current),
        hash: result.hash,
        compact_revision: result.compacted,
        hash_revision: result.revision,
    })
}

fn serving() -> HealthCheckResponse {
    HealthCheckResponse { status: ServingStatus::Serving.into() }
}

pub async fn health_check(request: HealthCheckRequest) -> Result<HealthCheckResponse, Status> {
    if request.service.is_empty() { Ok(serving()) } else { Err(Status::new(Code::NotFound, "unknown service")) }
}

pub async fn health_list(_: HealthListRequest) -> Result<HealthListResponse, Status> {
    Ok(HealthListResponse { statuses: HashMap::from([(String::new(), serving())]) })
}

pub async fn health_watch(member: Arc<Member>, mut reader: MessageReader, mut respond: Respond) -> Option<Code> {
    let request: HealthCheckRequest = match reader.next().await {
        Ok(Some(request)) => request,
        Ok(None) | Err(FrameError::Gone) => return Some(Code::Canceled),
        Err(FrameError::Refused(status)) => return respond.refuse(&status),
    };
    let Ok(mut sender) = respond.stream() else { return Some(Code::Canceled) };
    let unknown = HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() };
    let now = if request.service.is_empty() { serving() } else { unknown };
    if sender.send(&now).await.is_err() {
        return Some(Code::Canceled);
    }
    tokio::select! {
        () = sender.reset() => Some(Code::Canceled),
        () = member.stopped() => sender.finish(Err(&Error::Stopped.into())),
    }
}
