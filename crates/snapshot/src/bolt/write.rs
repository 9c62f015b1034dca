//! Writes a file from its first byte to its last, with as much memory as a few nodes take, from rows that come in order.
//!
//! The meta pages come first and say where the file ends and where the tree of buckets begins. So both must be known
//! before anything else is, and the length has to follow from the bytes of the rows alone, whatever their order:
//! nodes are closed as soon as they hold [`NODE`] bytes, and only the last of a tree holds less. That bounds how many
//! there are, and how many pages they leave partly empty. What is not needed of that bound is left free before the last
//! page, where the tree of buckets is.

use std::io::{self, Write};
use std::mem;

use super::{BRANCH, ELEMENT, HEADER, IS_BUCKET, LEAF, META, Meta, PAGE, WRITTEN_HERE, header};

/// Bytes of elements that close a node: a sixteenth of it, on average half of that, is lost at the end of its last page.
const NODE: usize = 64 << 10;
/// bbolt's own limits.
const MAX_KEY: usize = 32768;
const MAX_VALUE: usize = (1 << 31) - 2;

/// What the rows of a bucket come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    bytes: u64,
    longest_key: u64,
}

impl Extent {
    /// Counts a row with a key and a value of so many bytes.
    pub fn add(&mut self, key: usize, value: usize) {
        self.bytes += (ELEMENT + key + value) as u64;
        self.longest_key = self.longest_key.max(key as u64);
    }

    /// Whether the format has room for the longest of the keys.
    pub const fn fits(&self) -> bool {
        self.longest_key <= MAX_KEY as u64
    }

    /// Pages that suffice for a tree of these rows.
    fn pages(&self) -> u64 {
        let (mut bytes, mut pages, mut below) = (self.bytes, 0, u64::MAX);
        loop {
            // A node that is closed above the leaves has two elements at least, however long keys are: none of them
            // closes one alone. So levels get smaller until there is one node.
            let nodes = (bytes / NODE as u64 + 1).min(below.div_ceil(2));
            pages += (bytes + nodes * HEADER as u64) / PAGE as u64 + nodes;
            if nodes == 1 {
                return pages;
            }
            // The level above has an element for each of these.
            bytes = nodes * (ELEMENT as u64 + self.longest_key);
            below = nodes;
        }
    }

    /// Pages of a file with buckets of these extents.
    pub fn file_pages<'a>(buckets: impl IntoIterator<Item = &'a Self>) -> u64 {
        2 + buckets.into_iter().map(Self::pages).sum::<u64>() + 1
    }
}

/// A node in the making: its elements, each with what it leads to or what it holds.
#[derive(Default)]
struct Node {
    first_key: Vec<u8>,
    /// Length of the key, and of the value or the number of the page.
    elements: Vec<(u32, u64)>,
    /// Keys and values.
    data: Vec<u8>,
}

impl Node {
    fn add(&mut self, key: &[u8], second: u64, value: &[u8]) -> io::Result<()> {
        if self.elements.is_empty() {
            self.first_key = key.to_vec();
        }
        let key_len = u32::try_from(key.len()).map_err(io::Error::other)?;
        self.elements.push((key_len, second));
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.elements.len() * ELEMENT + self.data.len()
    }

    fn encode(&self, page: u64, is_leaf: bool, element_flags: u32) -> io::Result<Vec<u8>> {
        let pages = (HEADER + self.bytes()).div_ceil(PAGE);
        let overflow = u32::try_from(pages - 1).map_err(io::Error::other)?;
        let count = u16::try_from(self.elements.len()).map_err(io::Error::other)?;
        let mut out = Vec::with_capacity(pages * PAGE);
        out.extend_from_slice(&header(page, if is_leaf { LEAF } else { BRANCH }, count, overflow));
        let mut data_at = HEADER + self.elements.len() * ELEMENT;
        for (key_len, second) in &self.elements {
            // Counted from the element itself.
            let position = u32::try_from(data_at - out.len()).map_err(io::Error::other)?;
            if is_leaf {
                let value_len = u32::try_from(*second).map_err(io::Error::other)?;
                for field in [element_flags, position, *key_len, value_len] {
                    out.extend_from_slice(&field.to_le_bytes());
                }
                data_at += *key_len as usize + value_len as usize;
            } else {
                out.extend_from_slice(&position.to_le_bytes());
                out.extend_from_slice(&key_len.to_le_bytes());
                out.extend_from_slice(&second.to_le_bytes());
                data_at += *key_len as usize;
            }
        }
        out.extend_from_slice(&self.data);
        out.resize(pages * PAGE, 0);
        Ok(out)
    }
}

