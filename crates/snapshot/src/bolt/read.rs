//! Reads a file bucket by bucket, row by row, with as much memory as the nodes from the root of a bucket to the row at
//! hand take. A file that somebody has damaged, or made up, ends in an error.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::{BRANCH, ELEMENT, HEADER, IS_BUCKET, LEAF, META_LEN, Meta, WRITTEN_HERE, u16_at, u32_at, u64_at};

/// Sizes of pages that bbolt can have chosen: that of the machine.
const SMALLEST_PAGE: u32 = 1 << 10;
const LARGEST_PAGE: u32 = 1 << 24;
/// More than a node with the largest value that a store takes.
const MAX_NODE: u64 = 1 << 30;
/// Levels of a tree; one of this height would have more rows than there can be.
const MAX_DEPTH: usize = 64;
/// What an element of the tree of buckets begins with: where the bucket's tree is, and a sequence.
const BUCKET_HEADER: usize = 16;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ReadError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Damaged(String),
}

fn damaged(what: impl Into<String>) -> ReadError {
    ReadError::Damaged(what.into())
}

/// Bytes that can be read at any place.
pub trait ReadAt {
    /// Fills `buffer` from `at` on.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;
    /// How many bytes there are.
    fn size(&self) -> io::Result<u64>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(buffer, at)
    }
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let from = usize::try_from(at).ok().and_then(|at| self.get(at..)?.get(..buffer.len()));
        buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

/// A file that can be read.
pub struct Database<'a, F: ?Sized> {
    file: &'a F,
    meta: Meta,
}

/// A bucket: a tree of its own, or, if it is small, a node inside of the element that names it.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// What it is called.
    pub name: Vec<u8>,
    root: u64,
    inline: Vec<u8>,
}

/// The bytes of a node.
struct Node {
    bytes: Vec<u8>,
    is_leaf: bool,
    count: usize,
}

struct Element<'a> {
    is_bucket: bool,
    key: &'a [u8],
    value: &'a [u8],
}

impl Node {
    fn new(bytes: Vec<u8>) -> Result<Self, ReadError> {
        let flags = u16_at(&bytes, 8).ok_or_else(|| damaged("a node is too short"))?;
        let count = u16_at(&bytes, 10).ok_or_else(|| damaged("a node is too short"))?;
        match flags {
            LEAF | BRANCH => Ok(Self { bytes, is_leaf: flags == LEAF, count: count.into() }),
            _ => Err(damaged(format!("a node has flags {flags:#x}, and is neither a leaf nor a branch"))),
        }
    }

    fn slice(&self, element: usize, position: u32, len: u32) -> Option<(&[u8], &[u8])> {
        let from = element.checked_add(usize::try_from(position).ok()?)?;
        self.bytes.get(from..)?.split_at_checked(usize::try_from(len).ok()?)
    }

    fn leaf(&self, number: usize) -> Result<Element<'_>, ReadError> {
        let at = HEADER + number * ELEMENT;
        let find = || {
            let field = |n: usize| u32_at(&self.bytes, at + 4 * n);
            let (flags, position, key_len, value_len) = (field(0)?, field(1)?, field(2)?, field(3)?);
            let (key, rest) = self.slice(at, position, key_len)?;
            let value = rest.get(..usize::try_from(value_len).ok()?)?;
            Some(Element { is_bucket: flags & IS_BUCKET != 0, key, value })
        };
        find().ok_or_else(|| damaged("a row goes beyond its node"))
    }

    fn child(&self, number: usize) -> Result<u64, ReadError> {
        let at = HEADER + number * ELEMENT;
        u64_at(&self.bytes, at + 8).ok_or_else(|| damaged("a branch goes beyond its node"))
    }
}

