//! Stops the journal so that another process can write it, and restarts it if that fails.

use super::projector::Projector;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The journal was not released: a write is running, or the ledger does not accept what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the journal could not be released")]
pub struct NotReleased;

/// Stops the projector and lets it run again.
#[derive(Default)]
pub(super) struct Release {
    requested: watch::Sender<bool>,
    projector_stopped: watch::Sender<bool>,
}

impl Release {
    /// Returns when the projector has stopped; the ledger then has the whole log, unless it is unavailable.
    pub(super) async fn stop_projector(&self) {
        self.requested.send_replace(true);
        let _ = self.projector_stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    /// Lets the projector run again.
    pub(super) fn resume_projector(&self) {
        self.requested.send_replace(false);
    }

    /// Runs the projector until `stop` is cancelled, but not while the journal is released.
    pub(super) async fn run(&self, mut projector: Projector, stop: CancellationToken) {
        let mut requested = self.requested.subscribe();
        // Runs even if it is stopped already, so that the ledger gets what is in the log.
        loop {
            let round = stop.child_token();
            let request = async {
                let _ = requested.wait_for(|requested| *requested).await;
                round.cancel();
            };
            tokio::join!(stop.run_until_cancelled(request), projector.run(&round));
            if stop.is_cancelled() {
                return;
            }
            self.projector_stopped.send_replace(true);
            let resumed = requested.wait_for(|requested| !*requested);
            let is_resumed = stop.run_until_cancelled(resumed).await.is_some();
            if !is_resumed {
                return;
            }
            self.projector_stopped.send_replace(false);
        }
    }
}
