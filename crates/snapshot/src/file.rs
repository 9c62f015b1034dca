//! A snapshot on disk: what etcd's backend wrote, and after it, if it came over the API, a SHA-256 of that.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::bolt::{Bucket, Database, ReadAt, ReadError};
use crate::schema::{KEY, META};
use crate::{RowError, SnapshotError};

/// Bytes of the checksum. A database ends at a multiple of 512, a file with a checksum lies so much beyond one.
const SUM: u64 = 32;
const SECTOR: u64 = 512;
/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// An open snapshot.
pub struct SnapshotFile {
    path: PathBuf,
    file: File,
    size: u64,
}

impl SnapshotFile {
    /// Opens the file; nothing of it is looked at yet.
    pub fn open(path: &Path) -> Result<Self, SnapshotError> {
        let opened = File::open(path).and_then(|file| Ok((file.size()?, file)));
        let (size, file) = opened.map_err(|source| SnapshotError::Unreadable { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file, size })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Compares the checksum with what it is of.
    pub fn check(&self) -> Result<(), SnapshotError> {
        if self.size % SECTOR != SUM {
            return Err(SnapshotError::NoChecksum(self.path.clone()));
        }
        match self.sums() {
            Ok((told, found)) if told == found => Ok(()),
            Ok((told, found)) => {
                let hex = |sum: &[u8]| sum.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                Err(RowError::Damaged(format!("its checksum is {}, and should be {}", hex(&found), hex(&told))).of(&self.path))
            }
            Err(e) => Err(self.failed(ReadError::Io(e))),
        }
    }

    fn sums(&self) -> io::Result<([u8; SUM as usize], [u8; SUM as usize])> {
        let end = self.size - SUM;
        let mut told = [0; SUM as usize];
        self.file.read_at(&mut told, end)?;
        let (mut hash, mut buffer, mut at) = (Sha256::new(), vec![0; PIECE], 0);
        while at < end {
            let len = usize::try_from(end - at).map_or(PIECE, |left| left.min(PIECE));
            self.file.read_at(&mut buffer[..len], at)?;
            hash.update(&buffer[..len]);
            at += len as u64;
        }
        Ok((told, hash.finalize().into()))
    }

    /// What is in it.
    pub fn database(&self) -> Result<(Database<'_, File>, Vec<Bucket>), SnapshotError> {
        let open = || {
            let database = Database::open(&self.file)?;
            let buckets = database.buckets()?;
            for needed in [KEY, META] {
                if !buckets.iter().any(|b| b.name == needed.as_bytes()) {
                    return Err(ReadError::Damaged(format!("it has no bucket {needed:?}, as every snapshot of etcd's has")));
                }
            }
            Ok((database, buckets))
        };
        open().map_err(|e| self.failed(e))
    }

    fn failed(&self, e: ReadError) -> SnapshotError {
        RowError::Read(e).of(&self.path)
    }
}
