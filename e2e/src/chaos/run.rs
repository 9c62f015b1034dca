//! One run: a cluster, clients and watchers, faults one after the other until the time is over, then everything is
//! healed and checked.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use keelson_api::etcdserverpb::alarm_request::AlarmAction;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::{AlarmMember, AlarmRequest};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use super::clients::{Client, TOGETHER};
use super::events::Events;
use super::faults::{self, Fault, Possible, Step, Who};
use super::network::Network;
use super::record::{Answer, Outcome, Record, Records, Request};
use super::stall::Stall;
use super::watchers::{Watcher, whole_story};
use super::{check, linearizable};
use crate::cluster::Cluster;
use crate::program::Program;
use crate::small_disk::SmallDisk;
use crate::wait;

const MEMBERS: usize = 3;
const CLIENTS_PER_MEMBER: usize = 4;
/// The small disk, and what a member is to keep free on it.
const DISK: u64 = 640 << 20;
/// After everything has been healed.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);
const CALL_LIMIT: Duration = Duration::from_secs(2);
/// The last of all writes, so that everybody knows what there is to be told.
const END_KEY: &str = "end";

pub struct Chaos {
    pub program: Program,
    pub seed: u64,
    pub lasts: Duration,
}

/// What was done and found to be right.
#[derive(Debug, Default)]
pub struct Report {
    pub answered: usize,
    pub refused: usize,
    pub unknown: usize,
    pub revisions: usize,
    pub streams: usize,
    pub progress: usize,
    pub faults: BTreeMap<String, usize>,
    pub linearizable: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { answered, refused, unknown, revisions, streams, progress, faults, linearizable } = self;
        write!(
            f,
            "{answered} requests answered, {refused} refused, {unknown} left open; {revisions} revisions, told to watchers over \
             {streams} streams with {progress} progress marks; {linearizable}; faults: {faults:?}"
        )
    }
}

/// The cluster with its cables and disks.
struct Stage {
    network: Network,
    cluster: Cluster,
    stalls: Vec<Stall>,
    /// Outlives the member whose data is on it.
    small: Option<(usize, SmallDisk)>,
}

/// Whether the member may end by itself during a fault.
fn may_end(fault: Fault) -> bool {
    // A log that cannot be written, or not in time, ends its process.
    matches!(fault, Fault::FillDisk)
}

impl Stage {
    async fn set(program: Program, seed: u64) -> Result<Self> {
        let network = Network::new(MEMBERS)?;
        // Told with few entries, members that were away need the whole state.
        let entries = if seed.is_multiple_of(2) { "--snapshot-count=1000" } else { "--snapshot-count=10000" };
        let mut cluster = Cluster::seated(program, &network, &["--watch-progress-notify-interval=1s", entries])?;
        let mut stalls = Vec::new();
        let mut small = None;
        if program == Program::Keelson {
            for member in &mut cluster.members {
                let stall = Stall::new(&member.log_path().with_file_name("stall"))?;
                for (name, value) in stall.environment() {
                    member.set_env(name, Some(value));
                }
                stalls.push(stall);
            }
            let number = usize::try_from(seed / 2 % MEMBERS as u64)?;
            let disk = SmallDisk::mount(DISK)?;
            let member = &mut cluster.members[number];
            std::os::unix::fs::symlink(disk.data_dir()?, member.data_dir())?;
            small = Some((number, disk));
        }
        cluster.begin().await?;
        Ok(Self { network, cluster, stalls, small })
    }

    fn urls(&self) -> Vec<String> {
        self.cluster.members.iter().map(|m| m.client_url()).collect()
    }

