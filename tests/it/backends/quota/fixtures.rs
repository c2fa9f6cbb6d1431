//! What all tests of counters start with.

use quota::redis::{Clock, Settings};
use std::sync::Arc;
use std::time::Duration;
use telemetry::metrics::Metrics;

/// Milliseconds since 1970, after every deadline.
pub const FAR: i64 = 4_000_000_000_000;

pub const SETTINGS: Settings = Settings {
    clock: Clock::Given,
    lease: Duration::from_secs(60),
    max_backlog: u64::MAX,
    compare: Duration::from_secs(60),
};

pub fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(&[], &[]))
}
