//! The one table of metrics.

/// Handles, resolved once.
pub struct Metrics {}
