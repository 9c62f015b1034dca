//! `snapshot save`: a file that is complete and on the disk, or none.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::cli::{Call, Command};
use crate::client::Client;
use crate::exit::{Failure, INTERRUPTED};
use crate::go::{duration, size::human};
use crate::output::line;

/// The checksum that stands behind the data.
const CHECKSUM: usize = 32;
/// What comes before it is a multiple of a disk's sector.
const SECTOR: u64 = 512;

pub static COMMAND: Command = Command::new("save", "<filename>", "Saves the whole store of one member to a file")
    .long(
        "Saves the whole store of one member to a file. It is written beside that first (<filename>.part), checked and \
         synced, and only then replaces a file that is there already.\n\n\
         Without --command-timeout it may take as long as it takes.",
    )
    .run(|call| Box::pin(run(call)));

async fn run(mut call: Call) -> Result<(), Failure> {
    call.expect(1, "snapshot save expects one argument <filename>")?;
    let config = call.config().await?;
    let path = call.file(0);
    let failed = |why: String| Failure::new(INTERRUPTED, why);
    if config.endpoints.len() != 1 {
        let endpoints = config.endpoints.join(" ");
        return Err(failed(format!("snapshot must be requested to one selected node, not multiple [{endpoints}]")));
    }
    let endpoint = config.endpoints[0].clone();
    let client = Client::new(config).await.map_err(|failure| failure.with_code(INTERRUPTED))?;
    let client = if call.flags.given("command-timeout") { client } else { client.without_limit() };
    let mut part = path.clone().into_os_string();
    part.push(".part");
    let saved = client.within(Box::pin(save(&client, &endpoint, part.into(), &path))).await;
    let version = saved.map_err(|failure| failure.with_code(INTERRUPTED))?;
    line(format!("Snapshot saved at {}", path.display()))?;
    if version.is_empty() { Ok(()) } else { line(format!("Server version {version}")) }
}

/// Returns the version of the server that made it.
async fn save(client: &Client, endpoint: &str, part: PathBuf, path: &Path) -> Result<String, Failure> {
    let start = Instant::now();
    let mut part = Part::open(part).map_err(Failure::error)?;
    let written = |e: io::Error| Failure::error(format!("could not write snapshot: {e}"));
    let mut pieces = client.snapshot().await?;
    let mut version = String::new();
    let mut sum = Checked::default();
    let mut progress = Progress::new(endpoint);
    while let Some(piece) = pieces.message().await.map_err(Failure::from)? {
        if version.is_empty() {
            version = piece.version;
        }
        part.file.write_all(&piece.blob).map_err(written)?;
        sum.add(&piece.blob);
        progress.show(sum.size, piece.remaining_bytes);
    }
    let size = sum.size;
    sum.finish().map_err(Failure::error)?;
    part.file.sync_all().map_err(|e| Failure::error(format!("could not fsync snapshot: {e}")))?;
    part.put_in_place(path).map_err(Failure::error)?;
    progress.end(&format!("fetched {} in {}", human(size), duration::show(start.elapsed())));
    Ok(version)
}

/// A snapshot in the making. It belongs to one process alone: what two write into one file is of neither, and one of them
/// would put it in place while the other is still writing.
struct Part {
    path: PathBuf,
    file: File,
    is_in_place: bool,
}

