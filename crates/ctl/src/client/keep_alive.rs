//! Keeping a lease: a third of its time after each answer it is asked for again.

use std::time::Duration;

use keelson_api::Error;
use keelson_api::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

use super::call::{Client, unavailable};
use super::rpc::lease;
use crate::exit::Failure;

/// Before the next attempt.
const PAUSE: Duration = Duration::from_millis(500);

pub struct KeepAlive {
    client: Client,
    id: i64,
    stream: Option<Stream>,
    last: Option<LeaseKeepAliveResponse>,
    /// When the lease is taken for lost.
    deadline: Instant,
}

struct Stream {
    requests: UnboundedSender<LeaseKeepAliveRequest>,
    answers: Streaming<LeaseKeepAliveResponse>,
}

impl KeepAlive {
    pub fn new(client: &Client, id: i64) -> Self {
        let first = client.ways().dial_timeout + Duration::from_secs(1);
        Self { client: client.clone(), id, stream: None, last: None, deadline: Instant::now() + first }
    }

    /// The next answer, when it is time for it. `None` once the lease has ended or cannot be kept.
    pub async fn next(&mut self) -> Option<LeaseKeepAliveResponse> {
        if let Some(last) = &self.last {
            sleep(ttl(last) / 3).await;
        }
        loop {
            match timeout_at(self.deadline, self.ask()).await {
                Ok(Ok(answer)) if answer.ttl <= 0 => return None,
                Ok(Ok(answer)) => {
                    self.deadline = Instant::now() + ttl(&answer);
                    self.last = Some(answer);
                    return Some(answer);
                }
                Ok(Err(_)) => {
                    self.stream = None;
                    self.client.next_endpoint();
                    if timeout_at(self.deadline, sleep(PAUSE)).await.is_err() {
                        return None;
                    }
                }
                Err(_) => return None,
            }
        }
    }

    async fn ask(&mut self) -> Result<LeaseKeepAliveResponse, Status> {
        let request = LeaseKeepAliveRequest { id: self.id };
        let ended = || Status::unavailable("the stream has ended");
        if let Some(stream) = &mut self.stream {
            stream.requests.send(request).map_err(|_| ended())?;
            return stream.answers.message().await?.ok_or_else(ended);
        }
        let (requests, sent) = unbounded_channel();
        requests.send(request).map_err(|_| ended())?;
        let mut service = lease(self.client.wire(false).await, self.client.ways());
        let mut answers = service.lease_keep_alive(UnboundedReceiverStream::new(sent)).await?.into_inner();
        let answer = answers.message().await?.ok_or_else(ended)?;
        self.stream = Some(Stream { requests, answers });
        Ok(answer)
    }

    /// Once, within the limit of the client.
    pub async fn once(client: &Client, id: i64) -> Result<LeaseKeepAliveResponse, Failure> {
        let asked = async {
            loop {
                match KeepAlive::new(client, id).ask().await {
                    Ok(answer) if answer.ttl <= 0 => return Err(Failure::error(Error::LeaseNotFound.text())),
                    Ok(answer) => return Ok(answer),
                    Err(status) if unavailable(&status) || status.code() == Code::Internal => {
                        client.next_endpoint();
                        sleep(PAUSE).await;
                    }
                    Err(status) => return Err(status.into()),
                }
            }
        };
        client.within(asked).await
    }
}

fn ttl(answer: &LeaseKeepAliveResponse) -> Duration {
    Duration::from_secs(answer.ttl.unsigned_abs())
}
