//! The newest transactions in memory, bounded by bytes and by count.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use keelson_api::mvccpb;
use prost::Message;

use crate::write::{Event, EventKind};

/// Bytes of keys and values in the ring, about.
const MAX_BYTES: usize = 16 << 20;
/// Transactions in the ring.
const MAX_TRANSACTIONS: usize = 32_768;

/// One event with its wire form, made once and shared by every stream that sends it.
#[derive(Debug)]
pub struct RingEvent {
    /// The event.
    pub event: Event,
    plain: OnceLock<Bytes>,
    with_previous: OnceLock<Bytes>,
}

impl RingEvent {
    pub(super) const fn new(event: Event) -> Self {
        Self { event, plain: OnceLock::new(), with_previous: OnceLock::new() }
    }

    /// Bytes that it takes, about.
    pub(super) fn weight(&self) -> usize {
        128 + self.event.kv.key.len() + self.event.kv.value.len()
    }

    fn encode(&self, prev_kv: Option<mvccpb::KeyValue>) -> Bytes {
        let kind = match self.event.kind {
            EventKind::Put => mvccpb::event::EventType::Put,
            EventKind::Delete => mvccpb::event::EventType::Delete,
        };
        mvccpb::Event { r#type: kind.into(), kv: Some(self.event.kv.clone()), prev_kv }.encode_to_vec().into()
    }

    /// The event as an encoded message without what it replaced.
    pub fn encoded(&self) -> &Bytes {
        self.plain.get_or_init(|| self.encode(None))
    }

    /// The event as an encoded message with the version it replaced, which `previous` fetches.
    pub fn encoded_with_previous<E>(&self, previous: impl FnOnce() -> Result<Option<mvccpb::KeyValue>, E>) -> Result<&Bytes, E> {
        if self.event.previous.is_none() {
            return Ok(self.encoded());
        }
        if let Some(encoded) = self.with_previous.get() {
            return Ok(encoded);
        }
        let encoded = self.encode(previous()?);
        Ok(self.with_previous.get_or_init(|| encoded))
    }
}

/// All events of one revision.
#[derive(Debug)]
pub struct RingTransaction {
    /// The revision.
    pub revision: i64,
    /// Its events in order.
    pub events: Vec<RingEvent>,
}

fn weight(transaction: &RingTransaction) -> usize {
    transaction.events.iter().map(RingEvent::weight).sum()
}

#[derive(Debug)]
pub(super) struct Ring {
    transactions: VecDeque<Arc<RingTransaction>>,
    bytes: usize,
    /// Every transaction after this revision is here.
    floor: i64,
}

impl Ring {
    pub(super) const fn new(revision: i64) -> Self {
        Self { transactions: VecDeque::new(), bytes: 0, floor: revision }
    }

    pub(super) fn push(&mut self, transaction: Arc<RingTransaction>) {
        self.bytes += weight(&transaction);
        self.transactions.push_back(transaction);
        while self.transactions.len() > MAX_TRANSACTIONS || (self.bytes > MAX_BYTES && self.transactions.len() > 1) {
            let Some(oldest) = self.transactions.pop_front() else { break };
            self.bytes -= weight(&oldest);
            self.floor = oldest.revision;
        }
    }

    /// Up to `limit` transactions from `revision` on; `None` if some of them are no longer here.
    pub(super) fn from(&self, revision: i64, limit: usize) -> Option<Vec<Arc<RingTransaction>>> {
        if revision <= self.floor {
            return None;
        }
        let start = self.transactions.partition_point(|t| t.revision < revision);
        Some(self.transactions.range(start..).take(limit).cloned().collect())
    }
}
