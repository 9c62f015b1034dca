//! Makes the log fit a state that came from another member, before that state is put in place.

use std::io;
use std::path::Path;
use std::sync::mpsc;

use keelson_state::Position;

use crate::codec;
use crate::disk::{Done, LogDisk};
use crate::log::PURGED;

pub(crate) fn finished(start: impl FnOnce(Done)) -> io::Result<()> {
    let (done, result) = mpsc::channel();
    // Nobody else is there to receive, so the send cannot fail.
    start(Box::new(move |r| drop(done.send(r))));
    result.recv().map_err(io::Error::other)?.map_err(io::Error::other)
}

/// Lets go of all entries that `position` makes obsolete. What follows it is kept only if the log has
/// exactly the entry of that position: anything else came from a leader that was not followed.
///
/// `Ok(false)` when this member has got beyond that position by itself while the state was on its way, and let go of
/// the entries up to there: the state must not be put in place. Entries that were promised to the leader would go.
pub fn fit_log(log: &dyn LogDisk, position: &Position) -> io::Result<bool> {
    let at = position.index;
    let id = codec::log_id(position.term, at);
    let purged = log.mark(PURGED).map(|row| codec::decode_log_id(&row)).transpose()?;
    if purged.as_ref().is_some_and(|purged| purged.index > at) {
        return Ok(false);
    }
    let same = purged.as_ref() == Some(&id)
        || match log.read(at..at + 1, usize::MAX).map_err(io::Error::other)?.pop() {
            Some((index, row)) => codec::decode_entry(index, row)?.log_id == id,
            None => false,
        };
    if !same {
        finished(|done| log.truncate_from(0, done))?;
    }
    finished(|done| log.purge(at, PURGED, codec::encode_log_id(&id), done))?;
    Ok(true)
}

/// Checks that the log reaches at least to where the state stands: nothing is applied before it is on disk.
pub fn check_reach(log: &dyn LogDisk, position: &Position) -> io::Result<()> {
    let purged = log.mark(PURGED).map(|row| codec::decode_log_id(&row)).transpose()?.map(|id| id.index);
    let last = log.bounds().last.max(purged).unwrap_or(0);
    if last < position.index {
        return Err(io::Error::other(format!(
            "the raft log is damaged: it ends at entry {last}, and the state has {} of it. Acknowledged writes and votes may \
             be gone: remove this member, empty its data directory and add it again, or restore a backup",
            position.index
        )));
    }
    Ok(())
}

/// Checks that the log goes on from where the state stands: it lets go only of what the state in `path` has on disk.
pub fn check_state(log: &dyn LogDisk, position: &Position, path: &Path) -> io::Result<()> {
    let purged = log.mark(PURGED).map(|row| codec::decode_log_id(&row)).transpose()?.map_or(0, |id| id.index);
    if purged > position.index {
        return Err(io::Error::other(format!(
            "the state store {} is damaged: it ends at entry {} of the raft log, and once had {purged} of it on disk. \
             Acknowledged writes are gone: remove this member, empty its data directory and add it again, or restore a backup",
            path.display(),
            position.index
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use keelson_storage::LogStore;
    use openraft::EntryPayload;

    use super::*;
    use crate::types::RaftEntry;

    fn row(term: u64, index: u64) -> (u64, Bytes) {
        (index, codec::encode_entry(&RaftEntry { log_id: codec::log_id(term, index), payload: EntryPayload::Blank }))
    }

    /// A log with entries of term 2 in `from..to`, what is before purged.
    fn log(dir: &tempfile::TempDir, from: u64, to: u64) -> LogStore {
        let log = LogStore::open(dir.path(), false, Arc::new(|_| {})).unwrap();
        let rows = (from..to).map(|index| row(2, index)).collect();
        finished(|done| LogDisk::append(&log, rows, done)).unwrap();
        if from > 1 {
            let purged = codec::encode_log_id(&codec::log_id(2, from - 1));
            finished(|done| LogDisk::purge(&log, from - 1, PURGED, purged, done)).unwrap();
        }
        log
    }

    fn at(term: u64, index: u64) -> Position {
        Position { term, index, membership: None }
    }

    fn left(log: &LogStore) -> (Option<u64>, Option<u64>) {
        let bounds = log.bounds();
        (bounds.first, bounds.last)
    }

    #[test]
    fn what_follows_an_arrived_state_is_kept_only_if_it_follows_from_it() {
        for (position, kept) in [(at(2, 5), Some(9)), (at(1, 5), None), (at(2, 20), None)] {
            let dir = tempfile::tempdir().unwrap();
            let log = log(&dir, 1, 10);
            // A second time too: the process may have died before the state was put in place.
            for _ in 0..2 {
                assert!(fit_log(&log, &position).unwrap());
                assert_eq!(left(&log), (kept.map(|_| 6), kept), "{position:?}");
            }
        }
    }

    #[test]
    fn a_state_that_the_log_has_left_behind_takes_nothing_from_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(&dir, 8, 12);
        assert!(!fit_log(&log, &at(2, 5)).unwrap());
        assert_eq!(left(&log), (Some(8), Some(11)));
        assert!(fit_log(&log, &at(2, 7)).unwrap());
        assert_eq!(left(&log), (Some(8), Some(11)));
    }

    #[test]
    fn a_log_that_ends_before_the_state_has_lost_something() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(&dir, 8, 12);
        check_reach(&log, &at(2, 11)).unwrap();
        assert!(check_reach(&log, &at(2, 12)).unwrap_err().to_string().contains("is damaged"));
        let (empty, only_purged) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let empty = self::log(&empty, 1, 1);
        check_reach(&empty, &Position::default()).unwrap();
        check_reach(&empty, &at(2, 1)).unwrap_err();
        check_reach(&self::log(&only_purged, 8, 8), &at(2, 7)).unwrap();
    }

    #[test]
    fn a_state_that_ends_before_the_log_begins_has_lost_something() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(&dir, 8, 12);
        let path = Path::new("/data/state");
        check_state(&log, &at(2, 7), path).unwrap();
        for position in [at(2, 6), Position::default()] {
            let text = check_state(&log, &position, path).unwrap_err().to_string();
            assert!(text.contains("/data/state is damaged") && text.contains("had 7 of it"), "{text}");
        }
        let begun = tempfile::tempdir().unwrap();
        check_state(&self::log(&begun, 1, 1), &Position::default(), path).unwrap();
    }
}