fn out_of_bounds(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("snapshot: {what}"))
}

/// Writes a file of a known number of pages.
pub struct Writer<W> {
    out: W,
    pages: u64,
    /// Where the next node goes.
    next: u64,
    /// Names of buckets and where their trees begin.
    buckets: Vec<(Vec<u8>, u64)>,
}

impl<W: Write> Writer<W> {
    /// Begins a file of so many pages: [`Extent::file_pages`] of what its buckets will be.
    pub fn begin(mut out: W, pages: u64) -> io::Result<Self> {
        for number in [0, 1] {
            let mut page = header(number, META, 0, 0).to_vec();
            let page_size = PAGE as u32;
            page.extend_from_slice(&Meta { page_size, root: pages - 1, pages, transaction: WRITTEN_HERE - number }.encode());
            page.resize(PAGE, 0);
            out.write_all(&page)?;
        }
        Ok(Self { out, pages, next: 2, buckets: Vec::new() })
    }

    /// Begins a bucket. Its rows must come ordered by key.
    pub fn bucket(&mut self, name: &str) -> Tree<'_, W> {
        Tree { writer: self, name: name.as_bytes().to_vec(), levels: vec![Node::default()], last_key: Vec::new() }
    }

    fn write(&mut self, node: &Node, is_leaf: bool, element_flags: u32) -> io::Result<u64> {
        let at = self.next;
        let bytes = node.encode(at, is_leaf, element_flags)?;
        self.next += (bytes.len() / PAGE) as u64;
        if self.next > self.pages {
            return Err(out_of_bounds("there are more rows than were counted"));
        }
        self.out.write_all(&bytes)?;
        Ok(at)
    }

    /// Ends the file.
    pub fn finish(mut self) -> io::Result<W> {
        self.buckets.sort();
        let mut root = Node::default();
        for (name, at) in &self.buckets {
            // Where its tree begins, and a sequence that etcd does not use.
            let value = [at.to_le_bytes(), [0; 8]].concat();
            root.add(name, value.len() as u64, &value)?;
        }
        if HEADER + root.bytes() > PAGE {
            return Err(out_of_bounds("there are too many buckets"));
        }
        while self.next + 1 < self.pages {
            self.out.write_all(&[0; PAGE])?;
            self.next += 1;
        }
        self.write(&root, true, IS_BUCKET)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// A bucket in the making.
pub struct Tree<'a, W> {
    writer: &'a mut Writer<W>,
    name: Vec<u8>,
    /// The open node of each level, leaves first.
    levels: Vec<Node>,
    last_key: Vec<u8>,
}

impl<W: Write> Tree<'_, W> {
    /// Adds the next row.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if key <= self.last_key.as_slice() || key.len() > MAX_KEY || value.len() > MAX_VALUE {
            return Err(out_of_bounds("a row is out of order, or larger than the file format can hold"));
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.levels[0].add(key, value.len() as u64, value)?;
        self.close_full(0)
    }

    /// Closes the open node of a level, and of those above, if it holds enough.
    fn close_full(&mut self, mut level: usize) -> io::Result<()> {
        while self.levels[level].bytes() >= NODE {
            self.close(level)?;
            level += 1;
        }
        Ok(())
    }

    /// Closes the open node of a level and enters it in the one above.
    fn close(&mut self, level: usize) -> io::Result<()> {
        let node = mem::take(&mut self.levels[level]);
        let at = self.writer.write(&node, level == 0, 0)?;
        if self.levels.len() == level + 1 {
            self.levels.push(Node::default());
        }
        self.levels[level + 1].add(&node.first_key, at, &[])
    }

    /// Ends the bucket.
    pub fn finish(mut self) -> io::Result<()> {
        let mut level = 0;
        while level + 1 < self.levels.len() {
            if !self.levels[level].elements.is_empty() {
                self.close(level)?;
            }
            level += 1;
        }
        let top = mem::take(&mut self.levels[level]);
        let root = match top.elements.as_slice() {
            // All rows are in one node below.
            [(_, only)] if level > 0 => *only,
            _ => self.writer.write(&top, level == 0, 0)?,
        };
        self.writer.buckets.push((self.name, root));
        Ok(())
    }
}
