//! A timer for waits that nearly always end before their time.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::time::Sleep;

/// Rings at its time. It is only reset to ring earlier: when it rings too early it is set for the rest
/// of the time, so that most waits cost nothing.
#[derive(Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Resolves at `at`.
    pub async fn ring(&mut self, at: Instant) {
        poll_fn(|cx| self.poll(cx, at)).await;
    }

    /// Ready at `at`.
    pub fn poll(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let at = at.into();
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        loop {
            if sleep.deadline() > at || sleep.is_elapsed() {
                sleep.as_mut().reset(at);
            }
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= at {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn it_rings_at_the_time_it_was_last_set_to() {
        let start = tokio::time::Instant::now();
        let after = |seconds| (start + Duration::from_secs(seconds)).into_std();
        let mut alarm = Alarm::default();
        let mut waits = async |times: &[u64]| {
            let (last, before) = times.split_last().unwrap();
            for seconds in before {
                let at = after(*seconds);
                assert!(futures_util::poll!(Box::pin(alarm.ring(at))).is_pending());
            }
            alarm.ring(after(*last)).await;
            start.elapsed().as_secs()
        };
        assert_eq!(waits(&[10]).await, 10);
        assert_eq!(waits(&[20, 30]).await, 30, "later than it was set for");
        assert_eq!(waits(&[90, 40]).await, 40, "earlier");
        assert_eq!(waits(&[35]).await, 40, "long ago");
        assert_eq!(waits(&[50, 70, 60]).await, 60);
    }
}
