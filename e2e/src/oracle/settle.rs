//! Watches, one request at a time: brings every stream of a side to a point where all that has
//! happened has also been told, so that what was told can be compared.
//!
//! A server tells watches when it gets to it. Two things say that it has: the event of a write to
//! the sentinel's key, for watches that are up to date, and the answer to a progress request, for
//! those that were started in the past. Where a watch in the future keeps a stream from answering
//! that, the server's own count of watches that lag says when there is nothing left to wait for.

use keelson_api::etcdserverpb::watch_request::RequestUnion;
use keelson_api::etcdserverpb::{PutRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};

use super::lagging;
use super::outcome::Outcome;
use super::side::{Side, answer};
use super::watching::{SENTINEL_KEY, Stall, Stream};

/// Watches that start this close ahead are reached by writing the sentinel's key.
pub const NEAR: i64 = 64;

impl Side {
    pub(super) async fn play_watch(&mut self, number: usize, request: &WatchRequest) -> Result<(), Stall> {
        if !self.streams.contains_key(&number) {
            let stream = Stream::open(&mut self.watch).await?;
            self.streams.insert(number, stream);
        }
        match &request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create_watch(number, create).await,
            Some(RequestUnion::CancelRequest(cancel)) => {
                // Events that are on their way to a watch that is canceled may get lost.
                self.settle().await?;
                self.stream(number)?.cancel(cancel.watch_id).await
            }
            Some(RequestUnion::ProgressRequest(_)) => self.ask_for_progress(number).await,
            None => {
                let stream = self.stream(number)?;
                stream.send(None)?;
                stream.fence().await
            }
        }
    }

    async fn create_watch(&mut self, number: usize, request: &WatchCreateRequest) -> Result<(), Stall> {
        let compacted = self.compacted;
        let start = request.start_revision;
        let stream = self.stream(number)?;
        stream.send(Some(RequestUnion::CreateRequest(request.clone())))?;
        let response = stream.wait("a watch is created", |response| response.created).await?;
        if response.canceled {
            return Ok(());
        }
        let id = response.watch_id;
        stream.history.watch(id, request);
        stream.live.insert(id, start);
        if start > 0 && start < compacted {
            let canceled = |r: &WatchResponse| r.watch_id == id && r.compact_revision != 0;
            stream.wait(&format!("watch {id} from {start} is canceled as compacted"), canceled).await?;
            // Until the client cancels it too, its id stays taken and the stream gets no progress.
            stream.cancel(id).await?;
        } else if start > 0 && response.header.is_some_and(|header| start <= header.revision) {
            stream.catching_up = true;
        }
        Ok(())
    }

    async fn ask_for_progress(&mut self, number: usize) -> Result<(), Stall> {
        self.settle().await?;
        let stream = self.stream(number)?;
        stream.keep_progress = true;
        stream.send(Some(RequestUnion::ProgressRequest(WatchProgressRequest {})))?;
        stream.fence().await?;
        let revision = self.write_sentinel().await?;
        let stream = self.stream(number)?;
        stream.wait_for_sentinel(revision).await?;
        stream.keep_progress = false;
        Ok(())
    }

    pub(super) async fn settle(&mut self) -> Result<(), Stall> {
        if self.streams.is_empty() {
            return Ok(());
        }
        let starts = self.streams.values().flat_map(|stream| stream.live.values().copied());
        let reach = starts.filter(|&start| start <= self.revision.saturating_add(NEAR)).max().unwrap_or(0);
        while self.revision < reach {
            self.write_sentinel().await?;
        }
        let revision = self.revision;
        let mut mute = false;
        for stream in self.streams.values_mut() {
            if stream.catching_up && stream.reaches_beyond(revision) {
                mute = true;
            } else if stream.catching_up {
                stream.catch_up().await?;
            }
        }
        if mute {
            lagging::wait_for_none(&self.url).await.map_err(|error| error.to_string())?;
            // What lagged no more may still have been on its way: one write more comes after it.
            let revision = self.write_sentinel().await?;
            for stream in self.streams.values_mut() {
                stream.wait_for_sentinel(revision).await?;
            }
        }
        let revision = self.write_sentinel().await?;
        for stream in self.streams.values_mut() {
            stream.wait_for_sentinel(revision).await?;
        }
        Ok(())
    }

    async fn write_sentinel(&mut self) -> Result<i64, Stall> {
        let put = PutRequest { key: SENTINEL_KEY.into(), ..Default::default() };
        let response = answer(self.kv.put(put)).await.map_err(|outcome: Outcome| format!("sentinel: {outcome:?}"))?;
        self.note(&response.header);
        Ok(response.header.map_or(0, |header| header.revision))
    }

    fn stream(&mut self, number: usize) -> Result<&mut Stream, Stall> {
        self.streams.get_mut(&number).ok_or_else(|| format!("stream {number} is not open"))
    }
}
