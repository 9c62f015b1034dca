//! Members, their network, clients and everything that happens to them, moved forward a millisecond at a time by one
//! thread. All dice are thrown from one seed, so a run can be repeated to the last message.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use keelson_state::Member;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::clients::Clients;
use super::host::{Host, Surroundings};
use super::net::{Delivery, Net, Time};
use super::truth::{Shared, Truth};
use super::watchers::Watchers;
use crate::members::Configuration;
use crate::seeded;

/// Members that a world begins with, and most that it has.
const FIRST: u64 = 3;
const MOST: usize = 5;
/// Milliseconds between looks at the members that come and go.
const LOOK: Time = 50;
/// An added voter gets its vote once it is so many entries behind at most.
const CLOSE: u64 = 20;
/// Milliseconds in which everything is well again after the last fault.
const RECOVERY: Time = 30_000;

/// Everything that may happen to members; in a few worlds all of it does.
pub(super) const HAPPENS: [&str; 13] = [
    "crash",
    "power cut",
    "pause",
    "isolated",
    "mute",
    "deaf",
    "parted",
    "slow",
    "stalled disk",
    "failed disk",
    "handover",
    "members changed",
    "state arrived",
];

/// What happens later because of what happened now.
#[derive(Clone, Copy, Debug)]
enum Later {
    Start(u64),
    Heal,
    Unstall(u64),
}

/// What one run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// A hash over everything that happened, and of how much.
    pub(super) trace: (u64, u64),
    pub(super) acknowledged: u64,
    pub(super) reads: u64,
    pub(super) renewals: u64,
    pub(super) expiries: u64,
    pub(super) events: u64,
    pub(super) terms: usize,
    pub(super) faults: BTreeMap<&'static str, u32>,
}

pub(super) struct World {
    now: Time,
    rng: SmallRng,
    hosts: BTreeMap<u64, Host>,
    next_id: u64,
    around: Surroundings,
    clients: Clients,
    watchers: Watchers,
    later: BTreeMap<(Time, u64), Later>,
    laters: u64,
    next_fault: Time,
    next_flush: Time,
    next_change: Time,
    /// Members that shall take part.
    wanted: BTreeSet<u64>,
    changing: Arc<Mutex<bool>>,
    faults: BTreeMap<&'static str, u32>,
    /// The last faults, for the report of a failure.
    story: Vec<String>,
}

impl World {
    fn new(seed: u64, disks_lie: bool) -> Result<Self, String> {
        seeded::seed(seed);
        let mut rng = SmallRng::seed_from_u64(seed);
        let truth: Shared = Arc::new(Mutex::new(Truth::default()));
        if let Ok(path) = std::env::var("KEELSON_SIM_TRACE") {
            truth.lock().trace.write_to(&path);
        }
        let around = Surroundings { net: Net::new(rng.random(), truth.clone()), truth, frozen: Arc::default(), disks_lie };
        let first: Vec<u64> = (1..=FIRST).collect();
        let mut world = Self {
            now: 0,
            hosts: first.iter().map(|id| (*id, Host::new(*id, first.clone(), around.clone()))).collect(),
            next_id: FIRST + 1,
            clients: Clients::new(around.truth.clone(), rng.random()),
            watchers: Watchers::new(around.truth.clone(), rng.random()),
            around,
            later: BTreeMap::new(),
            laters: 0,
            next_fault: 2000,
            next_flush: 500,
            next_change: 3000,
            wanted: first.iter().copied().collect(),
            changing: Arc::default(),
            faults: BTreeMap::new(),
            story: Vec::new(),
            rng,
        };
        for host in world.hosts.values_mut() {
            host.start(0, &mut world.rng)?;
        }
        Ok(world)
    }

    /// Runs a seed for so many simulated milliseconds; the error says what was violated, and how it came to that.
    pub(super) fn run(seed: u64, lasts: Time, disks_lie: bool) -> Result<Report, String> {
        let mut world = Self::new(seed, disks_lie)?;
        world.play(lasts).map_err(|broken| {
            let last = world.story.len().saturating_sub(20);
            format!("KEELSON_SIM_SEED={seed}, at {} ms: {broken}\n{}", world.now, world.story[last..].join("\n"))
        })
    }

