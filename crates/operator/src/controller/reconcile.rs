//! One look at one cluster: observe, plan, write the intent, act, return. Nothing waits in here.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, ApiResource, DynamicObject, PostParams};
use kube::runtime::controller::Action as Next;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::memory::Memory;
use super::{Context, Watched, events, key, status};
use crate::act::{ActError, Hands};
use crate::api::{EtcdCluster, EtcdClusterStatus, FIELD_OWNER, Target, condition};
use crate::observe::{ObserveError, Recollection, Snapshot, assemble, followed};
use crate::plan::{Decision, World, plan};
use crate::render::Names;
use crate::store::{Answers, StoreError, ask};

/// How long objects are taken to be as they were read, when no event says otherwise: while all is well, and while something is awaited.
const FRESH_AT_REST: Duration = Duration::from_secs(600);
const FRESH_IN_MOTION: Duration = Duration::from_secs(10);
/// Waiting for so long is worth an Event; members that start and catch up are not.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same action is not repeated sooner: its effect may not be visible yet.
const REPEAT: Duration = Duration::from_secs(1);

/// What the condition says when an action or a question to the API server has failed.
const FAILED: &str = "Failed";

/// A look takes a few answers of the API server and of members, each of which takes seconds at most.
const LOOK_LIMIT: Duration = Duration::from_secs(60);
/// For telling of a failure.
const REPORT_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "this resource cannot be read: {0}. If its definition is of another version than this operator, bring both to the \
         same; until then nothing of this cluster is changed or healed"
    )]
    Unreadable(String),
    #[error("the API server has not answered within {} seconds", LOOK_LIMIT.as_secs())]
    Late,
    #[error(transparent)]
    Observe(#[from] ObserveError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("writing the status: {0}")]
    Status(kube::Error),
    #[error("{step}: {source}")]
    Act { step: String, source: ActError },
}

pub async fn reconcile(watched: &Watched, context: &Context) -> Result<Next, Error> {
    let begun = Instant::now();
    let result = match &watched.0 {
        // To give up half-way is what a crash does, too: the next look goes on from there.
        Ok(cluster) => timeout(LOOK_LIMIT, Box::pin(look(cluster, context))).await.unwrap_or(Err(Error::Late)),
        Err(invalid) => Err(Error::Unreadable(invalid.error.clone())),
    };
    context.metrics.reconciled(begun.elapsed(), result.is_ok());
    if let Err(error) = &result
        && timeout(REPORT_LIMIT, Box::pin(report(watched, context, error))).await.is_err()
    {
        tracing::warn!(cluster = watched.name_any(), "the API server has not taken the report of a failure in time");
    }
    result
}

async fn look(cluster: &EtcdCluster, context: &Context) -> Result<Next, Error> {
    let key = ObjectRef::from_obj(cluster);
    let memory = context.memory(&key);
    let mut memory = memory.lock().await;
    // Taken before reading: what changes meanwhile is looked at again.
    let dirty = context.take_dirty(&key);
    if !dirty
        && let Some((taken, snapshot)) = memory.snapshot.take()
        && taken.elapsed() < freshness(&snapshot)
    {
        let seen = consider(&mut memory, &snapshot, context).await?;
        if seen.decision.action.is_none() && !seen.changed(&snapshot, &memory) {
            let next = Next::requeue(seen.decision.look_again);
            memory.snapshot = Some((taken, snapshot));
            seen.rest(&mut memory);
            return Ok(next);
        }
    }
    let names = Names { cluster: cluster.name_any(), namespace: cluster.namespace().unwrap_or_default() };
    let taken = Instant::now();
    let Some(mut snapshot) = Box::pin(Snapshot::read(&context.client, &names)).await? else {
        context.forget(&key);
        return Ok(Next::await_change());
    };
    let seen = consider(&mut memory, &snapshot, context).await?;
    if !memory.greeted {
        memory.greeted = true;
        if let Some(away) = context.away() {
            events::away(&context.recorder(), &snapshot.cluster, &away).await;
        }
    }
    if seen.changed(&snapshot, &memory) {
        let before = snapshot.cluster.status.clone().unwrap_or_default().conditions;
        snapshot.cluster = write(&context.client, &snapshot, &seen.status).await.map_err(Error::Status)?;
        memory.last_status = Some(Instant::now());
        events::turned(&context.recorder(), &snapshot.cluster, &before, &seen.status.conditions).await;
    }
    let next = proceed(&mut memory, &snapshot, &seen, context).await?;
    memory.snapshot = seen.decision.action.is_none().then_some((taken, snapshot));
    seen.rest(&mut memory);
    Ok(next)
}

