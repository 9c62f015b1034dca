//! What is newer than something else: an operator with other defaults than the one before it, and resources of a definition
//! that it does not know.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use keelson_e2e::program::Program;
use keelson_e2e::wait;
use keelson_operator::api::EtcdCluster;
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, PostParams};
use serde_json::{Value, json};

use crate::stage::{LOOK, NAMESPACE, Stage, members};
use crate::trouble::uids;
use crate::{ALONE, LIMIT};

async fn image(stage: &Stage, pod: &str) -> Result<String> {
    let spec = stage.api::<Pod>().get(pod).await?.spec.context("a spec")?;
    spec.containers[0].image.clone().context("an image")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_with_other_defaults_restarts_nobody_and_makes_members_like_the_others() -> Result<()> {
    let _alone = ALONE.lock().await;
    let stage = Stage::set(Program::Keelson).await?;
    let mut operator = stage.operator().await?;
    stage.create("db", json!({ "replicas": 3 })).await?;
    let names = members(&stage.settled("db").await?);
    let (before, starts, made_from) = (uids(&stage).await?, stage.kubelet.starts(), image(&stage, &names[0]).await?);
    assert_eq!(made_from, "registry.stage/keelson:3.7.3");

    operator.upgrade(&["--default-version=3.8.0", "--default-image-repository=elsewhere.stage/keelson"])?;
    // That it has looked at the cluster shows in what only it was asked for. It waits for the Lease of the one before.
    stage.edit("db", json!({ "services": { "client": { "annotations": { "asked": "afterwards" } } } })).await?;
    wait::until_every(LOOK, "the other operator has looked", LIMIT * 2, async || {
        Ok(stage.api::<Service>().get("db").await?.annotations().contains_key("asked"))
    })
    .await
    .with_context(|| operator.log())?;
    let target = stage.settled("db").await?.status.and_then(|status| status.target).context("a target")?;
    assert_eq!(target.version, "3.7.3");
    assert_eq!((uids(&stage).await?, stage.kubelet.starts()), (before.clone(), starts), "somebody was restarted");

    // A pod that has to be made again is like the others.
    let name = &names[0];
    stage.api::<Pod>().delete(name, &DeleteParams::default()).await?;
    wait::until("the pod is another", LIMIT, async || {
        let pod = stage.api::<Pod>().get_opt(name).await?;
        Ok(pod.is_some_and(|pod| before.get(&format!("pod {name}")) != Some(&pod.uid())))
    })
    .await?;
    assert_eq!(members(&stage.settled("db").await?), names);
    assert_eq!(image(&stage, name).await?, made_from);
    Ok(())
}

/// A definition that has a word more than this operator knows.
async fn define_newer(stage: &Stage) -> Result<()> {
    let crds = Api::<CustomResourceDefinition>::all(stage.client.clone());
    let mut crd = serde_json::to_value(crds.get("etcdclusters.keelson.dev").await?)?;
    let policies = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/deletionPolicy/enum";
    let policies = crd.pointer_mut(policies).and_then(Value::as_array_mut).context("the policies that there are")?;
    policies.push("Archive".into());
    crds.replace("etcdclusters.keelson.dev", &PostParams::default(), &serde_json::from_value(crd)?).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_cannot_be_read_is_told_so_and_keeps_no_other_from_being_healed() -> Result<()> {
    let _alone = ALONE.lock().await;
    let stage = Stage::set(Program::Keelson).await?;
    let mut operator = stage.operator().await?;
    stage.create("db", json!({ "replicas": 1 })).await?;
    let names = members(&stage.settled("db").await?);

    define_newer(&stage).await?;
    let resource = ApiResource::erase::<EtcdCluster>(&());
    let clusters = Api::<DynamicObject>::namespaced_with(stage.client.clone(), NAMESPACE, &resource);
    let newer = DynamicObject::new("newer", &resource).data(json!({ "spec": { "deletionPolicy": "Archive" } }));
    wait::until("the API server takes it", LIMIT, async || match clusters.create(&PostParams::default(), &newer).await {
        Ok(_) => Ok(true),
        // It serves the definition of before for a moment.
        Err(kube::Error::Api(status)) if status.code == 422 => Ok(false),
        Err(error) => Err(error.into()),
    })
    .await?;
    let mut last = Value::Null;
    let told = wait::until_every(LOOK, "it is told that it cannot be read", LIMIT, async || {
        last = clusters.get("newer").await?.data["status"]["conditions"].take();
        let says = |condition: &Value| {
            let message = condition["message"].as_str().unwrap_or_default();
            condition["reason"] == "Failed" && message.contains("cannot be read")
        };
        let says = last.as_array().is_some_and(|conditions| conditions.iter().any(says));
        Ok(says && stage.kubelet.has_told("Failed", "cannot be read"))
    })
    .await;
    told.with_context(|| format!("{last}\n{}", operator.log()))?;

    // Others are healed, and made, also by an operator that has never seen a list without it.
    let starts = stage.kubelet.starts();
    stage.api::<Pod>().delete(&names[0], &DeleteParams::default()).await?;
    wait::until("the pod is made again", LIMIT, async || Ok(stage.kubelet.starts() > starts)).await?;
    assert_eq!(members(&stage.settled("db").await?), names);
    operator.again()?;
    stage.create("later", json!({ "replicas": 1 })).await?;
    stage.settled("later").await.with_context(|| operator.log())?;
    ensure!(stage.api::<Service>().get_opt("newer").await?.is_none(), "something was made for what cannot be read");
    Ok(())
}
