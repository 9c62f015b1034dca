//! A state store that came from another member, on its way to be this one's. It is received into a
//! folder of its own; when all of it is there and on disk, a marker says so, and the next start puts it
//! in place. Dying at any point leaves either the old state or the whole new one.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failpoint;

const FOLDER: &str = "incoming";
const MARKER: &str = "incoming.json";
const OLD: &str = "state.old";
const STATE: &str = "state";

/// One file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    name: String,
    size: u64,
    crc32c: u32,
}

/// A checkpoint that is being received.
pub struct Incoming {
    data_dir: PathBuf,
    folder: PathBuf,
    entries: Vec<Entry>,
    /// Files not there yet, the next one first.
    missing: Vec<usize>,
    current: Option<(File, u64, u32)>,
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn remove_if_there(folder: &Path) -> io::Result<()> {
    if folder.is_dir() { fs::remove_dir_all(folder) } else { Ok(()) }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// After a failed sync nobody knows what is on disk, and the next sync says nothing of it: the file has to go.
fn sync(file: &File, path: &Path) -> io::Result<()> {
    file.sync_all().inspect_err(|_| drop(fs::remove_file(path)))
}

fn checksum(path: &Path) -> io::Result<u32> {
    let mut file = File::open(path)?;
    let mut crc = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(crc),
            n => crc = crc32c::crc32c_append(crc, &buffer[..n]),
        }
    }
}

/// Name, size and checksum of each file in a folder.
pub fn list_files(folder: &Path) -> io::Result<Vec<(String, u64, u32)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|name| invalid(format!("{} is no name", name.display())))?;
        files.push((name, entry.metadata()?.len(), checksum(&entry.path())?));
    }
    files.sort();
    Ok(files)
}

impl Incoming {
    /// Begins to receive the checkpoint `name`, or goes on with it. What there is of an earlier one is kept as far
    /// as this one has it too: tables never change, so most of them are the same.
    pub fn open(data_dir: &Path, name: &str, files: Vec<(String, u64, u32)>) -> io::Result<Self> {
        let entries: Vec<Entry> = files.into_iter().map(|(name, size, crc32c)| Entry { name, size, crc32c }).collect();
        let plain = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if let Some(bad) = entries.iter().map(|e| e.name.as_str()).chain([name]).find(|n| !plain(n) || n.starts_with('.')) {
            return Err(invalid(format!("{bad:?} is no name of a checkpoint or of its files")));
        }
        if data_dir.join(MARKER).exists() {
            return Err(io::Error::other("another checkpoint has arrived and waits to be put in place"));
        }
        let parent = data_dir.join(FOLDER);
        let folder = parent.join(name);
        if parent.is_dir()
            && !folder.is_dir()
            && let Some(earlier) = fs::read_dir(&parent)?.next()
        {
            fs::rename(earlier?.path(), &folder)?;
        }
        fs::create_dir_all(&folder)?;
        for file in fs::read_dir(&folder)? {
            let file = file?;
            if !entries.iter().any(|entry| file.file_name() == *entry.name) {
                fs::remove_file(file.path())?;
            }
        }
        let mut missing = Vec::new();
        for (number, entry) in entries.iter().enumerate() {
            let path = folder.join(&entry.name);
            let there = fs::metadata(&path).is_ok_and(|m| m.len() == entry.size) && checksum(&path)? == entry.crc32c;
            if there {
                // It may have been written by a process that died before it was on disk.
                sync(&File::open(&path)?, &path)?;
            } else {
                missing.push(number);
            }
        }
        missing.reverse();
        Ok(Self { data_dir: data_dir.to_owned(), folder, entries, missing, current: None })
    }

    /// Names of the files that are not there, in the order in which they must come.
    pub fn wanted(&self) -> impl Iterator<Item = &str> {
        self.missing.iter().rev().map(|n| self.entries[*n].name.as_str())
    }

    /// Takes the next bytes. A piece never spans two files.
    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.skip_empty()?;
        let Some(entry) = self.missing.last().map(|n| &self.entries[*n]) else {
            return Err(invalid("more bytes than the checkpoint has".into()));
        };
        let (mut file, mut size, mut crc) = match self.current.take() {
            Some(current) => current,
            None => (File::create(self.folder.join(&entry.name))?, 0, 0),
        };
        file.write_all(data)?;
        size += data.len() as u64;
        crc = crc32c::crc32c_append(crc, data);
        if size < entry.size {
            self.current = Some((file, size, crc));
            return Ok(());
        }
        if size > entry.size || crc != entry.crc32c {
            return Err(invalid(format!("{} has arrived damaged", entry.name)));
        }
        sync(&file, &self.folder.join(&entry.name))?;
        self.missing.pop();
        Ok(())
    }

    fn skip_empty(&mut self) -> io::Result<()> {
        while let Some(entry) = self.missing.last().map(|n| &self.entries[*n]).filter(|e| e.size == 0) {
            File::create(self.folder.join(&entry.name))?.sync_all()?;
            self.missing.pop();
        }
        Ok(())
    }

    /// Says that everything is there: the next start takes it.
    pub fn complete(mut self) -> io::Result<()> {
        self.skip_empty()?;
        if let Some(missing) = self.wanted().next() {
            return Err(invalid(format!("the checkpoint is not whole: {missing} is missing")));
        }
        sync_folder(&self.folder)?;
        sync_folder(&self.data_dir.join(FOLDER))?;
        failpoint::pass("incoming-complete");
        let marker = self.data_dir.join(MARKER);
        let temporary = self.data_dir.join("incoming.json.tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(self.folder.as_os_str().as_encoded_bytes())?;
        file.sync_all()?;
        fs::rename(temporary, marker)?;
        sync_folder(&self.data_dir)
    }
}

