//! Latest failures of an upstream, and the share of its calls that failed, for operators to see. Nothing is
//! decided by them. Pure: time is an argument.

use jiff::Timestamp;
use parking_lot::Mutex;
use std::collections::VecDeque;

/// Failures that are kept.
const FAILURES: usize = 10;
/// Minutes over which calls are counted, the current one included.
pub const MINUTES: i64 = 5;

/// Tally of an upstream's calls.
#[derive(Debug, Default)]
pub struct RecentCalls(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The oldest first.
    failures: VecDeque<Failure>,
    /// By minute modulo [`MINUTES`].
    minutes: [Minute; 5],
}

/// Calls of one minute.
#[derive(Debug, Clone, Copy, Default)]
struct Minute {
    /// Counted from 1970.
    number: i64,
    calls: u64,
    failed: u64,
}

/// A failure, without anything that the request or the upstream said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    pub at: Timestamp,
    /// A word such as `connect` or `rate`.
    pub reason: &'static str,
    /// Status of the upstream's response, if there was one.
    pub status: Option<u16>,
}

/// Number of calls of the last [`MINUTES`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub calls: u64,
    pub failed: u64,
}

impl RecentCalls {
    /// Records that the upstream responded.
    pub fn succeeded(&self, at: Timestamp) {
        self.0.lock().minute(at).calls += 1;
    }

    /// Records a call that failed.
    pub fn failed(&self, failure: Failure) {
        let mut state = self.0.lock();
        state.minute(failure.at).calls += 1;
        state.add(failure);
    }

    /// Records that a call failed after the upstream had begun to respond.
    pub fn broke_off(&self, failure: Failure) {
        self.0.lock().add(failure);
    }

    /// The latest failures, the latest first.
    #[must_use]
    pub fn failures(&self) -> Vec<Failure> {
        self.0.lock().failures.iter().rev().copied().collect()
    }

    /// Calls of the last minutes.
    #[must_use]
    pub fn tally(&self, now: Timestamp) -> Tally {
        let first = minute_of(now) - (MINUTES - 1);
        let state = self.0.lock();
        let recent = state.minutes.iter().filter(|minute| minute.number >= first);
        recent.fold(Tally::default(), |tally, minute| Tally {
            calls: tally.calls + minute.calls,
            failed: tally.failed + minute.failed,
        })
    }
}

impl State {
    fn minute(&mut self, at: Timestamp) -> &mut Minute {
        let number = minute_of(at);
        let place = usize::try_from(number.rem_euclid(MINUTES)).unwrap_or_default();
        let minute = &mut self.minutes[place];
        if minute.number != number {
            *minute = Minute { number, ..Minute::default() };
        }
        minute
    }

    fn add(&mut self, failure: Failure) {
        self.minute(failure.at).failed += 1;
        if self.failures.len() >= FAILURES {
            self.failures.pop_front();
        }
        self.failures.push_back(failure);
    }
}

impl Tally {
    /// Share of the calls that failed, 0 to 1; `None` without calls.
    #[must_use]
    pub fn error_share(self) -> Option<f64> {
        (self.calls > 0).then(|| (self.failed as f64 / self.calls as f64).min(1.0))
    }
}

fn minute_of(at: Timestamp) -> i64 {
    at.as_second().div_euclid(60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_767_312_000 + seconds).unwrap()
    }

    fn failure(seconds: i64) -> Failure {
        Failure { at: at(seconds), reason: "connect", status: None }
    }

    #[test]
    fn the_last_ten_failures_are_kept() {
        let calls = RecentCalls::default();
        assert_eq!(calls.failures(), []);
        for second in 0..12 {
            calls.failed(failure(second));
        }
        let expected: Vec<Failure> = (2..12).rev().map(failure).collect();
        assert_eq!(calls.failures(), expected);
    }

    #[test]
    fn calls_are_counted_for_five_minutes() {
        let calls = RecentCalls::default();
        assert_eq!(calls.tally(at(0)).error_share(), None);
        for _ in 0..3 {
            calls.succeeded(at(0));
        }
        calls.failed(failure(59));
        assert_eq!(calls.tally(at(60)), Tally { calls: 4, failed: 1 });
        assert_eq!(calls.tally(at(60)).error_share(), Some(0.25));
        calls.broke_off(failure(61));
        assert_eq!(calls.tally(at(299)), Tally { calls: 4, failed: 2 });
        assert_eq!(calls.tally(at(300)), Tally { calls: 0, failed: 1 }, "the first minute is over");
        calls.succeeded(at(305));
        assert_eq!(calls.tally(at(305)).error_share(), Some(1.0));
        assert_eq!(calls.tally(at(10_000)), Tally::default());
    }
}
