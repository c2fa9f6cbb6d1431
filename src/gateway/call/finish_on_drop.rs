//! Work that must be finished whether or not the call waits for it.

use futures_util::future::BoxFuture;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio_util::task::TaskTracker;

/// A future that runs in the task that awaits it, and in a task of its own once it is dropped.
pub(super) struct FinishOnDrop {
    /// `None` when it is done, or has panicked.
    future: Option<BoxFuture<'static, ()>>,
    tasks: TaskTracker,
}

impl FinishOnDrop {
    pub(super) fn new(
        future: impl Future<Output = ()> + Send + 'static,
        tasks: &TaskTracker,
    ) -> Self {
        Self { future: Some(Box::pin(future)), tasks: tasks.clone() }
    }
}

impl Future for FinishOnDrop {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Taken out, so that a future that panics is not polled again.
        let Some(mut future) = self.future.take() else { return Poll::Ready(()) };
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() {
            self.future = Some(future);
        }
        polled
    }
}

impl Drop for FinishOnDrop {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            drop(self.tasks.spawn(future));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::Notify;

    struct Setup {
        tasks: TaskTracker,
        may_end: Arc<Notify>,
        ended: Arc<AtomicU32>,
    }

    fn setup() -> (Setup, FinishOnDrop) {
        let (tasks, may_end, ended) = (TaskTracker::new(), Arc::default(), Arc::default());
        let setup = Setup { tasks, may_end, ended };
        let (may_end, ended) = (Arc::clone(&setup.may_end), Arc::clone(&setup.ended));
        let work = async move {
            may_end.notified().await;
            ended.fetch_add(1, Ordering::Relaxed);
        };
        let finishing = FinishOnDrop::new(work, &setup.tasks);
        (setup, finishing)
    }

    #[tokio::test]
    async fn work_that_is_awaited_is_done_once_and_in_place() {
        let (setup, finishing) = setup();
        setup.may_end.notify_one();
        finishing.await;
        assert_eq!(setup.ended.load(Ordering::Relaxed), 1);

        let tasks = TaskTracker::new();
        let (sender, ran_in) = tokio::sync::oneshot::channel();
        let work = async { sender.send(tokio::task::try_id()).unwrap() };
        FinishOnDrop::new(work, &tasks).await;
        assert_eq!(ran_in.await.unwrap(), tokio::task::try_id());
    }

    #[tokio::test]
    async fn work_that_is_dropped_at_any_point_is_finished_in_the_background() {
        for is_begun in [false, true] {
            let (setup, mut finishing) = setup();
            if is_begun {
                assert_eq!((&mut finishing).now_or_never(), None);
            }
            drop(finishing);
            assert_eq!(setup.tasks.len(), 1);
            setup.may_end.notify_one();
            setup.tasks.close();
            setup.tasks.wait().await;
            assert_eq!(setup.ended.load(Ordering::Relaxed), 1);
        }
    }

    #[tokio::test]
    async fn work_that_panics_is_not_tried_again() {
        let tasks = TaskTracker::new();
        let finishing = FinishOnDrop::new(async { panic!("as a test") }, &tasks);
        std::panic::AssertUnwindSafe(finishing).catch_unwind().await.unwrap_err();
        assert!(tasks.is_empty());
    }
}
