//! Clients that watch. Each follows the changes on one member as a stream there does, and goes to another one now and then,
//! or when its own is gone. It must be told every revision that concerns it once, in order and whole, or that what it
//! asks for has been compacted.

use std::collections::BTreeMap;

use keelson_mvcc::watch::{Hub, Replay, Subscription, Wake};
use keelson_mvcc::{EventKind, KeyRange, MemoryBackend, ReadError};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::host::Host;
use super::truth::{Revisions, Shared};

/// How likely a watcher fetches within a millisecond, does so to the end, and goes to another member.
const LOOKS: f64 = 0.2;
const TO_THE_END: f64 = 0.5;
const LEAVES: f64 = 0.001;
/// Transactions that are fetched at a time: few, so that much is left for the next time.
const FETCH: usize = 4;
/// Nobody has to fetch as often to get to the end.
const MOST: usize = 1 << 20;
/// A stream has one watcher here.
const ID: i64 = 1;

/// Nobody waits: it is looked at.
struct Looked;

impl Wake for Looked {
    fn wake(&self) {}
}

/// To one run of a member's process.
struct Stream {
    member: u64,
    run: u64,
    subscription: Subscription<MemoryBackend>,
}

struct Watcher {
    range: KeyRange,
    /// Revision from which on it has to be told.
    next: i64,
    /// There is nothing for it before this one.
    nothing_before: i64,
    stream: Option<Stream>,
}

pub(super) struct Watchers {
    truth: Shared,
    rng: SmallRng,
    all: Vec<Watcher>,
}

/// What there is from a revision on, and from which to go on; whether there may be more right now.
fn fetch(hub: &Hub<MemoryBackend>, range: &KeyRange, from: i64) -> Result<(Revisions, i64, bool), ReadError> {
    let replay = match hub.replay(from, FETCH) {
        Replay::OutsideRing => hub.replay_history(range, from, FETCH)?,
        inside => inside,
    };
    let Replay::Transactions { transactions, next, more } = replay else { return Ok((Revisions::new(), from, true)) };
    let mut told = Revisions::new();
    for transaction in transactions {
        let events = transaction.events.iter().map(|e| &e.event).filter(|e| range.contains(&e.kv.key));
        let changes: Vec<_> =
            events.map(|e| (e.kv.key.clone(), (e.kind == EventKind::Put).then(|| e.kv.value.clone()))).collect();
        if !changes.is_empty() {
            told.push((transaction.revision, changes));
        }
    }
    Ok((told, next, more))
}

impl Watcher {
    fn is_connected(&self, hosts: &BTreeMap<u64, Host>) -> bool {
        let lives = |stream: &Stream| hosts.get(&stream.member).is_some_and(|h| h.runs_now() && h.runs == stream.run);
        self.stream.as_ref().is_some_and(lives)
    }

    fn connect(&mut self, host: &Host) {
        let Some(hub) = host.hub() else { return };
        let mut subscription = hub.subscribe(Looked);
        subscription.add(ID, self.range.clone(), self.next);
        self.stream = Some(Stream { member: host.id, run: host.runs, subscription });
    }

    /// Fetches so many times, or until there is nothing more.
    fn look(&mut self, times: usize, truth: &Shared) -> Result<(), String> {
        let Self { range, next, nothing_before, stream } = self;
        let Some(Stream { member, subscription, .. }) = stream else { return Ok(()) };
        for _ in 0..times {
            let Some((_, marked)) = subscription.take_ready() else {
                // It would have been marked for what concerns it.
                let head = subscription.hub().store().revision();
                let missed = truth.lock().concerning(range, (*next).max(*nothing_before), head + 1);
                *nothing_before = (*nothing_before).max(head + 1);
                if missed.is_empty() {
                    return Ok(());
                }
                return Err(format!("member {member} does not tell a watcher of {range:?} from {next} on of {missed:?}"));
            };
            let from = marked.max(*next);
            match fetch(subscription.hub(), range, from) {
                Ok((told, then, more)) => {
                    let mut truth = truth.lock();
                    let right = truth.concerning(range, *next, then);
                    if told != right {
                        let asked = format!("a watcher of {range:?} from {next} to {then}");
                        return Err(format!("member {member} tells {asked} {told:?}, which was {right:?}"));
                    }
                    truth.events += told.len() as u64;
                    truth.trace.note(("watched", *member, then, told.len()));
                    *next = then.max(*next);
                    if more {
                        subscription.mark(ID, *next);
                    }
                }
                Err(ReadError::Compacted) => {
                    let compacted = subscription.hub().store().compacted();
                    if from >= compacted {
                        return Err(format!("member {member} says that {from} is compacted, and {compacted} is what is"));
                    }
                    // As clients do that are told so.
                    *next = compacted;
                    subscription.remove(ID);
                    subscription.add(ID, range.clone(), *next);
                }
                Err(e) => return Err(format!("member {member} cannot tell a watcher of {range:?} what was from {from} on: {e}")),
            }
        }
        if times == MOST { Err(format!("a watcher of {range:?} never gets to the end")) } else { Ok(()) }
    }
}

impl Watchers {
    pub(super) fn new(truth: Shared, seed: u64) -> Self {
        let key = |number: u32| format!("key{number}").into_bytes();
        let everything = || KeyRange::Span(Vec::new(), None);
        let ranges =
            [everything(), everything(), KeyRange::One(key(0)), KeyRange::One(key(1)), KeyRange::Span(key(2), Some(key(5)))];
        let watcher = |range| Watcher { range, next: 1, nothing_before: 1, stream: None };
        Self { truth, rng: SmallRng::seed_from_u64(seed), all: ranges.into_iter().map(watcher).collect() }
    }

    pub(super) fn tick(&mut self, hosts: &BTreeMap<u64, Host>) -> Result<(), String> {
        for watcher in &mut self.all {
            if !watcher.is_connected(hosts) || self.rng.random_bool(LEAVES) {
                watcher.stream = None;
                let place = self.rng.random_range(0..hosts.len());
                if let Some(host) = hosts.values().nth(place) {
                    watcher.connect(host);
                }
            }
            if self.rng.random_bool(LOOKS) {
                let times = if self.rng.random_bool(TO_THE_END) { MOST } else { 1 };
                watcher.look(times, &self.truth)?;
            }
        }
        Ok(())
    }

    /// All that there was has been told.
    pub(super) fn finish(&mut self, hosts: &BTreeMap<u64, Host>) -> Result<(), String> {
        for watcher in &mut self.all {
            if !watcher.is_connected(hosts)
                && let Some(host) = hosts.values().next()
            {
                watcher.connect(host);
            }
            watcher.look(MOST, &self.truth)?;
        }
        Ok(())
    }
}
