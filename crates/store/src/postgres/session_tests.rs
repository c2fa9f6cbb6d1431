//! Which sessions of the pool are tested before they are used. A test is a round trip, and a page of the console has a
//! dozen statements in a row.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// A session that was used within this time is not tested, as long as any was tested within this time.
const TRUSTED_TIME: Duration = Duration::from_millis(100);
/// After a session was found to be closed or read-only, each is tested for this long: the server may have changed.
const DISTRUSTED_TIME: Duration = Duration::from_secs(10);

/// The tests of one pool.
#[derive(Debug, Default)]
pub(super) struct SessionTests {
    latest: Mutex<Latest>,
}

#[derive(Debug, Default)]
struct Latest {
    tested: Option<Instant>,
    failed: Option<Instant>,
}

impl SessionTests {
    /// True if a session that has been idle for `idle` has to be tested.
    pub(super) fn is_due(&self, idle: Duration, now: Instant) -> bool {
        let latest = self.latest.lock();
        let is_within = |at: Option<Instant>, time| {
            at.is_some_and(|at| now.saturating_duration_since(at) < time)
        };
        idle >= TRUSTED_TIME
            || !is_within(latest.tested, TRUSTED_TIME)
            || is_within(latest.failed, DISTRUSTED_TIME)
    }

    /// Records the result of a test.
    pub(super) fn record(&self, passed: bool, now: Instant) {
        let mut latest = self.latest.lock();
        latest.tested = Some(now);
        if !passed {
            latest.failed = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use system::clock;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn sessions_in_use_are_trusted_between_tests() {
        let (tests, start) = (SessionTests::default(), clock::instant());
        assert!(tests.is_due(MS(0), start), "none was tested yet");
        tests.record(true, start);
        assert!(!tests.is_due(MS(99), start + MS(99)));
        assert!(tests.is_due(MS(100), start + MS(99)), "it was idle");
        assert!(tests.is_due(MS(0), start + MS(100)), "no test for a while");
    }

    #[test]
    fn after_a_failed_test_each_session_is_tested() {
        let (tests, start) = (SessionTests::default(), clock::instant());
        tests.record(false, start);
        tests.record(true, start + MS(1));
        assert!(tests.is_due(MS(0), start + MS(2)));
        tests.record(true, start + MS(9_990));
        assert!(tests.is_due(MS(0), start + MS(9_999)));
        assert!(!tests.is_due(MS(0), start + MS(10_001)));
    }
}
