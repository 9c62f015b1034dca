//! What goes wrong around the operator: each is named by a condition and an Event, waited out, and mended by itself;
//! no member is touched meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::api::storage::v1::StorageClass;
use keelson_e2e::program::Program;
use keelson_e2e::wait;
use keelson_operator::api::condition::{DEGRADED, PROGRESSING, QUORUM_LOST, STORAGE_HEALTHY};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PostParams};
use serde_json::json;

use crate::crowd::number;
use crate::stage::{ACCOUNT, LOOK, NAMESPACE, RIGHTS, Stage, members};
use crate::{ALONE, LIMIT, has, put};

/// Who nobody has touched keeps these.
pub async fn uids(stage: &Stage) -> Result<BTreeMap<String, Option<String>>> {
    let pods = stage.api::<Pod>().list(&Default::default()).await?.items;
    let claims = stage.api::<PersistentVolumeClaim>().list(&Default::default()).await?.items;
    let pods = pods.iter().map(|pod| (format!("pod {}", pod.name_any()), pod.uid()));
    Ok(pods.chain(claims.iter().map(|claim| (format!("volume {}", claim.name_any()), claim.uid()))).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cluster_needs_and_does_not_find_is_named_and_waited_for() -> Result<()> {
    let _alone = ALONE.lock().await;
    let stage = Stage::set(Program::Keelson).await?;
    let _operator = stage.operator().await?;

    let spec = json!({ "replicas": 1, "storage": { "storageClassName": "fast" } });
    stage.create("classless", spec).await?;
    stage.complains("classless", STORAGE_HEALTHY, "NoVolume", "Blocked", "StorageClass fast").await?;
    let class: StorageClass =
        serde_json::from_value(json!({ "metadata": { "name": "fast" }, "provisioner": "stage.keelson.dev/folders" }))?;
    Api::all(stage.client.clone()).create(&PostParams::default(), &class).await?;
    stage.settled("classless").await?;

    stage.kubelet.online(false);
    stage.create("imageless", json!({ "replicas": 1 })).await?;
    stage.complains("imageless", DEGRADED, "PodInTrouble", "Blocked", "the registry cannot be reached").await?;
    stage.kubelet.online(true);
    stage.settled("imageless").await?;

    cordon(&stage, true).await?;
    stage.create("nodeless", json!({ "replicas": 1 })).await?;
    stage.complains("nodeless", DEGRADED, "PodInTrouble", "Blocked", "no node takes it").await?;
    // One that runs does not grow where its new member could not.
    let before = members(&stage.settled("classless").await?);
    stage.edit("classless", json!({ "replicas": 3 })).await?;
    stage.complains("classless", PROGRESSING, "Waiting", "Blocked", "is cordoned").await?;
    assert_eq!(members(&stage.clusters().get("classless").await?), before);
    cordon(&stage, false).await?;
    stage.settled("nodeless").await?;
    let grown = stage.settled("classless").await?;

    // A roll stops at the first member that does not come back, and can be taken back.
    stage.kubelet.online(false);
    stage.edit("classless", json!({ "options": { "snapshotCount": 5000 } })).await?;
    stage.complains("classless", PROGRESSING, "Waiting", "Blocked", "the registry cannot be reached").await?;
    let pods = stage.api::<Pod>().list(&Default::default()).await?.items;
    let names = members(&grown);
    let spared = pods.iter().filter(|pod| names.contains(&pod.name_any()) && keelson_operator::observe::ready(pod)).count();
    assert_eq!(spared, 2, "one member at a time");
    stage.edit("classless", json!({ "options": { "snapshotCount": null } })).await?;
    stage.kubelet.online(true);
    assert_eq!(members(&stage.settled("classless").await?), names);
    Ok(())
}

async fn cordon(stage: &Stage, unschedulable: bool) -> Result<()> {
    let nodes = Api::<Node>::all(stage.client.clone());
    for node in nodes.list(&Default::default()).await?.items {
        let patch = Patch::Merge(json!({ "spec": { "unschedulable": unschedulable } }));
        nodes.patch(&node.name_any(), &Default::default(), &patch).await?;
    }
    Ok(())
}

async fn may_not_touch_pods(stage: &Stage) -> Result<bool> {
    let pods = json!({ "namespace": NAMESPACE, "verb": "create", "resource": "pods" });
    let review = json!({ "metadata": {}, "spec": { "user": ACCOUNT, "resourceAttributes": pods } });
    let reviews = Api::<SubjectAccessReview>::all(stage.client.clone());
    let answer = reviews.create(&PostParams::default(), &serde_json::from_value(review)?).await?;
    Ok(!answer.status.context("a review has an answer")?.allowed)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_rights_or_an_api_server_nobody_is_touched() -> Result<()> {
    let _alone = ALONE.lock().await;
    let mut stage = Stage::set(Program::Keelson).await?;
    let mut operator = stage.operator().await?;
    stage.create("db", json!({ "replicas": 3 })).await?;
    let settled = stage.settled("db").await?;
    put(&stage, "kept").await?;

    // Rights are taken away, and there would be something to do: a pod is gone.
    let roles = Api::<ClusterRole>::all(stage.client.clone());
    let rights = roles.get(RIGHTS).await?;
    let mut fewer = rights.clone();
    fewer.rules.get_or_insert_default().retain(|rule| !rule.resources.iter().flatten().any(|resource| resource == "pods"));
    roles.replace(RIGHTS, &PostParams::default(), &fewer).await?;
    // The API server hears of it a moment later itself.
    wait::until("the rights are gone", LIMIT, async || may_not_touch_pods(&stage).await).await?;
    let victim = members(&settled)[0].clone();
    stage.api::<Pod>().delete(&victim, &DeleteParams::default()).await?;
    stage.complains("db", PROGRESSING, "Failed", "Failed", "forbidden").await?;
    let others = uids(&stage).await?;
    let starts = stage.kubelet.starts();
    let mut again = roles.get(RIGHTS).await?;
    again.rules = rights.rules;
    roles.replace(RIGHTS, &PostParams::default(), &again).await?;
    // The status is that of before until the operator can look again, which it tries once a minute at the latest.
    wait::until("the pod is made again", LIMIT * 2, async || Ok(stage.kubelet.starts() > starts)).await?;
    stage.settled("db").await?;
    let after = uids(&stage).await?;
    ensure!(others.iter().filter(|(name, _)| !name.ends_with(&victim)).all(|(name, uid)| after.get(name) == Some(uid)));
    assert_eq!(stage.kubelet.starts(), starts + 1, "the pod that was deleted, and no other");

    // The API server goes for longer than a Lease lasts. Clients of the members do not notice.
    let (before, starts) = (uids(&stage).await?, stage.kubelet.starts());
    let address = crate::url(&stage).await?;
    stage.api_server_goes();
    let gone = Instant::now();
    wait::until("the operator ends, as it leads no more", LIMIT, async || operator.has_ended()).await?;
    operator.again()?;
    let mut writes = 0;
    // `make soak` has it away for ten minutes.
    let away = Duration::from_secs(number("KEELSON_API_SERVER_AWAY_SECONDS", 70));
    while gone.elapsed() < away {
        ensure!(!operator.has_ended()?, "it does not wait for the API server: {}", operator.log());
        crate::put_at(&address, &format!("meanwhile-{writes}")).await?;
        writes += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    stage.api_server_returns().await?;
    wait::until_every(LOOK, "the operator tells of it", LIMIT, async || {
        Ok(stage.kubelet.has_told("Unattended", "the API server could not be reached"))
    })
    .await
    .with_context(|| operator.log())?;
    wait::until_every(LOOK, "and its condition, too", LIMIT, async || {
        let conditions = stage.clusters().get("db").await?.status.unwrap_or_default().conditions;
        let says = |message: &str| message.contains("No operator looked after this cluster from ");
        Ok(conditions.iter().any(|condition| condition.type_ == PROGRESSING && says(&condition.message)))
    })
    .await?;
    stage.settled("db").await?;
    assert_eq!(uids(&stage).await?, before);
    assert_eq!(stage.kubelet.starts(), starts, "no member was started again");
    ensure!(has(&stage, "kept").await? && has(&stage, &format!("meanwhile-{}", writes - 1)).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn members_whose_data_is_damaged_or_gone_are_replaced_and_others_restarted() -> Result<()> {
    let _alone = ALONE.lock().await;
    let stage = Stage::set(Program::Keelson).await?;
    let _operator = stage.operator().await?;
    stage.create("db", json!({ "replicas": 3 })).await?;
    let first = members(&stage.settled("db").await?);
    put(&stage, "kept").await?;

    // A crash is none of it: the member comes back, in the same pod.
    let before = uids(&stage).await?;
    let starts = stage.kubelet.starts();
    stage.kubelet.stop(&[&first[0]]);
    stage.kubelet.stop(&[]);
    wait::until("it is started again", LIMIT, async || Ok(stage.kubelet.starts() > starts)).await?;
    assert_eq!(members(&stage.settled("db").await?), first);
    assert_eq!(uids(&stage).await?, before);

    // Its log cannot be read: exit code 65.
    let name = &first[0];
    stage
        .kubelet
        .spoil(&stage.client, name, |data| {
            for file in std::fs::read_dir(data.join("log"))? {
                let path = file?.path();
                let mut contents = std::fs::read(&path)?;
                contents.iter_mut().take(16 * 1024).for_each(|byte| *byte ^= 0xa5);
                std::fs::write(path, contents)?;
            }
            Ok(())
        })
        .await?;
    replaced(&stage, name, "data is damaged").await?;
    ensure!(stage.kubelet.has_told("DataDamaged", name), "{}", stage.kubelet.story());

    // There is nothing of it any more: exit code 66.
    let name = &members(&stage.settled("db").await?)[0].clone();
    stage.kubelet.spoil(&stage.client, name, |data| Ok(std::fs::remove_dir_all(data)?)).await?;
    replaced(&stage, name, "data is gone").await?;
    ensure!(stage.kubelet.has_told("DataGone", name), "{}", stage.kubelet.story());

    // Its node is gone, and with it the way to its volume.
    stage.edit("db", json!({ "healing": { "replaceAfter": "5s" } })).await?;
    let name = &members(&stage.settled("db").await?)[0].clone();
    let node = stage.api::<Pod>().get(name).await?.spec.and_then(|spec| spec.node_name).context("a node")?;
    let began = Instant::now();
    Api::<Node>::all(stage.client.clone()).delete(&node, &DeleteParams::default()).await?;
    stage.kubelet.stop(&[name]);
    // As the controller of nodes does.
    stage.api::<Pod>().delete(name, &DeleteParams::default().grace_period(0)).await?;
    replaced(&stage, name, "the only node that can reach its volume is gone").await?;
    println!("figure: a lost node, replaceAfter 5s: {:.1} s", began.elapsed().as_secs_f64());
    ensure!(stage.kubelet.has_told("VolumeUnreachable", name), "{}", stage.kubelet.story());
    ensure!(has(&stage, "kept").await?);
    Ok(())
}

/// Waits until a member is no more, for the reason it gave, and its successor is as good.
async fn replaced(stage: &Stage, name: &str, why: &str) -> Result<()> {
    wait::until_every(LOOK, &format!("{name} is replaced: {why}"), LIMIT * 2, async || {
        let there = stage.api::<keelson_operator::api::EtcdMember>().get_opt(name).await?.is_some();
        Ok(!there && stage.kubelet.has_told("Replace", why))
    })
    .await
    .with_context(|| stage.kubelet.story())?;
    let healed = members(&stage.settled("db").await?);
    ensure!(healed.len() == 3 && !healed.contains(&name.to_string()), "{healed:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "on a whole Kubernetes, e2e/tests/node has the same: make soak"]
async fn two_of_five_are_replaced_and_without_a_majority_all_is_kept() -> Result<()> {
    let _alone = ALONE.lock().await;
    let stage = Stage::set(Program::Keelson).await?;
    let _operator = stage.operator().await?;
    stage.create("db", json!({ "replicas": 5 })).await?;
    let first = members(&stage.settled("db").await?);
    put(&stage, "kept").await?;
    for name in &first[..2] {
        stage.kubelet.burn(&stage.client, name).await?;
    }
    wait::until_every(LOOK, "both are replaced", LIMIT * 2, async || {
        let status = stage.clusters().get("db").await?.status.unwrap_or_default();
        Ok(status.members.iter().all(|member| !first[..2].contains(&member.name)))
    })
    .await
    .with_context(|| stage.kubelet.story())?;
    let healed = members(&stage.settled("db").await?);
    assert_eq!(healed.len(), 5);
    ensure!(has(&stage, "kept").await?);

    let before = uids(&stage).await?;
    let three: Vec<_> = healed[..3].iter().map(String::as_str).collect();
    stage.kubelet.stop(&three);
    stage.complains("db", QUORUM_LOST, "TooFewMembers", "TooFewMembers", "2 of 5 members answer").await?;
    assert_eq!(uids(&stage).await?, before, "nothing is deleted without a majority");
    stage.kubelet.stop(&[]);
    assert_eq!(members(&stage.settled("db").await?), healed);
    assert_eq!(uids(&stage).await?, before);
    ensure!(has(&stage, "kept").await?);
    Ok(())
}
