//! A disk that fills up. Before nothing is left the store stops taking what would grow it, with the
//! same alarm and text as when the quota is reached; whatever was acknowledged stays.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::alarm_request::AlarmAction;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest,
};
use keelson_e2e::server::Server;
use keelson_e2e::small_disk::SmallDisk;
use keelson_e2e::wait;
use rand::{RngCore, SeedableRng};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::common::{start, unharmed};

const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
const DISK: u64 = 640 << 20;
/// What the server is told to keep free. A start writes its logs out into tables, up to 160 MiB, and must
/// have the room for it.
const RESERVE: u64 = 256 << 20;
/// How soon a server sees that the disk has filled up, or is not full any more.
const NOTICED: Duration = Duration::from_secs(10);
const VALUE: usize = 256 << 10;

/// A server on a small disk, and what it has acknowledged. The disk outlives the server.
struct Rig {
    server: Server,
    disk: SmallDisk,
    acknowledged: BTreeMap<u64, i64>,
    next: u64,
}

/// Values do not compress, and can be told from one another.
fn value(number: u64) -> Vec<u8> {
    let mut bytes = vec![0; VALUE];
    rand::rngs::StdRng::seed_from_u64(number).fill_bytes(&mut bytes);
    bytes
}

fn is_no_space(status: &Status) -> bool {
    (status.code(), status.message()) == (Code::ResourceExhausted, NO_SPACE)
}

impl Rig {
    async fn start() -> Result<Self> {
        let disk = SmallDisk::mount(DISK)?;
        let mut server = start(&[]).await?;
        server.kill();
        std::fs::remove_dir_all(server.data_dir())?;
        std::os::unix::fs::symlink(disk.data_dir()?, server.data_dir())?;
        server.restart().await?;
        Ok(Self { server, disk, acknowledged: BTreeMap::new(), next: 0 })
    }

    async fn kv(&self) -> Result<KvClient<Channel>> {
        Ok(KvClient::connect(self.server.client_url()).await?)
    }

    async fn put(&mut self, kv: &mut KvClient<Channel>) -> Result<(), Status> {
        let number = self.next;
        self.next += 1;
        let put = PutRequest { key: format!("disk/{number:04}").into(), value: value(number).into(), ..Default::default() };
        let header = kv.put(put).await?.into_inner().header.unwrap_or_default();
        self.acknowledged.insert(number, header.revision);
        Ok(())
    }

    /// Puts until one is refused; what the refusal says.
    async fn put_until_refused(&mut self) -> Result<Status> {
        let mut kv = self.kv().await?;
        let deadline = tokio::time::Instant::now() + NOTICED;
        while tokio::time::Instant::now() < deadline {
            if let Err(status) = self.put(&mut kv).await {
                return Ok(status);
            }
        }
        anyhow::bail!("{} puts were taken, and {} bytes are free", self.acknowledged.len(), self.disk.free()?)
    }

    /// Everything that was acknowledged, and nothing that was not asked for, is there.
    async fn nothing_is_lost(&self) -> Result<()> {
        let mut kv = self.kv().await?;
        for (&number, &revision) in &self.acknowledged {
            let range = RangeRequest { key: format!("disk/{number:04}").into(), ..Default::default() };
            let read = kv.range(range).await?.into_inner();
            let found = read.kvs.first().with_context(|| format!("key {number} was acknowledged and is lost"))?;
            ensure!(found.mod_revision == revision && found.value == value(number), "key {number} has changed");
        }
        Ok(())
    }

    async fn alarms(&self) -> Result<Vec<AlarmMember>> {
        let mut maintenance = MaintenanceClient::connect(self.server.client_url()).await?;
        Ok(maintenance.alarm(AlarmRequest { action: AlarmAction::Get.into(), ..Default::default() }).await?.into_inner().alarms)
    }

