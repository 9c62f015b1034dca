//! Members whose data differs: found before they serve, now and then, and at compactions; named in an alarm; and
//! nobody takes writes until it is disarmed.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use keelson_api::etcdserverpb::alarm_request::AlarmAction;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::lease_client::LeaseClient;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::request_op::Request;
use keelson_api::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, CompactionRequest, LeaseGrantRequest, MoveLeaderRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest,
};
use keelson_api::exit;
use keelson_e2e::cluster::Cluster;
use keelson_e2e::server::Server;
use keelson_e2e::{program, wait};
use keelson_mvcc::{Backend, Cursor, Table, WriteBatch};
use keelson_storage::{StateBackend, StateOptions};
use tokio::process::Command;

use super::{LIMIT, exit_code, http, limited, said, three};

const CORRUPT: &str = "DataLoss: etcdserver: corrupt cluster";
/// Nothing like it is anywhere else in the data.
const SOUND: &[u8] = b"sound-value";

/// Changes a value of a stopped member behind its back, and it alone.
fn damage(data_dir: &Path) -> Result<()> {
    let store = StateBackend::open(&data_dir.join("state"), &StateOptions::default())?;
    let mut cursor = store.cursor(Table::History, None);
    cursor.seek(&[])?;
    let found = loop {
        let (key, row) = cursor.row().context("the value is in the history")?;
        if row.ends_with(SOUND) {
            break (key.to_vec(), row.to_vec());
        }
        cursor.step()?;
    };
    drop(cursor);
    let (key, mut row) = found;
    *row.last_mut().context("a row is not empty")? ^= 1;
    let mut batch = store.batch();
    batch.put(Table::History, &key, &row);
    store.write(batch)?;
    store.flush()?;
    Ok(())
}

/// Three members of which the last one that is given lies stopped, its data damaged.
async fn damaged(flags: &[&str], pick: impl AsyncFn(&Cluster) -> Result<usize>) -> Result<(Cluster, usize, u64)> {
    let mut cluster = three(flags).await?;
    cluster.put(0, "damaged", std::str::from_utf8(SOUND)?).await?;
    for n in 0..50 {
        cluster.put(n % 3, &format!("k{n}"), "x").await?;
    }
    cluster.agree(&[0, 1, 2]).await?;
    let victim = pick(&cluster).await?;
    let id = cluster.id(victim).await?;
    cluster.members[victim].stop().await?;
    damage(&cluster.members[victim].data_dir())?;
    Ok((cluster, victim, id))
}

async fn a_follower(cluster: &Cluster) -> Result<usize> {
    Ok((cluster.leader(&[0, 1, 2]).await? + 1) % 3)
}

async fn the_leader(cluster: &Cluster) -> Result<usize> {
    cluster.leader(&[0, 1, 2]).await
}

async fn alarms(server: &Server) -> Result<Vec<AlarmMember>> {
    let mut maintenance = MaintenanceClient::connect(server.client_url()).await?;
    let get = AlarmRequest { action: AlarmAction::Get.into(), ..Default::default() };
    Ok(maintenance.alarm(limited(get)).await?.into_inner().alarms)
}

async fn named(server: &Server) -> Result<u64> {
    let mut named = None;
    wait::until("the alarm is raised", LIMIT, async || {
        named = alarms(server).await?.first().copied();
        Ok(named.is_some())
    })
    .await?;
    let alarm = named.context("it is raised")?;
    ensure!(alarm.alarm() == AlarmType::Corrupt);
    Ok(alarm.member_id)
}

async fn put(server: &Server) -> Result<String> {
    let mut kv = KvClient::connect(server.client_url()).await?;
    Ok(said(kv.put(limited(PutRequest { key: "p".into(), ..Default::default() })).await))
}