/// What came of one look.
struct Seen {
    decision: Decision,
    status: EtcdClusterStatus,
    answers: Answers,
    wanted: Target,
}

impl Seen {
    fn rest(&self, memory: &mut Memory) {
        if self.decision.course.is_none() {
            memory.hang_up();
        }
    }

    fn changed(&self, snapshot: &Snapshot, memory: &Memory) -> bool {
        let old = snapshot.cluster.status.clone().unwrap_or_default();
        let due = memory.last_status.is_none_or(|last| last.elapsed() >= status::FIGURES);
        status::differs(&old, &self.status) || due && old != self.status
    }
}

async fn consider(memory: &mut Memory, snapshot: &Snapshot, context: &Context) -> Result<Seen, Error> {
    let now = Timestamp::now();
    let mut answers = ask(&memory.connect(snapshot)?).await;
    answers.followed = Box::pin(followed(snapshot, now)).await;
    let answering_for = memory.note(&answers);
    let past = Recollection { now, answering_for: &answering_for };
    let (world, wanted): (World, Target) = assemble(snapshot, &answers, &context.defaults, &past);
    let decision = plan(&world);
    let mut status = status::compose(snapshot, &world, &decision, &wanted);
    context.metrics.certified(&snapshot.names, &world.certificates);
    // To try again what has failed is no progress yet.
    if memory.failed.is_some()
        && decision.action.is_some()
        && let Some(failed) = snapshot.cluster.status.as_ref().and_then(failed)
    {
        status.conditions.retain(|condition| condition.type_ != failed.type_);
        status.conditions.push(failed);
    }
    let created = snapshot.cluster.metadata.creation_timestamp.as_ref();
    if let Some(away) = context.away().filter(|away| created.is_some_and(|created| away.concerns(created.0, past.now))) {
        mention(&mut status, &away);
    }
    Ok(Seen { decision, status, answers, wanted })
}

/// Says for a while that nobody looked, which nobody could say then.
fn mention(status: &mut EtcdClusterStatus, away: &crate::lease::Away) {
    let note = format!(". {away}");
    let mut progressing = status.conditions.iter_mut().filter(|condition| condition.type_ == condition::PROGRESSING);
    if let Some(condition) = progressing.next().filter(|condition| !condition.message.ends_with(&note)) {
        condition.message += &note;
    }
}

fn failed(status: &EtcdClusterStatus) -> Option<Condition> {
    let failed = |condition: &&Condition| condition.type_ == condition::PROGRESSING && condition.reason == FAILED;
    status.conditions.iter().rfind(failed).cloned()
}

