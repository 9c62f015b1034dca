//! Which operator looks after what: one of two replicas acts until it is asked to end, and one with a single namespace leaves
//! the others alone. On the way, what probes, Prometheus and collectors of logs get.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::rbac::v1::Role;
use keelson_e2e::program::Program;
use keelson_e2e::wait;
use keelson_operator::api::EtcdCluster;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::{Value, json};

use crate::stage::{ACCOUNT, LOOK, Manner, NAMESPACE, Operator, RIGHTS, Stage, members};
use crate::{ALONE, LIMIT};

/// A Lease that is not given up is waited for 15 seconds.
const SOON: Duration = Duration::from_secs(10);

async fn leads(operator: &Operator) -> Result<bool> {
    let (_, metrics) = operator.get("/metrics").await?;
    Ok(metrics.lines().any(|line| line == "keelson_operator_leading 1"))
}

async fn ready(operator: &Operator) -> Result<()> {
    // Nobody listens in the first moment.
    let ready = async || Ok(operator.get("/readyz").await.is_ok_and(|(status, _)| status == 200));
    wait::until_every(LOOK, "the API server is reached", LIMIT, ready).await.with_context(|| operator.log())
}

async fn holder(stage: &Stage) -> Result<Option<String>> {
    let lease = stage.api::<Lease>().get_opt("keelson-operator").await?;
    Ok(lease.and_then(|lease| lease.spec?.holder_identity))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_replicas_acts_and_the_other_takes_over_at_once() -> Result<()> {
    let _alone = ALONE.lock().await;
    let stage = Stage::set(Program::Keelson).await?;
    let mut first = stage.operator_that(Manner { logs_json: true, ..Manner::default() }).await?;
    stage.create("db", json!({ "replicas": 1 })).await?;
    let name = members(&stage.settled("db").await.with_context(|| first.log())?)[0].clone();
    let second = stage.operator().await?;
    ready(&second).await?;
    ensure!(leads(&first).await? && !leads(&second).await?, "one leads, the first: {}", second.log());
    let leader = holder(&stage).await?;

    assert_eq!(first.get("/healthz").await?.0, 200);
    assert_eq!(first.get("/readyz").await?.0, 200);
    assert_eq!(first.get("/nothing").await?.0, 404);
    let (_, metrics) = first.get("/metrics").await?;
    let lines =
        ["keelson_operator_clusters 1", "keelson_operator_looks_total{result=\"ok\"}", "keelson_operator_look_seconds_count"];
    for line in lines {
        ensure!(metrics.lines().any(|known| known.starts_with(line)), "{line} is not in {metrics}");
    }
    let log = first.log();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| line.to_string())?;
        ensure!(line["timestamp"].is_string() && line["level"].is_string() && line["fields"]["message"].is_string(), "{line}");
    }
    ensure!(log.contains("CreatePod"), "no line tells of an action: {log}");

    first.terminate()?;
    let began = Instant::now();
    wait::until_every(LOOK, "the other leads", SOON, async || leads(&second).await).await.with_context(|| second.log())?;
    println!("figure: a replica takes over from one that is asked to end: {:.1} s", began.elapsed().as_secs_f64());
    wait::until_every(LOOK, "the first has ended", LIMIT, async || first.has_ended()).await?;
    ensure!(holder(&stage).await? != leader, "the Lease is still held by {leader:?}");
    let starts = stage.kubelet.starts();
    stage.api::<Pod>().delete(&name, &DeleteParams::default()).await?;
    wait::until_every(LOOK, "the pod is made again", LIMIT, async || Ok(stage.kubelet.starts() > starts)).await?;
    stage.settled("db").await.with_context(|| second.log())?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_rights_on_its_lease_a_replica_is_not_ready_and_says_why() -> Result<()> {
    let _alone = ALONE.lock().await;
    let stage = Stage::set(Program::Keelson).await?;
    let mut operator = stage.operator().await?;
    stage.create("db", json!({ "replicas": 1 })).await?;
    stage.settled("db").await.with_context(|| operator.log())?;
    let starts = stage.kubelet.starts();
    let roles = stage.api::<Role>();
    let rights = roles.get(RIGHTS).await?;
    let mut fewer = rights.clone();
    fewer.rules = None;
    roles.replace(RIGHTS, &PostParams::default(), &fewer).await?;
    wait::until_every(LOOK, "the rights are gone", LIMIT, async || Ok(!may_read_lease(&stage).await?)).await?;

    operator.again()?;
    let why = "the Lease could not be read or written";
    wait::until_every(LOOK, "its log says why", LIMIT, async || Ok(operator.log().contains(why))).await?;
    let (status, says) = operator.get("/readyz").await?;
    ensure!(status == 503 && says.contains("Lease"), "{status}: {says}");
    ensure!(operator.get("/healthz").await?.0 == 200, "to start it again would help nobody");
    ensure!(operator.log().contains("forbidden") && !leads(&operator).await?, "{}", operator.log());

    let mut again = roles.get(RIGHTS).await?;
    again.rules = rights.rules;
    roles.replace(RIGHTS, &PostParams::default(), &again).await?;
    ready(&operator).await?;
    wait::until_every(LOOK, "it leads", LIMIT, async || leads(&operator).await).await.with_context(|| operator.log())?;
    ensure!(stage.kubelet.starts() == starts, "a member was touched");
    Ok(())
}

