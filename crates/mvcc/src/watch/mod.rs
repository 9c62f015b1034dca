//! Watching: a ring of recent transactions, an index from keys to the watchers that want them, and
//! replay from the history for watchers that are behind the ring. A watcher is a cursor and a
//! matcher; nothing is queued for it, so a slow one costs nothing but the replay it will need.

mod groups;
mod hub;
mod ring;

pub use hub::{Hub, Replay, Subscription, Wake};
pub use ring::{RingEvent, RingTransaction};
