//! A watch as a log of whole revisions: each must come once, in order, in one response, with
//! values as they were written.

use bytes::Bytes;
use keelson_api::etcdserverpb::watch_request::RequestUnion;
use keelson_api::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use keelson_api::mvccpb::event::EventType;
use tokio::sync::mpsc;
use tonic::Streaming;

use super::clients::{Clients, Stop};
use super::history::Changes;
use super::value;

/// Keys from the first up to, but without, the second.
#[derive(Clone, Debug)]
pub struct Span(pub Bytes, pub Bytes);

impl Span {
    /// All keys there are.
    pub fn all() -> Self {
        Self(Bytes::from_static(b"\0"), Bytes::from_static(b"\0"))
    }

    /// The part of a revision's changes that concerns these keys.
    pub fn of(&self, changes: &Changes) -> Changes {
        let inside = |key: &Bytes| self.0 <= *key && (self.1 == "\0" || *key < self.1);
        changes.iter().filter(|(key, _)| inside(key)).map(|(key, id)| (key.clone(), *id)).collect()
    }
}

pub struct Replay {
    incoming: Streaming<WatchResponse>,
    /// Dropping it would end the stream.
    _requests: mpsc::UnboundedSender<WatchRequest>,
    last: i64,
}

impl Replay {
    /// Watches all of `span` that happened after revision `last`.
    pub async fn open(clients: &mut Clients, span: &Span, last: i64) -> Result<Self, Stop> {
        let (requests, to_server) = mpsc::unbounded_channel();
        let create =
            WatchCreateRequest { key: span.0.clone(), range_end: span.1.clone(), start_revision: last + 1, ..Default::default() };
        // The channel is open: its other end is held above.
        let _ = requests.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) });
        let outgoing = tokio_stream::wrappers::UnboundedReceiverStream::new(to_server);
        let incoming = clients.watch.watch(outgoing).await?.into_inner();
        Ok(Self { incoming, _requests: requests, last })
    }

    /// The whole revisions of the next response, which may be none.
    pub async fn next(&mut self) -> Result<Vec<(i64, Changes)>, Stop> {
        let Some(response) = self.incoming.message().await? else {
            return Err(Stop::Silent("the watch stream ended".into()));
        };
        if response.canceled {
            return Err(Stop::Broken(format!(
                "the watch after revision {} was canceled, compacted to {}: {}",
                self.last, response.compact_revision, response.cancel_reason
            )));
        }
        let mut revisions: Vec<(i64, Changes)> = Vec::new();
        for event in response.events {
            let kind = event.r#type();
            let kv = event.kv.unwrap_or_default();
            let at = kv.mod_revision;
            let id = match kind {
                EventType::Delete => None,
                EventType::Put => Some(value::id_of(&kv.value).ok_or_else(|| {
                    Stop::Broken(format!("revision {at} put a damaged value of {} bytes into {:?}", kv.value.len(), kv.key))
                })?),
            };
            if revisions.last().is_none_or(|(last, _)| *last != at) {
                let last = revisions.last().map_or(self.last, |(last, _)| *last);
                if at <= last {
                    return Err(Stop::Broken(format!("a watch that had seen revision {last} was told of revision {at}")));
                }
                revisions.push((at, Changes::new()));
            }
            let (_, changes) = revisions.last_mut().expect("just pushed");
            if changes.insert(kv.key.clone(), id).is_some() {
                return Err(Stop::Broken(format!("a watch was told twice of {:?} in revision {at}", kv.key)));
            }
        }
        if let Some((last, _)) = revisions.last() {
            self.last = *last;
        }
        Ok(revisions)
    }
}