/// A whole state store that waits to be put in place.
pub struct Arrived {
    data_dir: PathBuf,
    folder: Option<PathBuf>,
}

impl Arrived {
    /// What has arrived in a data directory, if anything has.
    pub fn find(data_dir: &Path) -> io::Result<Option<Self>> {
        let named = match fs::read(data_dir.join(MARKER)) {
            Ok(named) => PathBuf::from(std::ffi::OsString::from_vec(named)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                remove_if_there(&data_dir.join(OLD))?;
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        // The name only: the data directory may have been moved.
        let folder = named.file_name().map(|name| data_dir.join(FOLDER).join(name)).filter(|folder| folder.is_dir());
        Ok(Some(Self { data_dir: data_dir.to_owned(), folder }))
    }

    /// Where the store is; `None` if it has been put in place already.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Lets go of it: this member has no use for it.
    pub fn discard(self) -> io::Result<()> {
        fs::remove_file(self.data_dir.join(MARKER))?;
        sync_folder(&self.data_dir)?;
        fs::remove_dir_all(self.data_dir.join(FOLDER))
    }

    /// Makes it the state of this member. The log must fit it already.
    pub fn put_in_place(self) -> io::Result<()> {
        let (state, old) = (self.data_dir.join(STATE), self.data_dir.join(OLD));
        if let Some(folder) = &self.folder {
            if state.is_dir() {
                remove_if_there(&old)?;
                fs::rename(&state, &old)?;
            }
            failpoint::pass("incoming-swap");
            fs::rename(folder, &state)?;
            sync_folder(&self.data_dir.join(FOLDER))?;
            sync_folder(&self.data_dir)?;
        }
        failpoint::pass("incoming-placed");
        fs::remove_file(self.data_dir.join(MARKER))?;
        sync_folder(&self.data_dir)?;
        remove_if_there(&self.data_dir.join(FOLDER))?;
        remove_if_there(&old)
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    fn files(content: &[(&str, &[u8])]) -> Vec<(String, u64, u32)> {
        content.iter().map(|(n, c)| ((*n).to_owned(), c.len() as u64, crc32c::crc32c(c))).collect()
    }

    #[test]
    fn a_broken_transfer_goes_on_where_it_was_and_damage_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let content: &[(&str, &[u8])] = &[("a.sst", b"first"), ("empty", b""), ("b.sst", b"second")];
        let mut first = Incoming::open(dir.path(), "c1", files(content)).unwrap();
        assert_eq!(first.wanted().collect::<Vec<_>>(), ["a.sst", "empty", "b.sst"]);
        first.write(b"fir").unwrap();
        first.write(b"st").unwrap();
        assert!(first.write(b"damage").is_err());

        let mut again = Incoming::open(dir.path(), "c1", files(content)).unwrap();
        assert_eq!(again.wanted().last(), Some("b.sst"));
        again.write(b"second").unwrap();
        assert!(again.write(b"more").is_err());
        again.complete().unwrap();

        fs::create_dir(dir.path().join(STATE)).unwrap();
        fs::write(dir.path().join("state/old"), "x").unwrap();
        Arrived::find(dir.path()).unwrap().unwrap().put_in_place().unwrap();
        assert_eq!(fs::read(dir.path().join("state/a.sst")).unwrap(), b"first");
        assert!(!dir.path().join("state/old").exists() && Arrived::find(dir.path()).unwrap().is_none());
        assert!(Incoming::open(dir.path(), "c2", files(&[("../x", b"")])).is_err());
    }

    #[test]
    fn a_newer_checkpoint_goes_on_with_the_files_that_are_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let older: &[(&str, &[u8])] =
            &[("a.sst", b"first"), ("CURRENT", b"MANIFEST-1"), ("MANIFEST-1", b"a"), ("b.sst", b"second")];
        let mut incoming = Incoming::open(dir.path(), "c1", files(older)).unwrap();
        for content in [&b"first"[..], b"MANIFEST-1", b"a", b"sec"] {
            incoming.write(content).unwrap();
        }
        drop(incoming);
        let newer: &[(&str, &[u8])] =
            &[("a.sst", b"first"), ("CURRENT", b"MANIFEST-2"), ("MANIFEST-2", b"ac"), ("c.sst", b"third")];
        let mut incoming = Incoming::open(dir.path(), "c2", files(newer)).unwrap();
        assert_eq!(incoming.wanted().collect::<Vec<_>>(), ["CURRENT", "MANIFEST-2", "c.sst"]);
        for content in [&b"MANIFEST-2"[..], b"ac", b"third"] {
            incoming.write(content).unwrap();
        }
        incoming.complete().unwrap();
        let arrived = Arrived::find(dir.path()).unwrap().unwrap();
        let mut expected = files(newer);
        expected.sort();
        assert_eq!(list_files(arrived.folder().unwrap()).unwrap(), expected);
    }

    #[test]
    fn an_incomplete_checkpoint_is_never_taken() {
        let dir = tempfile::tempdir().unwrap();
        let incoming = Incoming::open(dir.path(), "c", files(&[("a", b"x")])).unwrap();
        assert!(incoming.complete().is_err());
        assert!(Arrived::find(dir.path()).unwrap().is_none());
        // Another checkpoint takes the place of what was begun.
        let other = Incoming::open(dir.path(), "d", files(&[])).unwrap();
        other.complete().unwrap();
        let arrived = Arrived::find(dir.path()).unwrap().unwrap();
        assert!(arrived.folder().unwrap().ends_with("incoming/d"));
        arrived.discard().unwrap();
        assert!(Arrived::find(dir.path()).unwrap().is_none() && !dir.path().join(FOLDER).exists());
    }
}
