//! The life of clusters: the operator as a process with the chart's rights, a real kube-apiserver that stores in
//! Keelson, members that are real processes: keelson's own, and etcd's, whose word the operator must understand as well.
//! The kubelet and its like are played by the test.

mod certificates;
mod crowd;
mod disks;
mod newer;
mod replicas;
mod stage;
mod trouble;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::{PutRequest, RangeRequest};
use keelson_e2e::program::Program;
use keelson_e2e::wait;
use keelson_operator::api::{EtcdCluster, EtcdMember};
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::json;
use stage::{LOOK, NAMESPACE, Stage, members};
use tokio::sync::Mutex;

const LIMIT: Duration = Duration::from_secs(60);

/// The client URL of the first pod that is there.
async fn url(stage: &Stage) -> Result<String> {
    let pods = stage.api::<Pod>().list(&Default::default()).await?.items;
    let ready = pods.iter().find(|pod| keelson_operator::observe::ready(pod)).context("no pod is ready")?;
    let ip = ready.status.as_ref().and_then(|status| status.pod_ip.clone()).context("no address")?;
    Ok(format!("http://{ip}:2379"))
}

async fn put(stage: &Stage, key: &str) -> Result<()> {
    put_at(&url(stage).await?, key).await
}

async fn put_at(url: &str, key: &str) -> Result<()> {
    let mut kv = KvClient::connect(url.to_string()).await?;
    kv.put(PutRequest { key: key.to_string().into(), value: "kept".into(), ..Default::default() }).await?;
    Ok(())
}

async fn has(stage: &Stage, key: &str) -> Result<bool> {
    let mut kv = KvClient::connect(url(stage).await?).await?;
    Ok(kv.range(RangeRequest { key: key.to_string().into(), ..Default::default() }).await?.into_inner().count == 1)
}

/// Stages with members need the machine for themselves.
static ALONE: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_lives_through_everything() -> Result<()> {
    Box::pin(live_through_everything(Program::Keelson)).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the same again with other members takes minutes: make soak"]
async fn a_cluster_of_etcd_lives_through_everything() -> Result<()> {
    Box::pin(live_through_everything(Program::Etcd)).await
}

/// What etcd says of itself and of its members is understood.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_etcd_grows_and_is_healed() -> Result<()> {
    let _alone = ALONE.lock().await;
    let stage = Stage::set(Program::Etcd).await?;
    let operator = stage.operator().await?;
    stage.create("db", json!({ "replicas": 3 })).await?;
    let names = members(&stage.settled("db").await.with_context(|| operator.log())?);
    put(&stage, "kept").await?;
    let starts = stage.kubelet.starts();
    stage.api::<Pod>().delete(&names[0], &DeleteParams::default()).await?;
    wait::until_every(LOOK, "the pod is made again", LIMIT, async || Ok(stage.kubelet.starts() > starts)).await?;
    assert_eq!(members(&stage.settled("db").await?), names);
    assert!(has(&stage, "kept").await?);
    Ok(())
}