impl Part {
    fn open(path: PathBuf) -> Result<Self, String> {
        let failed = |e: io::Error| format!("could not open {} ({e})", path.display());
        loop {
            // What it holds is cut off only once it is known that nobody is writing it.
            let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
            let file = opened.map_err(failed)?;
            match file.try_lock() {
                // Some file systems have no locks.
                Ok(()) | Err(TryLockError::Error(_)) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(format!(
                        "{} is being written by another \"snapshot save\": wait until that has ended, or choose another name",
                        path.display()
                    ));
                }
            }
            // Whoever had it until just now may have put it in place, or removed it: then it is not the one of this name.
            let own = file.metadata().map_err(failed)?;
            let is_there = fs::metadata(&path).is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino()));
            if is_there {
                file.set_len(0).map_err(failed)?;
                return Ok(Self { path, file, is_in_place: false });
            }
        }
    }

    /// Replaces what was there, and makes sure that a crash does not undo it.
    fn put_in_place(&mut self, path: &Path) -> Result<(), String> {
        let part = self.path.as_path();
        let failed = |e: io::Error| format!("could not rename {} to {} ({e})", part.display(), path.display());
        fs::rename(part, path).map_err(failed)?;
        self.is_in_place = true;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|e| format!("could not fsync {}: {e}", folder.display()))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_in_place {
            // Half a snapshot is of no use. If it cannot be removed, that is the smaller trouble.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Holds what arrived against the checksum at its end.
#[derive(Default)]
struct Checked {
    size: u64,
    hasher: Sha256,
    /// The last bytes, which may be the checksum.
    tail: Vec<u8>,
}

impl Checked {
    fn add(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.tail.extend_from_slice(bytes);
        let ready = self.tail.len().saturating_sub(CHECKSUM);
        self.hasher.update(&self.tail[..ready]);
        self.tail.drain(..ready);
    }

    fn finish(self) -> Result<(), String> {
        if self.size % SECTOR != CHECKSUM as u64 {
            return Err(format!("sha256 checksum not found [bytes: {}]", self.size));
        }
        if self.hasher.finalize().as_slice() != self.tail.as_slice() {
            return Err("the snapshot was damaged on its way: its checksum is of other data; fetch it again".into());
        }
        Ok(())
    }
}

/// On a terminal a line that counts; elsewhere only the end.
pub(in crate::command) struct Progress {
    live: bool,
    last: Option<Instant>,
}

impl Progress {
    pub(in crate::command) fn new(endpoint: &str) -> Self {
        eprintln!("fetching snapshot from {endpoint}");
        Self { live: io::stderr().is_terminal(), last: None }
    }

    pub(in crate::command) fn show(&mut self, done: u64, remaining: u64) {
        let due = self.last.is_none_or(|last| last.elapsed().as_millis() >= 200);
        if self.live && due {
            self.last = Some(Instant::now());
            let all = done.saturating_add(remaining);
            let percent = done.saturating_mul(100) / all.max(1);
            eprint!("\r{} of {} ({percent}%)   ", human(done), human(all));
        }
    }

    pub(in crate::command) fn end(&self, text: &str) {
        eprintln!("{}{text}", if self.live { "\r" } else { "" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(bytes: &[u8], piece: usize) -> Result<(), String> {
        let mut sum = Checked::default();
        bytes.chunks(piece).for_each(|chunk| sum.add(chunk));
        sum.finish()
    }

    #[test]
    fn a_snapshot_must_end_with_the_checksum_of_what_it_is() {
        let data = vec![7u8; 1024];
        let mut whole = data.clone();
        whole.extend_from_slice(&Sha256::digest(&data));
        for piece in [1, 31, 32, 500, 5000] {
            assert_eq!(checked(&whole, piece), Ok(()));
        }
        whole[100] ^= 1;
        assert!(checked(&whole, 500).unwrap_err().contains("damaged"));
        assert_eq!(checked(&data, 500).unwrap_err(), "sha256 checksum not found [bytes: 1024]");
        assert_eq!(checked(&[], 1).unwrap_err(), "sha256 checksum not found [bytes: 0]");
    }

    #[test]
    fn the_snapshot_of_before_is_replaced_by_a_whole_one_only() {
        let folder = tempfile::tempdir().unwrap();
        let (part, path) = (folder.path().join("s.part"), folder.path().join("s"));
        let write = |text: &str| {
            let mut part = Part::open(part.clone()).unwrap();
            part.file.write_all(text.as_bytes()).unwrap();
            part
        };
        for text in ["old", "new"] {
            write(text).put_in_place(&path).unwrap();
            assert_eq!(fs::read(&path).unwrap(), text.as_bytes());
        }
        drop(write("half"));
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(!part.exists());
    }

    #[test]
    fn two_never_write_into_one_file_and_what_is_left_of_one_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.part");
        let first = Part::open(path.clone()).unwrap();
        let refused = Part::open(path.clone()).err().unwrap();
        assert!(refused.contains("another"), "{refused}");
        assert!(path.exists(), "it is the first one's to remove");
        drop(first);
        assert!(!path.exists());
        fs::write(&path, "half of one whose process was killed").unwrap();
        let next = Part::open(path.clone()).unwrap();
        assert_eq!(next.file.metadata().unwrap().len(), 0);
    }
}
