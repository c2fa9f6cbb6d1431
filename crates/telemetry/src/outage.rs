//! Outage of a dependency, so that the log reports its start and its end instead of every failed call.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Tracks the outage of one dependency.
#[derive(Debug, Default)]
pub struct Outage(Mutex<Option<State>>);

#[derive(Debug, Clone, Copy)]
struct State {
    began: Instant,
    last_failure: Instant,
    failures: u64,
}

/// Summary of an outage that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutageSummary {
    /// From the first failure to the last.
    pub lasted: Duration,
    pub failures: u64,
}

impl Outage {
    /// Counts a failure at `now`. Returns true for the first one of an outage, which should be logged.
    pub fn fail(&self, now: Instant) -> bool {
        let mut current = self.0.lock();
        let is_first = current.is_none();
        let state = current.get_or_insert(State { began: now, last_failure: now, failures: 0 });
        state.last_failure = now;
        state.failures += 1;
        is_first
    }

    /// True from the first failure until [`Outage::end`].
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.lock().is_some()
    }

    /// Ends the outage: at `now` the dependency works, and nothing has failed for `quiet`. Returns the
    /// summary to log; `None` without an outage.
    pub fn end(&self, now: Instant, quiet: Duration) -> Option<OutageSummary> {
        let mut state = self.0.lock();
        let is_quiet = |state: &State| now.saturating_duration_since(state.last_failure) >= quiet;
        let over = state.filter(is_quiet)?;
        *state = None;
        let lasted = over.last_failure.saturating_duration_since(over.began);
        Some(OutageSummary { lasted, failures: over.failures })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use system::clock;

    #[test]
    fn an_outage_is_reported_at_its_start_and_at_its_end() {
        let (outage, begin, second) = (Outage::default(), clock::instant(), Duration::from_secs(1));
        assert_eq!(outage.end(begin, second), None);
        assert!(outage.fail(begin));
        assert!(!outage.fail(begin + second));
        assert!(!outage.fail(begin + second * 3));
        assert_eq!(outage.end(begin + second * 3, second), None);
        assert!(outage.is_open());
        let ended = OutageSummary { lasted: second * 3, failures: 3 };
        assert_eq!(outage.end(begin + second * 4, second), Some(ended));
        assert!(!outage.is_open());
        assert!(outage.fail(begin + second * 5), "the next one is another");
    }
}