    fn play(&mut self, lasts: Time) -> Result<Report, String> {
        while self.now < lasts {
            self.tick()?;
            self.misfortune()?;
            self.flushes();
            self.change_members();
        }
        self.end_well()?;
        let truth = self.around.truth.lock();
        Ok(Report {
            trace: truth.trace.sum(),
            acknowledged: truth.acknowledged,
            reads: truth.reads,
            renewals: truth.renewals,
            expiries: truth.expiries,
            events: truth.events,
            terms: truth.terms(),
            faults: self.faults.clone(),
        })
    }

    fn tick(&mut self) -> Result<(), String> {
        self.now += 1;
        let now = self.now;
        self.around.truth.lock().now = now;
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            let later = entry.remove();
            self.happens(later)?;
        }
        for delivery in self.around.net.advance(now) {
            let to = match &delivery {
                Delivery::Call { to, .. } | Delivery::Stream { to, .. } => *to,
            };
            if let Some(host) = self.hosts.get(&to) {
                host.take(delivery, &mut self.rng);
            }
        }
        let (mut anew, mut ended) = (Vec::new(), Vec::new());
        for host in self.hosts.values_mut() {
            host.step(now)?;
            if host.has_ended() {
                ended.push(host.id);
            } else if host.wants_to_start_anew() {
                anew.push(host.id);
            }
        }
        for id in ended {
            self.tell(format!("member {id} has ended: its disk has failed"));
            *self.faults.entry("failed disk").or_default() += 1;
            self.crash(id, true);
            let wait = self.rng.random_range(20..2000);
            self.after(wait, Later::Start(id));
        }
        for id in anew {
            self.tell(format!("member {id} takes the state that has arrived"));
            *self.faults.entry("state arrived").or_default() += 1;
            self.crash(id, false);
            self.start(id)?;
        }
        self.clients.tick(now, &self.hosts);
        self.watchers.tick(&self.hosts)?;
        match self.around.truth.lock().broken.take() {
            Some(broken) => Err(broken),
            None => Ok(()),
        }
    }

    fn tell(&mut self, what: String) {
        self.around.truth.lock().trace.note(&what);
        self.story.push(format!("{:>7} ms: {what}", self.now));
    }

    fn after(&mut self, wait: Time, later: Later) {
        self.laters += 1;
        self.later.insert((self.now + wait, self.laters), later);
    }

    fn happens(&mut self, later: Later) -> Result<(), String> {
        match later {
            Later::Start(id) => return self.start(id),
            Later::Heal => {
                self.around.net.heal();
                self.tell("all cables are whole".into());
            }
            Later::Unstall(id) => {
                if let Some(host) = self.hosts.get(&id) {
                    host.stall(Duration::ZERO);
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, id: u64) -> Result<(), String> {
        let Some(host) = self.hosts.get_mut(&id).filter(|host| !host.runs_now()) else { return Ok(()) };
        host.start(self.now, &mut self.rng)?;
        self.tell(format!("member {id} starts"));
        Ok(())
    }

    fn crash(&mut self, id: u64, power: bool) {
        if let Some(host) = self.hosts.get_mut(&id).filter(|host| host.runs_now()) {
            host.crash(&mut self.rng, power);
            self.tell(format!("member {id} is gone{}", if power { ", with what it had not synced" } else { "" }));
        }
    }

    fn ids(&self) -> Vec<u64> {
        self.hosts.keys().copied().collect()
    }

    fn leader(&self) -> Option<u64> {
        let leads = |host: &&Host| host.node().is_some_and(|n| n.status().leader == Some(host.id));
        self.hosts.values().find(leads).map(|host| host.id)
    }

    /// Anybody, and half of the time who leads.
    fn somebody(&mut self) -> u64 {
        let ids = self.ids();
        let anybody = ids[self.rng.random_range(0..ids.len())];
        if self.rng.random_bool(0.5) { self.leader().unwrap_or(anybody) } else { anybody }
    }

    fn misfortune(&mut self) -> Result<(), String> {
        if self.now < self.next_fault {
            return Ok(());
        }
        self.next_fault = self.now + self.rng.random_range(100..1500);
        let who = self.somebody();
        let others: Vec<u64> = self.ids().into_iter().filter(|id| *id != who).collect();
        let lasts = if self.rng.random_bool(0.4) { self.rng.random_range(20..400) } else { self.rng.random_range(300..4000) };
        let kind = match self.rng.random_range(0..100) {
            0..22 => {
                let power = self.rng.random_bool(0.7);
                self.crash(who, power);
                self.after(lasts, Later::Start(who));
                "crash"
            }
            22..27 => {
                for id in self.ids() {
                    if self.rng.random_bool(0.8) {
                        self.crash(id, true);
                        let wait = lasts + self.rng.random_range(0..200);
                        self.after(wait, Later::Start(id));
                    }
                }
                "power cut"
            }
            27..40 => {
                let until = self.now + lasts;
                if let Some(host) = self.hosts.get_mut(&who) {
                    host.asleep_until = until;
                }
                "pause"
            }
            40..52 => {
                for other in others {
                    self.around.net.cut(who, other);
                    self.around.net.cut(other, who);
                }
                "isolated"
            }
            52..60 => {
                others.iter().for_each(|other| self.around.net.cut(who, *other));
                "mute"
            }
            60..68 => {
                others.iter().for_each(|other| self.around.net.cut(*other, who));
                "deaf"
            }
            68..74 => {
                let other = others[self.rng.random_range(0..others.len())];
                self.around.net.cut(who, other);
                if self.rng.random_bool(0.5) {
                    self.around.net.cut(other, who);
                }
                "parted"
            }
            74..82 => {
                let slow = self.rng.random_range(5..150);
                for (from, to) in others.iter().map(|o| (who, *o)).chain(others.iter().map(|o| (*o, who))) {
                    self.around.net.slow(from, to, slow);
                }
                "slow"
            }
            82..85 => {
                if let Some(host) = self.hosts.get(&who) {
                    host.fail_disk();
                }
                "failing disk"
            }
            85..92 => {
                if let Some(host) = self.hosts.get(&who) {
                    host.stall(Duration::from_millis(lasts));
                }
                self.after(lasts, Later::Unstall(who));
                "stalled disk"
            }
            _ => {
                self.hand_over(others);
                "handover"
            }
        };
        self.after(lasts, Later::Heal);
        self.tell(format!("{kind}: member {who} for {lasts} ms"));
        *self.faults.entry(kind).or_default() += 1;
        Ok(())
    }

    fn hand_over(&mut self, others: Vec<u64>) {
        let Some(host) = self.leader().and_then(|id| self.hosts.get(&id)) else { return };
        let (Some(node), Some(runtime)) = (host.node(), host.runtime()) else { return };
        let to = others[self.rng.random_range(0..others.len())];
        if node.configuration().voters.contains(&to) {
            runtime.spawn(async move { node.hand_over(to).await });
        }
    }

    /// State stores get to the disk from time to time, and old rows are removed, on each member when it likes.
    fn flushes(&mut self) {
        if self.now < self.next_flush {
            return;
        }
        self.next_flush = self.now + self.rng.random_range(50..500);
        let ids = self.ids();
        let host = &self.hosts[&ids[self.rng.random_range(0..ids.len())]];
        if let Some(state) = host.state()
            && let Err(e) = state.store.remove_step(self.rng.random_range(1..50))
        {
            self.around.truth.lock().breaks(format!("removal failed: {e}"));
        }
        host.flush();
    }

    /// Members come and go, one step at a time, as the leader leads consensus there.
    fn change_members(&mut self) {
        if !self.now.is_multiple_of(LOOK) {
            return;
        }
        let leader = self.leader().and_then(|id| self.hosts.get(&id)).and_then(|host| Some((host.id, host.node()?)));
        let Some((leader, node)) = leader else { return };
        let now = node.configuration();
        if !now.settled || *self.changing.lock() {
            return;
        }
        let taking_part: BTreeSet<u64> = now.voters.union(&now.learners).copied().collect();
        for id in self.ids() {
            if self.wanted.contains(&id) || taking_part.contains(&id) {
                continue;
            }
            // As a member does that is told so.
            self.crash(id, false);
            self.hosts.remove(&id);
            self.around.net.gone(id);
        }
        let progress = node.progress();
        let committed = node.status().committed;
        let caught_up = |id| progress.get(&id).and_then(|p| p.matched).is_some_and(|matched| matched + CLOSE >= committed);
        let list: Vec<Member> = self.wanted.iter().map(|id| Member { id: *id, ..Member::default() }).collect();
        if let Some((voters, learners)) = now.next_step(&list, leader, caught_up) {
            self.reconfigure(leader, now, voters, learners);
        } else if self.now >= self.next_change && now.learners.is_empty() {
            self.wish();
        }
    }

    fn wish(&mut self) {
        self.next_change = self.now + self.rng.random_range(1000..8000);
        let grow = self.wanted.len() < FIRST as usize || (self.wanted.len() < MOST && self.rng.random_bool(0.5));
        if grow {
            let id = self.next_id;
            self.next_id += 1;
            self.hosts.insert(id, Host::new(id, Vec::new(), self.around.clone()));
            self.wanted.insert(id);
            self.after(1, Later::Start(id));
            self.tell(format!("member {id} shall come"));
        } else {
            let members: Vec<u64> = self.wanted.iter().copied().collect();
            let id = members[self.rng.random_range(0..members.len())];
            self.wanted.remove(&id);
            self.tell(format!("member {id} shall go"));
        }
        *self.faults.entry("members changed").or_default() += 1;
    }

    fn reconfigure(&mut self, leader: u64, now: Configuration, voters: BTreeSet<u64>, learners: BTreeSet<u64>) {
        let Some(host) = self.hosts.get(&leader) else { return };
        let (Some(node), Some(runtime)) = (host.node(), host.runtime()) else { return };
        *self.changing.lock() = true;
        let changing = Changing(self.changing.clone());
        runtime.spawn(async move {
            let _changing = changing;
            // Whether it was taken is seen in the configuration.
            let step = node.reconfigure(&now, voters, &learners);
            let _ = tokio::time::timeout(Duration::from_secs(2), step).await;
        });
    }

    /// Nothing is wrong any more: soon all members take writes, and are the same.
    fn end_well(&mut self) -> Result<(), String> {
        self.around.net.heal();
        self.later.clear();
        for id in self.ids() {
            self.start(id)?;
            if let Some(host) = self.hosts.get_mut(&id) {
                host.asleep_until = 0;
                host.stall(Duration::ZERO);
            }
        }
        self.tell("all is well".into());
        let end = self.now + RECOVERY;
        self.next_change = Time::MAX;
        while self.now < end {
            self.tick()?;
            self.change_members();
            let settled = self.leader().and_then(|id| self.hosts[&id].node()).is_some_and(|n| {
                let now = n.configuration();
                now.settled && now.voters == self.wanted && now.learners.is_empty()
            });
            if settled && self.hosts.len() == self.wanted.len() {
                break;
            }
        }
        self.clients.last_words();
        while self.now < end && !self.clients.are_quiet(&self.hosts) {
            self.tick()?;
        }
        // Everybody applies what is there.
        while self.now < end && !self.all_equal() {
            self.tick()?;
        }
        if self.now >= end {
            let status = |host: &Host| (host.id, host.node().map(|n| (n.status(), n.configuration())));
            let all: Vec<_> = self.hosts.values().map(status).collect();
            return Err(format!("the members do not come back together: {all:?}; wanted {:?}", self.wanted));
        }
        self.watchers.finish(&self.hosts)?;
        let mut truth = self.around.truth.lock();
        for host in self.hosts.values() {
            let Some(state) = host.state() else { continue };
            let hash = state.store.hash(0).map_err(|e| format!("no hash of member {}: {e}", host.id))?;
            truth.hash(host.id, hash.revision, hash.compacted, hash.hash);
        }
        truth.broken.take().map_or(Ok(()), Err)
    }

    fn all_equal(&self) -> bool {
        let applied: BTreeSet<Option<u64>> = self.hosts.values().map(|h| h.node().map(|n| n.status().applied)).collect();
        applied.len() == 1 && !applied.contains(&None)
    }
}

/// One step at a time; a step whose process died is over, too.
struct Changing(Arc<Mutex<bool>>);

impl Drop for Changing {
    fn drop(&mut self) {
        *self.0.lock() = false;
    }
}
