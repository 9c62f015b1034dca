//! The audit after a restart: everything that anybody was told before must still be so.

use std::collections::BTreeSet;
use std::sync::Arc;

use keelson_api::etcdserverpb::{HashKvRequest, HashKvResponse, LeaseLeasesRequest, RangeRequest};
use parking_lot::{Mutex, MutexGuard};
use rand::Rng;
use rand::rngs::StdRng;
use tonic::Code;

use super::clients::{Clients, Stop};
use super::follow::Follower;
use super::history::{History, Lease, Mix};
use super::ledger::{Ledger, Replayed, Row, Rows};
use super::load::{key, lease_prefix};
use super::replay::{Replay, Span};
use super::value;

/// All that is known about one data directory.
pub struct Books {
    pub history: Arc<Mutex<History>>,
    ledger: Ledger,
    followers: Vec<Follower>,
}

impl Default for Books {
    fn default() -> Self {
        let some = Span(key(10), key(25));
        Self {
            history: Arc::default(),
            ledger: Ledger::default(),
            followers: vec![Follower::new(Span::all()), Follower::new(some)],
        }
    }
}

fn broken(what: String) -> Stop {
    Stop::Broken(what)
}

impl Books {
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock()
    }

    pub fn mix(&self) -> Mix {
        self.history().mix
    }

    /// Stops what listens to a server that is gone.
    pub fn stop_following(&mut self) {
        self.followers.iter_mut().for_each(Follower::stop);
    }

    /// Checks a server that nobody writes to; on success the watches go on.
    pub async fn audit(&mut self, clients: &mut Clients, rng: &mut StdRng) -> Result<(), Stop> {
        for follower in &self.followers {
            self.history.lock().told(follower.newest());
        }
        if let Some(first) = self.history().broken.first() {
            return Err(broken(first.clone()));
        }
        let (current, _) = read(clients, 0).await?;
        let newest_told = self.history().newest_told;
        if current < newest_told {
            return Err(broken(format!("revision {newest_told} had been told, the server is back at {current}")));
        }
        let hash = hash_at(clients, current).await?;
        let compacted = hash.compact_revision.max(0);
        let replayed = replay(clients, compacted.max(1), current).await?;
        {
            let mut history = self.history.lock();
            if compacted < history.compacted || compacted > history.compaction_asked {
                let (done, asked) = (history.compacted, history.compaction_asked);
                return Err(broken(format!("compacted to {compacted}, acknowledged were {done}, asked for {asked}")));
            }
            history.hashes.note(hash.compact_revision, current, hash.hash).map_err(broken)?;
            self.ledger.settle(compacted, current, replayed, &mut history).map_err(broken)?;
        }
        for follower in &mut self.followers {
            follower.resume(clients);
        }
        self.compare_hashes(clients, hash.compact_revision).await?;
        self.compare_reads(clients, compacted, current, rng).await?;
        let live = self.compare_leases(clients).await?;
        for follower in &mut self.followers {
            let watched = follower.check(&self.ledger).await?;
            self.history.lock().mix.watched += watched;
        }
        self.ledger.forget(compacted);
        self.start_afresh(live, compacted, current);
        Ok(())
    }

    async fn compare_hashes(&self, clients: &mut Clients, compacted: i64) -> Result<(), Stop> {
        let revisions = self.history().hashes.comparable(compacted);
        for revision in revisions {
            let hash = hash_at(clients, revision).await?;
            let mut history = self.history();
            history.mix.hashes += 1;
            history.hashes.note(hash.compact_revision, revision, hash.hash).map_err(broken)?;
        }
        Ok(())
    }

    /// Reads everything now, at the oldest revision that can be read, and somewhere between.
    async fn compare_reads(&self, clients: &mut Clients, compacted: i64, current: i64, rng: &mut StdRng) -> Result<(), Stop> {
        let oldest = compacted.max(1);
        for revision in BTreeSet::from([oldest, rng.random_range(oldest..=current), current]) {
            let (_, rows) = read(clients, revision).await?;
            let expected = self.ledger.rows_at(revision);
            if rows != expected {
                let differs = |key: &&bytes::Bytes| rows.get(*key) != expected.get(*key);
                let key = rows.keys().chain(expected.keys()).find(differs).expect("they differ");
                let (is, should) = (rows.get(key), expected.get(key));
                return Err(broken(format!("read at revision {revision}, {key:?} is {is:?}, not {should:?}")));
            }
        }
        if compacted > 1 {
            match read(clients, compacted - 1).await {
                Err(Stop::Broken(answer)) if answer.contains("compacted") => {}
                other => return Err(broken(format!("a read below the compaction to {compacted} got {other:?}"))),
            }
        }
        Ok(())
    }

    async fn compare_leases(&self, clients: &mut Clients) -> Result<BTreeSet<i64>, Stop> {
        let listed = clients.lease.lease_leases(LeaseLeasesRequest {}).await?.into_inner();
        let live: BTreeSet<i64> = listed.leases.into_iter().map(|lease| lease.id).collect();
        let history = self.history();
        for (lease, state) in &history.leases {
            match (state, live.contains(lease)) {
                (Lease::Granted, false) | (Lease::Revoked, true) => {
                    return Err(broken(format!("lease {lease}: told {state:?}, listed: {}", live.contains(lease))));
                }
                _ => {}
            }
        }
        match live.iter().find(|lease| !history.leases.contains_key(lease)) {
            Some(lease) => Err(broken(format!("lease {lease} was never asked for, or was gone before"))),
            None => Ok(live),
        }
    }

    /// The audit has decided what became of everything: the next writes start from there.
    fn start_afresh(&self, live: BTreeSet<i64>, compacted: i64, current: i64) {
        let rows = self.ledger.rows_at(current);
        let mut history = self.history();
        history.compaction_limit = current;
        // A compaction that was asked for and did not happen may be asked for again.
        (history.compacted, history.compaction_asked) = (compacted, compacted);
        history.revocable.clear();
        for lease in &live {
            let prefix = lease_prefix(*lease);
            let keys = rows.keys().filter(|key| key.starts_with(prefix.as_bytes())).cloned().collect();
            history.revocable.insert(*lease, keys);
        }
        history.leases = live.into_iter().map(|lease| (lease, Lease::Granted)).collect();
        history.told(current);
    }
}

