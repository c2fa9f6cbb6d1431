//! Number of charges waiting to be written to the ledger, and time since the last write.

use metrics::Gauge;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A gauge that records when it left zero; clones share it.
#[derive(Clone)]
pub struct Backlog {
    gauge: Gauge,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    waiting: u64,
    since: Option<Instant>,
}

/// State of a [`Backlog`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BacklogSnapshot {
    pub entries: u64,
    /// Time for which entries have waited without any being written.
    pub lag: Duration,
}

impl Backlog {
    /// Creates an empty backlog; `gauge` exports its size.
    #[must_use]
    pub fn new(gauge: Gauge) -> Self {
        Self { gauge, state: Arc::default() }
    }

    /// Sets the number of entries that wait at `now`.
    pub fn set(&self, waiting: u64, now: Instant) {
        self.gauge.set(waiting as f64);
        let mut state = self.state.lock();
        state.waiting = waiting;
        state.since = if waiting == 0 { None } else { state.since.or(Some(now)) };
    }

    /// Restarts the lag, because something was written at `now`.
    pub fn progress(&self, now: Instant) {
        let mut state = self.state.lock();
        state.since = state.since.map(|_| now);
    }

    /// Returns the number of entries that wait, and their lag at `now`.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> BacklogSnapshot {
        let state = self.state.lock();
        let lag = state.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        BacklogSnapshot { entries: state.waiting, lag }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use system::clock;

    #[test]
    fn the_lag_grows_until_nothing_waits() {
        let backlog = Backlog::new(Gauge::noop());
        let (begin, second) = (clock::instant(), Duration::from_secs(1));
        let check = |at: Instant, entries, lag| {
            assert_eq!(backlog.snapshot(at), BacklogSnapshot { entries, lag });
        };
        check(begin, 0, Duration::ZERO);
        backlog.set(3, begin);
        backlog.set(2, begin + second);
        check(begin + second, 2, second);
        backlog.progress(begin + second);
        check(begin + second * 3, 2, second * 2);
        backlog.set(0, begin + second);
        backlog.progress(begin + second);
        check(begin + second * 2, 0, Duration::ZERO);
    }
}