    /// The member that a fault concerns; any, while nobody leads.
    async fn find(&self, who: Who) -> usize {
        match who {
            Who::Member(number) => number,
            Who::Leader => {
                for number in 0..MEMBERS {
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

    async fn begin(&mut self, fault: Fault) -> Result<()> {
        let Self { network, small, .. } = self;
        match fault {
            Fault::KillAll => self.cluster.members.iter_mut().for_each(|m| m.kill()),
            Fault::SlowAll(trouble) => {
                for (from, to) in (0..MEMBERS).flat_map(|from| (0..MEMBERS).map(move |to| (from, to))) {
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
            | Fault::Stall(who) => {
                let who = self.find(who).await;
                self.begin_for(fault, who).await?;
            }
        }
        Ok(())
    }

    async fn begin_for(&mut self, fault: Fault, who: usize) -> Result<()> {
        let Self { network, cluster, stalls, .. } = self;
        let next = (who + 1) % MEMBERS;
        let others = (0..MEMBERS).filter(|other| *other != who);
        match fault {
            Fault::Kill(_) => cluster.members[who].kill(),
            Fault::KillMost(_) => [who, next].into_iter().for_each(|n| cluster.members[n].kill()),
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
            Fault::KillAll | Fault::SlowAll(_) | Fault::FillDisk => bail!("{fault:?} concerns nobody in particular"),
        }
        Ok(())
    }

    /// Everything is as it should be, and whoever died is started again.
    async fn end(&mut self, fault: Fault) -> Result<()> {
        self.network.heal()?;
        self.stalls.iter().try_for_each(|stall| stall.set(false))?;
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

    async fn recovered(&mut self) -> Result<()> {
        for member in &mut self.cluster.members {
            member.ready().await?;
        }
        let all: Vec<usize> = (0..MEMBERS).collect();
        for number in &all {
            wait::until("every member takes writes again", RECOVERY_LIMIT, async || {
                Ok(self.cluster.get(*number, END_KEY).await.is_ok())
            })
            .await?;
        }
        self.cluster.leader(&all).await.map(|_| ())
    }

    /// Leaves data and logs for whoever looks into a failure.
    fn keep(&mut self) -> Vec<PathBuf> {
        self.cluster.members.iter_mut().for_each(|m| m.keep());
        self.cluster.members.iter().map(|m| m.log_path()).collect()
    }
}

/// The load: it ends when it is told to.
struct Load {
    clients: JoinSet<()>,
    watchers: Vec<Watcher>,
    records: Records,
    stop: Arc<AtomicBool>,
    begin: Instant,
}

impl Load {
    fn start(urls: &[String], rng: &mut StdRng) -> Result<Self> {
        let (records, stop, begin) = (Records::default(), Arc::new(AtomicBool::new(false)), Instant::now());
        let mut watchers = Vec::new();
        let together = TOGETHER[0].split_inclusive('/').next().context("a prefix")?;
        for (first, prefix) in [(0, ""), (1, ""), (2, ""), (0, together), (1, "register/")] {
            watchers.push(Watcher::start(urls.to_vec(), first, prefix, StdRng::seed_from_u64(rng.random())));
        }
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS_PER_MEMBER * urls.len() {
            let member = number % urls.len();
            let client = Client::new((number, member), &urls[member], rng.random(), begin, records.clone(), stop.clone())?;
            clients.spawn(client.run());
        }
        Ok(Self { clients, watchers, records, stop, begin })
    }

    fn broken(&self) -> Result<()> {
        match self.watchers.iter().find_map(Watcher::broken) {
            Some(broken) => bail!("a watch is wrong: {broken}"),
            None => Ok(()),
        }
    }

    async fn finish(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended?;
        }
        Ok(())
    }
}

impl Chaos {
    pub async fn run(&self) -> Result<Report> {
        let mut stage = Stage::set(self.program, self.seed).await?;
        let mut said = Vec::new();
        match self.play(&mut stage, &mut said).await {
            Ok(report) => Ok(report),
            Err(e) => {
                let logs = stage.keep();
                let tails: Vec<String> = stage.cluster.members.iter().map(|m| m.log_tail()).collect();
                Err(e.context(format!(
                    "KEELSON_CHAOS_SEED={}\nfaults:\n{}\n{}\nlogs, with the data beside them: {logs:?}",
                    self.seed,
                    said.join("\n"),
                    tails.join("\n")
                )))
            }
        }
    }

    async fn play(&self, stage: &mut Stage, said: &mut Vec<String>) -> Result<Report> {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut load = Load::start(&stage.urls(), &mut StdRng::seed_from_u64(rng.random()))?;
        let possible = Possible { members: MEMBERS, disks: self.program == Program::Keelson };
        let mut report = Report::default();
        while load.begin.elapsed() < self.lasts {
            let step = faults::draw(&mut rng, possible);
            said.push(format!("{:>6.1} s: {step}", load.begin.elapsed().as_secs_f64()));
            self.step(stage, step).await.with_context(|| step.to_string())?;
            load.broken()?;
            let kind = format!("{:?}", step.fault);
            *report.faults.entry(kind.split('(').next().unwrap_or_default().to_owned()).or_default() += 1;
        }
        stage.recovered().await.context("after everything was healed")?;
        load.finish().await?;
        self.check(stage, &load, &mut report).await?;
        Ok(report)
    }

    async fn step(&self, stage: &mut Stage, step: Step) -> Result<()> {
        stage.begin(step.fault).await?;
        tokio::time::sleep(step.lasts).await;
        stage.end(step.fault).await?;
        tokio::time::sleep(step.quiet).await;
        Ok(())
    }

    async fn check(&self, stage: &mut Stage, load: &Load, report: &mut Report) -> Result<()> {
        let end = stage.cluster.put(0, END_KEY, END_KEY).await?;
        let mut records = std::mem::take(&mut *load.records.lock());
        let request = Request::Put { key: END_KEY.into(), value: END_KEY.into() };
        let now = load.begin.elapsed();
        let outcome = Outcome::Answered(Answer { revision: end, done: true, found: BTreeMap::new() });
        records.push(Record { client: usize::MAX >> 1, member: 0, request, call: now, end: now, outcome });

        let mut stories: Vec<Events> = Vec::new();
        for url in stage.urls() {
            stories.push(whole_story(&url, "", end).await?);
        }
        let story = &stories[0];
        for (number, other) in stories.iter().enumerate() {
            if let Some(difference) = story.difference(other) {
                bail!("members 0 and {number} tell different stories: {difference}");
            }
        }
        for watcher in &load.watchers {
            let expected = story.of(&watcher.prefix);
            wait::until("a watcher is told of everything", RECOVERY_LIMIT, async || {
                Ok(watcher.newest() >= expected.newest() || watcher.broken().is_some())
            })
            .await?;
            let told = watcher.told();
            if let Some(difference) = expected.difference(&told.events.until(end)) {
                bail!("a watcher of {:?} was not told all that was so: {difference}", watcher.prefix);
            }
            report.streams += told.streams;
            report.progress += told.progressed;
        }
        load.broken()?;

        let broken = check::broken_promises(&records, story);
        if !broken.is_empty() {
            bail!("{} promises are broken: {:#?}", broken.len(), &broken[..broken.len().min(5)]);
        }
        let dir = stage.cluster.members[0].log_path().with_file_name("");
        fs::create_dir_all(&dir)?;
        report.linearizable = linearizable::check(&linearizable::history(&records, story), &dir)?;
        stage.cluster.agree(&(0..MEMBERS).collect::<Vec<_>>()).await?;

        report.revisions = story.len();
        for record in &records {
            match record.outcome {
                Outcome::Answered(_) => report.answered += 1,
                Outcome::Refused => report.refused += 1,
                Outcome::Unknown => report.unknown += 1,
            }
        }
        Ok(())
    }
}