impl<'a, F: ReadAt + ?Sized> Database<'a, F> {
    /// Reads where everything is. What follows the last page, such as a checksum, is not looked at.
    pub fn open(file: &'a F) -> Result<Self, ReadError> {
        let size = file.size()?;
        let at = |place: u64| -> Result<Option<Meta>, ReadError> {
            let mut bytes = [0; META_LEN];
            if place + (HEADER + META_LEN) as u64 > size {
                return Ok(None);
            }
            file.read_at(&mut bytes, place + HEADER as u64)?;
            let fits = |m: &Meta| m.page_size.is_power_of_two() && (SMALLEST_PAGE..=LARGEST_PAGE).contains(&m.page_size);
            Ok(Meta::decode(&bytes).filter(fits))
        };
        let mut meta = at(0)?;
        let sizes = match meta {
            Some(first) => first.page_size..=first.page_size,
            // The second one is at the end of the first page, however large that is.
            None => SMALLEST_PAGE..=LARGEST_PAGE,
        };
        let mut page = *sizes.start();
        while sizes.contains(&page) {
            let second = at(page.into())?.filter(|second| second.page_size == page);
            if second.is_some_and(|second| meta.is_none_or(|first| second.transaction > first.transaction)) {
                meta = second;
            }
            page *= 2;
        }
        let meta = meta.ok_or_else(|| damaged("it does not begin as a database of etcd's does"))?;
        if meta.pages.checked_mul(meta.page_size.into()).is_none_or(|bytes| bytes > size) {
            let Meta { pages, page_size, .. } = meta;
            return Err(damaged(format!("it ends after {size} bytes, and should have {pages} pages of {page_size}")));
        }
        Ok(Self { file, meta })
    }

    /// Whether keelson has written it: bbolt gives that number only to a file that nothing was ever put into.
    #[must_use]
    pub const fn is_keelsons(&self) -> bool {
        self.meta.transaction == WRITTEN_HERE
    }

    /// Bytes of all pages.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.meta.pages * self.meta.page_size as u64
    }

    fn node(&self, page: u64) -> Result<Node, ReadError> {
        let page_size = u64::from(self.meta.page_size);
        let within = |pages: u64| page >= 2 && page.checked_add(pages).is_some_and(|end| end <= self.meta.pages);
        let mut header = [0; HEADER];
        if !within(1) {
            return Err(damaged(format!("page {page} is beyond the {} that there are", self.meta.pages)));
        }
        self.file.read_at(&mut header, page * page_size)?;
        let pages = u64::from(u32_at(&header, 12).unwrap_or_default()) + 1;
        if u64_at(&header, 0) != Some(page) || !within(pages) || pages * page_size > MAX_NODE {
            return Err(damaged(format!("page {page} is not what it should be")));
        }
        let mut bytes = vec![0; usize::try_from(pages * page_size).map_err(io::Error::other)?];
        self.file.read_at(&mut bytes, page * page_size)?;
        Node::new(bytes)
    }

    /// All buckets, ordered by name.
    pub fn buckets(&self) -> Result<Vec<Bucket>, ReadError> {
        let mut buckets = Vec::new();
        self.walk(&self.node(self.meta.root)?, &mut Vec::new(), 0, &mut |element: Element<'_>| {
            let (header, inline) = match element.value.split_at_checked(BUCKET_HEADER) {
                Some(parts) if element.is_bucket => parts,
                _ => return Err(damaged("there is something beside the buckets")),
            };
            let root = u64_at(header, 0).unwrap_or_default();
            let inline = if root == 0 { inline.to_vec() } else { Vec::new() };
            buckets.push(Bucket { name: element.key.to_vec(), root, inline });
            Ok(())
        })?;
        Ok(buckets)
    }

    /// Visits all rows of a bucket in order.
    pub fn visit<E: From<ReadError>>(
        &self,
        bucket: &Bucket,
        mut take: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let root = if bucket.root == 0 { Node::new(bucket.inline.clone())? } else { self.node(bucket.root)? };
        self.walk(&root, &mut Vec::new(), 0, &mut |element: Element<'_>| {
            if element.is_bucket {
                return Err(damaged("there is a bucket inside of a bucket").into());
            }
            take(element.key, element.value)
        })
    }

    /// Visits the leaves below a node. Each key must be greater than the one before, and no node but a root may be empty:
    /// so every step down leads to something new, and a tree that bites its own tail comes to an end.
    fn walk<E: From<ReadError>>(
        &self,
        node: &Node,
        last: &mut Vec<u8>,
        depth: usize,
        take: &mut impl FnMut(Element<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if depth > MAX_DEPTH || (node.count == 0 && (depth > 0 || !node.is_leaf)) {
            return Err(damaged("a bucket is not a tree").into());
        }
        for number in 0..node.count {
            if node.is_leaf {
                let element = node.leaf(number)?;
                if element.key <= last.as_slice() {
                    return Err(damaged("rows are out of order").into());
                }
                last.clear();
                last.extend_from_slice(element.key);
                take(element)?;
            } else {
                self.walk(&self.node(node.child(number)?)?, last, depth + 1, take)?;
            }
        }
        Ok(())
    }
}
