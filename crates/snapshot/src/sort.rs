//! Puts changes in the order of their revisions: a state has them in the order of their keys, and they may be more than
//! fit into memory. They are collected in runs; a run that is full is sorted and written to a file without a name, which
//! is gone when the process is. Then all runs are read at once, a little of each. What fits into one run never
//! touches the disk.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::mem;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Bytes of a run.
const RUN: usize = 32 << 20;
/// Bytes of all runs that are in memory while they are read, and of one at least.
const READ: usize = 32 << 20;
const MIN_READ: usize = 16 << 10;
/// Bytes before each row in the file: its revision, and its length with a bit for a delete.
const HEADER: usize = 8 + 4 + 4;
const DELETE: u32 = 1 << 31;

/// A change: where it was made, and what was written there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Number of the transaction.
    pub main: i64,
    /// Number of the change within it.
    pub sub: u32,
    /// It is a delete.
    pub is_delete: bool,
    /// Its `mvccpb.KeyValue`.
    pub kv: Vec<u8>,
}

/// A change in the run at hand: where it was made, and where its bytes are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    main: i64,
    sub: u32,
    at: u32,
    len: u32,
}

/// Collects changes in any order.
pub struct Sorter {
    folder: PathBuf,
    limit: usize,
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    spool: Option<File>,
    /// Where each run ends in the file.
    ends: Vec<u64>,
}

fn too_large<E>(_: E) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "a value is too large to be sorted")
}

impl Sorter {
    /// Begins; a file that is needed is made in `folder`.
    pub fn new(folder: PathBuf) -> Self {
        Self::with_runs_of(RUN, folder)
    }

    fn with_runs_of(limit: usize, folder: PathBuf) -> Self {
        Self { folder, limit, entries: Vec::new(), bytes: Vec::new(), spool: None, ends: Vec::new() }
    }

    /// Adds a change. `may_write` is asked before so many bytes are written to the file.
    pub fn add<E: From<io::Error>>(
        &mut self,
        (main, sub, is_delete): (i64, u32, bool),
        kv: &[u8],
        may_write: impl FnOnce(usize) -> Result<(), E>,
    ) -> Result<(), E> {
        let room = self.bytes.len() + self.entries.len() * HEADER + kv.len();
        if room > self.limit && !self.entries.is_empty() {
            may_write(room)?;
            self.write_run()?;
        }
        let at = u32::try_from(self.bytes.len()).map_err(too_large)?;
        let len = u32::try_from(kv.len()).ok().filter(|len| len & DELETE == 0).ok_or(()).map_err(too_large)?;
        self.bytes.extend_from_slice(kv);
        self.entries.push(Entry { main, sub, at, len: if is_delete { len | DELETE } else { len } });
        Ok(())
    }

    fn write_run(&mut self) -> io::Result<()> {
        let spool = match self.spool.take() {
            Some(spool) => spool,
            None => tempfile::tempfile_in(&self.folder)?,
        };
        self.entries.sort_unstable();
        let mut out = BufWriter::with_capacity(1 << 20, &spool);
        let mut end = self.ends.last().copied().unwrap_or(0);
        for entry in self.entries.drain(..) {
            let mut header = [0; HEADER];
            header[..8].copy_from_slice(&entry.main.to_be_bytes());
            header[8..12].copy_from_slice(&entry.sub.to_be_bytes());
            header[12..].copy_from_slice(&entry.len.to_be_bytes());
            let kv = &self.bytes[entry.at as usize..][..(entry.len & !DELETE) as usize];
            out.write_all(&header)?;
            out.write_all(kv)?;
            end += (HEADER + kv.len()) as u64;
        }
        out.flush()?;
        drop(out);
        self.bytes.clear();
        self.ends.push(end);
        self.spool = Some(spool);
        Ok(())
    }

    /// Everything that was added, in order.
    pub fn finish(mut self) -> io::Result<Sorted> {
        self.entries.sort_unstable();
        let begins = [0].into_iter().chain(self.ends.iter().copied());
        let buffer = (READ / self.ends.len().max(1)).max(MIN_READ);
        let runs = begins.zip(&self.ends).map(|(at, end)| Run { at, end: *end, buffer, read: Vec::new(), used: 0 }).collect();
        let last = mem::take(&mut self.entries).into_iter();
        let mut sorted = Sorted { spool: self.spool, runs, heads: BinaryHeap::new(), last, bytes: self.bytes };
        for number in 0..sorted.runs.len() {
            sorted.refill(Source::Run(number))?;
        }
        sorted.refill(Source::Last)?;
        Ok(sorted)
    }
}

/// A run in the file.
struct Run {
    /// What has not been read yet.
    at: u64,
    end: u64,
    buffer: usize,
    /// What was read, and how much of that has been taken.
    read: Vec<u8>,
    used: usize,
}

