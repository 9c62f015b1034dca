//! Requests that have only half arrived. What is held of them has a common limit: each by itself may be as long as a request
//! may be, and ten thousand clients that all stop in the middle of one would otherwise take all memory.
//!
//! Only what is really held counts, so a request that comes in one piece, as nearly all do, costs nothing here.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use keelson_api::Code;
use tokio::time::{Instant, timeout_at};

use super::status::Status;

/// Bytes of all requests that have only half arrived. Their buffers may be twice as large.
const ROOM: usize = 256 << 20;
/// Within this time the rest has to come: whoever takes more keeps room from others. It is enough for a large request over a
/// slow line.
const REST: Duration = Duration::from_secs(60);

/// The room for requests of clients.
pub static OF_CLIENTS: Room = Room::new(ROOM, REST);

/// Room that requests share while they arrive.
pub struct Room {
    held: AtomicUsize,
    bytes: usize,
    rest: Duration,
}

impl Room {
    /// So much room, for so long.
    pub const fn new(bytes: usize, rest: Duration) -> Self {
        Self { held: AtomicUsize::new(0), bytes, rest }
    }

    /// A share of it, which is nothing yet.
    pub const fn share(&'static self) -> Half {
        Half { room: self, bytes: 0, end: None }
    }
}

/// One request's share. It is given back when the request goes away.
pub struct Half {
    room: &'static Room,
    bytes: usize,
    /// When the rest has to be here.
    end: Option<Instant>,
}

impl Half {
    /// Holds so many bytes from now on, unless that is more than there is room for.
    pub fn hold(&mut self, bytes: usize) -> Result<(), Status> {
        if self.end.is_none() {
            self.end = Some(Instant::now() + self.room.rest);
        }
        let more = bytes.saturating_sub(self.bytes);
        let before = self.room.held.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
        if more > 0 && before + more > self.room.bytes {
            self.give_back();
            let why = "keelson: too many bytes of requests that have only half arrived are held by this member; try again later";
            return Err(Status::new(Code::ResourceExhausted, why));
        }
        Ok(())
    }

    /// Waits for more of the request, which has to be here in time.
    pub async fn in_time<T>(&mut self, more: impl Future<Output = T>) -> Result<T, Status> {
        let end = *self.end.get_or_insert_with(|| Instant::now() + self.room.rest);
        timeout_at(end, more).await.map_err(|_| {
            let seconds = self.room.rest.as_secs();
            let why = format!("keelson: the request has only half arrived, and its rest did not come within {seconds} s");
            Status::new(Code::DeadlineExceeded, why)
        })
    }

    /// Whether the rest should have been here by now.
    pub fn is_overdue(&self) -> bool {
        self.end.is_some_and(|end| end <= Instant::now())
    }

    /// The request has arrived.
    pub fn give_back(&mut self) {
        // Most never held anything.
        if self.bytes > 0 {
            self.room.held.fetch_sub(self.bytes, Ordering::Relaxed);
        }
        (self.bytes, self.end) = (0, None);
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a test has to itself.
    fn room(bytes: usize, rest: Duration) -> &'static Room {
        Box::leak(Box::new(Room::new(bytes, rest)))
    }

    fn held(room: &Room) -> usize {
        room.held.load(Ordering::Relaxed)
    }

    #[test]
    fn who_finds_no_room_is_refused_and_room_comes_back() {
        let room = room(100, Duration::from_secs(60));
        let (mut first, mut second) = (room.share(), room.share());
        first.hold(40).unwrap();
        first.hold(60).unwrap();
        second.hold(40).unwrap();
        assert_eq!(held(room), 100, "each counts as it is");
        let Err(refused) = second.hold(41) else { panic!("there is no more room") };
        assert_eq!(refused.code, Code::ResourceExhausted);
        assert_eq!(held(room), 60, "who is refused keeps nothing");
        first.give_back();
        second.hold(100).unwrap();
        drop((first, second));
        assert_eq!(held(room), 0);
    }

    #[tokio::test]
    async fn a_rest_that_does_not_come_is_not_waited_for() {
        let room = room(100, Duration::from_millis(1));
        let mut half = room.share();
        half.hold(1).unwrap();
        let Err(refused) = half.in_time(std::future::pending::<()>()).await else { panic!("it is over") };
        assert_eq!(refused.code, Code::DeadlineExceeded);
        half.give_back();
        assert!(half.in_time(std::future::ready(())).await.is_ok(), "the next one has its own time");
    }
}