async fn proceed(memory: &mut Memory, snapshot: &Snapshot, seen: &Seen, context: &Context) -> Result<Next, Error> {
    let (cluster, decision) = (&snapshot.cluster, &seen.decision);
    let blocked = decision.course.as_ref().and_then(|course| Some((course.type_, course.blocked_by.clone()?)));
    let waits = memory.wait(blocked.as_ref().map(|(_, note)| note.as_str()));
    if let Some((type_, note)) = blocked.filter(|(_, note)| waits >= PATIENCE && memory.told.as_ref() != Some(note)) {
        memory.told = Some(note.clone());
        events::blocked(&context.recorder(), cluster, type_, note).await;
    }
    let Some(action) = &decision.action else {
        memory.failed = None;
        return Ok(Next::requeue(decision.look_again));
    };
    if memory.last_action.as_ref().is_some_and(|(last, when)| last == action && when.elapsed() < REPEAT) {
        return Ok(Next::requeue(REPEAT));
    }
    let members = memory.connect(snapshot)?;
    let target = seen.status.target.as_ref().unwrap_or(&seen.wanted);
    let hands = Hands { client: &context.client, snapshot, answers: &seen.answers, members: &members, target };
    let step = decision.course.as_ref().map(|course| course.step.clone()).unwrap_or_default();
    tracing::info!(cluster = cluster.name_any(), namespace = cluster.namespace(), ?action, "{step}");
    let done = hands.act(action).await;
    // One that has failed is tried again when that is due, and not held back here.
    memory.last_action = done.is_ok().then(|| (action.clone(), Instant::now()));
    context.metrics.acted(action);
    done.map_err(|source| Error::Act { step, source })?;
    memory.failed = None;
    events::acted(&context.recorder(), cluster, decision, action).await;
    Ok(Next::requeue(decision.look_again))
}

/// By the version that was read: an intent is written before the action, and by one operator only.
async fn write(client: &Client, snapshot: &Snapshot, status: &EtcdClusterStatus) -> Result<EtcdCluster, kube::Error> {
    let api = Api::<EtcdCluster>::namespaced(client.clone(), &snapshot.names.namespace);
    let parameters = PostParams { field_manager: Some(FIELD_OWNER.into()), ..PostParams::default() };
    let mut cluster = snapshot.cluster.clone();
    cluster.status = Some(status.clone());
    api.replace_status(&snapshot.names.cluster, &parameters, &cluster).await
}

fn freshness(snapshot: &Snapshot) -> Duration {
    let at_rest = snapshot.cluster.status.as_ref().is_some_and(|status| status.operation.is_none());
    if at_rest { FRESH_AT_REST } else { FRESH_IN_MOTION }
}

/// Whatever goes wrong reaches a condition and an Event, as far as the API server can be reached.
async fn report(watched: &Watched, context: &Context, error: &Error) {
    let note = error.to_string();
    let (name, namespace) = (watched.name_any(), watched.namespace().unwrap_or_default());
    tracing::warn!(cluster = name, namespace, %error, "looking again later");
    // Somebody wrote at the same time: the next look sees it.
    if conflict(error) {
        return;
    }
    if !context.told(&key(watched), &note).await {
        events::failed(&context.recorder(), watched, note.clone()).await;
    }
    // As it is, field by field: it may be one that cannot be read.
    let resource = ApiResource::erase::<EtcdCluster>(&());
    let api = Api::<DynamicObject>::namespaced_with(context.client.clone(), &namespace, &resource);
    let Ok(Some(mut cluster)) = api.get_opt(&name).await else {
        return;
    };
    let before = conditions(&cluster.data);
    let sign = condition::Sign { type_: condition::PROGRESSING, status: Some(false), reason: FAILED, message: note };
    let failed = condition::merge(&before, &[sign], cluster.metadata.generation, Timestamp::now());
    let mut now: Vec<_> = before.iter().filter(|condition| condition.type_ != condition::PROGRESSING).cloned().collect();
    now.extend(failed);
    if now == before {
        return;
    }
    cluster.data["status"]["conditions"] = json!(now);
    if let Err(error) = api.replace_status(&name, &PostParams::default(), &cluster).await {
        tracing::warn!(cluster = name, %error, "the failure could not be written into the status");
    }
}

fn conditions(cluster: &Value) -> Vec<Condition> {
    let conditions = cluster.pointer("/status/conditions").cloned();
    conditions.and_then(|conditions| serde_json::from_value(conditions).ok()).unwrap_or_default()
}

pub fn conflict(error: &Error) -> bool {
    let api = match error {
        Error::Status(error) => error,
        Error::Act { source: ActError::Kubernetes(error), .. } => error,
        _ => return false,
    };
    // A name that is taken has the same code, and does not go away by looking again.
    matches!(api, kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict")
}
