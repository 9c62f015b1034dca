//! Runs the clusters: one look at a time for each, on every event that concerns it and from time to time.

mod events;
mod memory;
mod reconcile;
mod status;

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{self, Action, Config};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use crate::api::{Defaults, EtcdCluster, EtcdMember, FIELD_OWNER, label};
use crate::lease::Away;
use crate::metrics::Metrics;
use memory::{Key, Memory};

/// How many clusters are looked at at the same time.
const CONCURRENCY: u16 = 16;
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_LIMIT: Duration = Duration::from_secs(60);
/// Somebody wrote at the same time: the next look sees it. When that happens more often in a row, something else is wrong.
const CONFLICT: Duration = Duration::from_millis(100);
const CONFLICTS: u32 = 5;

/// How many seconds a watch lasts before it is begun again: six of them end whether or not anything happens. Each cluster
/// is read again by itself more often than that.
pub const WATCH: u32 = 890;

/// One that cannot be read, such as one of a newer definition, is told of by itself and keeps no other from being seen.
type Watched = DeserializeGuard<EtcdCluster>;

/// What every look shares.
pub struct Context {
    client: Client,
    reporter: Reporter,
    defaults: Defaults,
    metrics: Arc<Metrics>,
    clusters: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<Memory>>>>,
    /// Clusters of which an event came since they were last read.
    dirty: Mutex<HashSet<Key>>,
    /// Clusters at which the last look failed.
    failures: Mutex<HashMap<Key, Failures>>,
    /// When nobody acted before this process did.
    away: Option<Away>,
}

/// How often in a row looks at a cluster have failed, and when the next one is due.
#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    until: Instant,
    /// Of the spec that they failed at: an edit is looked at at once.
    generation: Option<i64>,
}

impl Context {
    /// `away`: how long nobody had acted before.
    pub fn new(client: Client, identity: String, defaults: Defaults, metrics: Arc<Metrics>, away: Option<Away>) -> Arc<Self> {
        let reporter = Reporter { controller: FIELD_OWNER.into(), instance: Some(identity) };
        let (clusters, dirty, failures) = Default::default();
        Arc::new(Self { client, reporter, defaults, metrics, clusters, dirty, failures, away })
    }

    fn away(&self) -> Option<Away> {
        self.away.clone()
    }

    /// A new one each time: a recorder takes Events of one reason for one and the same, whatever they say.
    fn recorder(&self) -> Recorder {
        Recorder::new(self.client.clone(), self.reporter.clone())
    }

    fn memory(&self, key: &Key) -> Arc<tokio::sync::Mutex<Memory>> {
        self.clusters.lock().entry(key.clone()).or_default().clone()
    }

    fn forget(&self, key: &Key) {
        self.clusters.lock().remove(key);
        self.failures.lock().remove(key);
        self.metrics.gone(key.namespace.as_deref().unwrap_or_default(), &key.name);
        self.metrics.clusters.set(i64::try_from(self.clusters.lock().len()).unwrap_or(i64::MAX));
    }

    fn take_dirty(&self, key: &Key) -> bool {
        self.metrics.clusters.set(i64::try_from(self.clusters.lock().len()).unwrap_or(i64::MAX));
        self.dirty.lock().remove(key)
    }

    /// Whether people were told last of this failure; they are from now on.
    async fn told(&self, key: &Key, note: &str) -> bool {
        let memory = self.memory(key);
        let mut memory = memory.lock().await;
        let told = memory.failed.as_deref() == Some(note);
        memory.failed = Some(note.to_string());
        told
    }

    /// Every cluster is read again at its next look.
    fn suspect_all(&self) {
        let known: Vec<_> = self.clusters.lock().keys().cloned().collect();
        self.dirty.lock().extend(known);
    }

    /// Longer after each failure in a row, for each cluster by itself. A conflict is one that is over soon, unless it goes on.
    fn backoff(&self, key: &Key, generation: Option<i64>, is_conflict: bool) -> Duration {
        let mut failures = self.failures.lock();
        let count = failures.get(key).map_or(1, |before| before.count + 1).min(10);
        let wait = match is_conflict && count <= CONFLICTS {
            true => CONFLICT,
            false => BACKOFF_FIRST.saturating_mul(1 << (count - 1)).min(BACKOFF_LIMIT),
        };
        failures.insert(key.clone(), Failures { count, until: Instant::now() + wait, generation });
        wait
    }

