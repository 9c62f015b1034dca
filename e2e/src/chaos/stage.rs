//! The cluster with its cables, disks and clocks, and what each fault does to them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use keelson_api::etcdserverpb::alarm_request::AlarmAction;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::{AlarmMember, AlarmRequest};

use super::clock::Clock;
use super::faults::{Fault, Who};
use super::network::Network;
use super::stall::Stall;
use crate::cluster::Cluster;
use crate::program::Program;
use crate::small_disk::SmallDisk;
use crate::wait;

/// The small disk, and what a member is to keep free on it.
const DISK: u64 = 640 << 20;
/// After everything has been healed.
pub const RECOVERY_LIMIT: Duration = Duration::from_secs(60);
const CALL_LIMIT: Duration = Duration::from_secs(2);
const HOUR: i64 = 3600;
/// Nobody has to have written it to read it.
const ANY_KEY: &str = "any";

pub struct Stage {
    network: Network,
    pub cluster: Cluster,
    stalls: Vec<Stall>,
    clocks: Vec<Clock>,
    /// Outlives the member whose data is on it.
    small: Option<(usize, SmallDisk)>,
}

/// Whether the member may end by itself during a fault.
fn may_end(fault: Fault) -> bool {
    // A log that cannot be written, or not in time, ends its process.
    matches!(fault, Fault::FillDisk)
}

impl Stage {
    pub async fn set(program: Program, members: usize, seed: u64) -> Result<Self> {
        let network = Network::new(members)?;
        // Told with few entries, members that were away need the whole state.
        let entries = if (seed / 2).is_multiple_of(2) { "--snapshot-count=1000" } else { "--snapshot-count=10000" };
        let mut cluster = Cluster::seated(program, &network, &["--watch-progress-notify-interval=1s", entries])?;
        let (mut stalls, mut clocks) = (Vec::new(), Vec::new());
        let mut small = None;
        if program == Program::Keelson {
            for member in &mut cluster.members {
                stalls.push(Stall::install(member)?);
                clocks.push(Clock::install(member)?);
            }
            let number = usize::try_from(seed / 4 % members as u64)?;
            let disk = SmallDisk::mount(DISK)?;
            let member = &mut cluster.members[number];
            std::os::unix::fs::symlink(disk.data_dir()?, member.data_dir())?;
            small = Some((number, disk));
        }
        cluster.begin().await?;
        Ok(Self { network, cluster, stalls, clocks, small })
    }

    pub fn urls(&self) -> Vec<String> {
        self.cluster.members.iter().map(|m| m.client_url()).collect()
    }

    /// Numbers of all members.
    pub fn all(&self) -> Vec<usize> {
        (0..self.cluster.members.len()).collect()
    }

    /// The member that a fault concerns; any, while nobody leads.
    async fn find(&self, who: Who) -> usize {
        match who {
            Who::Member(number) => number,
            Who::Leader => {
                for number in self.all() {
                    let status = tokio::time::timeout(CALL_LIMIT, self.cluster.status(number)).await;
                    if let Ok(Ok(status)) = status
                        && status.header.is_some_and(|h| h.member_id == status.leader)
                    {
                        return number;
                    }
                }
                0
            }
        }
    }

    pub async fn begin(&mut self, fault: Fault) -> Result<()> {
        let all = self.all();
        let Self { network, small, .. } = self;
        match fault {
            Fault::KillAll => self.cluster.members.iter_mut().for_each(|m| m.kill()),
            Fault::SlowAll(trouble) => {
                for (from, to) in all.iter().flat_map(|from| all.iter().map(move |to| (*from, *to))) {
                    network.slow(from, to, trouble)?;
                }
            }
            Fault::FillDisk => small.as_ref().context("a small disk")?.1.leave(0)?,
            Fault::Kill(who)
            | Fault::KillMost(who)
            | Fault::Stop(who)
            | Fault::Freeze(who)
            | Fault::Isolate(who)
            | Fault::Deafen(who)
            | Fault::Mute(who)
            | Fault::Part(who)
            | Fault::Slow(who, _)
            | Fault::Stall(who)
            | Fault::Jump(who, _) => {
                let who = self.find(who).await;
                self.begin_for(fault, who).await?;
            }
            Fault::Replace(who) => self.replace(who).await?,
        }
        Ok(())
    }

    /// Who leads stays, and so does the one with the small disk.
    async fn replace(&mut self, who: Who) -> Result<()> {
        self.recovered().await?;
        let (leader, first, members) = (self.find(Who::Leader).await, self.find(who).await, self.cluster.members.len());
        let small = self.small.as_ref().map(|(number, _)| *number);
        let mut candidates = (0..members).map(|i| (first + i) % members);
        let replaced = candidates.find(|n| *n != leader && Some(*n) != small).context("a member that may go")?;
        self.cluster.replace(replaced, leader).await.with_context(|| format!("replacing member {replaced}"))
    }

