//! Writes the log: some operations become one frame, with one write and one sync, and only then is anybody
//! told. A failed write is never retried: after a failed sync nobody knows what is on disk, so every later
//! operation fails too.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::contents::{Contents, Place};
use super::frame::Builder;
use super::recover::{self, End};
use super::segment::{self, FRAMES_AT, Header, failed};
use super::spare::{self, Fresh, Spares};
use super::waits::LogWaits;
use super::{LogBounds, LogError, LogWrite, SyncObserver};
use crate::failpoint;

/// Marks that wait for something to be written along with: none is worth a write, or waking a thread, of its own.
pub(super) type LazyMarks = Arc<Mutex<BTreeMap<&'static str, Vec<u8>>>>;
pub(super) type Done = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// Number of the first segment, and of the first frame.
const FIRST: u64 = 1;

/// Something to write.
pub(super) enum Op {
    Append { rows: Vec<(u64, Bytes)>, done: Done },
    Mark { name: &'static str, value: Vec<u8>, done: Done },
    TruncateFrom { index: u64, done: Done },
    Purge { index: u64, name: &'static str, value: Vec<u8>, done: Done },
}

impl Op {
    fn into_done(self) -> Done {
        match self {
            Self::Append { done, .. } | Self::Mark { done, .. } | Self::TruncateFrom { done, .. } | Self::Purge { done, .. } => {
                done
            }
        }
    }

    pub(super) fn fail(self, error: &LogError) {
        self.into_done()(Err(error.clone()));
    }

    pub(super) fn size(&self) -> usize {
        match self {
            Self::Append { rows, .. } => rows.iter().map(|(_, row)| row.len()).sum(),
            _ => 0,
        }
    }
}

/// The segment that is written to.
struct Active {
    path: PathBuf,
    file: File,
    header: Header,
    size: usize,
    offset: usize,
}

pub(super) struct Writer {
    dir: PathBuf,
    active: Active,
    next_frame: u64,
    spares: Spares,
    contents: Arc<RwLock<Contents>>,
    lazy: LazyMarks,
    sync: bool,
    observer: SyncObserver,
    waits: Arc<LogWaits>,
    failed: Option<LogError>,
}

impl Writer {
    /// Opens the log in `dir`, or begins one.
    pub(super) fn open(
        dir: &Path,
        sync: bool,
        observer: SyncObserver,
        contents: Arc<RwLock<Contents>>,
        lazy: LazyMarks,
        waits: Arc<LogWaits>,
    ) -> Result<Self, LogError> {
        fs::create_dir_all(dir).map_err(|e| failed("create", dir, &e))?;
        let end = recover::recover(dir, sync, &mut contents.write())?;
        let spares = Spares::start(dir.to_owned()).map_err(|e| failed("prepare segments in", dir, &e))?;
        let (active, next_frame) = match end {
            Some(End { file, header, size, offset, next_frame, .. }) => {
                (Active { path: segment::path(dir, header.sequence), file, header, size, offset }, next_frame)
            }
            None => {
                let fresh = spares.take().map_err(|e| failed("write to", dir, &e))?;
                let header = Header { sequence: FIRST, salt: rand::random(), first_frame: FIRST };
                let active = begin(dir, fresh, header, &mut Builder::new()).map_err(|e| failed("write to", dir, &e))?;
                let mut contents = contents.write();
                (contents.oldest_segment, contents.active_segment) = (FIRST, FIRST);
                (active, FIRST + 1)
            }
        };
        Ok(Self { dir: dir.to_owned(), active, next_frame, spares, contents, lazy, sync, observer, waits, failed: None })
    }

    /// Writes operations as one frame and tells those who wait for them.
    pub(super) fn finish(&mut self, ops: &mut Vec<Op>) {
        let result = self.write(ops);
        for done in ops.drain(..).map(Op::into_done) {
            done(result.clone());
        }
    }

    fn write(&mut self, ops: &[Op]) -> Result<(), LogError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.waits.begin();
        let written = self.try_write(ops);
        self.waits.end();
        written.map_err(|e| {
            let error = LogError(format!("raft log: writing {} failed and must not be retried: {e}", self.active.path.display()));
            tracing::error!(error = %error, "the raft log is closed");
            self.failed = Some(error.clone());
            error
        })
    }

    fn try_write(&mut self, ops: &[Op]) -> io::Result<()> {
        let lazy = std::mem::take(&mut *self.lazy.lock());
        if ops.is_empty() && lazy.is_empty() {
            return Ok(());
        }
        self.check_order(ops)?;
        let mut frame = Builder::new();
        for (name, value) in &lazy {
            frame.mark(name, value);
        }
        let mut rows = Vec::new();
        for op in ops {
            match op {
                Op::Append { rows: appended, .. } => {
                    rows.extend(appended.iter().map(|(index, row)| frame.entry(*index, row)));
                }
                Op::Mark { name, value, .. } => frame.mark(name, value),
                Op::TruncateFrom { index, .. } => frame.truncate(*index),
                Op::Purge { index, name, value, .. } => {
                    frame.purge(*index);
                    frame.mark(name, value);
                }
            }
        }
        if self.active.offset + frame.size() > self.active.size {
            self.begin_segment(frame.size())?;
        }
        failpoint::pass("log-write");
        let begun = Instant::now();
        let bytes = frame.seal(self.active.header.salt, self.next_frame, self.active.offset);
        self.active.file.write_all_at(bytes, self.active.offset as u64)?;
        let write = begun.elapsed();
        failpoint::pass("log-written");
        if self.sync {
            self.active.file.sync_data()?;
        }
        failpoint::pass("log-synced");
        let sync = self.sync.then(|| begun.elapsed().saturating_sub(write));
        (self.observer)(LogWrite { bytes: bytes.len(), write, sync });
        let unneeded = self.note(ops, lazy, rows)?;
        self.active.offset += bytes.len();
        self.next_frame += 1;
        remove(&self.dir, unneeded)
    }

    /// Entries follow each other without a gap. One that does not must not get to disk: no start would go well on it.
    fn check_order(&self, ops: &[Op]) -> io::Result<()> {
        let LogBounds { mut first, mut last } = self.contents.read().bounds();
        for op in ops {
            match op {
                Op::Append { rows, .. } => {
                    for (index, _) in rows {
                        if last.is_some_and(|last| last + 1 != *index) {
                            return Err(io::Error::other(format!("entry {index} does not follow the last one")));
                        }
                        first = first.or(Some(*index));
                        last = Some(*index);
                    }
                }
                Op::TruncateFrom { index, .. } => {
                    last = last
                        .map(|last| last.min(index.saturating_sub(1)))
                        .filter(|last| first.is_some_and(|first| first <= *last && *index > 0));
                }
                Op::Purge { index, .. } => {
                    first = first.map(|first| first.max(index + 1));
                    last = last.filter(|last| last > index);
                }
                Op::Mark { .. } => {}
            }
            if last.is_none() {
                first = None;
            }
        }
        Ok(())
    }

    /// Notes what was written; answers which segments are not needed any more.
    fn note(
        &self,
        ops: &[Op],
        lazy: BTreeMap<&'static str, Vec<u8>>,
        rows: Vec<std::ops::Range<usize>>,
    ) -> io::Result<std::ops::Range<u64>> {
        let mut contents = self.contents.write();
        let mut rows = rows.into_iter();
        for (name, value) in lazy {
            contents.set_mark(name, value);
        }
        for op in ops {
            match op {
                Op::Append { rows: appended, .. } => {
                    for ((index, row), range) in appended.iter().zip(rows.by_ref()) {
                        let place = Place {
                            segment: self.active.header.sequence,
                            offset: (self.active.offset + range.start) as u64,
                            length: range.len() as u32,
                            checksum: crc32c::crc32c(row),
                        };
                        if !contents.append(*index, place) {
                            return Err(io::Error::other(format!("entry {index} does not follow the last one")));
                        }
                    }
                }
                Op::Mark { name, value, .. } => contents.set_mark(name, value.clone()),
                Op::TruncateFrom { index, .. } => contents.truncate_from(*index),
                Op::Purge { index, name, value, .. } => {
                    contents.purge_to(*index);
                    contents.set_mark(name, value.clone());
                }
            }
        }
        Ok(contents.drop_segments())
    }

    /// Goes on in a new segment. Its first frame repeats what is known besides entries, so that those
    /// before it can go.
    fn begin_segment(&mut self, room: usize) -> io::Result<()> {
        let sequence = self.active.header.sequence + 1;
        let header = Header { sequence, salt: rand::random(), first_frame: self.next_frame };
        let mut known = Builder::new();
        let purged = {
            let contents = self.contents.read();
            for (name, value) in contents.marks() {
                known.mark(name, value);
            }
            contents.bounds().first.and_then(|first| first.checked_sub(1))
        };
        if let Some(purged) = purged {
            known.purge(purged);
        }
        let needed = (FRAMES_AT + known.size() + room).next_multiple_of(FRAMES_AT);
        let fresh = if needed > segment::SIZE {
            spare::make(&self.dir, u64::MAX, needed)
        } else {
            // One that could not be made when there was no room for it may be made now.
            self.spares.take().or_else(|_| spare::make(&self.dir, u64::MAX, segment::SIZE))
        };
        self.active = begin(&self.dir, fresh?, header, &mut known)?;
        self.next_frame += 1;
        self.contents.write().active_segment = sequence;
        Ok(())
    }
}

/// Makes a fresh file a segment that begins with `frame`.
fn begin(dir: &Path, fresh: Fresh, header: Header, frame: &mut Builder) -> io::Result<Active> {
    let bytes = frame.seal(header.salt, header.first_frame, FRAMES_AT);
    fresh.file.write_all_at(&header.encode(), 0)?;
    fresh.file.write_all_at(bytes, FRAMES_AT as u64)?;
    fresh.file.sync_data()?;
    failpoint::pass("log-segment");
    let path = segment::path(dir, header.sequence);
    fs::rename(&fresh.path, &path)?;
    segment::sync_dir(dir)?;
    let size = usize::try_from(fresh.file.metadata()?.len()).map_err(io::Error::other)?;
    Ok(Active { path, file: fresh.file, header, size, offset: FRAMES_AT + bytes.len() })
}

/// Oldest first, and durably, so that what is left has no gap.
fn remove(dir: &Path, segments: std::ops::Range<u64>) -> io::Result<()> {
    for sequence in segments {
        fs::remove_file(segment::path(dir, sequence))?;
        segment::sync_dir(dir)?;
    }
    Ok(())
}
