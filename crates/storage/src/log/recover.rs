//! Reads all segments when the log is opened. A write that a crash tore is the last one, for each is synced
//! before the next one begins: it is cut off. Anything else that cannot be read is damage, and refused.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::contents::{Contents, Place};
use super::frame::{self, Record};
use super::segment::{self, FRAMES_AT, Header, damaged, failed};
use super::{LogError, spare};

/// Where writing goes on.
pub(super) struct End {
    pub(super) file: File,
    pub(super) header: Header,
    pub(super) size: usize,
    /// Where the next frame goes, and its number.
    pub(super) offset: usize,
    pub(super) next_frame: u64,
}

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
pub(super) fn recover(dir: &Path, contents: &mut Contents) -> Result<Option<End>, LogError> {
    let segments = segments(dir)?;
    let mut end: Option<(PathBuf, End)> = None;
    for (sequence, path) in segments {
        let bytes = fs::read(&path).map_err(|e| failed("read", &path, &e))?;
        let Some(header) = Header::decode(&bytes).filter(|header| header.sequence == sequence) else {
            return Err(damaged(&path, "its header cannot be read"));
        };
        match &end {
            None => contents.oldest_segment = sequence,
            // A segment is begun once all of the one before is on disk.
            Some((before, end)) if end.next_frame != header.first_frame => {
                return Err(damaged(before, &format!("what follows byte {} cannot be read", end.offset)));
            }
            Some(_) => {}
        }
        contents.active_segment = sequence;
        let (offset, next_frame) = replay(&path, &bytes, &header, contents)?;
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(|e| failed("open", &path, &e))?;
        if let Some(torn) = bytes[offset..].iter().rposition(|byte| *byte != 0) {
            erase(&file, offset, torn + 1).map_err(|e| failed("write", &path, &e))?;
            tracing::warn!(file = %path.display(), offset, "a write that a crash cut short, and nobody was told of, was removed from the raft log");
        }
        end = Some((path, End { file, header, size: bytes.len(), offset, next_frame }));
    }
    Ok(end.map(|(_, end)| end))
}

/// Replays the frames of a segment; answers where they end, and the number after the last one.
fn replay(path: &Path, bytes: &[u8], header: &Header, contents: &mut Contents) -> Result<(usize, u64), LogError> {
    let (mut offset, mut number) = (FRAMES_AT, header.first_frame);
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
        (offset, number) = (frame.end, number + 1);
    }
    if frame::any_after(bytes, header.salt, offset, number) {
        return Err(damaged(path, &format!("what lies at byte {offset} cannot be read, and there is more behind it")));
    }
    Ok((offset, number))
}

/// Zeros for a torn frame: bytes of it must not be taken for something else later.
fn erase(file: &File, offset: usize, length: usize) -> std::io::Result<()> {
    file.write_all_at(&vec![0; length], offset as u64)?;
    file.sync_data()
}