    async fn begin_for(&mut self, fault: Fault, who: usize) -> Result<()> {
        let Self { network, cluster, stalls, clocks, .. } = self;
        let members = cluster.members.len();
        let next = (who + 1) % members;
        let others = (0..members).filter(|other| *other != who);
        match fault {
            Fault::Kill(_) => cluster.members[who].kill(),
            Fault::KillMost(_) => (0..members / 2 + 1).for_each(|n| cluster.members[(who + n) % members].kill()),
            Fault::Stop(_) => cluster.members[who].stop().await?,
            Fault::Freeze(_) => cluster.members[who].pause(true)?,
            Fault::Isolate(_) => {
                for other in others {
                    network.cut(who, other)?;
                    network.cut(other, who)?;
                }
            }
            Fault::Deafen(_) => {
                for other in others {
                    network.cut(other, who)?;
                }
            }
            Fault::Mute(_) => {
                for other in others {
                    network.cut(who, other)?;
                }
            }
            Fault::Part(_) => {
                network.cut(who, next)?;
                network.cut(next, who)?;
            }
            Fault::Slow(_, trouble) => {
                for other in others {
                    network.slow(who, other, trouble)?;
                    network.slow(other, who, trouble)?;
                }
            }
            Fault::Stall(_) => stalls.get(who).context("a disk that can be stalled")?.set(true)?,
            Fault::Jump(_, hours) => clocks.get(who).context("a clock that can be set")?.set(hours * HOUR)?,
            Fault::KillAll | Fault::SlowAll(_) | Fault::FillDisk | Fault::Replace(_) => {
                bail!("{fault:?} concerns nobody in particular")
            }
        }
        Ok(())
    }

    /// Everything is as it should be, and whoever died is started again.
    pub async fn end(&mut self, fault: Fault) -> Result<()> {
        self.network.heal()?;
        self.stalls.iter().try_for_each(|stall| stall.set(false))?;
        self.clocks.iter().try_for_each(|clock| clock.set(0))?;
        if let (Fault::FillDisk, Some((_, disk))) = (fault, &self.small) {
            disk.give_back()?;
        }
        for (number, member) in self.cluster.members.iter_mut().enumerate() {
            let ended = member.exit_status()?;
            if let Some(status) = ended {
                let excused = may_end(fault) && self.small.as_ref().is_some_and(|(small, _)| *small == number);
                ensure!(excused, "member {number} ended by itself: {status}");
                member.kill();
            }
            match member.is_started() {
                // Going on is nothing to a process that was not stopped.
                true => member.pause(false)?,
                false => member.spawn()?,
            }
        }
        if fault == Fault::FillDisk {
            self.disarm().await?;
        }
        Ok(())
    }

    /// A disk that was full has raised an alarm, and may do so until its member has looked again.
    async fn disarm(&self) -> Result<()> {
        let mut quiet_since = Instant::now();
        let quiet = Duration::from_secs(2);
        wait::until("no alarm comes any more", RECOVERY_LIMIT, async || {
            match self.alarms().await {
                Ok(alarms) if alarms.is_empty() => {}
                // Nobody answers for a moment, or the alarms were there and are taken back.
                _ => quiet_since = Instant::now(),
            }
            Ok(quiet_since.elapsed() > quiet)
        })
        .await
    }

    async fn alarms(&self) -> Result<Vec<AlarmMember>> {
        let ask = async |action: AlarmAction, of: AlarmMember| {
            let mut client = MaintenanceClient::connect(self.cluster.members[0].client_url()).await?;
            let request = AlarmRequest { action: action.into(), member_id: of.member_id, alarm: of.alarm };
            anyhow::Ok(tokio::time::timeout(CALL_LIMIT, client.alarm(request)).await??.into_inner().alarms)
        };
        let alarms = ask(AlarmAction::Get, AlarmMember::default()).await?;
        for alarm in &alarms {
            ask(AlarmAction::Deactivate, *alarm).await?;
        }
        Ok(alarms)
    }

    pub async fn recovered(&mut self) -> Result<()> {
        for member in &mut self.cluster.members {
            member.ready().await?;
        }
        let all = self.all();
        for number in &all {
            wait::until("every member answers again", RECOVERY_LIMIT, async || {
                Ok(self.cluster.get(*number, ANY_KEY).await.is_ok())
            })
            .await?;
        }
        self.cluster.leader(&all).await.map(|_| ())
    }

    /// Leaves data and logs for whoever looks into a failure.
    pub fn keep(&mut self) -> Vec<PathBuf> {
        self.cluster.members.iter_mut().for_each(|m| m.keep());
        self.cluster.members.iter().map(|m| m.log_path()).collect()
    }
}
