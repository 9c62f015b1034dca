//! Clients that ask members at random, one thing at a time each, and compare what they are told with the truth. A
//! client whose answer does not come goes on with something else: what it asked for may have happened or not.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use keelson_api::Error;
use keelson_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_api::etcdserverpb::request_op::Request;
use keelson_api::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RequestOp, ResponseHeader, TxnRequest,
};
use keelson_api::keelson::command::Action;
use keelson_api::keelson::{Command, LeaseGrant, LeaseRevoke};
use keelson_mvcc::{KeyRange, Query, ReadMode};
use keelson_state::Reply;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::host::{Host, State};
use super::net::Time;
use super::truth::{Changes, Shared};
use crate::lessor::{Lessor, Renewal};
use crate::node::Node;

const CLIENTS: usize = 8;
const KEYS: u32 = 8;
/// Leases that are used at a time, and the longest time of one in seconds.
const LEASES: usize = 8;
const TTL: i64 = 3;
/// Milliseconds after which nobody waits any more.
const PATIENCE: Time = 2500;
/// How likely an idle client asks for something within a millisecond.
const EAGER: f64 = 0.05;

#[derive(Clone, Debug)]
enum Ask {
    Put {
        key: Bytes,
        value: Bytes,
        lease: i64,
    },
    Delete {
        key: Bytes,
    },
    /// One value if the key is there, another if not.
    Either {
        key: Bytes,
        there: Bytes,
        missing: Bytes,
    },
    Read,
    Compact {
        revision: i64,
    },
    Grant {
        id: i64,
        ttl: i64,
    },
    Renew {
        id: i64,
    },
    Revoke {
        id: i64,
    },
}

#[derive(Debug)]
enum Told {
    Wrote {
        revision: i64,
        changed: bool,
    },
    Read {
        revision: i64,
        state: BTreeMap<Bytes, Bytes>,
    },
    /// The lease lives on for so many seconds.
    Lives {
        ttl: i64,
    },
    /// There is no such lease.
    Gone,
    /// Something that changes no key was done.
    Done,
    /// Refused, or lost on the way.
    Failed,
}

/// A question under way.
struct Waiting {
    ask: Ask,
    member: u64,
    since: Time,
    /// Newest revision that anybody had been told of when it was asked.
    floor: i64,
    told: Arc<Mutex<Option<Told>>>,
}

pub(super) struct Clients {
    truth: Shared,
    rng: SmallRng,
    waiting: Vec<Option<Waiting>>,
    values: u64,
    /// Leases in use. Each grant takes the next id, and the place of another.
    leases: [i64; LEASES],
    granted: i64,
    now: Time,
    /// Set at the end: no new questions, but one put through every member until it is answered.
    last: Option<BTreeMap<u64, Option<Waiting>>>,
    heard: Vec<u64>,
}

fn put(key: &Bytes, value: &Bytes) -> RequestOp {
    let put = PutRequest { key: key.clone(), value: value.clone(), ..Default::default() };
    RequestOp { request: Some(Request::RequestPut(put)) }
}

impl Ask {
    fn action(&self) -> Option<Action> {
        Some(match self {
            Self::Read | Self::Renew { .. } => return None,
            Self::Put { key, value, lease } => {
                Action::Put(PutRequest { key: key.clone(), value: value.clone(), lease: *lease, ..Default::default() })
            }
            Self::Delete { key } => Action::DeleteRange(DeleteRangeRequest { key: key.clone(), ..Default::default() }),
            Self::Either { key, there, missing } => Action::Txn(TxnRequest {
                compare: vec![Compare {
                    result: CompareResult::Greater.into(),
                    target: CompareTarget::Version.into(),
                    key: key.clone(),
                    target_union: Some(TargetUnion::Version(0)),
                    ..Default::default()
                }],
                success: vec![put(key, there)],
                failure: vec![put(key, missing)],
            }),
            Self::Compact { revision } => Action::Compact(CompactionRequest { revision: *revision, physical: false }),
            Self::Grant { id, ttl } => Action::LeaseGrant(LeaseGrant { id: *id, ttl: *ttl }),
            Self::Revoke { id } => Action::LeaseRevoke(LeaseRevoke { id: *id, expired_in_term: 0 }),
        })
    }

