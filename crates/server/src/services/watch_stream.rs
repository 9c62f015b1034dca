//! The watchers of one stream: their cursors, what they want, and the frames for what they get.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use keelson_api::Error;
use keelson_api::etcdserverpb::watch_create_request::FilterType;
use keelson_api::etcdserverpb::{WatchCreateRequest, WatchResponse};
use keelson_mvcc::watch::{Hub, Replay, RingTransaction, Subscription, Wake};
use keelson_mvcc::{EventKind, KeyRange, ReadError, ReadMode};
use keelson_storage::StateBackend;
use prost::Message;
use tokio::sync::Notify;

use crate::grpc::{Status, put_header};
use crate::member::{Member, read_error};

/// Transactions fetched at once.
const FETCH: usize = 1000;
/// A response is sent once it has about so many bytes of whole revisions, and before more is fetched:
/// that waits where it is until the client has taken this.
const RESPONSE_BYTES: usize = 1 << 20;
/// Id of answers that concern the whole stream or no watcher.
const NO_WATCHER: i64 = -1;

/// Wakes who waits for something to fetch.
pub struct ReadyWake(pub Arc<Notify>);

impl Wake for ReadyWake {
    fn wake(&self) {
        self.0.notify_one();
    }
}

/// What a watcher wants, and how far it got.
#[derive(Clone)]
struct Watcher {
    range: KeyRange,
    start: i64,
    /// Next revision that was not looked at.
    cursor: i64,
    puts: bool,
    deletes: bool,
    prev_kv: bool,
    fragment: bool,
    progress: bool,
    /// Events were sent since the last tick, so no progress needs to be told.
    spoke: bool,
    /// Its place in history was compacted; only its id lives on, until it is cancelled.
    dead: bool,
}

/// What one step of fetching led to.
pub enum Step {
    /// There is nothing to fetch.
    Idle,
    /// Send these; there may be none.
    Frames(Vec<Bytes>),
    /// The stream cannot go on.
    Failed(Status),
}

/// All watchers of a stream.
pub struct WatchStream {
    member: Arc<Member>,
    subscription: Subscription<StateBackend>,
    watchers: BTreeMap<i64, Watcher>,
    next_id: i64,
}

impl WatchStream {
    /// A stream without watchers; `ready` is notified when there is something to fetch.
    pub fn new(member: Arc<Member>, ready: Arc<Notify>) -> Self {
        let subscription = member.hub.subscribe(ReadyWake(ready));
        Self { member, subscription, watchers: BTreeMap::new(), next_id: 0 }
    }

    fn response(&self, watch_id: i64, revision: i64) -> WatchResponse {
        WatchResponse { header: self.member.header(revision), watch_id, ..WatchResponse::default() }
    }

    fn refusal(&self, reason: &str) -> Vec<Bytes> {
        let revision = self.member.state.store.revision();
        let response = WatchResponse {
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..self.response(NO_WATCHER, revision)
        };
        vec![frame(&response, &[])]
    }

    /// Tells that somebody may not watch, as etcd's library prints a status. Whatever else is wrong is not told.
    pub fn forbid(&self, why: Error) -> Vec<Bytes> {
        let told = match why {
            Error::InvalidAuthToken | Error::AuthOldRevision | Error::UserEmpty => why,
            _ => Error::PermissionDenied,
        };
        let code = Status::code_name(Some(told.code()));
        self.refusal(&format!("rpc error: code = {code} desc = {}", told.text()))
    }

    /// Adds a watcher.
    pub fn create(&mut self, r: WatchCreateRequest) -> Vec<Bytes> {
        if r.start_revision < 0 {
            return self.refusal(Error::Compacted.text());
        }
        let key = if r.key.is_empty() { Bytes::from_static(&[0]) } else { r.key };
        let range = KeyRange::from_api(&key, &r.range_end);
        if range.is_empty() {
            return self.refusal("mvcc: watcher range is empty");
        }
        let id = match r.watch_id {
            0 => {
                while self.watchers.contains_key(&self.next_id) {
                    self.next_id += 1;
                }
                self.next_id += 1;
                self.next_id - 1
            }
            id if self.watchers.contains_key(&id) => {
                return self.refusal("mvcc: duplicate watch ID provided on the WatchStream");
            }
            id => id,
        };
        let store = &self.member.state.store;
        let revision = store.revision();
        let cursor = if r.start_revision == 0 { revision + 1 } else { r.start_revision };
        let mut watcher = Watcher {
            range: range.clone(),
            start: r.start_revision,
            cursor,
            puts: !r.filters.contains(&FilterType::Noput.into()),
            deletes: !r.filters.contains(&FilterType::Nodelete.into()),
            prev_kv: r.prev_kv,
            fragment: r.fragment,
            progress: r.progress_notify,
            spoke: false,
            dead: false,
        };
        let created = WatchResponse { created: true, ..self.response(id, revision) };
        let mut frames = vec![frame(&created, &[])];
        if r.start_revision > 0 && r.start_revision < store.compacted() {
            watcher.dead = true;
            frames.push(self.compacted(id));
        } else {
            self.subscription.add(id, range, cursor);
        }
        self.watchers.insert(id, watcher);
        frames
    }

