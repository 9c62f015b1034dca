//! A disk that fills up under one member: it is named, nobody is touched, and the cluster goes on once there is room.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use keelson_api::etcdserverpb::alarm_request::AlarmAction;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::{AlarmMember, AlarmRequest};
use keelson_e2e::program::Program;
use keelson_e2e::small_disk::SmallDisk;
use keelson_e2e::wait;
use keelson_operator::api::condition::STORAGE_HEALTHY;
use serde_json::json;

use crate::stage::{LOOK, Stage, members};
use crate::trouble::uids;
use crate::{ALONE, LIMIT, has, put, put_at, url};

const DISK: u64 = 640 << 20;
/// Less than the fifth that a member keeps free, and enough for what it still has to write.
const LEFT: u64 = 96 << 20;

/// Moves a data directory to another disk.
fn onto(disk: &SmallDisk, data: &Path) -> Result<()> {
    let there = disk.data_dir()?;
    let copied = Command::new("cp").arg("--archive").arg(data.join(".")).arg(&there).status()?;
    ensure!(copied.success(), "cp: {copied}");
    fs::remove_dir_all(data)?;
    Ok(symlink(there, data)?)
}

async fn url_of(stage: &Stage, name: &str) -> Result<String> {
    let ip = stage.api::<Pod>().get(name).await?.status.and_then(|status| status.pod_ip).context("an address")?;
    Ok(format!("http://{ip}:2379"))
}

/// What a person does who has made room.
async fn disarm(url: String) -> Result<()> {
    let mut maintenance = MaintenanceClient::connect(url).await?;
    let ask = AlarmRequest { action: AlarmAction::Get.into(), ..AlarmRequest::default() };
    for AlarmMember { member_id, alarm } in maintenance.alarm(ask).await?.into_inner().alarms {
        maintenance.alarm(AlarmRequest { action: AlarmAction::Deactivate.into(), member_id, alarm }).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_one_member_is_named_and_nobody_is_touched() -> Result<()> {
    let _alone = ALONE.lock().await;
    // Unmounted after the members have ended.
    let disk = SmallDisk::mount(DISK)?;
    let stage = Stage::set(Program::Keelson).await?;
    let _operator = stage.operator().await?;
    stage.create("db", json!({ "replicas": 3 })).await?;
    let names = members(&stage.settled("db").await?);
    put(&stage, "kept").await?;
    let name = &names[0];
    let starts = stage.kubelet.starts();
    stage.kubelet.stop(&[name]);
    stage.kubelet.spoil(&stage.client, name, |data| onto(&disk, data)).await?;
    stage.kubelet.stop(&[]);
    wait::until("it is started on its small disk", LIMIT, async || Ok(stage.kubelet.starts() > starts)).await?;
    assert_eq!(members(&stage.settled("db").await?), names);

    let (before, starts) = (uids(&stage).await?, stage.kubelet.starts());
    disk.leave(LEFT)?;
    wait::until_every(LOOK, "writes are refused", LIMIT, async || {
        Ok(put_at(&url_of(&stage, name).await?, "too-much").await.is_err())
    })
    .await?;
    stage.complains("db", STORAGE_HEALTHY, "NoSpace", "NoSpace", &format!("member {name} is out of space")).await?;
    assert_eq!((uids(&stage).await?, stage.kubelet.starts()), (before.clone(), starts), "a full disk is no lost one");

    disk.give_back()?;
    // Disarmed before the member has seen that there is room, the alarm comes back.
    wait::until("writes are taken again", LIMIT, async || {
        disarm(url(&stage).await?).await?;
        Ok(put_at(&url_of(&stage, name).await?, "after").await.is_ok())
    })
    .await?;
    wait::until_every(LOOK, "the condition is over", LIMIT, async || {
        let conditions = stage.clusters().get("db").await?.status.unwrap_or_default().conditions;
        Ok(conditions.iter().any(|condition| condition.type_ == STORAGE_HEALTHY && condition.status == "True"))
    })
    .await?;
    assert_eq!(members(&stage.settled("db").await?), names);
    assert_eq!((uids(&stage).await?, stage.kubelet.starts()), (before, starts), "a member was touched");
    ensure!(has(&stage, "kept").await? && has(&stage, "after").await?);
    Ok(())
}
