//! Work that may wait for the disk, off the threads that consensus runs on.

use std::io;

/// Runs `work` where waiting holds up nobody.
#[cfg(not(feature = "simulation"))]
pub(crate) async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Runs `work` on the spot: with a second thread no run could be repeated.
#[cfg(feature = "simulation")]
pub(crate) async fn off_thread<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    work()
}