#[tokio::test]
async fn a_member_with_other_data_than_most_does_not_start_when_it_looks_first() -> Result<()> {
    let (mut cluster, victim, id) = damaged(&["--feature-gates=InitialCorruptCheck=true"], a_follower).await?;
    cluster.members[victim].spawn()?;
    ensure!(exit_code(&mut cluster.members[victim]).await? == exit::CORRUPT, "{}", cluster.members[victim].log_tail());
    let log = cluster.members[victim].log();
    ensure!(log.contains("found data inconsistency with peers") && log.contains(&format!("{id:x}")), "{log}");

    // The others are not held up by it, and start as before.
    let sound = (victim + 1) % 3;
    cluster.members[sound].stop().await?;
    cluster.members[sound].restart().await?;
    ensure!(cluster.members[sound].log().contains("initial corruption checking passed"));
    ensure!(put(&cluster.members[sound]).await? == "accepted");
    Ok(())
}

#[tokio::test]
async fn the_leader_finds_who_differs_and_nobody_takes_writes_until_the_alarm_is_disarmed() -> Result<()> {
    let (mut cluster, victim, id) = damaged(&["--corrupt-check-time=1s"], a_follower).await?;
    cluster.members[victim].restart().await?;
    let sound = (victim + 1) % 3;
    ensure!(named(&cluster.members[sound]).await? == id);
    for member in &cluster.members {
        wait::until("writes are refused", LIMIT, async || Ok(put(member).await? == CORRUPT)).await?;
        let mut lease = LeaseClient::connect(member.client_url()).await?;
        ensure!(said(lease.lease_grant(limited(LeaseGrantRequest { ttl: 60, id: 0 })).await) == CORRUPT);
        let health = http(&member.client_url(), "/health").await?;
        ensure!(health.contains("503") && health.contains("ALARM CORRUPT"), "{health}");
        let ready = http(&member.client_url(), "/readyz").await?;
        ensure!(ready.contains("[-]data_corruption failed"), "{ready}");
        ensure!(http(&member.client_url(), "/livez").await?.ends_with("ok\n"));
    }
    // Reads go on.
    ensure!(cluster.get(sound, "k1").await?.is_some());

    // Without the damaged member, the alarm can be disarmed for good.
    cluster.members[victim].kill();
    let mut maintenance = MaintenanceClient::connect(cluster.members[sound].client_url()).await?;
    let disarm = AlarmRequest { action: AlarmAction::Deactivate.into(), member_id: id, alarm: AlarmType::Corrupt.into() };
    maintenance.alarm(limited(disarm)).await?;
    ensure!(put(&cluster.members[sound]).await? == "accepted");
    Ok(())
}

#[tokio::test]
async fn compactions_are_compared_and_a_leader_that_differs_is_found_too() -> Result<()> {
    let flags = ["--feature-gates=CompactHashCheck=true", "--compact-hash-check-time=1s"];
    let (mut cluster, victim, id) = damaged(&flags, the_leader).await?;
    cluster.members[victim].restart().await?;
    let others: Vec<usize> = (0..3).filter(|n| *n != victim).collect();
    let leader = cluster.leader(&others).await?;
    let mut maintenance = MaintenanceClient::connect(cluster.members[leader].client_url()).await?;
    wait::until("the damaged member leads", LIMIT, async || {
        Ok(maintenance.move_leader(limited(MoveLeaderRequest { target_id: id })).await.is_ok())
    })
    .await?;
    ensure!(cluster.leader(&[victim]).await? == victim);

    let revision = cluster.put(victim, "newest", "x").await?;
    let mut kv = KvClient::connect(cluster.members[victim].client_url()).await?;
    kv.compact(limited(CompactionRequest { revision, physical: true })).await?;
    ensure!(named(&cluster.members[leader]).await? == id, "another member is named");
    ensure!(put(&cluster.members[leader]).await? == CORRUPT);
    Ok(())
}

