//! Passwords, which are hashed and compared outside of the log: that takes long on purpose. It is done on blocking threads, a
//! few at a time, so that whoever guesses passwords holds up others who sign in, and nothing else.

use keelson_api::Error;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Passwords that are hashed or compared at once.
const AT_ONCE: usize = 2;
/// Passwords that wait for their turn. Nobody has to be somebody to wait here, so more are refused.
const WAITING: usize = 1024;
/// What bcrypt can tell apart.
const LONGEST: usize = 72;
/// A hash that comes from elsewhere may have taken so much work, which is a few seconds' and twice as much with each step: who
/// signs in would not wait for more, and hold up all others. Members that make dearer ones themselves compare those, too.
const DEAREST: u32 = 16;
/// Beyond this it is no hash, and costs nothing.
const HIGHEST: u32 = 31;

static LINE: Line = Line::new(AT_ONCE, WAITING);

/// Who wants to have a password hashed or compared, one after the other.
struct Line {
    turns: Semaphore,
    places: Semaphore,
}

impl Line {
    const fn new(at_once: usize, waiting: usize) -> Self {
        Self { turns: Semaphore::const_new(at_once), places: Semaphore::const_new(waiting) }
    }

    /// Waits for a turn. Whoever goes away meanwhile gives up its place.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, Error> {
        if let Ok(turn) = self.turns.try_acquire() {
            return Ok(turn);
        }
        let _place = self.places.try_acquire().map_err(|_| Error::TooManyRequests)?;
        self.turns.acquire().await.map_err(|_| Error::Stopped)
    }
}

async fn in_turn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let turn = LINE.turn().await?;
    let work = move || {
        // Held by the thread: it goes on when who waits for it has gone away.
        let _turn = turn;
        work()
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Stopped)
}

/// As much of a password as is compared. The rest, which may be long, is not kept while it waits for its turn.
pub fn significant(password: String) -> Vec<u8> {
    let mut bytes = password.into_bytes();
    bytes.truncate(LONGEST);
    bytes.shrink_to_fit();
    bytes
}

/// Hashes a password.
pub async fn hash(password: String, cost: u32) -> Result<Vec<u8>, Error> {
    if password.len() > LONGEST {
        return Err(Error::PasswordTooLong);
    }
    let hashed = in_turn(move || bcrypt::hash(password, cost)).await?;
    hashed.map(String::into_bytes).map_err(|e| {
        tracing::error!(error = %e, "a password could not be hashed");
        Error::Stopped
    })
}

/// The cost of a hash that would take too long to compare, where hashes of `own_cost` are made.
pub fn too_dear(hash: &[u8], own_cost: u32) -> Option<u32> {
    let cost = std::str::from_utf8(hash).ok()?.parse::<bcrypt::HashParts>().ok()?.get_cost();
    (cost > own_cost.max(DEAREST) && cost <= HIGHEST).then_some(cost)
}

/// Whether this is what is [`significant`] of the password of which that is the hash. What is no hash is nobody's.
pub async fn is_right(password: Vec<u8>, hash: bytes::Bytes) -> Result<bool, Error> {
    in_turn(move || std::str::from_utf8(&hash).is_ok_and(|hash| bcrypt::verify(password, hash).unwrap_or(false))).await
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_password_is_told_from_others_by_its_hash_only() {
        let hashed = hash("secret".into(), 4).await.unwrap();
        assert!(!String::from_utf8_lossy(&hashed).contains("secret"));
        assert!(is_right("secret".into(), hashed.clone().into()).await.unwrap());
        assert!(!is_right("secre".into(), hashed.into()).await.unwrap());
        assert_eq!(hash("x".repeat(73), 4).await, Err(Error::PasswordTooLong));
        for nothing in ["", "secret", "$2b$04$short"] {
            assert!(!is_right(nothing.into(), nothing.into()).await.unwrap());
        }
        let empty = hash(String::new(), 4).await.unwrap();
        assert!(is_right(Vec::new(), empty.into()).await.unwrap());
    }

    #[test]
    fn a_hash_that_would_take_hours_to_compare_is_told_from_others() {
        let hash = |cost: &str| format!("$2a${cost}$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW").into_bytes();
        assert_eq!(too_dear(&hash("31"), 10), Some(31));
        assert_eq!(too_dear(&hash("17"), 10), Some(17));
        for (cost, own_cost) in [("16", 10), ("04", 10), ("20", 20), ("31", 31), ("99", 10)] {
            assert_eq!(too_dear(&hash(cost), own_cost), None, "{cost}");
        }
        assert_eq!(too_dear(b"$2a$31$short", 10), None, "no hash at all");
        assert_eq!(too_dear(&[0xff], 10), None);
    }

    #[tokio::test]
    async fn of_a_long_password_what_bcrypt_can_tell_apart_is_kept_and_compared() {
        assert_eq!(significant("short".into()), b"short");
        let longest = "é".repeat(36);
        assert_eq!(significant(longest.clone() + "more"), longest.as_bytes());
        let hashed = hash(longest.clone(), 4).await.unwrap();
        assert!(is_right(significant(longest + "more"), hashed.clone().into()).await.unwrap());
        assert!(!is_right(significant("e".repeat(72)), hashed.into()).await.unwrap());
    }

    #[test]
    fn who_finds_the_line_full_is_refused_and_who_goes_away_leaves_its_place() {
        let line = Line::new(1, 1);
        let turn = line.turn().now_or_never().unwrap().unwrap();
        let mut waiting = Box::pin(line.turn());
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_eq!(line.turn().now_or_never().unwrap().err(), Some(Error::TooManyRequests));
        drop(waiting);
        let mut next = Box::pin(line.turn());
        assert!(next.as_mut().now_or_never().is_none(), "the place is free");
        drop(turn);
        assert!(next.as_mut().now_or_never().unwrap().is_ok(), "and the turn comes");
    }

    #[tokio::test]
    async fn a_hash_that_etcd_made_is_understood() {
        // Of "U*U", from the vectors that bcrypt was first published with; etcd's library writes the same form.
        let hashed = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        assert!(is_right("U*U".into(), hashed.into()).await.unwrap());
        assert!(!is_right("U*".into(), hashed.into()).await.unwrap());
    }
}
