//! The one table of metrics.

use metrics::{Counter, Gauge, Histogram};

/// Handles, resolved once.
pub struct Metrics {
    pub usage_admitted: Counter,
    pub usage_persisted: Counter,
    pub usage_queue_depth: Gauge,
    pub usage_flush_seconds: Histogram,
}
