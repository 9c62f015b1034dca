//! Watches that go on when their connection does not: the next one begins where the last event was.
//!
//! All watches of one `Watches` share a stream. A task of its own owns that, so that who listens may listen to
//! something else as well.

use std::collections::BTreeMap;
use std::time::Duration;

use keelson_api::Error;
use keelson_api::etcdserverpb::watch_client::WatchClient;
use keelson_api::etcdserverpb::watch_request::RequestUnion;
use keelson_api::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::sleep;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

use super::call::{Client, unavailable};
use crate::exit::{Failure, describe, known};

/// Before a stream is opened again.
const PAUSE: Duration = Duration::from_millis(50);
/// Answers to no watch in particular.
const EVERYBODY: i64 = -1;

/// What a watch has to tell.
#[derive(Clone, Debug)]
pub enum Seen {
    /// Events or progress. The text says why nothing will follow.
    Answer(WatchResponse, Option<String>),
    /// Nothing will follow.
    End,
}

pub struct Watches {
    orders: UnboundedSender<Order>,
    seen: UnboundedReceiver<(i64, Seen)>,
    last_id: i64,
}

enum Order {
    Watch(WatchCreateRequest),
    Progress,
}

impl Watches {
    /// `require_leader` ends the stream of a member that has lost the others.
    pub fn new(client: &Client, require_leader: bool) -> Self {
        let (orders, taken) = unbounded_channel();
        let (told, seen) = unbounded_channel();
        let task = Task { client: client.clone(), require_leader, orders: taken, told, watches: BTreeMap::new(), stream: None };
        tokio::task::spawn_local(task.run());
        Self { orders, seen, last_id: 0 }
    }

    /// Begins a watch, and returns by which number it is told of.
    pub fn add(&mut self, mut request: WatchCreateRequest) -> i64 {
        self.last_id += 1;
        request.watch_id = self.last_id;
        // The task ends only after this.
        let _ = self.orders.send(Order::Watch(request));
        self.last_id
    }

    /// Asks how far all watches have got.
    pub fn progress(&self) {
        let _ = self.orders.send(Order::Progress);
    }

    /// What comes next, and of which watch.
    pub async fn next(&mut self) -> Option<(i64, Seen)> {
        self.seen.recv().await
    }

    /// The same for who has only one watch: the answer, or why there are no more.
    pub async fn answer(&mut self) -> Result<WatchResponse, Failure> {
        match self.next().await {
            Some((_, Seen::Answer(response, None))) => Ok(response),
            Some((_, Seen::Answer(_, Some(why)))) => Err(Failure::error(why)),
            Some((_, Seen::End)) | None => Err(Failure::error("watch is canceled by the server")),
        }
    }
}

struct Task {
    client: Client,
    require_leader: bool,
    orders: UnboundedReceiver<Order>,
    told: UnboundedSender<(i64, Seen)>,
    /// With the revision they would go on from.
    watches: BTreeMap<i64, WatchCreateRequest>,
    stream: Option<Stream>,
}

struct Stream {
    requests: UnboundedSender<WatchRequest>,
    answers: Streaming<WatchResponse>,
}

impl Task {
    async fn run(mut self) {
        loop {
            let message = match &mut self.stream {
                None => None,
                Some(stream) => tokio::select! {
                    order = self.orders.recv() => match order {
                        Some(order) => {
                            let request = request(&order);
                            if let Order::Watch(watch) = order {
                                self.watches.insert(watch.watch_id, watch);
                            }
                            // If the stream has ended, its answers say so.
                            let _ = stream.requests.send(request);
                            continue;
                        }
                        None => return,
                    },
                    message = stream.answers.message() => Some(message),
                },
            };
            let wrong = match message {
                None => {
                    let Some(order) = self.orders.recv().await else { return };
                    self.open(Some(order)).await
                }
                Some(Ok(Some(response))) => {
                    self.take(response);
                    Ok(())
                }
                Some(Ok(None)) => self.reopen(None).await,
                Some(Err(status)) => self.reopen(Some(status)).await,
            };
            if let Err(status) = wrong {
                self.end(&status);
                return;
            }
        }
    }

