//! Being asked to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failure;

/// From when it is made, SIGINT and SIGTERM end nothing by themselves.
pub struct Ending {
    interrupt: Signal,
    terminate: Signal,
}

impl Ending {
    pub fn new() -> Result<Self, Failure> {
        let failed = |e| Failure::error(format!("signals cannot be received: {e}"));
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let terminate = signal(SignalKind::terminate()).map_err(failed)?;
        Ok(Self { interrupt, terminate })
    }

    /// Waits for either.
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What a call says that was given up because of that.
pub fn canceled() -> Failure {
    Failure::error("context canceled")
}