async fn live_through_everything(program: Program) -> Result<()> {
    let _alone = ALONE.lock().await;
    let stage = Stage::set(program).await?;
    let mut operator = stage.operator().await?;
    stage.create("db", json!({ "replicas": 1 })).await?;
    stage.settled("db").await?;
    put(&stage, "from-the-beginning").await?;

    stage.edit("db", json!({ "replicas": 3 })).await?;
    let grown = stage.settled("db").await?;
    assert_eq!(members(&grown).len(), 3);
    let budget = stage.api::<PodDisruptionBudget>().get("db").await?.spec.context("a spec")?;
    assert_eq!(budget.min_available, Some(IntOrString::Int(2)));
    let secret = stage.api::<Secret>().get("db-connection").await?.data.context("data")?;
    assert_eq!(secret["endpoints"].0, b"http://db.stage.svc:2379");
    assert!(
        stage.api::<Service>().get("db-peers").await?.spec.is_some_and(|spec| spec.publish_not_ready_addresses == Some(true))
    );

    // A pod that is deleted comes back as the same member.
    let name = members(&grown)[0].clone();
    let before = stage.api::<EtcdMember>().get(&name).await?.status.and_then(|status| status.id);
    let uid = stage.api::<Pod>().get(&name).await?.uid();
    stage.api::<Pod>().delete(&name, &DeleteParams::default()).await?;
    wait::until("the pod is another", LIMIT, async || {
        Ok(stage.api::<Pod>().get_opt(&name).await?.is_some_and(|pod| pod.uid() != uid))
    })
    .await?;
    stage.settled("db").await?;
    assert_eq!(stage.api::<EtcdMember>().get(&name).await?.status.and_then(|status| status.id), before);

    // A volume that is gone costs the member its seat; another takes it. The operator crashes meanwhile.
    stage.kubelet.burn(&stage.client, &name).await?;
    operator.kill();
    let _operator = stage.operator().await?;
    wait::until("the member is replaced", LIMIT * 2, async || Ok(stage.api::<EtcdMember>().get_opt(&name).await?.is_none()))
        .await?;
    let healed = stage.settled("db").await?;
    assert!(!members(&healed).contains(&name) && members(&healed).len() == 3);
    assert!(has(&stage, "from-the-beginning").await?);

    // A change of options is rolled out to every pod.
    stage.edit("db", json!({ "options": { "snapshotCount": 5000 } })).await?;
    stage.settled("db").await?;
    for pod in stage.api::<Pod>().list(&Default::default()).await?.items {
        let args = pod.spec.and_then(|spec| spec.containers[0].args.clone()).unwrap_or_default();
        assert!(args.contains(&"--snapshot-count=5000".to_string()), "{args:?}");
    }
    assert!(has(&stage, "from-the-beginning").await?);

    // Deleted and created again, it adopts its volumes.
    let volumes = |stage: &Stage| {
        let claims = stage.api::<PersistentVolumeClaim>();
        async move {
            Ok::<_, anyhow::Error>(
                claims.list(&Default::default()).await?.iter().filter_map(ResourceExt::uid).collect::<Vec<_>>(),
            )
        }
    };
    let kept = volumes(&stage).await?;
    stage.clusters().delete("db", &DeleteParams::default()).await?;
    wait::until("the pods are gone", LIMIT, async || Ok(stage.api::<Pod>().list(&Default::default()).await?.items.is_empty()))
        .await?;
    stage.create("db", json!({ "replicas": 3, "options": { "snapshotCount": 5000 } })).await?;
    stage.settled("db").await?;
    assert_eq!(volumes(&stage).await?, kept);
    assert!(has(&stage, "from-the-beginning").await?);

    // Down to one, and then away with everything.
    stage.edit("db", json!({ "replicas": 1, "deletionPolicy": "Delete" })).await?;
    stage.settled("db").await?;
    assert!(has(&stage, "from-the-beginning").await?);
    assert_eq!(volumes(&stage).await?.len(), 1);
    stage.clusters().delete("db", &DeleteParams::default()).await?;
    wait::until("the cluster is gone", LIMIT, async || Ok(stage.clusters().get_opt("db").await?.is_none())).await?;
    assert!(volumes(&stage).await?.is_empty());
    let told = stage.kubelet.told();
    for reason in ["Bootstrap", "ScaleUp", "ScaleDown", "Restart", "Replace", "Roll", "Adopt", "Delete"] {
        assert!(told.contains(reason), "no Event tells of {reason}: {told:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_specs_are_refused_with_what_to_write_instead() -> Result<()> {
    let stage = Stage::set(Program::Keelson).await?;
    let refused = [
        ("db", json!({ "replicas": 0 }), "replicas must be at least 1"),
        ("db", json!({ "replicas": 11 }), "use 5 for two failures"),
        ("db", json!({ "version": "v1.2" }), "such as 1.2.3, without a leading v"),
        ("db", json!({ "storage": { "size": "0" } }), "such as 8Gi"),
        ("db", json!({ "extraArgs": { "data-dir": "/" } }), "use the field of the spec"),
        ("db", json!({ "extraArgs": { "peer-skip-client-san-verification": "true" } }), "use the field of the spec"),
        ("db", json!({ "extraArgs": { "strict-reconfig-check": "false" } }), "puts data at risk"),
        ("db", json!({ "extraArgs": { "unsafe-no-fsync": "true" } }), "puts data at risk"),
        ("db", json!({ "extraArgs": { "--log-level": "debug" } }), "without dashes in front"),
        ("db", json!({ "healing": { "replaceAfter": "soon" } }), "such as 30s, 5m or 1h"),
        ("db", json!({ "options": { "electionTimeoutMilliseconds": 200 } }), "at least five times"),
        ("db", json!({ "options": { "heartbeatIntervalMilliseconds": 1 } }), "from 10 to 10000, such as 100"),
        ("db", json!({ "options": { "electionTimeoutMilliseconds": 60000 } }), "from 50 to 50000, such as 1000"),
        ("db", json!({ "options": { "quotaBackendBytes": 0 } }), "quotaBackendBytes must be at least 1"),
        ("db", json!({ "options": { "snapshotCount": 0 } }), "snapshotCount must be at least 1"),
        (
            "db",
            json!({ "options": { "autoCompaction": { "mode": "Revision", "retention": "1h" } } }),
            "such as 1000 with mode Revision",
        ),
        ("db", json!({ "pod": { "labels": { "keelson.dev/cluster": "x" } } }), "finds its pods by them"),
        ("db", json!({ "tls": { "peer": { "secretRef": { "name": "" } } } }), "secretRef.name is empty"),
        ("db", json!({ "tls": { "client": {} } }), "tls.client needs exactly one of auto"),
        ("db", json!({ "tls": { "peer": { "auto": {}, "secretRef": { "name": "s" } } } }), "tls.peer needs exactly one of auto"),
        ("db", json!({ "tls": { "peer": { "certManager": { "issuerRef": { "name": "" } } } } }), "issuerRef.name is empty"),
        (
            "db",
            json!({ "tls": { "client": { "auto": {}, "clientSecretRef": { "name": "s" } } } }),
            "clientSecretRef stands beside secretRef only",
        ),
        ("db", json!({ "tls": { "client": { "auto": {}, "hosts": ["a b"] } } }), "names such as etcd.example.com"),
        ("db", json!({ "tls": { "client": { "secretRef": { "name": "s" }, "hosts": ["a"] } } }), "go with auto and certManager"),
        ("db", json!({ "tls": { "peer": { "auto": {}, "rotation": { "validity": "1 day" } } } }), "such as 2160h"),
        (
            "db",
            json!({ "tls": { "peer": { "auto": {}, "rotation": { "validity": "1h", "renewBefore": "31m" } } } }),
            "at most half of rotation.validity",
        ),
        (
            "db",
            json!({ "tls": { "peer": { "auto": {}, "rotation": { "validity": "30m", "renewBefore": "1m" } } } }),
            "an hour at least",
        ),
        ("1db", json!({}), "start with a letter"),
        ("a-name-that-leaves-no-room-for-the-suffixes-of-members", json!({}), "at most 40 characters"),
    ];
    for (name, spec, says) in refused {
        let error = stage.create(name, spec.clone()).await.err().with_context(|| format!("{spec} was taken"))?;
        assert!(format!("{error:#}").contains(says), "{spec}: {error:#}");
    }
    stage.create("db", json!({})).await?;
    let kept = [
        (json!({ "storage": { "storageClassName": "fast" } }), "storageClassName cannot be changed"),
        (json!({ "storage": { "size": "16Gi" } }), "storage.size cannot be changed yet"),
        (json!({ "tls": { "client": { "secretRef": { "name": "s" } } } }), "tls.client cannot be switched on or off"),
    ];
    for (spec, says) in kept {
        let error = stage.edit("db", spec.clone()).await.err().with_context(|| format!("{spec} was taken"))?;
        assert!(format!("{error:#}").contains(says), "{spec}: {error:#}");
    }
    stage.create("classy", json!({ "storage": { "storageClassName": "fast" } })).await?;
    for class in [json!("slow"), json!(null)] {
        let spec = json!({ "storage": { "storageClassName": class } });
        let error = stage.edit("classy", spec.clone()).await.err().with_context(|| format!("{spec} was taken"))?;
        assert!(format!("{error:#}").contains("storageClassName cannot be changed"), "{spec}: {error:#}");
    }
    let created = stage.clusters().get("db").await?;
    assert_eq!((created.spec.replicas, created.spec.storage.size.0.as_str()), (3, "8Gi"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_samples_are_taken_as_they_are_written() -> Result<()> {
    let stage = Stage::set(Program::Keelson).await?;
    let clusters =
        Api::<DynamicObject>::namespaced_with(stage.client.clone(), NAMESPACE, &ApiResource::erase::<EtcdCluster>(&()));
    // Nothing is made, and a field that the schema does not know is an error.
    let strict = PatchParams::apply("samples").dry_run().validation_strict();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/samples");
    let mut names = Vec::new();
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        let mut sample: DynamicObject = serde_yaml_ng::from_str(&fs::read_to_string(&path)?)?;
        sample.metadata.namespace = Some(NAMESPACE.into());
        clusters.patch(&sample.name_any(), &strict, &Patch::Apply(&sample)).await.with_context(|| path.display().to_string())?;
        names.push(sample.name_any());
    }
    names.sort();
    assert_eq!(names, ["example", "kube-store", "orders"]);
    Ok(())
}
