//! The Watch service: one task per stream, which takes requests, fetches for watchers that have
//! something to fetch, and sends. It fetches only as fast as the client reads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keelson_api::etcdserverpb::watch_request::RequestUnion;
use keelson_api::etcdserverpb::{WatchCreateRequest, WatchRequest};
use keelson_api::{Code, Error};
use keelson_state::Right;
use tokio::sync::{Notify, oneshot};

use super::watch_stream::{Step, WatchStream};
use crate::grpc::{Call, FrameError, Gone, MessageReader, Respond, Sender, Status};
use crate::member::Member;

/// Watchers that are served before requests are looked at again.
const TURN: usize = 64;
/// Turns that a progress notification may wait for its watchers to catch up.
const TURNS_TO_SETTLE: usize = 256;

pub async fn serve(member: Arc<Member>, call: &Call, mut reader: MessageReader, respond: Respond) -> Option<Code> {
    let Ok(sender) = respond.stream() else { return Some(Code::Canceled) };
    member.metrics.watch_streams.inc();
    let ready = Arc::new(Notify::new());
    let stream = WatchStream::new(member.clone(), ready.clone());
    let mut session =
        Session { stream, sender, ready, interval: progress_interval(member.config.progress_interval), member: member.clone() };
    let end = session.run(call, &mut reader, member.leader_lost(call)).await;
    member.metrics.watch_streams.dec();
    match end {
        End::Gone => Some(Code::Canceled),
        End::Refused(status) => session.sender.finish(Err(&status)),
    }
}

/// Up to a tenth is added, so that streams do not all speak at once.
fn progress_interval(interval: Duration) -> tokio::time::Interval {
    let period = interval.mul_f64(1.0 + rand::random_range(0.0..0.1));
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}

/// Whether the caller may read what it wants to watch, now: as in etcd, it is not asked again later.
async fn may_watch(member: &Member, call: &Call, r: &WatchCreateRequest) -> Result<(), Error> {
    let Some(asker) = member.asker(call).await? else { return Ok(()) };
    let key: &[u8] = if r.key.is_empty() { &[0] } else { &r.key[..] };
    member.state.users().check(asker.caller(), Right::Read, key, &r.range_end)
}

enum End {
    Gone,
    Refused(Status),
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

struct Session {
    stream: WatchStream,
    sender: Sender,
    ready: Arc<Notify>,
    interval: tokio::time::Interval,
    member: Arc<Member>,
}

impl Session {
    async fn run(&mut self, call: &Call, reader: &mut MessageReader, leader_lost: impl Future<Output = ()>) -> End {
        let member = self.member.clone();
        let mut leader_lost = std::pin::pin!(leader_lost);
        let mut stopped = std::pin::pin!(member.stopped());
        let mut asks = true;
        loop {
            let result = tokio::select! {
                request = reader.next::<WatchRequest>(), if asks => match request {
                    Ok(Some(request)) => self.request(call, request).await,
                    // Who asks for nothing more still listens.
                    Ok(None) => {
                        asks = false;
                        Ok(())
                    }
                    Err(FrameError::Gone) => return End::Gone,
                    Err(FrameError::Refused(status)) => {
                        member.metrics.stream_failed("watch", &status);
                        return End::Refused(status);
                    }
                },
                () = self.sender.reset(), if !asks => return End::Gone,
                () = self.ready.notified() => self.pump().await,
                _ = self.interval.tick() => self.tick().await,
                () = &mut stopped => return End::Refused(Error::Stopped.into()),
                () = &mut leader_lost => return End::Refused(Error::NoLeader.into()),
            };
            if let Err(end) = result {
                return end;
            }
        }
    }

    async fn send(&mut self, frames: Vec<bytes::Bytes>) -> Result<(), End> {
        for frame in frames {
            self.sender.send_framed(frame).await?;
            self.member.metrics.sent(super::Method::Watch);
        }
        Ok(())
    }

    async fn request(&mut self, call: &Call, request: WatchRequest) -> Result<(), End> {
        let begun = Instant::now();
        self.member.metrics.received(super::Method::Watch);
        let frames = match request.request_union {
            Some(RequestUnion::CreateRequest(r)) => {
                let allowed = may_watch(&self.member, call, &r).await;
                match allowed {
                    // A revision that cannot be is told first.
                    Err(e) if r.start_revision >= 0 => self.stream.forbid(e),
                    _ => self.stream.create(r),
                }
            }
            Some(RequestUnion::CancelRequest(r)) => self.stream.cancel(r.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => {
                return match self.settle().await? {
                    Some(revision) => {
                        let frames = self.stream.progress_of_all(revision);
                        self.send(frames).await
                    }
                    None => Ok(()),
                };
            }
            None => Vec::new(),
        };
        self.send(frames).await?;
        self.member.metrics.watch_loops.requests.observe(begun.elapsed().as_secs_f64());
        Ok(())
    }

    /// Serves watchers until there is nothing to fetch or the turn is over.
    async fn pump(&mut self) -> Result<(), End> {
        let (begun, mut sent, mut left) = (Instant::now(), 0, TURN);
        while left > 0 {
            left -= 1;
            match self.stream.step().await {
                Step::Idle => break,
                Step::Frames(frames, events) => {
                    self.send(frames).await?;
                    sent += events;
                }
                Step::Failed(status) => return Err(End::Refused(status)),
            }
        }
        self.member.metrics.watch_loops.sent(sent, begun.elapsed());
        if left == 0 {
            // More is waiting, but requests have their turn first.
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Sends everything up to the current revision and answers it; `None` if there is more than a turn.
    async fn settle(&mut self) -> Result<Option<i64>, End> {
        let revision = self.member.state.store.revision();
        let (tx, dispatched) = oneshot::channel();
        self.member.hub.when_dispatched(revision, move || {
            // The stream may have ended meanwhile.
            let _ = tx.send(());
        });
        if dispatched.await.is_err() {
            return Ok(None);
        }
        // Newer events may keep coming: what counts is that all up to here has been sent.
        for _ in 0..TURNS_TO_SETTLE {
            if !self.stream.lags(revision) {
                self.ready.notify_one();
                return Ok(Some(revision));
            }
            self.pump().await?;
        }
        Ok(None)
    }

    async fn tick(&mut self) -> Result<(), End> {
        if !self.stream.wants_progress() {
            return Ok(());
        }
        let begun = Instant::now();
        if let Some(revision) = self.settle().await? {
            let frames = self.stream.progress_of_idle(revision);
            self.send(frames).await?;
        }
        self.member.metrics.watch_loops.progress.observe(begun.elapsed().as_secs_f64());
        Ok(())
    }
}
