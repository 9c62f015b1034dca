//! Segment files: where frames lie. A segment is written full of zeros before it is used, so that a sync
//! of a frame changes nothing but bytes, and needs no write of the file system's own books.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::LogError;

/// Bytes of a segment. A frame that needs more gets a larger one.
pub(super) const SIZE: usize = 16 << 20;
/// Where the first frame begins: what lies before it is never written again.
pub(super) const FRAMES_AT: usize = 4096;
const MAGIC: &[u8; 8] = b"KEELSLOG";
/// Checksum (4), magic (8), sequence (8), salt (8), number of the first frame (8).
const HEADER: usize = 36;
/// Zeros are written, and synced, in pieces: the log's own syncs go on meanwhile.
const PIECE: usize = 1 << 20;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Segments are numbered without a gap.
    pub(super) sequence: u64,
    /// Goes into the checksums: nothing that was not written as a frame of this segment looks like one.
    pub(super) salt: u64,
    pub(super) first_frame: u64,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        out.extend(MAGIC);
        for number in [self.sequence, self.salt, self.first_frame] {
            out.extend(number.to_be_bytes());
        }
        let checksum = crc32c::crc32c(&out[4..]);
        out[..4].copy_from_slice(&checksum.to_be_bytes());
        out
    }

    pub(super) fn decode(file: &[u8]) -> Option<Self> {
        let header = file.get(..HEADER)?;
        let number = |at: usize| header[at..at + 8].try_into().ok().map(u64::from_be_bytes);
        let checksum = u32::from_be_bytes(header[..4].try_into().ok()?);
        if crc32c::crc32c(&header[4..]) != checksum || &header[4..12] != MAGIC {
            return None;
        }
        Some(Self { sequence: number(12)?, salt: number(20)?, first_frame: number(28)? })
    }
}

/// Where the segment with this number lies.
pub(super) fn path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}.seg"))
}

/// The number in a segment's name.
pub(super) fn sequence_of(path: &Path) -> Option<u64> {
    if path.extension()? != "seg" {
        return None;
    }
    u64::from_str_radix(path.file_stem()?.to_str()?, 16).ok()
}

/// A durable file of `size` zeros.
pub(super) fn zeros(path: &Path, size: usize) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?;
    let piece = vec![0; PIECE.min(size)];
    let mut at = 0;
    while at < size {
        let length = piece.len().min(size - at);
        file.write_all_at(&piece[..length], at as u64)?;
        file.sync_data()?;
        at += length;
    }
    file.sync_all()?;
    Ok(file)
}

/// Makes renames and removals in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// An error about a file of the log.
pub(super) fn failed(what: &str, path: &Path, e: &io::Error) -> LogError {
    LogError(format!("raft log: cannot {what} {}: {e}", path.display()))
}

/// Damage is never repaired: what is gone may have been acknowledged.
pub(super) fn damaged(path: &Path, what: &str) -> LogError {
    LogError(format!(
        "the raft log is damaged: {}: {what}; acknowledged writes may be among what is damaged, so it is not repaired: \
         remove this member, empty its data directory and add it again, or restore a backup",
        path.display()
    ))
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written_or_not_at_all() {
        let header = Header { sequence: 3, salt: 99, first_frame: 12 };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Some(header));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&flipped), None);
        }
        assert_eq!(Header::decode(&bytes[..20]), None);
    }

    #[test]
    fn names_hold_the_number() {
        let path = path(Path::new("/log"), 0x1f);
        assert_eq!(path, Path::new("/log/000000000000001f.seg"));
        assert_eq!(sequence_of(&path), Some(0x1f));
        assert_eq!(sequence_of(Path::new("/log/spare-1")), None);
    }
}