async fn hash_at(clients: &mut Clients, revision: i64) -> Result<HashKvResponse, Stop> {
    Ok(clients.maintenance.hash_kv(HashKvRequest { revision }).await?.into_inner())
}

/// Everything at a revision (0: now), with the newest revision.
async fn read(clients: &mut Clients, revision: i64) -> Result<(i64, Rows), Stop> {
    let all = Span::all();
    let request = RangeRequest { key: all.0, range_end: all.1, revision, ..Default::default() };
    let response = match clients.kv.range(request).await {
        Ok(response) => response.into_inner(),
        Err(status) if status.code() == Code::OutOfRange => return Err(broken(status.message().to_owned())),
        Err(status) => return Err(status.into()),
    };
    let mut rows = Rows::new();
    for kv in response.kvs {
        let whole = value::id_of(&kv.value);
        let id = whole.ok_or_else(|| broken(format!("at revision {revision}, {:?} has a damaged value", kv.key)))?;
        let attached = kv.lease == 0 || kv.key.starts_with(lease_prefix(kv.lease).as_bytes());
        if !attached || kv.key.starts_with(b"l/") != (kv.lease != 0) {
            return Err(broken(format!("{:?} has lease {}", kv.key, kv.lease)));
        }
        rows.insert(kv.key, Row { id, created: kv.create_revision, modified: kv.mod_revision, version: kv.version });
    }
    Ok((response.header.map_or(0, |h| h.revision), rows))
}

/// All changes after revision `last`, up to the newest one.
async fn replay(clients: &mut Clients, last: i64, current: i64) -> Result<Replayed, Stop> {
    let mut replayed = Replayed::new();
    if last < current {
        let mut replay = Replay::open(clients, &Span::all(), last).await?;
        while replayed.last_key_value().is_none_or(|(newest, _)| *newest < current) {
            replayed.extend(replay.next().await?);
        }
    }
    Ok(replayed)
}