    async fn disarm(&self) -> Result<()> {
        let mut maintenance = MaintenanceClient::connect(self.server.client_url()).await?;
        for AlarmMember { member_id, alarm } in self.alarms().await? {
            maintenance.alarm(AlarmRequest { action: AlarmAction::Deactivate.into(), member_id, alarm }).await?;
        }
        Ok(())
    }

    async fn is_alarmed(&self) -> Result<bool> {
        Ok(self.alarms().await?.iter().any(|a| a.alarm == i32::from(AlarmType::Nospace)))
    }
}

#[tokio::test]
async fn a_disk_that_others_fill_stops_writes_until_there_is_room_and_the_alarm_is_disarmed() -> Result<()> {
    let mut rig = Rig::start().await?;
    let mut kv = rig.kv().await?;
    for _ in 0..20 {
        rig.put(&mut kv).await?;
    }
    rig.disk.leave(RESERVE / 2)?;
    let refused = rig.put_until_refused().await?;
    ensure!(is_no_space(&refused), "{refused:?}");
    ensure!(rig.is_alarmed().await?, "no alarm is listed");

    // What reads, and what makes room, works.
    rig.nothing_is_lost().await?;
    let delete = DeleteRangeRequest { key: "disk/0000".into(), ..Default::default() };
    let deleted = kv.delete_range(delete).await?.into_inner();
    ensure!(deleted.deleted == 1, "nothing was deleted");
    rig.acknowledged.remove(&0);
    let revision = deleted.header.context("no header")?.revision;
    kv.compact(CompactionRequest { revision, physical: true }).await?;

    // Disarmed too early, the alarm comes back.
    rig.disarm().await?;
    let refused = rig.put_until_refused().await?;
    ensure!(is_no_space(&refused), "{refused:?}");

    // Room alone does not lift the alarm: somebody has to have seen it.
    rig.disk.give_back()?;
    ensure!(kv.put(PutRequest { key: "k".into(), ..Default::default() }).await.is_err_and(|s| is_no_space(&s)));
    rig.disarm().await?;
    wait::until("writes are taken again", NOTICED, async || match rig.put(&mut kv).await {
        Err(status) if is_no_space(&status) => {
            rig.disarm().await?;
            Ok(false)
        }
        put => Ok(put.map(|()| true)?),
    })
    .await?;
    rig.server.kill();
    rig.server.restart().await?;
    rig.nothing_is_lost().await?;
    ensure!(!rig.is_alarmed().await?, "the alarm came back with the restart");
    unharmed(&mut rig.server).await
}

#[tokio::test]
async fn a_store_that_fills_its_disk_stops_before_nothing_is_left() -> Result<()> {
    let mut rig = Rig::start().await?;
    let refused = rig.put_until_refused().await?;
    ensure!(is_no_space(&refused), "{refused:?}");
    let free = rig.disk.free()?;
    ensure!(free > RESERVE / 4, "only {free} bytes are free");
    ensure!(rig.is_alarmed().await?, "no alarm is listed");
    rig.server.kill();
    rig.server.restart().await?;
    rig.nothing_is_lost().await?;
    ensure!(rig.is_alarmed().await?, "the alarm has to outlive a restart");
    Ok(())
}

/// Faster than anybody can look: the sync of some write fails. That write was not acknowledged.
#[tokio::test]
async fn a_disk_that_is_full_from_one_write_to_the_next_loses_nothing() -> Result<()> {
    let mut rig = Rig::start().await?;
    let mut kv = rig.kv().await?;
    for _ in 0..20 {
        rig.put(&mut kv).await?;
    }
    rig.disk.leave(0)?;
    rig.put_until_refused().await?;
    rig.disk.give_back()?;
    ensure!(!rig.server.log().contains("panicked"), "{}", rig.server.log_tail());
    // It may have ended by itself: a failed sync is never tried again.
    rig.server.kill();
    rig.server.restart().await?;
    rig.nothing_is_lost().await?;
    rig.disarm().await?;
    unharmed(&mut rig.server).await
}