    fn compacted(&self, id: i64) -> Bytes {
        let compact_revision = self.member.state.store.compacted();
        frame(&WatchResponse { canceled: true, compact_revision, ..self.response(id, 0) }, &[])
    }

    /// Removes a watcher; an unknown id is passed over in silence.
    pub fn cancel(&mut self, id: i64) -> Vec<Bytes> {
        if self.watchers.remove(&id).is_none() {
            return Vec::new();
        }
        self.subscription.remove(id);
        let revision = self.member.state.store.revision();
        vec![frame(&WatchResponse { canceled: true, ..self.response(id, revision) }, &[])]
    }

    /// Fetches for one watcher that has something to fetch.
    pub async fn step(&mut self) -> Step {
        let Some((id, dirty)) = self.subscription.take_ready() else { return Step::Idle };
        let Some(watcher) = self.watchers.get(&id) else { return Step::Frames(Vec::new()) };
        let from = watcher.cursor.max(dirty);
        let header = self.response(id, 0);
        let fetched = match fetch(&self.member.hub, watcher, from, &header, ReadMode::CacheOnly) {
            Err(ReadError::WouldBlock) => {
                let (hub, watcher) = (self.member.hub.clone(), watcher.clone());
                let fetch = move || fetch(&hub, &watcher, from, &header, ReadMode::Blocking);
                self.member.metrics.slow_watchers.inc();
                let fetched = tokio::task::spawn_blocking(fetch).await;
                self.member.metrics.slow_watchers.dec();
                let Ok(fetched) = fetched else { return Step::Failed(Error::Stopped.into()) };
                fetched
            }
            other => other,
        };
        match fetched {
            Ok(fetched) => {
                if fetched.more {
                    self.subscription.mark(id, fetched.next);
                }
                self.member.metrics.watch_events.inc_by(fetched.events);
                if let Some(watcher) = self.watchers.get_mut(&id) {
                    watcher.cursor = watcher.cursor.max(fetched.next);
                    watcher.spoke |= fetched.events > 0;
                }
                Step::Frames(fetched.frames)
            }
            Err(ReadError::Compacted) => {
                self.subscription.remove(id);
                if let Some(watcher) = self.watchers.get_mut(&id) {
                    watcher.dead = true;
                }
                Step::Frames(vec![self.compacted(id)])
            }
            Err(e) => Step::Failed(read_error(e).into()),
        }
    }

    /// Whether something at or below `revision` was not sent yet.
    pub fn lags(&self, revision: i64) -> bool {
        self.subscription.lags(revision)
    }

    /// Whether some watcher wants to hear of progress.
    pub fn wants_progress(&self) -> bool {
        self.watchers.values().any(|w| w.progress)
    }

    /// Progress for every watcher that wants it and was not sent events since the last time.
    /// Everything up to `revision` has been sent.
    pub fn progress_of_idle(&mut self, revision: i64) -> Vec<Bytes> {
        let mut frames = Vec::new();
        let header = self.member.header(revision);
        for (id, watcher) in &mut self.watchers {
            let spoke = std::mem::take(&mut watcher.spoke);
            if watcher.progress && !spoke && !watcher.dead && watcher.start <= revision {
                frames.push(frame(&WatchResponse { header, watch_id: *id, ..WatchResponse::default() }, &[]));
            }
        }
        frames
    }

    /// Progress of the stream as a whole: only if all its watchers have got as far as `revision`.
    pub fn progress_of_all(&self, revision: i64) -> Vec<Bytes> {
        let reached = |w: &Watcher| !w.dead && w.start <= revision;
        if self.watchers.is_empty() || !self.watchers.values().all(reached) {
            return Vec::new();
        }
        vec![frame(&self.response(NO_WATCHER, revision), &[])]
    }
}

struct Fetched {
    frames: Vec<Bytes>,
    events: u64,
    next: i64,
    more: bool,
}

