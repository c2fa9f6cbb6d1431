//! The one place that reads the clock.
//!
//! Every rule takes `now` as an argument. The data plane reads the clock once per request, background tasks
//! once per round; tests pass any time.

use jiff::Timestamp;
use std::time::Instant;

/// Wall-clock time, for days, expiry and stored timestamps.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the place the ban points to")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Monotonic time, for durations and deadlines.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the place the ban points to")]
pub fn instant() -> Instant {
    Instant::now()
}

/// Generates a unique id; ids sort by the time of their creation.
#[must_use]
pub fn unique() -> uuid::Uuid {
    uuid::Uuid::now_v7()
}

/// Random number from 0 to 1, the jitter of retries.
#[must_use]
pub fn chance() -> f64 {
    let [.., random] = unique().into_bytes();
    f64::from(random) / 255.0
}
