//! One watch stream of one server: sends requests, waits for the answers that must come, and keeps
//! everything that arrives in its history.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use keelson_api::etcdserverpb::watch_client::WatchClient;
use keelson_api::etcdserverpb::watch_request::RequestUnion;
use keelson_api::etcdserverpb::{WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use tonic::transport::Channel;

use super::history::History;

/// The key that is written to learn how far a stream has come, and the watch that sees it. The key
/// sorts among the generated ones, and the id is none that a server would pick by itself.
pub const SENTINEL_KEY: &str = "~sentinel";
const SENTINEL_ID: i64 = 1 << 40;
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Why a stream did not get to where it had to: becomes a lost outcome.
pub type Stall = String;

pub struct Stream {
    requests: mpsc::UnboundedSender<WatchRequest>,
    responses: mpsc::UnboundedReceiver<Result<WatchResponse, Status>>,
    reader: AbortHandle,
    /// Progress answers are part of the history only while a step asks for them.
    pub keep_progress: bool,
    pub history: History,
    /// The start revision of every watch that the server has not canceled.
    pub live: BTreeMap<i64, i64>,
    /// A watch was started in the past and may not have been told all of it yet.
    pub catching_up: bool,
}

impl Stream {
    /// Opens the stream with a progress request, which a stream without watches must ignore, and
    /// the sentinel's watch.
    pub async fn open(client: &mut WatchClient<Channel>) -> Result<Self, Stall> {
        let (requests, to_server) = mpsc::unbounded_channel();
        let (to_us, responses) = mpsc::unbounded_channel();
        // etcd sends no headers before its first response, so what asks for one goes ahead.
        let mut requests_sent = vec![RequestUnion::ProgressRequest(WatchProgressRequest {})];
        let sentinel = WatchCreateRequest { key: SENTINEL_KEY.into(), watch_id: SENTINEL_ID, ..Default::default() };
        requests_sent.push(RequestUnion::CreateRequest(sentinel.clone()));
        for union in requests_sent {
            requests.send(WatchRequest { request_union: Some(union) }).map_err(|e| e.to_string())?;
        }
        let outgoing = tokio_stream::wrappers::UnboundedReceiverStream::new(to_server);
        let mut incoming = client.watch(outgoing).await.map_err(|status| format!("no watch stream: {status}"))?.into_inner();
        // Read all the time: a stream that is not read blocks the others of the connection.
        let reader = tokio::spawn(async move {
            while let Some(response) = incoming.next().await {
                if to_us.send(response).is_err() {
                    break;
                }
            }
        });
        let mut stream = Self {
            requests,
            responses,
            reader: reader.abort_handle(),
            keep_progress: true,
            history: History::default(),
            live: BTreeMap::new(),
            catching_up: false,
        };
        stream.history.watch(SENTINEL_ID, &sentinel);
        stream.wait("the sentinel's watch", |response| response.created).await?;
        stream.keep_progress = false;
        Ok(stream)
    }

    pub fn send(&mut self, union: Option<RequestUnion>) -> Result<(), Stall> {
        let request = WatchRequest { request_union: union };
        self.requests.send(request).map_err(|_| "the watch stream has ended".to_owned())
    }

    pub async fn wait(&mut self, what: &str, is_it: impl FnMut(&WatchResponse) -> bool) -> Result<WatchResponse, Stall> {
        self.wait_for(ANSWER_LIMIT, is_it).await?.ok_or_else(|| format!("{what}: not within {ANSWER_LIMIT:?}"))
    }

    /// Takes in responses until one `is_it`; `None` when the time is up.
    pub async fn wait_for(
        &mut self,
        limit: Duration,
        mut is_it: impl FnMut(&WatchResponse) -> bool,
    ) -> Result<Option<WatchResponse>, Stall> {
        let deadline = Instant::now() + limit;
        loop {
            match timeout_at(deadline, self.responses.recv()).await {
                Err(_) => return Ok(None),
                Ok(Some(Ok(response))) => {
                    let found = is_it(&response);
                    // Only what decides is copied: the rest can be large.
                    let decisive = found.then(|| response.clone());
                    self.take_in(response);
                    if decisive.is_some() {
                        return Ok(decisive);
                    }
                }
                Ok(Some(Err(status))) => {
                    let end = format!("the watch stream ended: {status}");
                    self.history.end(status.code(), status.message().to_owned());
                    return Err(end);
                }
                Ok(None) => return Err("the watch stream ended".into()),
            }
        }
    }

    fn take_in(&mut self, response: WatchResponse) {
        if response.watch_id == SENTINEL_ID || (is_progress(&response) && !self.keep_progress) {
            return;
        }
        self.history.add(response);
    }

    /// Has the server deal with everything sent so far: it handles the requests of a stream in
    /// order, and this one is always answered at once and changes nothing.
    pub async fn fence(&mut self) -> Result<(), Stall> {
        let fence = WatchCreateRequest { key: "fence".into(), start_revision: -1, ..Default::default() };
        self.send(Some(RequestUnion::CreateRequest(fence)))?;
        self.wait("the answer to an invalid watch", |r| r.created && r.canceled).await?;
        Ok(())
    }

    pub async fn cancel(&mut self, id: i64) -> Result<(), Stall> {
        self.send(Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: id })))?;
        if self.live.remove(&id).is_none() {
            return self.fence().await;
        }
        let canceled = |r: &WatchResponse| r.watch_id == id && r.canceled && !r.created;
        self.wait(&format!("watch {id} is canceled"), canceled).await?;
        self.history.unwatch(id);
        Ok(())
    }

    /// Waits until the sentinel's write at `revision` arrived, and with it all that was sent before.
    pub async fn wait_for_sentinel(&mut self, revision: i64) -> Result<(), Stall> {
        let arrived = |r: &WatchResponse| {
            r.watch_id == SENTINEL_ID && r.events.iter().filter_map(|e| e.kv.as_ref()).any(|kv| kv.mod_revision >= revision)
        };
        self.wait(&format!("the sentinel's event at revision {revision}"), arrived).await?;
        Ok(())
    }

    /// Asks for progress until it is answered: a server only answers once every watch of the
    /// stream has been told everything.
    pub async fn catch_up(&mut self) -> Result<(), Stall> {
        /// Well below the 100 ms in which etcd looks after watches that are behind.
        const PATIENCE: Duration = Duration::from_millis(20);
        let deadline = Instant::now() + ANSWER_LIMIT;
        while Instant::now() < deadline {
            self.send(Some(RequestUnion::ProgressRequest(WatchProgressRequest {})))?;
            if self.wait_for(PATIENCE, is_progress).await?.is_some() {
                self.catching_up = false;
                return Ok(());
            }
        }
        Err(format!("no progress within {ANSWER_LIMIT:?} on a stream with the watches {:?}", self.live))
    }

    /// A watch beyond `revision` keeps the server from reporting progress on the whole stream.
    pub fn reaches_beyond(&self, revision: i64) -> bool {
        self.live.values().any(|&start| start > revision)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Whether this says how far the whole stream has come.
pub fn is_progress(response: &WatchResponse) -> bool {
    response.watch_id == -1 && response.events.is_empty() && !response.created && !response.canceled
}
