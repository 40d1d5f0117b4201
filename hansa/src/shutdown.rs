//! Signals that end a node: the first drains, the second ends at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::failure::{Exit, Failure};

/// SIGTERM and SIGINT from now on.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over from the default action.
    pub(crate) fn new() -> Result<Self, Failure> {
        let take = |kind| {
            signal(kind)
                .map_err(|error| Failure::new(Exit::Failed, format!("signals cannot be received: {error}")))
        };
        Ok(Self { terminate: take(SignalKind::terminate())?, interrupt: take(SignalKind::interrupt())? })
    }

    /// The next signal's name. Safe to drop and call again.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Finishes `draining`, unless another signal comes first.
    ///
    /// # Errors
    /// The second signal came.
    pub(crate) async fn drain(&mut self, draining: impl Future<Output = ()>) -> Result<(), Failure> {
        tokio::select! {
            biased;
            name = self.next() => {
                Err(Failure::new(Exit::Interrupted, format!("{name} again: stopped without waiting; nothing stored is lost")))
            }
            () = draining => Ok(()),
        }
    }
}