fn fetch(
    hub: &Hub<StateBackend>,
    watcher: &Watcher,
    from: i64,
    header: &WatchResponse,
    mode: ReadMode,
) -> Result<Fetched, ReadError> {
    let replay = match hub.replay(from, FETCH) {
        Replay::OutsideRing if mode == ReadMode::CacheOnly => return Err(ReadError::WouldBlock),
        Replay::OutsideRing => hub.replay_history(&watcher.range, from, FETCH)?,
        inside => inside,
    };
    let Replay::Transactions { transactions, next, more } = replay else { return Err(ReadError::WouldBlock) };
    let mut out =
        Frames { header: header.clone(), frames: Vec::new(), events: Vec::new(), bytes: 0, sent: 0, fragment: watcher.fragment };
    for transaction in &transactions {
        out.add(hub, watcher, transaction, mode)?;
        if out.bytes >= RESPONSE_BYTES {
            out.cut(transaction.revision);
            let next = transaction.revision + 1;
            return Ok(Fetched { frames: out.frames, events: out.sent, next, more: true });
        }
    }
    out.cut(next - 1);
    Ok(Fetched { frames: out.frames, events: out.sent, next, more })
}

/// Gathers encoded events into responses of whole revisions.
struct Frames {
    header: WatchResponse,
    frames: Vec<Bytes>,
    events: Vec<Bytes>,
    bytes: usize,
    sent: u64,
    fragment: bool,
}

impl Frames {
    fn add(
        &mut self,
        hub: &Hub<StateBackend>,
        watcher: &Watcher,
        transaction: &RingTransaction,
        mode: ReadMode,
    ) -> Result<(), ReadError> {
        for event in &transaction.events {
            let wanted = match event.event.kind {
                EventKind::Put => watcher.puts,
                EventKind::Delete => watcher.deletes,
            };
            if !wanted || !watcher.range.contains(&event.event.kv.key) {
                continue;
            }
            // As in etcd, what was replaced can no longer be told once it is compacted, even if it is
            // still at hand.
            let told = watcher.prev_kv && hub.store().compacted() < event.event.kv.mod_revision;
            let encoded = if told {
                event.encoded_with_previous(|| hub.previous(&event.event, mode))?.clone()
            } else {
                event.encoded().clone()
            };
            self.bytes += encoded.len();
            self.events.push(encoded);
        }
        Ok(())
    }

    /// Makes a response of what was gathered; all revisions up to `revision` are in it.
    fn cut(&mut self, revision: i64) {
        if self.events.is_empty() {
            return;
        }
        if let Some(header) = &mut self.header.header {
            header.revision = revision;
        }
        self.sent += self.events.len() as u64;
        let events = std::mem::take(&mut self.events);
        self.bytes = 0;
        if !self.fragment {
            self.frames.push(frame(&self.header, &events));
            return;
        }
        let mut rest = events.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|e| {
                bytes += e.len();
                bytes <= RESPONSE_BYTES
            });
            let (part, later) = rest.split_at(fits.count().max(1));
            rest = later;
            let response = WatchResponse { fragment: !rest.is_empty(), ..self.header.clone() };
            self.frames.push(frame(&response, part));
        }
    }
}

/// Key of the events field: number 11, length-delimited.
const EVENTS_TAG: u8 = 11 << 3 | 2;

/// A framed response with events that are encoded already.
fn frame(response: &WatchResponse, events: &[Bytes]) -> Bytes {
    let length =
        response.encoded_len() + events.iter().map(|e| 1 + prost::length_delimiter_len(e.len()) + e.len()).sum::<usize>();
    let mut out = BytesMut::with_capacity(5 + length);
    put_header(&mut out, length);
    response.encode_raw(&mut out);
    for event in events {
        out.put_u8(EVENTS_TAG);
        prost::encoding::encode_varint(event.len() as u64, &mut out);
        out.put_slice(event);
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use keelson_api::mvccpb::{Event, KeyValue};

    use super::*;

    #[test]
    fn a_frame_with_ready_made_events_is_the_plain_encoding() {
        let events: Vec<Event> = (0..3)
            .map(|i| Event { kv: Some(KeyValue { key: vec![b'k'; i * 200].into(), ..Default::default() }), ..Default::default() })
            .collect();
        let ready: Vec<Bytes> = events.iter().map(|e| e.encode_to_vec().into()).collect();
        let response = WatchResponse { watch_id: 7, fragment: true, ..Default::default() };
        let framed = frame(&response, &ready);
        let want = WatchResponse { events, ..response };
        assert_eq!(framed.len() - 5, want.encoded_len());
        assert_eq!(WatchResponse::decode(&framed[5..]).unwrap(), want);
    }
}
