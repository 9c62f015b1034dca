//! One writer with objects of its own. Nobody else writes them, so it knows what every read must
//! give, also when a write's answer was lost: then it reads what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hyper::Method;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::kubernetes::client::Client;
use crate::kubernetes::ledger::Ledger;
use crate::kubernetes::object::{Key, Kind, Version, namespace};
use crate::kubernetes::reader;
use crate::kubernetes::traffic::Traffic;

/// How long a write whose answer was lost may stay unknown: the store's restart, and the
/// apiserver's way back to it.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

const RETRY: Duration = Duration::from_millis(100);

/// How many objects of each kind a worker has.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    pub config_maps: usize,
    pub widgets: usize,
    pub leases: usize,
}

struct Slot {
    kind: Kind,
    key: Key,
    held: Option<Version>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operation {
    Create,
    Update,
    Patch,
    Delete,
}

pub struct Worker {
    number: usize,
    client: Client,
    traffic: Arc<Traffic>,
    random: StdRng,
    slots: Vec<Slot>,
    stamps: u64,
    ledger: Ledger,
}

impl Worker {
    pub fn new(number: usize, share: Share, client: Client, traffic: Arc<Traffic>) -> Self {
        let of = |kind: Kind, count: usize| {
            (0..count).map(move |slot| {
                let key = format!("{}/w{number}-{slot}", namespace(slot));
                Slot { kind, key, held: None }
            })
        };
        let slots = of(Kind::ConfigMap, share.config_maps)
            .chain(of(Kind::Widget, share.widgets))
            .chain(of(Kind::Lease, share.leases))
            .collect();
        let random = StdRng::seed_from_u64(number as u64);
        Self { number, client, traffic, random, slots, stamps: 0, ledger: Ledger::default() }
    }

    /// Creates every object, then changes them at random until told to stop.
    pub async fn run(mut self) -> Result<Ledger> {
        for slot in 0..self.slots.len() {
            self.write(slot, Operation::Create).await?;
            if slot % 10 == 0 {
                self.record_event().await?;
            }
        }
        while !self.traffic.stopped() {
            self.step().await.with_context(|| format!("worker {}", self.number))?;
        }
        Ok(self.ledger)
    }

    async fn step(&mut self) -> Result<()> {
        let slot = self.random.random_range(0..self.slots.len());
        let kind = self.slots[slot].kind;
        match (self.random.random_range(0..100), self.slots[slot].held) {
            (0..10, _) => self.record_event().await,
            (10..15, _) => self.list(kind, self.slots[slot].key.clone()).await,
            (15..25, _) => self.get(slot).await,
            (25.., None) => self.write(slot, Operation::Create).await,
            // What a lease is for: mostly renewed.
            (25..95, _) if kind == Kind::Lease => self.write(slot, Operation::Update).await,
            (25..60, _) => self.write(slot, Operation::Update).await,
            (60..85, _) => self.write(slot, Operation::Patch).await,
            _ => self.write(slot, Operation::Delete).await,
        }
    }

    /// Events are written once or, when they recur, twice; then they are left to expire.
    async fn record_event(&mut self) -> Result<()> {
        let key = format!("{}/w{}-e{}", namespace(self.stamps as usize), self.number, self.stamps);
        self.slots.push(Slot { kind: Kind::Event, key, held: None });
        let slot = self.slots.len() - 1;
        let mut result = self.write(slot, Operation::Create).await;
        if result.is_ok() && self.slots[slot].held.is_some() && self.random.random_bool(0.3) {
            result = self.write(slot, Operation::Patch).await;
        }
        self.slots.pop();
        result
    }