impl Run {
    /// Revision and length of the next change.
    fn next_head(&mut self, spool: &File) -> io::Result<Option<(i64, u32, u32)>> {
        if self.at == self.end && self.used == self.read.len() {
            return Ok(None);
        }
        if self.read.len() - self.used < HEADER {
            self.read.drain(..self.used);
            self.used = 0;
            let have = self.read.len();
            let left = usize::try_from(self.end - self.at).map_err(too_large)?;
            let more = left.min(self.buffer - have);
            self.read.resize(have + more, 0);
            spool.read_exact_at(&mut self.read[have..], self.at)?;
            self.at += more as u64;
        }
        let header = self.read.get(self.used..).and_then(|rest| rest.first_chunk::<HEADER>());
        let [a, b, c, d, e, f, g, h, s0, s1, s2, s3, l0, l1, l2, l3] = *header.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.used += HEADER;
        let (main, sub) = (i64::from_be_bytes([a, b, c, d, e, f, g, h]), u32::from_be_bytes([s0, s1, s2, s3]));
        Ok(Some((main, sub, u32::from_be_bytes([l0, l1, l2, l3]))))
    }

    /// The bytes of the change whose head has just been read. What of them is not in the buffer does not go through it.
    fn kv(&mut self, spool: &File, len: usize) -> io::Result<Vec<u8>> {
        let buffered = len.min(self.read.len() - self.used);
        let mut kv = self.read[self.used..self.used + buffered].to_vec();
        self.used += buffered;
        kv.resize(len, 0);
        spool.read_exact_at(&mut kv[buffered..], self.at)?;
        self.at += (len - buffered) as u64;
        Ok(kv)
    }
}

/// Where a change comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Run(usize),
    /// The last run, which never left memory.
    Last,
}

/// The next change of a source: its revision, and its length with a bit for a delete. Its bytes stay where they are:
/// there may be many sources, and changes may be large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    main: i64,
    sub: u32,
    source: Source,
    len: u32,
    /// Where it is in memory.
    at: u32,
}

/// Changes in order.
pub struct Sorted {
    spool: Option<File>,
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<Head>>,
    last: std::vec::IntoIter<Entry>,
    bytes: Vec<u8>,
}

impl Sorted {
    fn refill(&mut self, source: Source) -> io::Result<()> {
        let head = match (source, &self.spool) {
            (Source::Run(number), Some(spool)) => {
                self.runs[number].next_head(spool)?.map(|(main, sub, len)| Head { main, sub, source, len, at: 0 })
            }
            (Source::Run(_), None) => None,
            (Source::Last, _) => self.last.next().map(|Entry { main, sub, at, len }| Head { main, sub, source, len, at }),
        };
        self.heads.extend(head.map(Reverse));
        Ok(())
    }

    /// The next change.
    pub fn next_change(&mut self) -> io::Result<Option<Change>> {
        let Some(Reverse(Head { main, sub, source, len, at })) = self.heads.pop() else { return Ok(None) };
        let (is_delete, len) = (len & DELETE != 0, (len & !DELETE) as usize);
        let kv = match (source, &self.spool) {
            (Source::Run(number), Some(spool)) => self.runs[number].kv(spool, len)?,
            _ => self.bytes[at as usize..][..len].to_vec(),
        };
        self.refill(source)?;
        Ok(Some(Change { main, sub, is_delete, kv }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(i: u64) -> Change {
        let mixed = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let len = usize::try_from(mixed % 3000).unwrap();
        let main = i64::try_from(mixed >> 1).unwrap();
        Change {
            main,
            sub: u32::try_from(i).unwrap(),
            is_delete: i.is_multiple_of(7),
            kv: vec![u8::try_from(i % 256).unwrap(); len],
        }
    }

    fn drain(mut sorted: Sorted) -> Vec<Change> {
        let mut out = Vec::new();
        while let Some(change) = sorted.next_change().unwrap() {
            out.push(change);
        }
        out
    }

    #[test]
    fn changes_come_back_in_order_however_many_runs_they_were_in() {
        let folder = tempfile::tempdir().unwrap();
        let mut want: Vec<Change> = (0..500).map(change).collect();
        want.sort();
        for (limit, writes) in [(1, 499), (50_000, 10), (usize::MAX, 0)] {
            let mut sorter = Sorter::with_runs_of(limit, folder.path().to_owned());
            let mut asked = 0;
            for c in (0..500).map(change) {
                let may_write = |bytes: usize| {
                    assert!(bytes > 0);
                    asked += 1;
                    Ok::<_, io::Error>(())
                };
                sorter.add((c.main, c.sub, c.is_delete), &c.kv, may_write).unwrap();
            }
            assert!(asked >= writes && (writes > 0) == (asked > 0), "{limit}: {asked}");
            assert!(drain(sorter.finish().unwrap()) == want, "{limit}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn nothing_is_written_where_that_is_not_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::with_runs_of(10, folder.path().to_owned());
        let full = |_: usize| Err(io::Error::from(io::ErrorKind::StorageFull));
        sorter.add((2, 0, false), &[0; 20], full).unwrap();
        let refused = sorter.add((3, 0, false), &[0; 20], full).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert!(sorter.spool.is_none());
        assert!(drain(Sorter::new(folder.path().to_owned()).finish().unwrap()).is_empty());
    }
}
