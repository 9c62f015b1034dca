//! Leases as replicated state: which exist, for how long they were granted, what is attached. When
//! one expires is decided elsewhere, by the leader's clock.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use keelson_api::keelson::LeaseRow;
use keelson_mvcc::{Event, EventKind, StorageError, Table, WriteBatch};
use prost::Message;

/// Longest time to live a client may ask for, in seconds.
pub(crate) const MAX_TTL: i64 = 9_000_000_000;
const PREFIX: &[u8] = b"lease/";

/// One lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Granted time to live in seconds.
    pub ttl: i64,
    /// Seconds left at the last checkpoint, 0 if there was none.
    pub remaining_ttl: i64,
    /// Attached keys.
    pub keys: BTreeSet<Bytes>,
}

/// All leases by id.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    by_id: HashMap<i64, Lease>,
}

fn row_key(id: i64) -> Vec<u8> {
    [PREFIX, &id.to_be_bytes()].concat()
}

impl Leases {
    pub(crate) fn get(&self, id: i64) -> Option<&Lease> {
        self.by_id.get(&id)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = (i64, &Lease)> {
        self.by_id.iter().map(|(id, l)| (*id, l))
    }

    pub(crate) fn grant(&mut self, id: i64, ttl: i64, batch: &mut impl WriteBatch) {
        self.by_id.insert(id, Lease { ttl, ..Lease::default() });
        batch.put(Table::Meta, &row_key(id), &LeaseRow { ttl, remaining_ttl: 0 }.encode_to_vec());
    }

    pub(crate) fn checkpoint(&mut self, id: i64, remaining_ttl: i64, batch: &mut impl WriteBatch) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.remaining_ttl = remaining_ttl;
            batch.put(Table::Meta, &row_key(id), &LeaseRow { ttl: lease.ttl, remaining_ttl }.encode_to_vec());
        }
    }

    pub(crate) fn revoke(&mut self, id: i64, batch: &mut impl WriteBatch) -> Option<Lease> {
        let lease = self.by_id.remove(&id)?;
        batch.delete(Table::Meta, &row_key(id));
        Some(lease)
    }

    pub(crate) fn attach(&mut self, id: i64, key: Bytes) {
        if id != 0
            && let Some(lease) = self.by_id.get_mut(&id)
        {
            lease.keys.insert(key);
        }
    }

    pub(crate) fn detach(&mut self, id: i64, key: &Bytes) {
        if id != 0
            && let Some(lease) = self.by_id.get_mut(&id)
        {
            lease.keys.remove(key);
        }
    }

    /// Follows what a transaction did to attached keys.
    pub(crate) fn follow(&mut self, events: &[Event]) {
        for event in events {
            if event.previous_lease != event.kv.lease || event.kind == EventKind::Delete {
                self.detach(event.previous_lease, &event.kv.key);
            }
            // A copy, so that the key does not keep a whole request alive.
            if event.kind == EventKind::Put && event.kv.lease != 0 {
                self.attach(event.kv.lease, Bytes::copy_from_slice(&event.kv.key));
            }
        }
    }

    pub(crate) fn load_row(&mut self, key: &[u8], value: &[u8]) -> Result<bool, StorageError> {
        let Some(id) = key.strip_prefix(PREFIX) else { return Ok(false) };
        let id = id.try_into().map(i64::from_be_bytes).map_err(|_| damaged())?;
        let row = LeaseRow::decode(value).map_err(|_| damaged())?;
        self.by_id.insert(id, Lease { ttl: row.ttl, remaining_ttl: row.remaining_ttl, keys: BTreeSet::new() });
        Ok(true)
    }
}

fn damaged() -> StorageError {
    StorageError("a lease row cannot be decoded: the state store is damaged".into())
}
