//! Makes the log fit a state that came from another member, before that state is put in place.

use std::io;
use std::sync::mpsc;

use keelson_state::Position;
use keelson_storage::{LogError, LogStore};

use crate::codec;
use crate::log::PURGED;

type Done = Box<dyn FnOnce(Result<(), LogError>) + Send>;

pub(crate) fn finished(start: impl FnOnce(Done)) -> io::Result<()> {
    let (done, result) = mpsc::channel();
    // Nobody else is there to receive, so the send cannot fail.
    start(Box::new(move |r| drop(done.send(r))));
    result.recv().map_err(io::Error::other)?.map_err(io::Error::other)
}

/// Lets go of all entries that `position` makes obsolete. What follows it is kept only if the log has
/// exactly the entry of that position: anything else came from a leader that was not followed.
pub fn fit_log(log: &LogStore, position: &Position) -> io::Result<()> {
    let at = position.index;
    let same = match log.read(at..at + 1, usize::MAX).map_err(io::Error::other)?.pop() {
        Some((index, row)) => codec::term_of(&codec::decode_entry(index, row)?.log_id) == position.term,
        None => false,
    };
    if !same {
        finished(|done| log.truncate_from(0, done))?;
    }
    let id = codec::log_id(position.term, at);
    finished(|done| log.purge(at, PURGED, codec::encode_log_id(&id), done))
}
