//! bbolt's file format, as far as etcd's backend uses it: pages of one size, of which the first two say where the rest
//! begins, and buckets, each a B+tree of its own, that are the leaves of one more tree. All integers are little-endian.
//!
//! A *node* is what bbolt calls a page together with its overflow pages: it may have any number of pages that follow
//! one another. A file without a list of its free pages is as good as one with it: etcd writes none.

#[cfg(test)]
mod fuzz;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{Bucket, Database, ReadAt, ReadError};
pub use write::{Extent, Writer};

/// Bytes of a page that is written here. Those of a file that is read are what it says.
pub const PAGE: usize = 4096;
/// Bytes before the elements of a node, and of each element.
const HEADER: usize = 16;
const ELEMENT: usize = 16;

const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const META: u16 = 0x04;
/// A leaf element that holds a bucket.
const IS_BUCKET: u32 = 1;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const NO_FREELIST: u64 = u64::MAX;
/// The transaction that made a file that is written here.
const WRITTEN_HERE: u64 = 2;
/// Bytes of a meta page's content: up to its checksum, and with it.
const META_BODY: usize = 56;
const META_LEN: usize = META_BODY + 8;

/// What the first two pages say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meta {
    page_size: u32,
    /// Where the tree of buckets begins.
    root: u64,
    /// Pages of the file.
    pages: u64,
    /// The page with the higher one counts.
    transaction: u64,
}

/// FNV-1a, 64 bits.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_le_bytes(*b))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b))
}

/// What a node begins with.
fn header(page: u64, flags: u16, count: u16, overflow: u32) -> [u8; HEADER] {
    let mut out = [0; HEADER];
    out[..8].copy_from_slice(&page.to_le_bytes());
    out[8..10].copy_from_slice(&flags.to_le_bytes());
    out[10..12].copy_from_slice(&count.to_le_bytes());
    out[12..].copy_from_slice(&overflow.to_le_bytes());
    out
}

impl Meta {
    fn encode(&self) -> [u8; META_LEN] {
        let mut out = [0; META_LEN];
        for (at, value) in [(0, MAGIC), (4, VERSION), (8, self.page_size)] {
            out[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        // The bucket of buckets counts nothing: its sequence, at 24, stays 0.
        for (at, value) in [(16, self.root), (32, NO_FREELIST), (40, self.pages), (48, self.transaction)] {
            out[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        let sum = checksum(&out[..META_BODY]);
        out[META_BODY..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads what [`Meta::encode`] or bbolt has written; `None` if it is anything else.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let sound = u32_at(bytes, 0)? == MAGIC
            && u32_at(bytes, 4)? == VERSION
            && u64_at(bytes, META_BODY)? == checksum(bytes.get(..META_BODY)?);
        sound.then_some(())?;
        Some(Self {
            page_size: u32_at(bytes, 8)?,
            root: u64_at(bytes, 16)?,
            pages: u64_at(bytes, 40)?,
            transaction: u64_at(bytes, 48)?,
        })
    }
}