    /// Opens a stream with all watches on it, and with `order` first.
    async fn open(&mut self, order: Option<Order>) -> Result<(), Status> {
        let mut order = order;
        loop {
            let (requests, sent) = unbounded_channel();
            if let Some(order) = order.take() {
                match order {
                    Order::Watch(watch) => drop(self.watches.insert(watch.watch_id, watch)),
                    Order::Progress => drop(requests.send(request(&Order::Progress))),
                }
            }
            for watch in self.watches.values() {
                // The other end is right here.
                let _ = requests.send(request(&Order::Watch(watch.clone())));
            }
            let wire = self.client.wire(self.require_leader).await;
            let mut service = WatchClient::new(wire).max_decoding_message_size(self.client.ways().response_bytes);
            match service.watch(UnboundedReceiverStream::new(sent)).await {
                Ok(response) => {
                    self.stream = Some(Stream { requests, answers: response.into_inner() });
                    return Ok(());
                }
                Err(status) => self.recover(status).await?,
            }
        }
    }

    async fn reopen(&mut self, status: Option<Status>) -> Result<(), Status> {
        self.stream = None;
        let status = status.unwrap_or_else(|| Status::unavailable("the stream has ended"));
        self.recover(status).await?;
        self.open(None).await
    }

    /// Waits a little where another attempt may help; passes on what it may not help against.
    async fn recover(&mut self, status: Status) -> Result<(), Status> {
        let halted = known(status.message()) == Some(Error::NoLeader);
        if halted || !(unavailable(&status) || status.code() == Code::Internal) {
            return Err(status);
        }
        self.client.next_endpoint();
        sleep(PAUSE).await;
        // A failure shows when the stream is opened.
        let _ = self.client.renew().await;
        Ok(())
    }

    fn take(&mut self, response: WatchResponse) {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if response.watch_id == EVERYBODY && !response.canceled {
            for id in self.watches.keys() {
                self.tell(*id, Seen::Answer(response.clone(), None));
            }
            return;
        }
        let id = response.watch_id;
        if response.created && response.canceled {
            self.refuse(id, &response.cancel_reason);
            return;
        }
        let Some(watch) = self.watches.get_mut(&id) else { return };
        if response.created {
            // What happens before the first event must not be lost with the stream.
            if watch.start_revision == 0 {
                watch.start_revision = revision;
            }
            return;
        }
        if response.canceled {
            self.watches.remove(&id);
            if response.compact_revision != 0 {
                self.tell(id, Seen::Answer(response, Some(Error::Compacted.text().into())));
            }
            self.tell(id, Seen::End);
            return;
        }
        let last = response.events.last().and_then(|event| event.kv.as_ref()).map(|kv| kv.mod_revision);
        watch.start_revision = last.unwrap_or(revision) + 1;
        self.tell(id, Seen::Answer(response, None));
    }

    /// A watch that did not come to be. A server may name it by no number.
    fn refuse(&mut self, id: i64, why: &str) {
        let id = if self.watches.contains_key(&id) { Some(id) } else { self.watches.keys().next_back().copied() };
        let Some(id) = id else { return };
        self.watches.remove(&id);
        self.tell(id, canceled(why.to_owned()));
        self.tell(id, Seen::End);
    }

    fn end(&mut self, status: &Status) {
        for id in std::mem::take(&mut self.watches).into_keys() {
            self.tell(id, canceled(describe(status)));
            self.tell(id, Seen::End);
        }
    }

    fn tell(&self, id: i64, seen: Seen) {
        // Who does not listen any more ends this task with its next order.
        let _ = self.told.send((id, seen));
    }
}

/// What etcd's client makes of a watch that its stream took along.
fn canceled(why: String) -> Seen {
    let header = Some(ResponseHeader::default());
    Seen::Answer(WatchResponse { header, canceled: true, ..WatchResponse::default() }, Some(why))
}

fn request(order: &Order) -> WatchRequest {
    let union = match order {
        Order::Watch(watch) => RequestUnion::CreateRequest(watch.clone()),
        Order::Progress => RequestUnion::ProgressRequest(WatchProgressRequest {}),
    };
    WatchRequest { request_union: Some(union) }
}