#[tokio::test]
async fn a_compaction_that_comes_while_an_older_one_is_removed_is_compared_too() -> Result<()> {
    let flags = [
        "--feature-gates=CompactHashCheck=true",
        "--compact-hash-check-time=1s",
        "--compaction-batch-limit=1",
        "--compaction-sleep-interval=20ms",
    ];
    let cluster = three(&flags).await?;
    let mut newest = 0;
    for _ in 0..200 {
        newest = cluster.put(0, "key", "x").await?;
    }
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let mut kv = KvClient::connect(cluster.members[leader].client_url()).await?;
    for revision in [newest - 50, newest] {
        kv.compact(limited(CompactionRequest { revision, physical: false })).await?;
        // What is removed takes seconds: the next one comes in the middle of it.
        let written = cluster.put(leader, "key", "y").await?;
        ensure!(written > revision);
    }
    wait::until("the newer compaction is compared", LIMIT, async || {
        let log = cluster.members[leader].log();
        let mut lines = log.lines().filter(|line| line.contains("successfully checked hash on whole cluster"));
        Ok(lines.any(|line| line.contains(&newest.to_string())))
    })
    .await
    .with_context(|| cluster.members[leader].log_tail())
}

#[tokio::test]
async fn etcdctl_shows_which_member_has_other_data() -> Result<()> {
    let (mut cluster, victim, _) = damaged(&[], a_follower).await?;
    cluster.members[victim].restart().await?;
    cluster.put(victim, "caught", "up").await?;
    for member in 0..3 {
        cluster.get(member, "caught").await?;
    }
    let revision = cluster.status(victim).await?.header.context("a status has a header")?.revision;
    let output = Command::new(program::peer("etcdctl")?)
        .args(["endpoint", "hashkv", "--cluster", "--write-out=simple", &format!("--rev={revision}")])
        .env_clear()
        .env("ETCDCTL_ENDPOINTS", cluster.members[0].client_url())
        .stdin(Stdio::null())
        .output()
        .await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let hash_of = |server: &Server| -> Result<String> {
        let line = text.lines().find(|line| line.contains(&server.client_url())).with_context(|| text.clone())?;
        Ok(line.split(',').nth(1).context("a hash")?.trim().to_owned())
    };
    let hashes = cluster.members.iter().map(hash_of).collect::<Result<Vec<_>>>()?;
    let sound: Vec<&String> = hashes.iter().enumerate().filter(|(n, _)| *n != victim).map(|(_, hash)| hash).collect();
    ensure!(sound[0] == sound[1] && hashes[victim] != *sound[0], "{text}");
    Ok(())
}

/// 18667: whether a transaction is refused for a revision that it reads must not depend on how far a member has compacted.
#[tokio::test]
async fn transactions_that_read_what_is_being_compacted_end_alike_on_all_members() -> Result<()> {
    const ROUNDS: i64 = 400;
    let cluster = three(&["--compaction-batch-limit=10"]).await?;
    let mut writer = KvClient::new(cluster.members[0].channel().await?);
    let mut compacter = KvClient::new(cluster.members[1].channel().await?);
    let (mut done, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let newest = cluster.put(2, "key", &round.to_string()).await?;
        // Just before and just after the revision that is compacted at the same time.
        let revision = newest - 3 + round % 3;
        let put = PutRequest { key: format!("in/{round}").into(), value: "x".into(), ..Default::default() };
        let read = RangeRequest { key: "key".into(), revision, ..Default::default() };
        let ops = [Request::RequestPut(put), Request::RequestRange(read)];
        let txn = TxnRequest { success: ops.map(|op| RequestOp { request: Some(op) }).into(), ..Default::default() };
        let compaction = CompactionRequest { revision: newest - 2, physical: false };
        let (txn, _) = tokio::join!(writer.txn(limited(txn)), compacter.compact(limited(compaction)));
        match txn {
            Ok(_) => done += 1,
            Err(e) if e.message().contains("required revision has been compacted") => refused += 1,
            Err(e) => bail!("a transaction ended with {e}"),
        }
    }
    ensure!(done > 20 && refused > 20, "{done} were done and {refused} refused: that tries little");
    cluster.agree(&[0, 1, 2]).await
}
