//! Certificates that the operator issues itself: renewed, and their authority replaced, without a restart and without
//! anybody being refused.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, Secret};
use keelson_e2e::program::Program;
use keelson_e2e::wait;
use keelson_operator::api::condition::CERTIFICATES_READY;
use keelson_operator::pki::{Pair, Shown};
use keelson_operator::store::{Door, shake};
use kube::api::{DeleteParams, Patch};
use serde_json::json;

use super::{Files, authority, connection, contents, put};
use crate::ALONE;
use crate::stage::{NAMESPACE, Stage, members};

/// Several looks at a cluster at rest, one in twenty seconds.
const STEPS: Duration = Duration::from_secs(180);

async fn secret(stage: &Stage, name: &str) -> Result<Files> {
    stage.api::<Secret>().get(name).await?.data.context("data")
}

/// What a member shows on a port to a caller that trusts what is in one Secret and shows what is in another.
async fn shown(stage: &Stage, member: &str, port: i32, trusted: &str, own: &str) -> Result<Shown> {
    let (trusted, own) = (secret(stage, trusted).await?, secret(stage, own).await?);
    let text = |file: &str| String::from_utf8(own[file].0.clone());
    let own = Pair { certificate: text("tls.crt")?, key: text("tls.key")? };
    let status = stage.api::<Pod>().get(member).await?.status.context("a status")?;
    let ip = status.pod_ip.context("an address")?;
    let host = format!("{member}.db-peers.{NAMESPACE}.svc");
    let door = Door { ip: &ip, port, host: &host };
    shake(&door, &trusted["ca.crt"].0, &own).await.map_err(anyhow::Error::msg)
}

/// The reason of the condition.
async fn ready(stage: &Stage) -> Result<String> {
    let status = stage.clusters().get("db").await?.status.unwrap_or_default();
    let condition = status.conditions.into_iter().find(|condition| condition.type_ == CERTIFICATES_READY);
    Ok(condition.context("the condition is always there")?.reason)
}

/// Waits until nobody but a new authority is trusted on either port. Clients with the newest connection Secret are let in all the while.
async fn replaced(stage: &Stage, names: &[String], before: &[Files; 2]) -> Result<()> {
    wait::until("the authorities are replaced", STEPS, async || {
        for name in names {
            put(stage, name, connection(stage).await?).await.with_context(|| format!("{name} refuses a client"))?;
        }
        let now = [secret(stage, "db-client-ca").await?, secret(stage, "db-peer-ca").await?];
        let alone = |files: &Files| files.get("ca.crt") == files.get("tls.crt") && !files.contains_key("next.key");
        let new = now.iter().zip(before).all(|(now, before)| alone(now) && now.get("tls.crt") != before.get("tls.crt"));
        Ok(new && ready(stage).await? == "CertificatesGood")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_issues_renews_and_replaces_without_a_restart() -> Result<()> {
    let _alone = ALONE.lock().await;
    let stage = Stage::set(Program::Keelson).await?;
    let mut operator = stage.operator().await?;
    let side = json!({ "auto": {}, "rotation": { "overlap": "1s" } });
    stage.create("db", json!({ "replicas": 3, "tls": { "client": side, "peer": side } })).await?;
    let settled = stage.settled("db").await.with_context(|| operator.log())?;
    let names = members(&settled);
    let first = connection(&stage).await?;
    assert_eq!(first["endpoints"].0, b"https://db.stage.svc:2379");
    for name in &names {
        put(&stage, name, first.clone()).await.with_context(|| name.clone())?;
        let mut stranger = contents(&authority()?, "client", &[])?;
        stranger.insert("ca.crt".into(), first["ca.crt"].clone());
        ensure!(put(&stage, name, stranger).await.is_err(), "{name} lets in anybody");
        // A client's certificate is not one of a member.
        shown(&stage, name, 2380, "db-peer-tls", "db-peer-tls").await.context("a member is taken for one")?;
        let client = shown(&stage, name, 2380, "db-peer-tls", "db-client-tls").await;
        ensure!(client.is_err(), "{name} takes a client for a member");
    }
    let listed = settled.status.context("a status")?.certificates;
    let mut listed: Vec<_> = listed.into_iter().map(|certificate| certificate.secret).collect();
    listed.sort();
    assert_eq!(listed, ["db-client-ca", "db-client-tls", "db-peer-ca", "db-peer-tls", "db-server-tls"]);
    assert_eq!(ready(&stage).await?, "CertificatesGood");

    // A shorter life asks for new certificates, as the end of those before would.
    let starts = stage.kubelet.starts();
    let soon = Timestamp::now() + SignedDuration::from_hours(49);
    stage.edit("db", json!({ "tls": { "client": { "rotation": { "validity": "48h", "renewBefore": "24h" } } } })).await?;
    for name in &names {
        wait::until("members show renewed certificates", STEPS, async || {
            Ok(shown(&stage, name, 2379, "db-server-tls", "db-client-tls").await.is_ok_and(|shown| shown.until < soon))
        })
        .await?;
    }
    stage.settled("db").await?;

    // The authorities are replaced; the operator stops in the middle.
    let before = [secret(&stage, "db-client-ca").await?, secret(&stage, "db-peer-ca").await?];
    let old = connection(&stage).await?;
    let ask = json!({ "metadata": { "annotations": { "keelson.dev/rotate-ca": "1" } } });
    stage.clusters().patch("db", &Default::default(), &Patch::Merge(ask)).await?;
    wait::until("the next authority is trusted", STEPS, async || {
        Ok(secret(&stage, "db-client-ca").await?.contains_key("next.key"))
    })
    .await?;
    operator.again()?;
    replaced(&stage, &names, &before).await.with_context(|| operator.log())?;
    let new = connection(&stage).await?;
    for name in &names {
        let mut outdated = old.clone();
        outdated.insert("ca.crt".into(), new["ca.crt"].clone());
        ensure!(put(&stage, name, outdated).await.is_err(), "{name} trusts the old authority");
    }
    assert!(stage.kubelet.told().contains("RotateCA"), "{:?}", stage.kubelet.told());

    // One that somebody deleted is followed by another in the same steps.
    let before = [secret(&stage, "db-client-ca").await?, secret(&stage, "db-peer-ca").await?];
    for name in ["db-client-ca", "db-peer-ca"] {
        stage.api::<Secret>().delete(name, &DeleteParams::default()).await?;
    }
    // The operator does not watch Secrets; any event has it look at once.
    let look = json!({ "metadata": { "annotations": { "look": "again" } } });
    stage.clusters().patch("db", &Default::default(), &Patch::Merge(look)).await?;
    wait::until("there are authorities again", STEPS, async || {
        let secrets = stage.api::<Secret>();
        Ok(secrets.get_opt("db-client-ca").await?.is_some() && secrets.get_opt("db-peer-ca").await?.is_some())
    })
    .await?;
    replaced(&stage, &names, &before).await.with_context(|| operator.log())?;
    stage.settled("db").await?;
    assert_eq!(stage.kubelet.starts(), starts, "a member was started again");
    Ok(())
}
