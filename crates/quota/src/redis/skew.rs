//! Offset of the local clock from Redis' clock, which determines the day for every gateway.

use jiff::{SignedDuration, Timestamp};
use std::sync::atomic::{AtomicI64, Ordering};

/// Microseconds by which Redis' clock is ahead of the local one; 0 until it is measured.
#[derive(Debug, Default)]
pub(super) struct Skew(AtomicI64);

impl Skew {
    /// Updates the skew from a reply with Redis' time, and our time before the query and after it. The error is at most
    /// the round trip, so a slower reply that agrees within it changes nothing.
    pub(super) fn learn(&self, reported: Timestamp, before: Timestamp, after: Timestamp) {
        let (before, after) = (before.as_microsecond(), after.as_microsecond());
        let ahead = reported.as_microsecond() - before.midpoint(after);
        let known = self.0.load(Ordering::Relaxed);
        let error = (after - before).max(MIN_ERROR_US);
        if (ahead - known).abs() > error {
            self.0.store(ahead, Ordering::Relaxed);
        }
    }

    /// Returns Redis' time at the local time `here`.
    pub(super) fn redis_time(&self, here: Timestamp) -> Timestamp {
        let ahead = SignedDuration::from_micros(self.0.load(Ordering::Relaxed));
        here.saturating_add(ahead).unwrap_or(here)
    }
}

/// Differences below this, in microseconds, are noise.
const MIN_ERROR_US: i64 = 2_000;

/// Extracts the time from a reply to `INFO server`; of a cluster, that of the first node that reports it.
pub(super) fn time_in(info: &str) -> Option<Timestamp> {
    let (_, rest) = info.split_once("server_time_usec:")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Timestamp::from_microsecond(digits.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::day::Day;
    use jiff::tz::TimeZone;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn days_begin_by_the_clock_of_redis() {
        for (here, there, day) in [
            ("2026-01-02T23:59:56Z", "2026-01-03T00:00:01Z", "2026-01-03"),
            ("2026-01-03T00:00:04Z", "2026-01-02T23:59:59Z", "2026-01-02"),
            ("2026-01-03T00:50:00Z", "2026-01-02T23:59:59Z", "2026-01-02"),
        ] {
            let skew = Skew::default();
            skew.learn(at(there), at(here), at(here));
            assert_eq!(skew.redis_time(at(here)), at(there));
            assert_eq!(Day::at(skew.redis_time(at(here)), &TimeZone::UTC).to_string(), day);
        }
    }

    #[test]
    fn a_slow_reply_changes_the_skew_only_beyond_its_error() {
        let (skew, zero) = (Skew::default(), at("2026-01-02T00:00:00Z"));
        let ms = |ms: i64| zero + SignedDuration::from_millis(ms);
        skew.learn(ms(5_010), ms(0), ms(20));
        assert_eq!(skew.redis_time(zero), ms(5_000));
        skew.learn(ms(5_500), ms(0), ms(600));
        assert_eq!(skew.redis_time(zero), ms(5_000), "within the error of a slow reply");
        skew.learn(ms(1), ms(0), ms(1));
        assert!(skew.redis_time(zero) < ms(2), "a clock that was set");
    }

    #[test]
    fn the_time_is_extracted_from_the_reply() {
        let info = "run_id:ab\r\nserver_time_usec:1767312000000005\r\nuptime_in_seconds:9";
        assert_eq!(time_in(info), Some(at("2026-01-02T00:00:00.000005Z")));
        for nothing in ["", "server_time_usec:", "server_time_usec:x", "run_id:1"] {
            assert_eq!(time_in(nothing), None);
        }
    }
}
