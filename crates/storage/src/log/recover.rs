//! Reads all segments when the log is opened. A write that a crash tore is the last one, for each is synced
//! before the next one begins: it is cut off. Anything else that cannot be read is damage, and refused.
//!
//! What can be read need not be on disk: the process may have died, or given up, between a write and its sync.
//! So the last frame is written and synced again before anybody builds on it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::contents::{Contents, Place};
use super::frame::{self, Record};
use super::segment::{self, FRAMES_AT, Header, damaged, failed};
use super::{LogError, spare};

/// Where writing goes on.
pub(super) struct End {
    path: PathBuf,
    pub(super) file: File,
    pub(super) header: Header,
    pub(super) size: usize,
    /// Where the next frame goes, and its number.
    pub(super) offset: usize,
    pub(super) next_frame: u64,
    /// The last frame, and what a torn one has left behind it.
    last: Vec<u8>,
    torn: Range<usize>,
}

/// Files are kept in memory in pieces of so many bytes.
const PAGE: usize = 4096;

/// The segments of a log in order. What never became one is removed.
fn segments(dir: &Path) -> Result<Vec<(u64, PathBuf)>, LogError> {
    let mut found = Vec::new();
    let entries = fs::read_dir(dir).map_err(|e| failed("list", dir, &e))?;
    for entry in entries {
        let path = entry.map_err(|e| failed("list", dir, &e))?.path();
        if spare::is_spare(&path) {
            fs::remove_file(&path).map_err(|e| failed("remove", &path, &e))?;
        } else if let Some(sequence) = segment::sequence_of(&path) {
            found.push((sequence, path));
        } else {
            return Err(damaged(&path, "it is not a file of the log"));
        }
    }
    found.sort_unstable();
    for pair in found.windows(2) {
        let expected = pair[0].0 + 1;
        if pair[1].0 != expected {
            return Err(damaged(&segment::path(dir, expected), "it is missing"));
        }
    }
    Ok(found)
}

/// Reads the log in `dir` into `contents`; `None` if it was never written to.
pub(super) fn recover(dir: &Path, sync: bool, contents: &mut Contents) -> Result<Option<End>, LogError> {
    let mut end: Option<End> = None;
    for (sequence, path) in segments(dir)? {
        let bytes = fs::read(&path).map_err(|e| failed("read", &path, &e))?;
        let Some(header) = Header::decode(&bytes).filter(|header| header.sequence == sequence) else {
            return Err(damaged(&path, "its header cannot be read"));
        };
        match &end {
            None => contents.oldest_segment = sequence,
            // A segment is begun once all of the one before is on disk.
            Some(before) if before.next_frame != header.first_frame || !before.torn.is_empty() => {
                return Err(damaged(&before.path, &format!("what follows byte {} cannot be read", before.offset)));
            }
            Some(_) => {}
        }
        contents.active_segment = sequence;
        let (last, next_frame) = replay(&path, &bytes, &header, contents)?;
        let offset = last.end;
        let torn = offset..bytes[offset..].iter().rposition(|byte| *byte != 0).map_or(offset, |at| offset + at + 1);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(|e| failed("open", &path, &e))?;
        if !torn.is_empty() && !frame::is_torn(&bytes, header.salt, offset, next_frame) {
            return Err(damaged(&path, &format!("what lies at byte {offset} cannot be read, and no crash has left it so")));
        }
        // Whole pages: one that failed to be written holds more than the frame.
        let last = bytes[last.start / PAGE * PAGE..last.end].to_vec();
        end = Some(End { path, file, header, size: bytes.len(), offset, next_frame, last, torn });
    }
    if let Some(end) = &end {
        end.settle(dir, sync).map_err(|e| failed("write", &end.path, &e))?;
    }
    Ok(end)
}

impl End {
    /// Makes sure that what was read is on disk, and that nothing of a torn frame is taken for something else later.
    fn settle(&self, dir: &Path, sync: bool) -> io::Result<()> {
        if !self.torn.is_empty() {
            self.file.write_all_at(&vec![0; self.torn.len()], self.torn.start as u64)?;
            let (file, offset) = (self.path.display(), self.offset);
            tracing::warn!(%file, offset, "a write that a crash cut short, and nobody was told of, was removed from the raft log");
        }
        self.file.write_all_at(&self.last, (self.offset - self.last.len()) as u64)?;
        if sync {
            self.file.sync_data()?;
            segment::sync_dir(dir)?;
        }
        Ok(())
    }
}

/// Replays the frames of a segment; answers where the last one lies, and the number after it.
fn replay(path: &Path, bytes: &[u8], header: &Header, contents: &mut Contents) -> Result<(Range<usize>, u64), LogError> {
    let (mut offset, mut number) = (FRAMES_AT, header.first_frame);
    let mut last = None;
    while let Some(frame) = frame::read(bytes, header.salt, offset).filter(|frame| frame.number == number) {
        for record in frame::records(bytes, &frame) {
            let sound = match record {
                Some(Record::Entry { index, row }) => {
                    let place = Place {
                        segment: header.sequence,
                        offset: row.start as u64,
                        length: row.len() as u32,
                        checksum: crc32c::crc32c(&bytes[row]),
                    };
                    contents.append(index, place)
                }
                Some(Record::Mark { name, value }) => {
                    contents.set_mark(name, value.to_vec());
                    true
                }
                Some(Record::Truncate { index }) => {
                    contents.truncate_from(index);
                    true
                }
                Some(Record::Purge { index }) => {
                    contents.purge_to(index);
                    true
                }
                None => false,
            };
            if !sound {
                return Err(damaged(path, &format!("the records at byte {offset} make no sense")));
            }
        }
        last = Some(offset..frame.end);
        (offset, number) = (frame.end, number + 1);
    }
    if frame::any_after(bytes, header.salt, offset, number) {
        return Err(damaged(path, &format!("what lies at byte {offset} cannot be read, and there is more behind it")));
    }
    // The first frame is on disk before its file becomes a segment.
    let last = last.ok_or_else(|| damaged(path, "its first frame cannot be read"))?;
    Ok((last, number))
}

#[cfg(test)]
mod fuzz;
