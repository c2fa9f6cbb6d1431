//! Tasks that live as long as the gateway. One that ends before its time ends the gateway: half of
//! it would go on answering, and lie.

use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks, and whether one of them has died. Clones share both.
#[derive(Clone, Default)]
pub struct Supervisor {
    tasks: TaskTracker,
    died: CancellationToken,
    ending: CancellationToken,
}

impl Supervisor {
    /// Starts one; its name is for the log.
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let (died, ending) = (self.died.clone(), self.ending.clone());
        self.tasks.spawn(async move {
            let ended = AssertUnwindSafe(work).catch_unwind().await;
            if ended.is_err() || !ending.is_cancelled() {
                tracing::error!(task = name, panicked = ended.is_err(), "background task failed");
                died.cancel();
            }
        });
    }

    /// Resolves when one has died; never after [`Supervisor::may_end`], unless it panics.
    pub async fn died(&self) {
        self.died.cancelled().await;
    }

    /// From here on tasks end because they were stopped.
    pub fn may_end(&self) {
        self.ending.cancel();
    }

    /// Waits for all of them.
    pub async fn wait(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_worker_that_ends_too_soon_is_noticed() {
        let workers = Supervisor::default();
        workers.spawn("fine", std::future::pending());
        workers.spawn("ends", async {});
        workers.died().await;
    }

    #[tokio::test]
    async fn a_worker_that_panics_is_noticed_even_at_the_end() {
        let workers = Supervisor::default();
        workers.may_end();
        workers.spawn("panics", async { panic!("on purpose") });
        workers.died().await;
    }

    #[tokio::test]
    async fn one_that_ends_when_told_to_is_not() {
        let workers = Supervisor::default();
        workers.may_end();
        workers.spawn("ends", async {});
        workers.wait().await;
        assert!(workers.died().now_or_never().is_none());
    }
}