    /// Whether these can be the changes of a revision that this was answered with.
    fn fits(&self, changes: Option<&Changes>) -> bool {
        let one = |key: &Bytes, value: Option<&Bytes>| {
            changes.is_some_and(|c| c.len() == 1 && c.get(key).is_some_and(|v| v.as_ref() == value))
        };
        match self {
            Self::Put { key, value, .. } => one(key, Some(value)),
            Self::Delete { key } => one(key, None),
            Self::Either { key, there, missing } => one(key, Some(there)) || one(key, Some(missing)),
            Self::Read | Self::Compact { .. } | Self::Grant { .. } | Self::Renew { .. } | Self::Revoke { .. } => true,
        }
    }
}

fn at(header: Option<ResponseHeader>) -> i64 {
    header.map_or(0, |h| h.revision)
}

async fn answer(node: &Node, state: &State, lessor: &Lessor, ask: &Ask) -> Result<Told, Error> {
    if let Ask::Renew { id } = ask {
        return Ok(match node.renew_lease(lessor, *id).await? {
            Renewal::Renewed(ttl) => Told::Lives { ttl },
            Renewal::NotFound => Told::Gone,
            Renewal::Ending(_) => Told::Failed,
        });
    }
    let Some(action) = ask.action() else {
        node.read_barrier().await?;
        let range = KeyRange::Span(Vec::new(), None);
        let query = Query { range, revision: 0, limit: 0, keys_only: false, count_only: false, count: false };
        let Ok(read) = state.store.range(&query, ReadMode::Blocking) else { return Ok(Told::Failed) };
        let state = read.kvs.into_iter().map(|kv| (kv.key, kv.value)).collect();
        return Ok(Told::Read { revision: read.revision, state });
    };
    Ok(match node.propose(&Command { action: Some(action), ..Command::default() }).await? {
        Reply::Put(r) => Told::Wrote { revision: at(r.header), changed: true },
        Reply::Txn(r) => Told::Wrote { revision: at(r.header), changed: true },
        Reply::DeleteRange(r) => Told::Wrote { revision: at(r.header), changed: r.deleted > 0 },
        Reply::LeaseGrant { ttl, .. } => Told::Lives { ttl },
        _ => Told::Done,
    })
}

impl Clients {
    pub(super) fn new(truth: Shared, seed: u64) -> Self {
        let rng = SmallRng::seed_from_u64(seed);
        Self {
            truth,
            rng,
            waiting: (0..CLIENTS).map(|_| None).collect(),
            values: 0,
            leases: [0; LEASES],
            granted: 0,
            now: 0,
            last: None,
            heard: Vec::new(),
        }
    }

    /// Hears what has been answered, then asks for more: what is asked now was asked after that.
    pub(super) fn tick(&mut self, now: Time, hosts: &BTreeMap<u64, Host>) {
        self.now = now;
        let mut waiting = std::mem::take(&mut self.waiting);
        for slot in &mut waiting {
            self.hear(slot);
        }
        if let Some(mut last) = self.last.take() {
            for (member, slot) in &mut last {
                if self.hear(slot) {
                    self.heard.push(*member);
                }
            }
            self.last = Some(last);
        } else {
            for slot in waiting.iter_mut().filter(|slot| slot.is_none()) {
                if self.rng.random_bool(EAGER) {
                    let members: Vec<&Host> = hosts.values().collect();
                    let host = members[self.rng.random_range(0..members.len())];
                    let ask = self.draw();
                    *slot = self.ask(host, ask);
                }
            }
        }
        self.waiting = waiting;
    }

    fn value(&mut self) -> Bytes {
        self.values += 1;
        Bytes::from(format!("v{}", self.values))
    }

    fn lease(&mut self) -> i64 {
        self.leases[self.rng.random_range(0..LEASES)]
    }