async fn may_read_lease(stage: &Stage) -> Result<bool> {
    may_read(stage, NAMESPACE, "coordination.k8s.io", "leases").await
}

/// Whether the operator may read such objects there.
async fn may_read(stage: &Stage, namespace: &str, group: &str, resource: &str) -> Result<bool> {
    let what = json!({ "namespace": namespace, "verb": "get", "group": group, "resource": resource });
    let review = json!({ "metadata": {}, "spec": { "user": ACCOUNT, "resourceAttributes": what } });
    let reviews = Api::<SubjectAccessReview>::all(stage.client.clone());
    let answer = reviews.create(&PostParams::default(), &serde_json::from_value(review)?).await?;
    Ok(answer.status.context("a review has an answer")?.allowed)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_with_one_namespace_needs_rights_there_only_and_leaves_others_alone() -> Result<()> {
    let _alone = ALONE.lock().await;
    let stage = Stage::set(Program::Keelson).await?;
    let other: Namespace = serde_json::from_value(json!({ "metadata": { "name": "elsewhere" } }))?;
    Api::all(stage.client.clone()).create(&PostParams::default(), &other).await?;
    // It is there first: who looked at it would have done something by the time that the one of here has settled.
    let theirs = Api::<EtcdCluster>::namespaced(stage.client.clone(), "elsewhere");
    let metadata = json!({ "name": "theirs" });
    let cluster =
        json!({ "apiVersion": "keelson.dev/v1alpha1", "kind": "EtcdCluster", "metadata": metadata, "spec": { "replicas": 1 } });
    theirs.create(&PostParams::default(), &serde_json::from_value(cluster)?).await?;
    let operator = stage.operator_that(Manner { namespace: Some(NAMESPACE), ..Manner::default() }).await?;
    wait::until_every(LOOK, "the rights are there", LIMIT, async || may_read(&stage, NAMESPACE, "", "secrets").await).await?;
    ensure!(!may_read(&stage, "elsewhere", "", "secrets").await?, "it may read Secrets of other namespaces");

    stage.create("db", json!({ "replicas": 3 })).await?;
    stage.settled("db").await.with_context(|| operator.log())?;
    ensure!(theirs.get("theirs").await?.status.is_none(), "it looked at a cluster that it is not there for");
    let services = Api::<Service>::namespaced(stage.client.clone(), "elsewhere").list(&Default::default()).await?;
    ensure!(services.items.is_empty(), "it made something elsewhere");
    Ok(())
}
