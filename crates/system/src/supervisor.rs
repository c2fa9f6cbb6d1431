//! Tasks that live as long as the gateway. If one ends early the gateway stops: half of a gateway would answer,
//! and answer wrongly.

use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Background tasks, and if one of them has failed. Clones share both.
#[derive(Clone, Default)]
pub struct Supervisor {
    tasks: TaskTracker,
    failed: CancellationToken,
    shutdown: CancellationToken,
}

impl Supervisor {
    /// Spawns a task, which must run until [`Supervisor::shut_down`]; the log gives its name if it fails.
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let (failed, shutdown) = (self.failed.clone(), self.shutdown.clone());
        self.tasks.spawn(async move {
            let ended = AssertUnwindSafe(work).catch_unwind().await;
            if ended.is_err() || !shutdown.is_cancelled() {
                tracing::error!(task = name, panicked = ended.is_err(), "background task failed");
                failed.cancel();
            }
        });
    }

    /// Resolves when a task has failed: it panicked, or ended before [`Supervisor::shut_down`].
    pub async fn task_failed(&self) {
        self.failed.cancelled().await;
    }

    /// Lets tasks end from here on; one that panics still fails.
    pub fn shut_down(&self) {
        self.shutdown.cancel();
    }

    /// Waits until all tasks have ended.
    pub async fn wait(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_too_soon_is_a_failure() {
        let supervisor = Supervisor::default();
        supervisor.spawn("fine", std::future::pending());
        supervisor.spawn("ends", async {});
        supervisor.task_failed().await;
    }

    #[tokio::test]
    async fn a_task_that_panics_is_a_failure_even_during_shutdown() {
        let supervisor = Supervisor::default();
        supervisor.shut_down();
        supervisor.spawn("panics", async { panic!("on purpose") });
        supervisor.task_failed().await;
    }

    #[tokio::test]
    async fn a_task_that_ends_during_shutdown_is_no_failure() {
        let supervisor = Supervisor::default();
        supervisor.shut_down();
        supervisor.spawn("ends", async {});
        supervisor.wait().await;
        assert!(supervisor.task_failed().now_or_never().is_none());
    }
}
