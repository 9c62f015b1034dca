//! The next segment is made ready beside the log, so that no write waits for one to be filled with zeros.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::segment;

/// A file that is to become a segment.
pub(super) struct Fresh {
    pub(super) path: PathBuf,
    pub(super) file: File,
}

/// Whether a file in the log's folder is one that never became a segment.
pub(super) fn is_spare(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "spare")
}

/// Makes a file of zeros.
pub(super) fn make(dir: &Path, number: u64, size: usize) -> io::Result<Fresh> {
    let path = dir.join(format!("{number:016x}.spare"));
    match segment::zeros(&path, size) {
        Ok(file) => Ok(Fresh { path, file }),
        Err(e) => {
            // It takes room that a later try needs; what cannot be removed now is removed at the next start.
            let _ = std::fs::remove_file(&path);
            Err(e)
        }
    }
}

/// Has one file ready most of the time.
pub(super) struct Spares {
    ready: Option<Receiver<io::Result<Fresh>>>,
    thread: Option<JoinHandle<()>>,
}

impl Spares {
    pub(super) fn start(dir: PathBuf) -> io::Result<Self> {
        let (made, ready): (SyncSender<io::Result<Fresh>>, _) = sync_channel(0);
        let thread = std::thread::Builder::new().name("raft-log-spare".into()).spawn(move || {
            let mut number = 0;
            // Waits until the last one is taken; the next one is made meanwhile.
            while made.send(make(&dir, number, segment::SIZE)).is_ok() {
                number += 1;
            }
        })?;
        Ok(Self { ready: Some(ready), thread: Some(thread) })
    }

    pub(super) fn take(&self) -> io::Result<Fresh> {
        let gone = || io::Error::other("the thread that makes segments has ended");
        self.ready.as_ref().ok_or_else(gone)?.recv().map_err(|_| gone())?
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        self.ready = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by its message already.
            let _ = thread.join();
        }
    }
}