    /// How long to wait still after a failure, whatever events there are meanwhile: a failure that is written down is one itself.
    fn rest(&self, key: &Key, generation: Option<i64>) -> Option<Duration> {
        let failures = self.failures.lock().get(key).copied()?;
        let left = failures.until.saturating_duration_since(Instant::now());
        (failures.generation == generation && !left.is_zero()).then_some(left)
    }
}

/// Runs until `stop` is ready and every look under way is finished. `namespace`: one, or all.
pub async fn run(context: Arc<Context>, namespace: Option<String>, stop: impl Future<Output = ()> + Send + Sync + 'static) {
    let namespace = namespace.as_deref();
    let shared = context.clone();
    let all = watcher::Config::default().timeout(WATCH);
    let ours = all.clone().labels(label::CLUSTER);
    Controller::new(api::<Watched>(&context, namespace), all)
        .with_config(Config::default().concurrency(CONCURRENCY))
        .watches(api::<DeserializeGuard<EtcdMember>>(&context, namespace), ours.clone(), touches(&context))
        .watches(api::<Pod>(&context, namespace), ours.clone(), touches(&context))
        .watches(api::<PersistentVolumeClaim>(&context, namespace), ours.clone(), touches(&context))
        .watches(api::<Service>(&context, namespace), ours.clone(), touches(&context))
        .watches(api::<PodDisruptionBudget>(&context, namespace), ours, touches(&context))
        .graceful_shutdown_on(stop)
        .run(look, |watched, error, context| retry(&watched, error, &context), context)
        .for_each(async |result| {
            match result {
                // A failed look is told of where it failed; one for a cluster that is gone by now is none.
                Ok(_) | Err(controller::Error::ReconcilerFailed(..) | controller::Error::ObjectNotFound(_)) => {}
                // Events may be missed: what was read before counts no more.
                Err(error) => {
                    tracing::warn!(%error, "objects cannot be watched");
                    shared.suspect_all();
                }
            }
        })
        .await;
}

async fn look(watched: Arc<Watched>, context: Arc<Context>) -> Result<Action, reconcile::Error> {
    let key = key(&watched);
    context.note_version(&key, &watched).await;
    if let Some(rest) = context.rest(&key, watched.meta().generation) {
        return Ok(Action::requeue(rest));
    }
    let next = reconcile::reconcile(&watched, &context).await?;
    context.failures.lock().remove(&key);
    Ok(next)
}

impl Context {
    /// The resource itself has no mapper that would mark it: its version tells whether it changed.
    async fn note_version(&self, key: &Key, watched: &Watched) {
        let memory = self.memory(key);
        let memory = memory.lock().await;
        let known = memory.snapshot.as_ref().and_then(|(_, snapshot)| snapshot.cluster.resource_version());
        if known != watched.resource_version() {
            self.dirty.lock().insert(key.clone());
        }
    }
}

fn retry(watched: &Watched, error: &reconcile::Error, context: &Context) -> Action {
    let key = key(watched);
    context.dirty.lock().insert(key.clone());
    Action::requeue(context.backoff(&key, watched.meta().generation, reconcile::conflict(error)))
}

fn key(watched: &Watched) -> Key {
    ObjectRef::new(&watched.name_any()).within(&watched.namespace().unwrap_or_default())
}

fn api<K>(context: &Context, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
{
    match namespace {
        Some(namespace) => Api::namespaced(context.client.clone(), namespace),
        None => Api::all(context.client.clone()),
    }
}

/// Which cluster an object is of, noting that it has to be read again.
fn touches<K: Resource>(context: &Arc<Context>) -> impl Fn(K) -> Option<ObjectRef<Watched>> + Send + Sync + 'static {
    let context = context.clone();
    move |object| {
        let cluster = object.labels().get(label::CLUSTER)?;
        let namespace = object.namespace()?;
        context.dirty.lock().insert(ObjectRef::new(cluster).within(&namespace));
        Some(ObjectRef::new(cluster).within(&namespace))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_resource_that_cannot_be_read_is_known_by_its_name_and_spoils_no_list() {
        let of = |name: &str, spec| json!({ "metadata": { "name": name, "namespace": "ns", "generation": 7 }, "spec": spec });
        let list = json!([of("db", json!({})), of("newer", json!({ "deletionPolicy": "Archive" }))]);
        let listed: Vec<Watched> = serde_json::from_value(list).unwrap();
        let [db, newer] = &listed[..] else { panic!("two") };
        assert!(db.0.is_ok() && newer.0.is_err());
        assert_eq!(key(newer), ObjectRef::new("newer").within("ns"));
        assert_eq!(newer.meta().generation, Some(7));
    }
}
