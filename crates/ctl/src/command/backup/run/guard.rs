//! One writer for each log, as far as that can be had from a store without locks: each leaves its mark, and looks whose mark it
//! replaces. Two do no harm, but twice the work; so one of them ends.

use std::time::Duration;

use jiff::Timestamp;
use keelson_snapshot::backup::{Mark, Store};
use tokio::time::Instant;

use super::Stop;
use crate::command::backup::failed;

/// How often a mark is left, in uploads.
const EVERY: u32 = 3;

pub(super) struct Guard {
    id: String,
    writer: String,
    every: Duration,
    last: Option<Instant>,
    seen: Seen,
}

/// What is known of the mark in the store.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// Nothing yet.
    Nothing,
    /// This one, which somebody else left.
    Foreign(Mark),
    /// It was this writer's.
    Own,
}

/// What is to be done about the mark that was found.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Replace,
    /// The backup has been deleted.
    Gone,
    /// Somebody else is writing, who goes on.
    Rival,
}

impl Seen {
    /// Takes what is in the store now.
    fn take(&mut self, writer: &str, found: Option<Mark>) -> Found {
        let Some(mark) = found else {
            return if *self == Seen::Nothing { Found::Replace } else { Found::Gone };
        };
        if mark.writer == writer {
            *self = Seen::Own;
            return Found::Replace;
        }
        match self {
            // Left by one that may be dead: whether it moves will be seen.
            Seen::Nothing => {
                *self = Seen::Foreign(mark);
                Found::Replace
            }
            Seen::Foreign(known) if *known == mark => Found::Replace,
            // It moves. Of two that see each other, the one with the higher name ends.
            _ if mark.writer.as_str() < writer => Found::Rival,
            _ => Found::Replace,
        }
    }
}

impl Guard {
    pub(super) fn of(id: &str, writer: &str, every: Duration) -> Self {
        let every = every.saturating_mul(EVERY);
        Self { id: id.to_owned(), writer: writer.to_owned(), every, last: None, seen: Seen::Nothing }
    }

    /// Leaves the mark that `revision` was the newest at `time`, if it is time for one. It is checked then that the backup is
    /// still there, and nobody else's.
    pub(super) async fn mark(&mut self, store: &Store, revision: i64, time: Timestamp) -> Result<(), Stop> {
        if self.last.is_some_and(|last| last.elapsed() < self.every) {
            return Ok(());
        }
        let found = Mark::read(store, &self.id).await.map_err(failed)?;
        match self.seen.take(&self.writer, found) {
            Found::Replace => {}
            Found::Gone => return Err(Stop::Over(format!("backup {} has been deleted", self.id))),
            Found::Rival => {
                let id = &self.id;
                let why = format!("another \"backup run\" writes the log of backup {id}: one is enough, so this one ends");
                return Err(Stop::Rival(why));
            }
        }
        let mark = Mark { revision, time, writer: self.writer.clone() };
        mark.write(store, &self.id).await.map_err(failed)?;
        if self.seen == Seen::Nothing {
            self.seen = Seen::Own;
        }
        self.last = Some(Instant::now());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(writer: &str, revision: i64) -> Option<Mark> {
        Some(Mark { revision, time: Timestamp::UNIX_EPOCH, writer: writer.into() })
    }

    #[test]
    fn a_mark_that_stays_is_of_a_dead_writer_and_one_that_moves_of_a_rival() {
        let mut seen = Seen::Nothing;
        assert_eq!(seen.take("m", mark("a", 1)), Found::Replace);
        assert_eq!(seen.take("m", mark("m", 2)), Found::Replace);
        assert_eq!(seen.take("m", mark("a", 3)), Found::Rival);
        assert_eq!(seen.take("m", mark("z", 3)), Found::Replace, "the other one ends");
        assert_eq!(seen.take("m", None), Found::Gone);

        let mut seen = Seen::Nothing;
        assert_eq!(seen.take("m", mark("a", 1)), Found::Replace);
        assert_eq!(seen.take("m", mark("a", 1)), Found::Replace, "its own mark was lost on its way");
        assert_eq!(seen.take("m", mark("a", 2)), Found::Rival);
        assert_eq!(Seen::Nothing.take("m", None), Found::Replace);
    }
}