    async fn write(&mut self, slot: usize, operation: Operation) -> Result<()> {
        self.stamps += 1;
        let stamp = ((self.number as u64 + 1) << 32) + self.stamps;
        let Slot { kind, key, held } = &self.slots[slot];
        let (kind, held) = (*kind, *held);
        let one = kind.path(key)?;
        let (method, path, body) = match operation {
            Operation::Create => {
                let (namespace, _) = key.split_once('/').context("a key without namespace")?;
                (Method::POST, kind.collection(Some(namespace)), Some(kind.body(key, self.number, None, stamp)))
            }
            Operation::Update => (Method::PUT, one, Some(kind.body(key, self.number, held.map(|held| held.revision), stamp))),
            Operation::Patch => (Method::PATCH, one, Some(kind.patch(stamp))),
            Operation::Delete => (Method::DELETE, one, None),
        };
        let what = format!("{operation:?} of {kind:?} {key}, which is {held:?}");
        let (mark, began) = (self.traffic.mark(), Instant::now());
        let answer = self.client.call(method, &path, body.as_ref()).await;
        let now = match self.traffic.judge(mark, answer).context(what.clone())? {
            Some(answer) => {
                self.traffic.acknowledged(kind, mark);
                match operation {
                    Operation::Delete => None,
                    _ => Some(kind.read(&answer.json()?).context(what.clone())?.1),
                }
            }
            None => self.settled(slot).await?,
        };
        let applied = match (operation, now) {
            (Operation::Delete, None) => true,
            (_, Some(now)) => now.stamp == stamp && held.is_none_or(|held| held.revision < now.revision),
            _ => false,
        };
        if applied {
            self.ledger.write(kind, &self.slots[slot].key, now, began);
            self.slots[slot].held = now;
        } else if now != held {
            bail!("{what}: now {now:?}");
        }
        Ok(())
    }

    /// What became of an object after a write whose answer was lost.
    async fn settled(&self, slot: usize) -> Result<Option<Version>> {
        let deadline = Instant::now() + SETTLE_LIMIT;
        loop {
            if let Some(now) = self.read(slot).await? {
                return Ok(now);
            }
            if Instant::now() >= deadline {
                bail!("{}: not readable within {SETTLE_LIMIT:?}", self.slots[slot].key);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The object, if any; `None` when the read failed as it may.
    async fn read(&self, slot: usize) -> Result<Option<Option<Version>>> {
        let Slot { kind, key, .. } = &self.slots[slot];
        let mark = self.traffic.mark();
        let answer = self.client.get(&kind.path(key)?).await;
        if answer.as_ref().is_ok_and(|answer| answer.status == 404) {
            return Ok(Some(None));
        }
        let Some(answer) = self.traffic.judge(mark, answer)? else {
            return Ok(None);
        };
        Ok(Some(Some(kind.read(&answer.json()?)?.1)))
    }

    async fn get(&self, slot: usize) -> Result<()> {
        let Slot { kind, key, held } = &self.slots[slot];
        match self.read(slot).await? {
            Some(now) if now != *held => bail!("{kind:?} {key} reads as {now:?} and was {held:?}"),
            _ => Ok(()),
        }
    }

    /// A list without a revision must show all writes before it, though the apiserver answers it
    /// from its cache: it asks the store's watch how far that is.
    async fn list(&self, kind: Kind, near: Key) -> Result<()> {
        let (namespace, _) = near.split_once('/').context("a key without namespace")?;
        let mark = self.traffic.mark();
        let path = format!("{}?labelSelector=worker%3D{}", kind.collection(Some(namespace)), self.number);
        let answer = self.client.get(&path).await;
        let Some(answer) = self.traffic.judge(mark, answer)? else {
            return Ok(());
        };
        let mine = self.slots.iter().filter(|slot| slot.kind == kind && slot.key.starts_with(&format!("{namespace}/")));
        let expected: BTreeMap<Key, Version> = mine.filter_map(|slot| Some((slot.key.clone(), slot.held?))).collect();
        let listed = reader::items(kind, &answer.json()?)?;
        if listed != expected {
            let wrong: Vec<_> = expected.iter().filter(|(key, held)| listed.get(*key) != Some(*held)).collect();
            bail!("{path} has {} objects, not {}; not as written: {wrong:?}", listed.len(), expected.len());
        }
        Ok(())
    }
}
