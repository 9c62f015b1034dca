//! Simple tokens: letters that stand for a user as long as they are used now and then. Each member learns them from the log,
//! and forgets them by its own clock; they are in no snapshot and on no disk but the log's, so a member that starts anew
//! knows few of them, and clients sign in again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use keelson_state::TokenChange;
use parking_lot::Mutex;
use rand::Rng;

/// Letters before the dot.
const LETTERS: usize = 16;
const ALPHABET: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// Those that nobody uses any more are thrown out when there are twice as many as after the last time, and at least so many.
const SWEEP: usize = 1024;

struct Token {
    user: String,
    ends: Instant,
}

struct Known {
    by_text: HashMap<String, Token>,
    sweep_at: usize,
}

/// The tokens that are good on this member.
pub struct SimpleTokens {
    ttl: Duration,
    known: Mutex<Known>,
}

/// The letters of a new token.
pub fn new_prefix() -> String {
    let mut random = rand::rng();
    (0..LETTERS).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect()
}

/// The log entry that gave a token, which the token tells after a dot; `None` if this is no token.
pub fn index_of(token: &str) -> Option<u64> {
    let (_, index) = token.split_once('.')?;
    // A sign would be none to Go.
    index.bytes().all(|b| b.is_ascii_digit()).then(|| index.parse().ok()).flatten()
}

impl SimpleTokens {
    /// None yet; each is good for so long after it was last used.
    pub fn new(ttl: Duration) -> Self {
        Self { ttl, known: Mutex::new(Known { by_text: HashMap::new(), sweep_at: SWEEP }) }
    }

    /// Whose token this is. It is good for longer now.
    pub fn user_of(&self, text: &str, now: Instant) -> Option<String> {
        let mut known = self.known.lock();
        let token = known.by_text.get_mut(text).filter(|token| now < token.ends)?;
        token.ends = now + self.ttl;
        Some(token.user.clone())
    }

    /// Follows what the log says of tokens.
    pub fn follow(&self, change: TokenChange, now: Instant) {
        let mut known = self.known.lock();
        match change {
            TokenChange::Given { token, user } => {
                known.by_text.insert(token, Token { user, ends: now + self.ttl });
                if known.by_text.len() >= known.sweep_at {
                    known.by_text.retain(|_, token| now < token.ends);
                    known.sweep_at = SWEEP.max(known.by_text.len() * 2);
                }
            }
            TokenChange::Taken(user) => known.by_text.retain(|_, token| token.user != user),
            TokenChange::AllTaken => known.by_text.clear(),
        }
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(300);

    fn given(tokens: &SimpleTokens, token: &str, user: &str, now: Instant) {
        tokens.follow(TokenChange::Given { token: token.into(), user: user.into() }, now);
    }

    #[test]
    fn a_token_is_good_for_as_long_as_it_is_used() {
        let (tokens, begin) = (SimpleTokens::new(TTL), Instant::now());
        given(&tokens, "a.1", "ann", begin);
        assert_eq!(tokens.user_of("a.1", begin + TTL / 2).as_deref(), Some("ann"));
        assert_eq!(tokens.user_of("a.1", begin + TTL).as_deref(), Some("ann"), "used meanwhile");
        assert_eq!(tokens.user_of("a.1", begin + TTL * 2), None);
        assert_eq!(tokens.user_of("a.2", begin), None);
    }

    #[test]
    fn tokens_are_taken_from_one_user_or_from_all() {
        let (tokens, now) = (SimpleTokens::new(TTL), Instant::now());
        for (token, user) in [("a.1", "ann"), ("a.2", "ann"), ("b.3", "ben")] {
            given(&tokens, token, user, now);
        }
        tokens.follow(TokenChange::Taken("ann".into()), now);
        assert_eq!((tokens.user_of("a.1", now), tokens.user_of("a.2", now)), (None, None));
        assert!(tokens.user_of("b.3", now).is_some());
        tokens.follow(TokenChange::AllTaken, now);
        assert_eq!(tokens.user_of("b.3", now), None);
    }

    #[test]
    fn tokens_that_nobody_uses_do_not_pile_up() {
        let (tokens, begin) = (SimpleTokens::new(TTL), Instant::now());
        for n in 0..u32::try_from(SWEEP).unwrap() * 10 {
            given(&tokens, &format!("a.{n}"), "ann", begin + TTL * n);
        }
        assert!(tokens.known.lock().by_text.len() <= SWEEP);
    }

    #[test]
    fn a_token_tells_its_entry_of_the_log() {
        let prefix = new_prefix();
        assert!(prefix.len() == LETTERS && prefix.bytes().all(|b| b.is_ascii_alphabetic()) && prefix != new_prefix());
        assert_eq!(index_of("abc.17"), Some(17));
        for wrong in ["", "abc", "abc.", "abc.x", "abc.+1", "abc.1.2", "abc.18446744073709551616"] {
            assert_eq!(index_of(wrong), None, "{wrong}");
        }
    }
}