    fn draw(&mut self) -> Ask {
        let key = Bytes::from(format!("key{}", self.rng.random_range(0..KEYS)));
        match self.rng.random_range(0..100) {
            0..40 => Ask::Put { key, value: self.value(), lease: 0 },
            40..45 => Ask::Put { key, value: self.value(), lease: self.lease() },
            45..55 => Ask::Delete { key },
            55..65 => Ask::Either { key, there: self.value(), missing: self.value() },
            65..88 => Ask::Read,
            88..90 => {
                let told = self.truth.lock().told;
                Ask::Compact { revision: (told - self.rng.random_range(0..40)).max(1) }
            }
            90..92 => {
                self.granted += 1;
                let place = self.rng.random_range(0..LEASES);
                self.leases[place] = self.granted;
                Ask::Grant { id: self.granted, ttl: self.rng.random_range(1..=TTL) }
            }
            92..99 => Ask::Renew { id: self.lease() },
            _ => Ask::Revoke { id: self.lease() },
        }
    }

    fn ask(&self, host: &Host, ask: Ask) -> Option<Waiting> {
        let (node, state, lessor, runtime) = (host.node()?, host.state()?, host.lessor()?, host.runtime()?);
        if let Ask::Revoke { id } = ask {
            self.truth.lock().give_up(id);
        }
        let told: Arc<Mutex<Option<Told>>> = Arc::default();
        let (slot, question) = (told.clone(), ask.clone());
        runtime.spawn(async move {
            let answered = answer(&node, &state, &lessor, &question).await.unwrap_or(Told::Failed);
            *slot.lock() = Some(answered);
        });
        let floor = self.truth.lock().told;
        Some(Waiting { ask, member: host.id, since: self.now, floor, told })
    }

    /// Takes an answer if there is one, or gives up; whether something was written.
    fn hear(&self, slot: &mut Option<Waiting>) -> bool {
        let Some(waiting) = slot else { return false };
        let told = waiting.told.lock().take();
        let Some(told) = told else {
            if self.now - waiting.since > PATIENCE {
                *slot = None;
            }
            return false;
        };
        let mut truth = self.truth.lock();
        let (ask, member, floor, since) = (&waiting.ask, waiting.member, waiting.floor, waiting.since);
        let mut wrote = false;
        match told {
            Told::Wrote { revision, changed } => {
                truth.tells("write", floor, revision, changed);
                truth.acknowledged += 1;
                if changed && !ask.fits(truth.changes(revision)) {
                    let changes = truth.changes(revision).cloned();
                    truth.breaks(format!("member {member} acknowledged {ask:?} with revision {revision}, which is {changes:?}"));
                }
                wrote = changed;
            }
            Told::Read { revision, state } => {
                truth.tells("read", floor, revision, false);
                truth.reads += 1;
                let right = truth.state(revision);
                if state != right {
                    truth.breaks(format!("member {member} read {state:?} at revision {revision}, which was {right:?}"));
                }
            }
            Told::Lives { ttl } => match ask {
                Ask::Grant { id, .. } => truth.lives(*id, since, ttl),
                Ask::Renew { id } => {
                    truth.lives(*id, since, ttl);
                    truth.renewals += 1;
                }
                _ => truth.breaks(format!("{ask:?} was answered with a lease")),
            },
            Told::Gone => {
                if let Ask::Renew { id } = ask {
                    truth.is_gone(*id, since);
                }
            }
            Told::Done | Told::Failed => {}
        }
        *slot = None;
        wrote
    }

    /// From now on only one put through every member.
    pub(super) fn last_words(&mut self) {
        self.last = Some(BTreeMap::new());
        self.heard.clear();
    }

    /// Whether every member has answered a last put, and nobody waits for anything.
    pub(super) fn are_quiet(&mut self, hosts: &BTreeMap<u64, Host>) -> bool {
        let Some(mut last) = self.last.take() else { return false };
        for (id, host) in hosts {
            if !self.heard.contains(id) && last.get(id).is_none_or(Option::is_none) {
                let ask = Ask::Put { key: Bytes::from(format!("last{id}")), value: self.value(), lease: 0 };
                last.insert(*id, self.ask(host, ask));
            }
        }
        self.last = Some(last);
        hosts.keys().all(|id| self.heard.contains(id)) && self.waiting.iter().all(Option::is_none)
    }
}
