//! What is on the disk and what is only in the kernel's memory, for every file of a directory.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rand::Rng;
use rand::rngs::StdRng;

use super::journal::Record;

const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Edit {
    Write { offset: usize, data: Vec<u8> },
    Resize(usize),
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Resize(size) => bytes.resize(*size, 0),
            Self::Write { offset, data } => {
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(data);
            }
        }
    }

    fn torn(&self, rng: &mut StdRng) -> Self {
        match self {
            Self::Resize(size) => Self::Resize(*size),
            Self::Write { offset, data } => {
                let end = offset + rng.random_range(0..=data.len());
                // Disks write sectors whole.
                let end = if end == offset + data.len() { end } else { (end / SECTOR * SECTOR).max(*offset) };
                Self::Write { offset: *offset, data: data[..end - offset].to_vec() }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Inode {
    synced: Vec<u8>,
    unsynced: Vec<(u64, Edit)>,
}

impl Inode {
    /// What is left if some of what was not synced had been written back. What lies beyond the synced length has come from
    /// its beginning on, as a journaling file system has it; what was written over synced bytes has come sector by sector,
    /// in any order.
    fn in_part(&self, rng: &mut StdRng) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        let kept = rng.random_range(0..=self.unsynced.len());
        for (_, edit) in &self.unsynced[..kept] {
            edit.apply(&mut bytes);
        }
        if let Some((_, edit)) = self.unsynced.get(kept) {
            edit.torn(rng).apply(&mut bytes);
        }
        let length = self.synced.len();
        let is_cut = self.unsynced.iter().any(|(_, edit)| matches!(edit, Edit::Resize(size) if *size < length));
        if !is_cut {
            bytes[..length].copy_from_slice(&self.over_synced(rng));
        }
        bytes
    }

    fn over_synced(&self, rng: &mut StdRng) -> Vec<u8> {
        let (mut disk, mut memory) = (self.synced.clone(), self.synced.clone());
        for (_, edit) in &self.unsynced {
            let Edit::Write { offset, data } = edit else { continue };
            let end = (offset + data.len()).min(memory.len());
            if *offset >= end {
                continue;
            }
            memory[*offset..end].copy_from_slice(&data[..end - offset]);
            for sector in offset / SECTOR..end.div_ceil(SECTOR) {
                // A sector is written back with all that was in it at that moment.
                if rng.random_bool(0.5) {
                    let part = sector * SECTOR..memory.len().min((sector + 1) * SECTOR);
                    disk[part.clone()].copy_from_slice(&memory[part]);
                }
            }
        }
        disk
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Dir,
    File(usize),
}

#[derive(Clone, Debug)]
enum Naming {
    Add(PathBuf, Node),
    Remove(PathBuf),
    Move(PathBuf, PathBuf, Node),
}

type Names = BTreeMap<PathBuf, Node>;

impl Naming {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Add(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Move(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }

    /// Whether a sync of `dir` makes it durable. A move is durable as a whole: that is what renames are for.
    fn is_in(&self, dir: &Path) -> bool {
        let inside = |path: &Path| path.parent() == Some(dir);
        match self {
            Self::Add(path, _) | Self::Remove(path) => inside(path),
            Self::Move(from, to, _) => inside(from) || inside(to),
        }
    }
}

/// What becomes of the changes of names that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Lost,
    /// The first few have happened.
    Begun,
    /// Any of them may have happened.
    Scattered,
}

#[derive(Debug, Default)]
pub struct Disk {
    inodes: Vec<Inode>,
    live: Names,
    durable: Names,
    unsynced: Vec<(u64, Naming)>,
    handles: HashMap<u32, (PathBuf, Node)>,
    /// For each sync under way, the number of the record it began at.
    syncs: HashMap<u64, u64>,
    clock: u64,
}

impl Disk {
    /// Takes what is in `root` as being durable.
    pub fn read(root: &Path) -> Result<Self> {
        let mut disk = Self::default();
        let mut todo = vec![PathBuf::new()];
        while let Some(dir) = todo.pop() {
            disk.durable.insert(dir.clone(), Node::Dir);
            let Ok(entries) = fs::read_dir(root.join(&dir)) else { continue };
            for entry in entries {
                let entry = entry?;
                let path = dir.join(entry.file_name());
                if entry.file_type()?.is_dir() {
                    todo.push(path);
                } else {
                    let synced = fs::read(entry.path())?;
                    disk.durable.insert(path, Node::File(disk.inodes.len()));
                    disk.inodes.push(Inode { synced, unsynced: Vec::new() });
                }
            }
        }
        disk.live = disk.durable.clone();
        Ok(disk)
    }

    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.live);
        self.unsynced.push((self.clock, naming));
    }

    fn edit(&mut self, handle: u32, edit: Edit) -> Result<()> {
        match self.handles.get(&handle) {
            Some((_, Node::File(inode))) => self.inodes[*inode].unsynced.push((self.clock, edit)),
            other => bail!("descriptor {handle} of {other:?} was written to"),
        }
        Ok(())
    }

    pub fn follow(&mut self, record: Record) -> Result<()> {
        self.clock += 1;
        match record {
            Record::Open { handle, path, created, emptied } => {
                if created {
                    let node = Node::File(self.inodes.len());
                    self.inodes.push(Inode::default());
                    self.name(Naming::Add(path.clone(), node));
                }
                let node = *self.live.get(&path).with_context(|| format!("{} was opened, but is not there", path.display()))?;
                self.handles.insert(handle, (path, node));
                if emptied {
                    self.edit(handle, Edit::Resize(0))?;
                }
            }
            Record::Write { handle, offset, data } => {
                self.edit(handle, Edit::Write { offset: usize::try_from(offset)?, data })?;
            }
            Record::Resize { handle, size } => self.edit(handle, Edit::Resize(usize::try_from(size)?))?,
            Record::SyncBegins { sync, .. } => {
                self.syncs.insert(sync, self.clock);
            }
            Record::SyncEnds { handle, sync } => {
                let begun = self.syncs.remove(&sync).context("a sync ended that had not begun")?;
                self.synced(handle, begun)?;
            }
            Record::Rename { from, to } => {
                let node = *self.live.get(&from).with_context(|| format!("{} was renamed, but is not there", from.display()))?;
                if node == Node::Dir {
                    bail!("directory {} was renamed, which is not modelled", from.display());
                }
                self.name(Naming::Move(from, to, node));
            }
            Record::Link { from, to } => {
                let node = *self.live.get(&from).with_context(|| format!("{} was linked, but is not there", from.display()))?;
                self.name(Naming::Add(to, node));
            }
            Record::Unlink { path } => self.name(Naming::Remove(path)),
            // The directory itself is made by whoever runs the server.
            Record::MakeDir { path } if path.as_os_str().is_empty() => {}
            Record::MakeDir { path } => self.name(Naming::Add(path, Node::Dir)),
        }
        Ok(())
    }

    fn synced(&mut self, handle: u32, begun: u64) -> Result<()> {
        match self.handles.get(&handle).cloned() {
            Some((_, Node::File(inode))) => {
                let inode = &mut self.inodes[inode];
                let covered = inode.unsynced.partition_point(|(at, _)| *at < begun);
                for (_, edit) in inode.unsynced.drain(..covered) {
                    edit.apply(&mut inode.synced);
                }
            }
            Some((dir, Node::Dir)) => {
                let durable = &mut self.durable;
                self.unsynced.retain(|(at, naming)| {
                    let covered = *at < begun && naming.is_in(&dir);
                    if covered {
                        naming.apply(durable);
                    }
                    !covered
                });
            }
            None => bail!("descriptor {handle} was synced, but not opened"),
        }
        Ok(())
    }

    /// What is there after the power has come back: directories (`None`) and files.
    pub fn after_cut(&self, fate: Fate, keep_bytes: bool, rng: &mut StdRng) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let mut names = self.durable.clone();
        let first = match fate {
            Fate::Lost => 0,
            Fate::Begun => rng.random_range(0..=self.unsynced.len()),
            Fate::Scattered => self.unsynced.len(),
        };
        for (_, naming) in &self.unsynced[..first] {
            if fate != Fate::Scattered || rng.random_bool(0.5) {
                naming.apply(&mut names);
            }
        }
        let mut left = BTreeMap::new();
        // Parents sort before what is in them; without its directory a file cannot be found.
        for (path, node) in names {
            let reachable = path.parent().is_none_or(|dir| left.get(dir) == Some(&None));
            if reachable {
                left.insert(path, self.contents(node, keep_bytes, rng));
            }
        }
        left
    }

    fn contents(&self, node: Node, keep_bytes: bool, rng: &mut StdRng) -> Option<Vec<u8>> {
        let Node::File(inode) = node else { return None };
        let inode = &self.inodes[inode];
        let is_partial = keep_bytes && !inode.unsynced.is_empty();
        Some(if is_partial { inode.in_part(rng) } else { inode.synced.clone() })
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
