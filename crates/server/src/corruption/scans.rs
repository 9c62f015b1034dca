//! Reading through all data, one at a time: each takes the disk and a thread for long, and whoever asked may have given up
//! before its turn has come, or asks again. It is done beside clients and consensus, whose threads are for what is short.

use std::sync::Arc;
use std::time::Duration;

use keelson_api::Error;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// The one scan at a time.
pub struct Scans {
    turn: Arc<Semaphore>,
    runtime: Handle,
}

impl Scans {
    /// On blocking threads of this runtime.
    pub fn on(runtime: Handle) -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), runtime }
    }

    /// Runs a scan once it is its turn, if that comes within `limit`. It keeps its turn to its end, even if nobody waits.
    pub async fn run<T: Send + 'static>(&self, limit: Duration, scan: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let turn = tokio::time::timeout(limit, self.turn.clone().acquire_owned()).await.map_err(|_| Error::Timeout)?;
        let turn = turn.map_err(|_| Error::Stopped)?;
        let scan = move || {
            let _turn = turn;
            scan()
        };
        self.runtime.spawn_blocking(scan).await.map_err(|_| Error::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn there_is_one_scan_at_a_time_even_when_nobody_waits_for_it_any_more() {
        let scans = Scans::on(Handle::current());
        let (go_on, held) = mpsc::channel::<()>();
        let long = scans.run(Duration::from_secs(10), move || held.recv());
        assert!(tokio::time::timeout(Duration::from_millis(20), long).await.is_err(), "it is held");
        assert_eq!(scans.run(Duration::from_millis(20), || ()).await, Err(Error::Timeout));
        go_on.send(()).unwrap();
        assert_eq!(scans.run(Duration::from_secs(10), || 7).await, Ok(7));
    }
}
