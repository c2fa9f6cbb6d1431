//! Pauses for single callers at an upstream that did not respond to them in time: where another upstream is
//! available, their next calls prefer it and do not wait for the same timeout again.
//!
//! The circuit breaker cannot do this, because a request may be the cause of its own failure: one caller alone
//! never opens it. Pure: time is an argument.

use domain::id::UserId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The first pause; doubles with every further timeout.
const MIN_REST: Duration = Duration::from_secs(30);
const MAX_REST: Duration = Duration::from_mins(10);
/// Callers that are remembered; of more, those beyond wait for their timeouts.
const MAX_CALLERS: usize = 10_000;

/// Callers whose calls prefer other upstreams for a while.
#[derive(Debug, Default)]
pub struct CallerRests(Mutex<HashMap<UserId, Rest>>);

#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Instant,
    timeouts: u32,
}

impl CallerRests {
    /// Records that the upstream did not respond to `caller` in time.
    pub fn timed_out(&self, caller: UserId, now: Instant) {
        let mut rests = self.0.lock();
        if rests.len() >= MAX_CALLERS && !rests.contains_key(&caller) {
            rests.retain(|_, rest| rest.until > now);
            if rests.len() >= MAX_CALLERS {
                return;
            }
        }
        let rest = rests.entry(caller).or_insert(Rest { until: now, timeouts: 0 });
        let time = MIN_REST.saturating_mul(1 << rest.timeouts.min(10)).min(MAX_REST);
        *rest = Rest { until: now + time, timeouts: rest.timeouts.saturating_add(1) };
    }

    /// Records that the upstream responded to `caller`.
    pub fn responded(&self, caller: UserId) {
        self.0.lock().remove(&caller);
    }

    /// True while calls of `caller` should prefer another upstream.
    #[must_use]
    pub fn is_resting(&self, caller: UserId, now: Instant) -> bool {
        self.0.lock().get(&caller).is_some_and(|rest| rest.until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use system::clock;
    use uuid::Uuid;

    fn user(number: u128) -> UserId {
        UserId(Uuid::from_u128(number))
    }

    #[test]
    fn rests_grow_with_each_timeout_and_end_with_a_response() {
        let (rests, mut now) = (CallerRests::default(), clock::instant());
        for seconds in [30, 60, 120, 240, 480, 600, 600] {
            rests.timed_out(user(1), now);
            let time = Duration::from_secs(seconds);
            assert!(rests.is_resting(user(1), now + time.mul_f64(0.99)));
            assert!(!rests.is_resting(user(2), now), "only the caller that waited");
            now += time;
            assert!(!rests.is_resting(user(1), now));
        }
        rests.timed_out(user(1), now);
        rests.responded(user(1));
        assert!(!rests.is_resting(user(1), now));
        rests.timed_out(user(1), now);
        assert!(!rests.is_resting(user(1), now + MIN_REST), "it starts over");
    }

    #[test]
    fn callers_are_bounded_and_rests_that_are_over_make_room() {
        let (rests, now) = (CallerRests::default(), clock::instant());
        let most = u128::try_from(MAX_CALLERS).unwrap();
        for number in 0..=most {
            rests.timed_out(user(number), now);
        }
        assert!(rests.is_resting(user(0), now) && !rests.is_resting(user(most), now));
        rests.timed_out(user(most), now + MAX_REST);
        assert!(rests.is_resting(user(most), now + MAX_REST));
        assert_eq!(rests.0.lock().len(), 1);
    }
}
